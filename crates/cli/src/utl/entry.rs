//! From the words of the command line to the exit code.
//!
//! Not here: how words are read (`command_line`), the tree of commands (`tree`), what they do.

use super::failure::Failure;
use super::tree::{Action, ROOT};
use crate::command_line::Called;
use crate::command_line::flag::Values;
use crate::command_line::select::{Selection, help_topic, select, usage_for};
use crate::command_line::shell::{Shell, script};

/// Runs etcdutl's commands; `arguments` are the words behind the program's name. Answers the exit code.
pub fn main(arguments: Vec<String>, called: Called) -> i32 {
    let program = match called {
        Called::AsEtcd => "etcdutl",
        Called::AsQuorate => "quorate utl",
    };
    match select(&ROOT, program, &arguments) {
        Selection::Run(action, values) => run(*action, &values, program, &arguments),
        selection => show(selection),
    }
}

fn run(action: Action, values: &Values, program: &'static str, arguments: &[String]) -> i32 {
    match action {
        Action::Help => show(help_topic(&ROOT, program, &values.words)),
        Action::Version => {
            println!("etcdutl version: 3.7.3\nAPI version: 3.7");
            0
        }
        Action::Completion(shell) => match values.words.first() {
            None => {
                print!("{}", script(shell, &ROOT, program));
                0
            }
            Some(word) => {
                let name = Shell::NAMES.iter().find(|(_, known)| *known == shell).map_or("", |(name, _)| name);
                let usage = usage_for(&ROOT, program, arguments);
                eprint!("Error: unknown command \"{word}\" for \"{program} completion {name}\"\n{usage}\n");
                1
            }
        },
        Action::Run { required, words, run } => {
            if let Some(reason) = misuse(values, required, words) {
                eprint!("Error: {reason}\n{}\n", usage_for(&ROOT, program, arguments));
                return 1;
            }
            match run(values) {
                Ok(()) => 0,
                Err(Failure { code, message }) => {
                    if !message.is_empty() {
                        eprintln!("Error: {message}");
                    }
                    code
                }
            }
        }
    }
}

/// What is wrong with the words and flags of a command, in cobra's words.
fn misuse(values: &Values, required: &[&str], words: Option<usize>) -> Option<String> {
    if let Some(count) = words.filter(|count| *count != values.words.len()) {
        return Some(format!("accepts {count} arg(s), received {}", values.words.len()));
    }
    let missing: Vec<String> =
        required.iter().filter(|name| !values.is_given(name)).map(|name| format!("\"{name}\"")).collect();
    (!missing.is_empty()).then(|| format!("required flag(s) {} not set", missing.join(", ")))
}

fn show(selection: Selection<Action>) -> i32 {
    match selection {
        Selection::Run(..) => 0,
        Selection::Help(text) => {
            print!("{text}");
            0
        }
        Selection::UnknownTopic(text) => {
            eprint!("{text}");
            0
        }
        Selection::Refuse(text) => {
            eprint!("{text}");
            1
        }
    }
}
