//! Writes manual pages of a tool's commands.
//!
//! Not here: where they are put. The invariant: a page holds what `--help` says, no more and no less, in the form that
//! `man` reads.

use super::flag::{Flag, Kind};
use super::tree::Command;

/// The section of the manual for what users run.
const SECTION: &str = "1";

/// One page: its file's name and its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) file_name: String,
    pub(crate) text: String,
}

/// A page for the tool and one for each of its commands. `program` is the command path of the tree's root.
pub(crate) fn pages<Action>(root: &'static Command<Action>, program: &str) -> Vec<Page> {
    let mut pages = Vec::new();
    add_pages(&mut pages, &[root], program);
    pages
}

fn add_pages<Action>(pages: &mut Vec<Page>, path: &[&'static Command<Action>], program: &str) {
    pages.push(page(path, program));
    let command = path.last().expect("a path is never empty");
    for child in command.children {
        add_pages(pages, &[path, &[child]].concat(), program);
    }
}

/// The words of a command, such as `quorate ctl lease grant`.
fn words<Action>(path: &[&'static Command<Action>], program: &str) -> String {
    std::iter::once(program).chain(path[1..].iter().map(|command| command.name())).collect::<Vec<_>>().join(" ")
}

fn page<Action>(path: &[&'static Command<Action>], program: &str) -> Page {
    let command = path.last().expect("a path is never empty");
    let words_text = words(path, program);
    let name = words_text.replace(' ', "-");
    let short = if command.short.is_empty() { command.long } else { command.short };
    let mut text =
        format!(".TH {} {SECTION}\n.SH NAME\n{} \\- {}\n", escape(&name.to_uppercase()), escape(&name), escape(short));
    let arguments = command.usage.split_once(' ').map(|(_, arguments)| format!(" {arguments}")).unwrap_or_default();
    let arguments = if command.children.is_empty() { arguments } else { " COMMAND".to_owned() };
    text.push_str(&format!(".SH SYNOPSIS\n.B {}\n{}\n", escape(&words_text), escape(arguments.trim_start())));
    if !command.long.is_empty() && !command.short.is_empty() {
        text.push_str(&format!(".SH DESCRIPTION\n{}", verbatim(command.long.trim_end())));
    }
    if !command.children.is_empty() {
        text.push_str(".SH COMMANDS\n");
        for child in command.children {
            text.push_str(&format!(".TP\n.B {}\n{}\n", escape(child.name()), escape(child.short)));
        }
    }
    let above = path[..path.len() - 1].iter().filter(|command| command.shows_inherited);
    let flags: Vec<&Flag> =
        command.flags.iter().chain(above.flat_map(|command| command.inherited)).chain(command.inherited).collect();
    if !flags.is_empty() {
        text.push_str(".SH OPTIONS\n");
        flags.iter().for_each(|flag| text.push_str(&option(flag)));
    }
    let lesson = [command.lesson, command.examples].into_iter().find(|text| !text.is_empty());
    if let Some(lesson) = lesson {
        text.push_str(&format!(".SH EXAMPLE\n{}", verbatim(&lesson.replace("PROGRAM", program))));
    }
    if path.len() > 1 {
        let parent = words(&path[..path.len() - 1], program).replace(' ', "-");
        text.push_str(&format!(".SH SEE ALSO\n.BR {} ({SECTION})\n", escape(&parent)));
    }
    Page { file_name: format!("{name}.{SECTION}"), text }
}

fn option(flag: &Flag) -> String {
    let shorthand = flag.shorthand.map(|letter| format!("-{letter}, ")).unwrap_or_default();
    let value = match flag.kind {
        Kind::Bool => "",
        Kind::Int | Kind::Uint => "=NUMBER",
        Kind::Text => "=TEXT",
        Kind::Texts => "=TEXT,...",
        Kind::Duration => "=DURATION",
    };
    let default = if flag.default.is_empty() { String::new() } else { format!(" (default {})", flag.default) };
    let typed = escape(&format!("{shorthand}--{}{value}", flag.name));
    format!(".TP\n.B {typed}\n{}\n", escape(&format!("{}{default}", flag.help)))
}

/// Lines that are shown as they stand.
fn verbatim(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{}\n", escape(line))).collect();
    format!(".nf\n{lines}.fi\n")
}

/// A line in which nothing has a meaning of its own.
fn escape(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-").replace('\n', " ");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROOT: Command<()> = Command {
        long: "A tool.",
        inherited: &[Flag::new("hex", Kind::Bool, "in hexadecimal")],
        shows_inherited: false,
        ..Command::parent(
            "tool",
            "",
            &[Command {
                flags: &[Flag::new("limit", Kind::Int, ".at most").short('l').or("5")],
                lesson: "PROGRAM get a\\b",
                ..Command::leaf("get KEY", "Gets a key", ())
            }],
        )
    };

    #[test]
    fn pages_hold_what_help_says() {
        let pages = pages(&ROOT, "main tool");
        let names: Vec<&str> = pages.iter().map(|page| page.file_name.as_str()).collect();
        assert_eq!(names, ["main-tool.1", "main-tool-get.1"]);
        assert!(pages[0].text.contains(".B get\nGets a key\n"), "{}", pages[0].text);
        assert!(pages[0].text.contains(".B \\-\\-hex\nin hexadecimal\n"), "{}", pages[0].text);
        assert_eq!(
            pages[1].text,
            ".TH MAIN\\-TOOL\\-GET 1\n.SH NAME\nmain\\-tool\\-get \\- Gets a key\n.SH SYNOPSIS\n.B main tool get\nKEY\n\
             .SH OPTIONS\n.TP\n.B \\-l, \\-\\-limit=NUMBER\n\\&.at most (default 5)\n.SH EXAMPLE\n.nf\n\
             main tool get a\\eb\n.fi\n.SH SEE ALSO\n.BR main\\-tool (1)\n"
        );
    }
}
