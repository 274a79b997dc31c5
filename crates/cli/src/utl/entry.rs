//! From the words of the command line to the exit code, and the tree of commands.
//!
//! Not here: how words are read (`command_line`). The invariant: names and texts are etcdutl's.

use crate::command_line::Called;
use crate::command_line::flag::{Flag, Kind};
use crate::command_line::select::{Selection, help_topic, select};
use crate::command_line::tree::Command;

/// What a command does with its words.
#[derive(Clone, Copy)]
enum Action {
    Help,
    Version,
}

static ROOT: Command<Action> = Command {
    inherited: &[
        Flag::new("write-out", Kind::Text, "").short('w').or("simple"),
        Flag::new("timeout", Kind::Duration, "").or("10s"),
    ],
    ..Command::parent(
        "etcdutl",
        "",
        &[
            Command::leaf("help [command]", "Help about any command", Action::Help),
            Command::leaf("version", "Prints the version of etcdutl", Action::Version),
        ],
    )
};

/// Runs etcdutl's commands; `arguments` are the words behind the program's name. Answers the exit code.
pub fn main(arguments: Vec<String>, called: Called) -> i32 {
    let program = match called {
        Called::AsEtcd => "etcdutl",
        Called::AsQuorate => "quorate utl",
    };
    finish(select(&ROOT, program, &arguments), program)
}

fn finish(selection: Selection<Action>, program: &str) -> i32 {
    match selection {
        Selection::Run(Action::Help, values) => finish(help_topic(&ROOT, program, &values.words), program),
        Selection::Run(Action::Version, _) => {
            println!("etcdutl version: 3.7.3\nAPI version: 3.7");
            0
        }
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
