//! Flags as Go's `flag` package reads them, in the order that etcdctl's library gives the words.
//!
//! Not here: which flags there are (`tree`). The invariant: a word behind `--` is never a flag.

use crate::command_line::go_text::{duration_text, parse_bool, parse_duration, parse_int, quote};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Text,
    /// May be given more than once.
    Texts,
    Int,
    Duration,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// The first one counts.
    pub(super) names: &'static [&'static str],
    pub(super) kind: Kind,
    /// As help shows it; the first word between backquotes stands for the value.
    pub(super) usage: &'static str,
    pub(super) default: &'static str,
}

/// What a command line said, or does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    values: BTreeMap<&'static str, Vec<String>>,
    /// The words that are no flags.
    pub(super) words: Vec<String>,
    /// Whether help was asked for.
    pub(super) help: bool,
    /// Whether the version was asked for.
    pub(super) version: bool,
}

impl Given {
    fn last(&self, flag: &str) -> &str {
        self.values.get(flag).and_then(|values| values.last()).map_or("", String::as_str)
    }

    pub(super) fn text(&self, flag: &str) -> &str {
        self.last(flag)
    }

    pub(super) fn texts(&self, flag: &str) -> Vec<String> {
        self.values.get(flag).cloned().unwrap_or_default()
    }

    pub(super) fn is_set(&self, flag: &str) -> bool {
        self.last(flag) == "true"
    }

    pub(super) fn int(&self, flag: &str) -> i64 {
        self.last(flag).parse().unwrap_or(0)
    }

    pub(super) fn duration(&self, flag: &str) -> Duration {
        parse_duration(self.last(flag)).unwrap_or_default()
    }
}

fn find<'a>(flags: &'a [Flag], name: &str) -> Option<&'a Flag> {
    flags.iter().find(|flag| flag.names.contains(&name))
}

/// The name of a word that is a flag's.
fn flag_name(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|name| !name.is_empty())?;
    Some(name.split_once('=').map_or(name, |(name, _)| name))
}

/// The words with the command's flags in front, each with the word behind it.
pub(super) fn reordered(flags: &[Flag], words: &[String]) -> Vec<String> {
    let (mut front, mut rest) = (Vec::new(), Vec::new());
    let mut may_be_value = false;
    for (at, word) in words.iter().enumerate() {
        if word == "--" {
            rest.extend_from_slice(&words[at..]);
            break;
        } else if may_be_value && !word.starts_with('-') {
            may_be_value = false;
            front.push(word.clone());
        } else if flag_name(word).is_some_and(|name| find(flags, name).is_some()) {
            may_be_value = !word.contains('=');
            front.push(word.clone());
        } else {
            rest.push(word.clone());
        }
    }
    front.extend(rest);
    front
}

/// Reads the flags in front of the first word that is none.
///
/// # Errors
/// In Go's words.
pub(super) fn read(flags: &[Flag], has_version: bool, words: &[String]) -> Result<Given, String> {
    let mut given = Given::default();
    for flag in flags.iter().filter(|flag| !flag.default.is_empty()) {
        given.values.insert(flag.names[0], vec![flag.default.to_owned()]);
    }
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if !word.starts_with('-') || word.len() < 2 {
            break;
        }
        at += 1;
        if word == "--" {
            break;
        }
        let body = word.strip_prefix("--").unwrap_or(&word[1..]);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {word}"));
        }
        let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value.to_owned())));
        if matches!(name, "help" | "h") {
            given.help = true;
            continue;
        }
        if has_version && matches!(name, "version" | "v") {
            given.version = true;
            continue;
        }
        let flag = find(flags, name).ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        let value = match (flag.kind, value) {
            (Kind::Bool, None) => "true".to_owned(),
            (_, Some(value)) => value,
            (_, None) => {
                at += 1;
                words.get(at - 1).cloned().ok_or_else(|| format!("flag needs an argument: -{name}"))?
            }
        };
        let value = checked(flag.kind, name, &value)?;
        let values = given.values.entry(flag.names[0]).or_default();
        if flag.kind != Kind::Texts {
            values.clear();
        }
        values.push(value);
    }
    given.words = words[at.min(words.len())..].to_vec();
    Ok(given)
}

fn checked(kind: Kind, name: &str, value: &str) -> Result<String, String> {
    let refused = || format!("invalid value {} for flag -{name}: parse error", quote(value.as_bytes()));
    match kind {
        Kind::Text | Kind::Texts => Ok(value.to_owned()),
        Kind::Bool => parse_bool(value)
            .map(|value| value.to_string())
            .map_err(|_| format!("invalid boolean value {} for -{name}: parse error", quote(value.as_bytes()))),
        Kind::Int => parse_int(value, 0).map(|value| value.to_string()).map_err(|_| refused()),
        Kind::Duration => parse_duration(value).map(duration_text).map_err(|_| refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag { names: &["recursive", "r"], kind: Kind::Bool, usage: "", default: "" },
        Flag { names: &["ttl"], kind: Kind::Int, usage: "", default: "0" },
        Flag { names: &["roles"], kind: Kind::Texts, usage: "", default: "" },
    ];

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn words_are_put_in_order() {
        for (line, want) in [
            ("a b", "a b"),
            ("a --ttl 5 b", "--ttl 5 a b"),
            ("a --ttl=5 b", "--ttl=5 a b"),
            ("a -r b", "-r b a"),
            ("a -- -r b", "a -- -r b"),
            ("a --nope b", "a --nope b"),
            ("- --ttl 1", "--ttl 1 -"),
        ] {
            assert_eq!(reordered(FLAGS, &words(line)), words(want), "{line}");
        }
    }

    #[test]
    fn flags_are_read_as_go_does() {
        let given = read(FLAGS, true, &words("--ttl 5 -r --roles a --roles=b x --ttl 6")).unwrap();
        assert_eq!((given.int("ttl"), given.is_set("recursive"), given.texts("roles")), (5, true, words("a b")));
        assert_eq!(given.words, words("x --ttl 6"));
        assert_eq!(read(FLAGS, true, &words("-- -r")).unwrap().words, words("-r"));
        for (line, want) in [
            ("--nope", "flag provided but not defined: -nope"),
            ("--ttl", "flag needs an argument: -ttl"),
            ("--ttl x", "invalid value \"x\" for flag -ttl: parse error"),
            ("-r=x", "invalid boolean value \"x\" for -r: parse error"),
            ("---r", "bad flag syntax: ---r"),
        ] {
            assert_eq!(read(FLAGS, true, &words(line)).unwrap_err(), want);
        }
        assert!(read(FLAGS, true, &words("-v")).unwrap().version && read(FLAGS, false, &words("-v")).is_err());
    }
}
