//! Finds the command that a line of words means, and reads its flags.
//!
//! Not here: running it. The invariant: which word names the command does not depend on the order of flags and words,
//! as long as every flag is known at the level where it stands.

use super::flag::{Fault, Flag, Kind, Values};
use super::go_text::quote;
use super::tree::Command;
use super::{usage, word};

/// How far a misspelt word may be from a command's name to be suggested, in edits.
const SUGGESTION_DISTANCE_MAX: usize = 2;

/// What a line of words asks for.
pub(crate) enum Selection<Action: 'static> {
    /// Run the command with these values.
    Run(&'static Action, Values),
    /// Print this to the standard output and succeed.
    Help(String),
    /// Print this to the standard error and succeed, as etcd's tools do for an unknown help topic.
    UnknownTopic(String),
    /// Print this to the standard error and fail with exit code 1.
    Refuse(String),
}

/// Finds what `arguments` ask of the tool whose tree starts at `root`; `program` is what the tool is called.
pub(crate) fn select<Action>(root: &'static Command<Action>, program: &str, arguments: &[String]) -> Selection<Action> {
    let (path, arguments) = match find(root, program, arguments) {
        Ok(found) => found,
        Err(refusal) => return Selection::Refuse(refusal),
    };
    let command = *path.last().expect("the path starts with the root");
    let flags = flags_of(&path);
    let values = match Values::read(&flags, &arguments) {
        Ok(values) => values,
        Err(Fault::Help) => return Selection::Help(usage::help(&path, program)),
        Err(Fault::Message(message)) => {
            return Selection::Refuse(format!("Error: {message}\n{}\n", usage::usage(&path, program)));
        }
    };
    match &command.action {
        Some(action) => Selection::Run(action, values),
        None => Selection::Help(usage::help(&path, program)),
    }
}

/// Answers `help WORDS`: the help of the command that the words name.
pub(crate) fn help_topic<Action>(root: &'static Command<Action>, program: &str, topic: &[String]) -> Selection<Action> {
    match find(root, program, topic) {
        Ok((path, _)) => Selection::Help(usage::help(&path, program)),
        Err(_) => {
            let words: Vec<String> = topic.iter().map(|word| format!("`{word}`")).collect();
            let usage = usage::usage(&[root], program);
            Selection::UnknownTopic(format!("Unknown help topic [{}]\n{usage}", words.join(" ")))
        }
    }
}

/// The usage text of the command that the words name.
pub(crate) fn usage_for<Action>(root: &'static Command<Action>, program: &str, arguments: &[String]) -> String {
    match find(root, program, arguments) {
        Ok((path, _)) => usage::usage(&path, program),
        Err(refusal) => refusal,
    }
}

/// Every flag that the last command of the path takes.
pub(crate) fn flags_of<Action>(path: &[&'static Command<Action>]) -> Vec<&'static Flag> {
    let own = path.last().into_iter().flat_map(|command| command.flags);
    own.chain(path.iter().flat_map(|command| command.inherited)).collect()
}

type Found<Action> = (Vec<&'static Command<Action>>, Vec<String>);

/// Walks down the tree; answers the path and the arguments without the words that named it.
fn find<Action>(root: &'static Command<Action>, program: &str, arguments: &[String]) -> Result<Found<Action>, String> {
    let mut path = vec![root];
    let mut arguments = arguments.to_vec();
    loop {
        let command = *path.last().expect("the path starts with the root");
        let Some(position) = first_word(&flags_of(&path), &arguments) else { return Ok((path, arguments)) };
        let word = &arguments[position];
        let child = child(command, word);
        match child {
            Some(child) => {
                arguments.remove(position);
                path.push(child);
            }
            None if path.len() == 1 => {
                let suggestions = suggestions(root, word);
                let unknown = quote(&word::bytes(word));
                return Err(format!(
                    "Error: unknown command {unknown} for \"{program}\"{suggestions}\nRun '{program} --help' for usage.\n"
                ));
            }
            None => return Ok((path, arguments)),
        }
    }
}

/// The child of a name, of another name for it, or of a name that nothing else begins like.
fn child<Action>(command: &'static Command<Action>, word: &str) -> Option<&'static Command<Action>> {
    let names = |child: &Command<Action>| std::iter::once(child.name()).chain(child.aliases.iter().copied());
    if let Some(child) = command.children.iter().find(|child| names(child).any(|name| name == word)) {
        return Some(child);
    }
    let mut begins = command.children.iter().filter(|child| names(child).any(|name| name.starts_with(word)));
    begins.next().filter(|_| begins.next().is_none())
}

/// The place of the first word that is neither a flag nor a flag's value. A flag that is not known at this level is
/// taken to have a value.
fn first_word(flags: &[&'static Flag], arguments: &[String]) -> Option<usize> {
    let mut position = 0;
    while let Some(argument) = arguments.get(position) {
        let is_bool = |flag: Option<&&'static Flag>| flag.is_some_and(|flag| flag.kind == Kind::Bool);
        if argument == "--" {
            return None;
        } else if let Some(name) = argument.strip_prefix("--") {
            let stands_alone = name == "help" || is_bool(flags.iter().find(|flag| flag.name == name));
            position += if name.contains('=') || stands_alone { 1 } else { 2 };
        } else if argument.starts_with('-') {
            let mut letters = argument.chars().skip(1);
            let (letter, more) = (letters.next(), letters.next());
            let stands_alone = letter == Some('h') || is_bool(flags.iter().find(|flag| flag.shorthand == letter));
            position += if letter.is_some() && more.is_none() && !stands_alone { 2 } else { 1 };
        } else if argument.is_empty() {
            position += 1;
        } else {
            return Some(position);
        }
    }
    None
}

/// The commands that a misspelt word may mean, as a text to follow the error.
fn suggestions<Action>(root: &Command<Action>, word: &str) -> String {
    let word = word.to_lowercase();
    let close = |name: &str| {
        edit_distance(&word, &name.to_lowercase()) <= SUGGESTION_DISTANCE_MAX || name.to_lowercase().starts_with(&word)
    };
    let names: Vec<&str> = root.children.iter().map(Command::name).filter(|name| close(name)).collect();
    if names.is_empty() {
        return String::new();
    }
    names.iter().fold("\n\nDid you mean this?\n".to_owned(), |text, name| format!("{text}\t{name}\n"))
}

/// How many letters must be put in, taken out or replaced to make one word of the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left_letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, right_letter) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(left_letter != *right_letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    static SUBJECT: Command<&str> = Command {
        inherited: &[Flag::new("endpoints", Kind::Texts, ""), Flag::new("hex", Kind::Bool, "")],
        shows_inherited: false,
        ..Command::parent(
            "etcdctl",
            "",
            &[
                Command::leaf("alarm", "", "alarm"),
                Command::leaf("auth", "", "auth"),
                Command { flags: &[Flag::new("rev", Kind::Int, "")], ..Command::leaf("get KEY", "", "get") },
                Command::parent("lease", "", &[Command::leaf("grant", "", "lease grant")]),
            ],
        )
    };

    fn check(line: &str, expected: &str) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let actual = match select(&SUBJECT, "etcdctl", &arguments) {
            Selection::Run(action, values) => format!("run {action} {}", values.words.join(" ")),
            Selection::Help(_) => "help".to_owned(),
            Selection::UnknownTopic(text) | Selection::Refuse(text) => text,
        };
        assert_eq!(actual.trim_end(), expected, "{line}");
    }

    #[test]
    fn flags_may_stand_anywhere() {
        check("--endpoints e get a", "run get a");
        check("get --endpoints=e a --hex", "run get a");
        check("--hex get a --rev 1", "run get a");
        check("--hex lease --endpoints e grant 5", "run lease grant 5");
        check("get -- --rev", "run get --rev");
        check("lease", "help");
        check("lease bogus", "help");
        check("-h get", "help");
    }

    #[test]
    fn the_start_of_a_name_is_enough() {
        check("g a", "run get a");
        check("le gr 5", "run lease grant 5");
        check("al", "run alarm");
    }

    #[test]
    fn unknown_words_get_suggestions() {
        let hint = "Run 'etcdctl --help' for usage.";
        check("bogus", &format!("Error: unknown command \"bogus\" for \"etcdctl\"\n{hint}"));
        let alarm = "\n\nDid you mean this?\n\talarm\n\tauth\n";
        check("--nosuchflag get a", &format!("Error: unknown command \"a\" for \"etcdctl\"{alarm}\n{hint}"));
        let get = "\n\nDid you mean this?\n\tget\n";
        check("gett", &format!("Error: unknown command \"gett\" for \"etcdctl\"{get}\n{hint}"));
    }
}
