//! Help in the form of etcdctl's library.

use super::flags::{Flag, Kind};
use super::tree::{COMMANDS, Command, Doing, FLAGS};
use crate::command_line::go_text::quote;

/// The release whose command line this is.
const VERSION: &str = "3.4.23";
/// Spaces between the columns.
const GAP: usize = 2;

/// The version page.
pub(super) fn version() -> String {
    format!("etcdctl version: {VERSION}\nAPI version: 2\n")
}

/// Two columns, each line begun the same way.
fn columns(rows: &[(String, String)], indent: &str) -> Vec<String> {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + GAP;
    rows.iter().map(|(name, usage)| format!("{indent}{name:width$}{usage}")).collect()
}

fn flag_row(flag: &Flag) -> (String, String) {
    let (placeholder, usage) = match flag.usage.split_once('`') {
        Some((before, rest)) if flag.kind != Kind::Bool => {
            let (word, after) = rest.split_once('`').unwrap_or((rest, ""));
            (word, format!("{before}{word}{after}"))
        }
        _ => ("value", flag.usage.to_owned()),
    };
    let names = flag.names.iter().map(|name| {
        let dashes = if name.len() == 1 { "-" } else { "--" };
        if flag.kind == Kind::Bool { format!("{dashes}{name}") } else { format!("{dashes}{name} {placeholder}") }
    });
    let default = match (flag.kind, flag.default) {
        (_, "") => String::new(),
        (Kind::Text, text) => format!(" (default: {})", quote(text.as_bytes())),
        (_, text) => format!(" (default: {text})"),
    };
    (names.collect::<Vec<_>>().join(", "), usage + &default)
}

fn flag_lines(flags: &[Flag], more: &[(&str, &str)]) -> Vec<String> {
    let mut rows: Vec<_> = flags.iter().map(flag_row).collect();
    rows.extend(more.iter().map(|&(name, usage)| (name.to_owned(), usage.to_owned())));
    columns(&rows, "   ")
}

const SHOW_HELP: (&str, &str) = ("--help, -h", "show help");

fn command_rows(commands: &[Command]) -> Vec<(String, String)> {
    commands.iter().map(|command| (command.name.to_owned(), command.usage.to_owned())).collect()
}

const HELP_ROW: (&str, &str) = ("help, h", "Shows a list of commands or help for one command");

/// The page of the whole program, or of a group as if it were one.
pub(super) fn program(path: &str, usage: &str, commands: &[&[Command]], is_group: bool) -> String {
    let mut rows: Vec<_> = commands.iter().copied().flat_map(command_rows).collect();
    let options = if is_group {
        flag_lines(&[], &[SHOW_HELP])
    } else {
        rows.push((HELP_ROW.0.to_owned(), HELP_ROW.1.to_owned()));
        flag_lines(FLAGS, &[SHOW_HELP, ("--version, -v", "print the version")])
    };
    format!(
        "NAME:\n   {path} - {usage}\n\nUSAGE:\n   {path} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {VERSION}\n\nCOMMANDS:\n{}\n\nGLOBAL OPTIONS:\n{}\n",
        columns(&rows, "   ").join("\n"),
        options.join("\n")
    )
}

/// The program's page.
pub(super) fn root(program_name: &str, own: &[Command]) -> String {
    program(program_name, "A simple command line client for etcd.", &[COMMANDS, own], false)
}

/// The page of a group.
pub(super) fn group(path: &str, command: &Command, commands: &[Command]) -> String {
    format!(
        "NAME:\n   {path} - {}\n\nUSAGE:\n   {path} command [command options] [arguments...]\n\nCOMMANDS:\n{}\n\n\
         OPTIONS:\n{}\n   \n",
        command.usage,
        columns(&command_rows(commands), "   ").join("\n"),
        flag_lines(&[], &[SHOW_HELP]).join("\n")
    )
}

/// The page of a command.
pub(super) fn command(path: &str, command: &Command) -> String {
    let options = if command.flags.is_empty() { "" } else { " [command options]" };
    let words = if command.words.is_empty() { "[arguments...]" } else { command.words };
    let mut page = format!("NAME:\n   {path} - {}\n\nUSAGE:\n   {path}{options} {words}\n", command.usage);
    if !command.description.is_empty() {
        page += &format!("\nDESCRIPTION:\n   {}\n", command.description);
    }
    if !command.flags.is_empty() && matches!(command.action, Doing::Run(_)) {
        page += &format!("\nOPTIONS:\n{}\n   \n", flag_lines(command.flags, &[]).join("\n"));
    }
    page
}
