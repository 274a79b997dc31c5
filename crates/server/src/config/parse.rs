//! Reading settings: Go's flag syntax, `ETCD_*` variables, a configuration file; each value checked by its flag's kind.

use super::checks::{self, Config, Note};
use super::features::Features;
use super::table::{FLAGS, Flag, Kind, Standing, find};
use super::{duration, file, urls};
use std::collections::BTreeMap;

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// Run a server.
    Run(Box<Config>),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line cannot be read: print this and the usage, exit with 2.
    #[error("{0}")]
    Usage(String),
    /// The settings make no sense together, or a file or variable is wrong: log this, exit with 1.
    #[error("{0}")]
    Settings(String),
}

/// Values given by flag name; the text is as on a command line.
pub(crate) type Values = BTreeMap<&'static str, String>;

/// Reads the arguments (without the program's name), then the environment or the configuration file.
pub fn parse(arguments: &[String], environment: &[(String, String)]) -> Result<Parsed, ConfigError> {
    let mut notes = Vec::new();
    let mut given = match read_arguments(arguments)? {
        Arguments::Help => return Ok(Parsed::Help),
        Arguments::Version => return Ok(Parsed::Version),
        Arguments::Values { values, config_file } => match config_file.or_else(|| config_file_of(environment)) {
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| ConfigError::Settings(format!("open {path}: {error}")))?;
                if !values.is_empty() {
                    notes.push(Note::warning(
                        "the configuration file is all that counts: flags and environment variables are ignored",
                        path.clone(),
                    ));
                }
                let mut from_file = Values::new();
                for (name, text) in file::read(&text, &mut notes).map_err(ConfigError::Settings)? {
                    check(name, &text)
                        .map_err(|reason| ConfigError::Settings(format!("{path}: {}: {reason}", name.name)))?;
                    from_file.insert(name.name, text);
                }
                from_file
            }
            None => {
                let mut values = values;
                read_environment(environment, &mut values, &mut notes)?;
                values
            }
        },
    };
    drop_without_effect(&mut given, &mut notes)?;
    checks::resolve(&given, notes).map(|config| Parsed::Run(Box::new(config))).map_err(ConfigError::Settings)
}

enum Arguments {
    Help,
    Version,
    Values { values: Values, config_file: Option<String> },
}

fn read_arguments(arguments: &[String]) -> Result<Arguments, ConfigError> {
    let usage = ConfigError::Usage;
    let mut values = Values::new();
    let mut config_file = None;
    let mut version = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            if let Some(extra) = rest.next() {
                return Err(ConfigError::Settings(format!("{extra:?} is not a valid flag")));
            }
            break;
        }
        let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
            return Err(ConfigError::Settings(format!("{argument:?} is not a valid flag")));
        };
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() || body.starts_with('-') || body.starts_with('=') {
            return Err(usage(format!("bad flag syntax: {argument}")));
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        if name == "h" || name == "help" {
            return Ok(Arguments::Help);
        }
        if name == "version" {
            let text = inline.unwrap_or_else(|| "true".to_owned());
            version = parse_bool(&text)
                .ok_or_else(|| usage(format!("invalid boolean value {} for -version: parse error", quoted(&text))))?;
            continue;
        }
        let flag = find(name);
        if flag.is_none() && name != "config-file" {
            return Err(usage(format!("flag provided but not defined: -{name}")));
        }
        let text = match (inline, flag.map(|flag| flag.kind)) {
            (Some(text), _) => text,
            (None, Some(Kind::Bool)) => "true".to_owned(),
            (None, _) => match rest.next() {
                Some(text) => text.clone(),
                None => return Err(usage(format!("flag needs an argument: -{name}"))),
            },
        };
        match flag {
            None => config_file = Some(text).filter(|path| !path.is_empty()),
            Some(flag) => {
                check(flag, &text).map_err(|reason| {
                    if flag.kind == Kind::Bool {
                        usage(format!("invalid boolean value {} for -{name}: {reason}", quoted(&text)))
                    } else {
                        usage(format!("invalid value {} for flag -{name}: {reason}", quoted(&text)))
                    }
                })?;
                values.insert(flag.name, text);
            }
        }
    }
    Ok(if version { Arguments::Version } else { Arguments::Values { values, config_file } })
}

fn variable_name(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

fn config_file_of(environment: &[(String, String)]) -> Option<String> {
    environment
        .iter()
        .find(|(name, _)| name == "ETCD_CONFIG_FILE")
        .map(|(_, path)| path.clone())
        .filter(|p| !p.is_empty())
}

fn read_environment(
    environment: &[(String, String)],
    values: &mut Values,
    notes: &mut Vec<Note>,
) -> Result<(), ConfigError> {
    for (variable, text) in environment.iter().filter(|(name, _)| name.starts_with("ETCD_")) {
        let Some(flag) = FLAGS.iter().find(|flag| variable_name(flag.name) == *variable) else {
            if variable != "ETCD_CONFIG_FILE" {
                notes.push(Note::warning("unrecognized environment variable", variable.clone()));
            }
            continue;
        };
        // An empty variable counts as not set, as in etcd.
        if text.is_empty() {
            continue;
        }
        if values.contains_key(flag.name) {
            notes.push(Note::information(
                "recognized environment variable, but unused: shadowed by its flag",
                variable.clone(),
            ));
            continue;
        }
        check(flag, text).map_err(|reason| {
            ConfigError::Settings(format!("invalid value {} for {variable}: {reason}", quoted(text)))
        })?;
        notes.push(Note::information("recognized and used environment variable", variable.clone()));
        values.insert(flag.name, text.clone());
    }
    Ok(())
}

/// Takes out what has no effect, with a note, and refuses what must not be ignored.
fn drop_without_effect(values: &mut Values, notes: &mut Vec<Note>) -> Result<(), ConfigError> {
    for flag in FLAGS {
        let Some(text) = values.get(flag.name) else { continue };
        let is_default =
            text == flag.default || (flag.kind == Kind::Bool && parse_bool(text) == parse_bool(flag.default));
        match flag.standing {
            Standing::Served => continue,
            Standing::Refused if !is_default => {
                return Err(ConfigError::Settings(format!(
                    "--{} is not served by this release of Quorate, and ignoring it would be dangerous: leave it out",
                    flag.name
                )));
            }
            Standing::WithoutEffect if !is_default => {
                notes.push(Note::information("accepted for etcd's sake, without effect", format!("--{}", flag.name)));
                // What etcd refuses of it is refused all the same.
                continue;
            }
            Standing::Deprecated(text) => notes.push(Note::warning(text, format!("--{}", flag.name))),
            Standing::Refused | Standing::WithoutEffect => {}
        }
        values.remove(flag.name);
    }
    Ok(())
}

/// Go's `%q`, near enough for values of flags.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Go's spellings of a boolean.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether a text is a value of the flag's kind; the reason in Go's words if not.
pub(crate) fn check(flag: &Flag, text: &str) -> Result<(), String> {
    let number = |minimum: i128, maximum: i128| {
        let digits = text.strip_prefix(if minimum < 0 { &['-', '+'][..] } else { &['+'][..] }).unwrap_or(text);
        let digits = if minimum < 0 { digits } else { text };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("parse error".to_owned());
        }
        match text.parse::<i128>() {
            Ok(value) if (minimum..=maximum).contains(&value) => Ok(()),
            _ => Err("value out of range".to_owned()),
        }
    };
    match flag.kind {
        Kind::Text if flag.name == "feature-gates" => Features::parse(text).map(|_| ()),
        Kind::Text if flag.name == "cors" && text != "*" => urls::parse_list(text).map(|_| ()),
        Kind::Text => Ok(()),
        Kind::Bool => parse_bool(text).map(|_| ()).ok_or_else(|| "parse error".to_owned()),
        Kind::Int | Kind::Int64 => number(i64::MIN.into(), i64::MAX.into()),
        Kind::Uint | Kind::Uint64 => number(0, u64::MAX.into()),
        // Its text is that of another part of etcd.
        Kind::Uint32 => number(0, u32::MAX.into()).map_err(|reason| {
            let reason = if reason == "parse error" { "invalid syntax" } else { &reason };
            format!("strconv.ParseUint: parsing {}: {reason}", quoted(text))
        }),
        Kind::Duration if text.is_empty() && flag.default.is_empty() => Ok(()),
        Kind::Duration => duration::parse_nanoseconds(text).map(|_| ()).ok_or_else(|| "parse error".to_owned()),
        Kind::Urls if text.is_empty() => Ok(()),
        Kind::Urls => urls::parse_list(text).map(|_| ()),
        Kind::Choice(choices) if choices.contains(&text) => Ok(()),
        Kind::Choice(_) if flag.name == "v2-deprecation" => Err(format!("invalid value {}", quoted(text))),
        Kind::Choice(_) => Err("invalid value".to_owned()),
    }
}
