//! Writes a command's help and usage texts.
//!
//! Not here: the texts' parts, which stand in the tree. The invariant: usage is a part of help, and both end in a line
//! feed.

use super::flag::{Flag, Kind};
use super::tree::Command;

/// What `--help` prints for the last command of the path.
pub(crate) fn help<Action>(path: &[&'static Command<Action>], program: &str) -> String {
    let command = path.last().expect("a path is never empty");
    let description = if command.long.is_empty() { command.short } else { command.long };
    let lesson = lesson(path, program);
    let start = if description.is_empty() { String::new() } else { format!("{}\n\n", description.trim_end()) };
    let options = if path[0].shows_inherited {
        String::new()
    } else {
        format!("Use \"{program} options\" for a list of global command-line options (applies to all commands).\n")
    };
    let text = format!("{start}{}{lesson}{options}", usage(path, program));
    // Where the summaries name the tool, it is by etcd's name.
    text.replace(&format!("`{} ", path[0].name()), &format!("`{program} "))
}

/// An example of the command. A tool that is called by etcd's name says no more than etcd's tool does.
fn lesson<Action>(path: &[&'static Command<Action>], program: &str) -> String {
    let command = path.last().expect("a path is never empty");
    if command.lesson.is_empty() || program == path[0].name() {
        return String::new();
    }
    let lines = command.lesson.lines().map(|line| format!("  {}\n", line.replace("PROGRAM", program)));
    format!("\nExample:\n{}\n", lines.collect::<String>())
}

/// What is printed behind an error in the flags of the last command of the path.
pub(crate) fn usage<Action>(path: &[&'static Command<Action>], program: &str) -> String {
    let command = path.last().expect("a path is never empty");
    let names = path[1..].iter().map(|command| command.name());
    let full_name = std::iter::once(program).chain(names.clone()).collect::<Vec<_>>().join(" ");
    let parents = std::iter::once(program).chain(names.take(path.len().saturating_sub(2)));
    let mut text = String::from("Usage:\n");
    if command.action.is_some() {
        let line = parents.chain([command.usage]).collect::<Vec<_>>().join(" ");
        let flags = if command.usage_names_all { "" } else { " [flags]" };
        text.push_str(&format!("  {line}{flags}\n"));
    } else {
        text.push_str(&format!("  {full_name} [command]\n"));
    }
    if !command.examples.is_empty() {
        text.push_str(&format!("\nExamples:\n{}\n", command.examples.replace("PROGRAM", program)));
    }
    text.push_str(&children(command));
    let own: Vec<&Flag> =
        command.flags.iter().chain(if command.shows_inherited { command.inherited } else { &[] }).collect();
    if path.len() > 1 || command.shows_inherited {
        text.push_str(&format!(
            "\nFlags:\n{}",
            flags(&own, Some(command.name()).filter(|_| path.len() > 1).unwrap_or(program))
        ));
    }
    let above = path[..path.len() - 1].iter().filter(|command| command.shows_inherited);
    let above: Vec<&Flag> = above.flat_map(|command| command.inherited).collect();
    if !above.is_empty() {
        text.push_str(&format!("\nGlobal Flags:\n{}", flags(&above, "")));
    }
    if !command.children.is_empty() {
        text.push_str(&format!("\nUse \"{full_name} [command] --help\" for more information about a command.\n"));
    }
    text
}

/// The list of a command's children, under their groups' headings.
fn children<Action>(command: &Command<Action>) -> String {
    /// Narrower columns than this are widened, so that short lists look alike.
    const NAME_WIDTH_MIN: usize = 11;
    let width = command.children.iter().map(|child| child.name().len()).max().unwrap_or(0).max(NAME_WIDTH_MIN);
    let mut text = String::new();
    let mut group = None;
    for child in command.children {
        if group != Some(child.group) {
            let heading = if child.group.is_empty() { "Available Commands:" } else { child.group };
            text.push_str(&format!("\n{heading}\n"));
            group = Some(child.group);
        }
        text.push_str(&format!("  {:width$} {}\n", child.name(), child.short));
    }
    text
}

/// The lines that explain flags, sorted by name; `help_for` adds the help flag of that command.
pub(crate) fn flags(flags: &[&Flag], help_for: &str) -> String {
    let mut lines: Vec<(&str, String, String)> =
        flags.iter().map(|flag| (flag.name, flag_start(flag), explanation(flag))).collect();
    if !help_for.is_empty() {
        lines.push(("help", "  -h, --help".to_owned(), format!("help for {help_for}")));
    }
    lines.sort_by_key(|(name, _, _)| *name);
    let width = lines.iter().map(|(_, start, _)| start.len()).max().unwrap_or(0);
    lines.iter().map(|(_, start, explanation)| format!("{start:width$}   {explanation}\n")).collect()
}

fn flag_start(flag: &Flag) -> String {
    let shorthand = flag.shorthand.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
    let kind = match flag.kind {
        Kind::Bool => "",
        Kind::Int => " int",
        Kind::Uint => " uint",
        Kind::Text => " string",
        Kind::Texts => " strings",
        Kind::Duration => " duration",
    };
    format!("  {shorthand}--{}{kind}", flag.name)
}

fn explanation(flag: &Flag) -> String {
    let default = match (flag.default, flag.kind) {
        ("", _) => String::new(),
        (default, Kind::Text) => format!(" (default \"{default}\")"),
        (default, Kind::Texts) => format!(" (default [{default}])"),
        (default, _) => format!(" (default {default})"),
    };
    format!("{}{default}", flag.help)
}
