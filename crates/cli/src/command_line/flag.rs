//! Flags: their definitions, their values, and the words they are read from.
//!
//! Not here: which command they belong to. The invariant: a value in [`Values`] has passed its flag's check, so reading
//! it cannot fail.

use std::collections::BTreeMap;
use std::time::Duration;

use super::go_text;

/// What a flag's value is made of; also the word that the help text shows for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`; the bare flag means `true`.
    Bool,
    /// A signed 64-bit number.
    Int,
    /// A 64-bit number that is not negative.
    Uint,
    /// Any text.
    Text,
    /// A list of texts, separated by commas; given twice, the lists are joined.
    Texts,
    /// A span of time such as `5s`.
    Duration,
}

/// What a shell may offer for a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Nothing: it can be anything.
    Anything,
    /// Names of files.
    File,
    /// These words.
    OneOf(&'static [&'static str]),
}

/// One flag of a command.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) shorthand: Option<char>,
    pub(crate) kind: Kind,
    /// The value of a flag that was not given, in the form of the command line; empty stands for the kind's zero.
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
    pub(crate) hint: Hint,
}

impl Flag {
    /// A flag without a shorthand whose default is the zero of its kind.
    pub(crate) const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, shorthand: None, kind, default: "", help, hint: Hint::Anything }
    }

    /// The same flag with what a shell may offer for its value.
    pub(crate) const fn offering(mut self, hint: Hint) -> Self {
        self.hint = hint;
        self
    }

    /// The same flag with a default value.
    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    /// The same flag with a one-letter form.
    pub(crate) const fn short(mut self, shorthand: char) -> Self {
        self.shorthand = Some(shorthand);
        self
    }

    /// Checks a value.
    ///
    /// # Errors
    /// Go's text for what is wrong with it.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            Kind::Bool => go_text::parse_bool(value).map(drop),
            Kind::Int => go_text::parse_int(value, 0).map(drop),
            Kind::Uint => go_text::parse_uint(value, 0).map(drop),
            Kind::Duration => go_text::parse_duration(value).map(drop),
            Kind::Text | Kind::Texts => Ok(()),
        }
    }
}

/// Why words could not be read as flags.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `--help` or `-h` was given.
    Help,
    /// The text to show.
    Message(String),
}

/// What the words of one command say.
#[derive(Debug, Default)]
pub(crate) struct Values {
    given: BTreeMap<&'static str, String>,
    defaults: BTreeMap<&'static str, &'static str>,
    /// The words that are no flags.
    pub(crate) words: Vec<String>,
    /// How many of the words stood before a `--`, if there was one.
    pub(crate) words_before_dashes: Option<usize>,
}

impl Values {
    /// Reads words and flags in any order; `--` ends the flags.
    ///
    /// # Errors
    /// The first flag that is unknown, lacks its value, or has one that is not of its kind.
    pub(crate) fn read(flags: &[&'static Flag], arguments: &[String]) -> Result<Self, Fault> {
        let mut values =
            Self { defaults: flags.iter().map(|flag| (flag.name, flag.default)).collect(), ..Self::default() };
        let mut rest = arguments.iter();
        let mut help = false;
        while let Some(argument) = rest.next() {
            if argument == "--" {
                values.words_before_dashes = Some(values.words.len());
                values.words.extend(rest.cloned());
                break;
            } else if let Some(long) = argument.strip_prefix("--") {
                help |= values.read_long(flags, argument, long, &mut rest)?;
            } else if argument.len() > 1 && argument.starts_with('-') {
                help |= values.read_short(flags, argument, &mut rest)?;
            } else {
                values.words.push(argument.clone());
            }
        }
        if help { Err(Fault::Help) } else { Ok(values) }
    }

    fn read_long<'words>(
        &mut self,
        flags: &[&'static Flag],
        argument: &str,
        long: &str,
        rest: &mut impl Iterator<Item = &'words String>,
    ) -> Result<bool, Fault> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(Fault::Message(format!("bad flag syntax: {argument}")));
        }
        let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
            return match name {
                "help" => help_value("--help", value.as_deref()),
                _ => Err(Fault::Message(format!("unknown flag: --{name}"))),
            };
        };
        let value = match (value, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => match rest.next() {
                Some(value) => value.clone(),
                None => return Err(Fault::Message(format!("flag needs an argument: --{name}"))),
            },
        };
        self.set(flag, value)?;
        Ok(false)
    }

    fn read_short<'words>(
        &mut self,
        flags: &[&'static Flag],
        argument: &str,
        rest: &mut impl Iterator<Item = &'words String>,
    ) -> Result<bool, Fault> {
        let mut letters = &argument[1..];
        while let Some(letter) = letters.chars().next() {
            let after = &letters[letter.len_utf8()..];
            let Some(flag) = flags.iter().find(|flag| flag.shorthand == Some(letter)) else {
                if letter == 'h' {
                    return help_value("-h, --help", after.strip_prefix('='));
                }
                return Err(Fault::Message(format!("unknown shorthand flag: '{letter}' in -{letters}")));
            };
            if let Some(value) = after.strip_prefix('=').filter(|value| !value.is_empty()) {
                return self.set(flag, value.to_owned()).map(|()| false);
            }
            if flag.kind != Kind::Bool {
                let value = if !after.is_empty() {
                    after.to_owned()
                } else if let Some(value) = rest.next() {
                    value.clone()
                } else {
                    return Err(Fault::Message(format!("flag needs an argument: '{letter}' in -{letters}")));
                };
                return self.set(flag, value).map(|()| false);
            }
            self.set(flag, "true".to_owned())?;
            letters = after;
        }
        Ok(false)
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), Fault> {
        flag.check(&value).map_err(|reason| {
            let shorthand = flag.shorthand.map(|letter| format!("-{letter}, ")).unwrap_or_default();
            let value = go_text::quote(value.as_bytes());
            Fault::Message(format!("invalid argument {value} for \"{shorthand}--{}\" flag: {reason}", flag.name))
        })?;
        let joined = match (flag.kind, self.given.get(flag.name)) {
            (Kind::Texts, Some(earlier)) => format!("{earlier},{value}"),
            _ => value,
        };
        self.given.insert(flag.name, joined);
        Ok(())
    }

    /// Takes a value from outside the command line for a flag that was not given; a value of the wrong kind is left.
    pub(crate) fn set_from_environment(&mut self, flag: &'static Flag, value: &str) {
        if flag.check(value).is_ok() {
            self.given.insert(flag.name, value.to_owned());
        }
    }

    /// Whether the flag was given.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The text of a flag's value, or of its default.
    pub(crate) fn text(&self, name: &str) -> &str {
        match (self.given.get(name), self.defaults.get(name)) {
            (Some(given), _) => given,
            (None, Some(default)) => default,
            (None, None) => panic!("flag {name} is read by a command that does not define it"),
        }
    }

    /// The value of a boolean flag.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        let text = self.text(name);
        !text.is_empty() && go_text::parse_bool(text).expect("checked when it was read")
    }

    /// The value of a number flag.
    pub(crate) fn int(&self, name: &str) -> i64 {
        match self.text(name) {
            "" => 0,
            text => go_text::parse_int(text, 0).expect("checked when it was read"),
        }
    }

    /// The value of a number flag that is never negative.
    pub(crate) fn uint(&self, name: &str) -> u64 {
        match self.text(name) {
            "" => 0,
            text => go_text::parse_uint(text, 0).expect("checked when it was read"),
        }
    }

    /// The value of a duration flag.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        match self.text(name) {
            "" => Duration::ZERO,
            text => go_text::parse_duration(text).expect("checked when it was read"),
        }
    }

    /// The value of a list flag; an empty text is an empty list.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        match self.text(name) {
            "" => Vec::new(),
            text => text.split(',').map(str::to_owned).collect(),
        }
    }
}

/// Whether a value given to the help flag asks for help.
fn help_value(flag: &str, value: Option<&str>) -> Result<bool, Fault> {
    let value = value.unwrap_or("true");
    go_text::parse_bool(value).map_err(|reason| {
        Fault::Message(format!("invalid argument {} for \"{flag}\" flag: {reason}", go_text::quote(value.as_bytes())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static WRITE_OUT: Flag = Flag::new("write-out", Kind::Text, "").short('w').or("simple");
    static HEX: Flag = Flag::new("hex", Kind::Bool, "");
    static LIMIT: Flag = Flag::new("limit", Kind::Int, "");
    static LISTEN: Flag = Flag::new("listen", Kind::Bool, "").short('l');
    static MAX: Flag = Flag::new("max", Kind::Uint, "").or("128");
    static ENDPOINTS: Flag = Flag::new("endpoints", Kind::Texts, "");

    fn read(line: &str) -> Result<Values, Fault> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Values::read(&[&WRITE_OUT, &HEX, &LIMIT, &LISTEN, &ENDPOINTS, &MAX], &arguments)
    }

    fn fault(line: &str) -> String {
        match read(line) {
            Err(Fault::Message(message)) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_form_of_a_flag_says_the_same() {
        for line in
            ["a -w json", "-wjson a", "a -w=json", "--write-out json a", "a --write-out=json", "-w x a -lw json"]
        {
            let values = read(line).expect(line);
            assert_eq!((values.text("write-out"), values.words.as_slice()), ("json", ["a".to_owned()].as_slice()));
        }
        let values = read("--hex=false --limit 0x10 --endpoints a,b x --endpoints c").expect("valid");
        assert!(!values.is_set("hex") && values.is_given("hex") && !values.is_given("listen"));
        assert_eq!((values.int("limit"), values.uint("max")), (16, 128));
        assert_eq!(values.texts("endpoints"), ["a", "b", "c"]);
    }

    #[test]
    fn dashes_end_the_flags() {
        let values = read("a -l -- b --hex -- c").expect("valid");
        assert_eq!(values.words, ["a", "b", "--hex", "--", "c"]);
        assert_eq!(values.words_before_dashes, Some(1));
        assert_eq!(read("a -").expect("valid").words, ["a", "-"]);
    }

    #[test]
    fn faults_read_like_etcdctls() {
        assert_eq!(fault("--bogus x"), "unknown flag: --bogus");
        assert_eq!(fault("-lc x"), "unknown shorthand flag: 'c' in -c");
        assert_eq!(fault("a -w"), "flag needs an argument: 'w' in -w");
        assert_eq!(fault("a --limit"), "flag needs an argument: --limit");
        assert_eq!(fault("---x"), "bad flag syntax: ---x");
        assert_eq!(
            fault("--limit="),
            "invalid argument \"\" for \"--limit\" flag: strconv.ParseInt: parsing \"\": invalid syntax"
        );
        let negative = "invalid argument \"-1\" for \"--max\" flag: strconv.ParseUint: parsing \"-1\": invalid syntax";
        assert_eq!(fault("--max -1"), negative);
        assert_eq!(
            fault("-l=7"),
            "invalid argument \"7\" for \"-l, --listen\" flag: strconv.ParseBool: parsing \"7\": invalid syntax"
        );
        assert_eq!(read("a -h").map(|_| ()), Err(Fault::Help));
        assert!(read("a --help=false").is_ok());
    }
}
