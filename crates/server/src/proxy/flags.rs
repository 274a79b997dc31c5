//! Flags in the form that etcd's proxies take them: two dashes, a value behind a blank or `=`.
//!
//! Owns the reading and the check of each value's kind; what a flag means is its program's.

use crate::config::{duration, parse_bool};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// The bare flag means `true`.
    Bool,
    Duration,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// Values that were given.
#[derive(Debug, Default)]
pub(super) struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// Reads all; `None`: help is asked for.
    pub(super) fn read(shapes: &[Shape], arguments: &[String]) -> Result<Option<Self>, String> {
        let mut flags = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if matches!(argument.as_str(), "-h" | "--help") {
                return Ok(None);
            }
            let Some(body) = argument.strip_prefix("--") else {
                return Err(match argument.strip_prefix('-').and_then(|letters| letters.chars().next()) {
                    Some(letter) => format!("unknown shorthand flag: {letter:?} in {argument}"),
                    None => format!("unknown command {argument:?}"),
                });
            };
            let (name, inline) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let shape = shapes.iter().find(|shape| shape.name == name);
            let shape = shape.ok_or_else(|| format!("unknown flag: --{name}"))?;
            let value = match inline {
                Some(value) => value,
                None if shape.kind == Kind::Bool => "true".to_owned(),
                None => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
            };
            let reason = match shape.kind {
                Kind::Bool if parse_bool(&value).is_none() => {
                    format!("strconv.ParseBool: parsing {value:?}: invalid syntax")
                }
                Kind::Duration if duration::parse_nanoseconds(&value).is_none() => {
                    format!("time: invalid duration {value:?}")
                }
                Kind::Text | Kind::Bool | Kind::Duration => String::new(),
            };
            if !reason.is_empty() {
                return Err(format!("invalid argument {value:?} for \"--{name}\" flag: {reason}"));
            }
            flags.0.insert(shape.name, value);
        }
        Ok(Some(flags))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.text(name).and_then(parse_bool).unwrap_or(false)
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        let nanoseconds = duration::parse_nanoseconds(self.text(name)?)?;
        Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        let shapes = [
            Shape { name: "a", kind: Kind::Text },
            Shape { name: "b", kind: Kind::Bool },
            Shape { name: "c", kind: Kind::Duration },
        ];
        let read = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Flags::read(&shapes, &words)
        };
        let flags = read("--a x --b --c=1m").expect("good").expect("no help");
        assert_eq!((flags.text("a"), flags.is_set("b")), (Some("x"), true));
        assert_eq!(flags.duration("c"), Some(Duration::from_secs(60)));
        assert!(read("--a x -h").expect("good").is_none());
        for (line, message) in [
            ("--d", "unknown flag: --d"),
            ("--a", "flag needs an argument: --a"),
            ("--b=7", "invalid argument \"7\" for \"--b\" flag: strconv.ParseBool: parsing \"7\": invalid syntax"),
            ("--c x", "invalid argument \"x\" for \"--c\" flag: time: invalid duration \"x\""),
            ("x", "unknown command \"x\""),
        ] {
            assert_eq!(read(line).err().as_deref(), Some(message));
        }
    }
}
