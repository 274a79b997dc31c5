//! The configuration file: YAML or JSON with etcd's key names; durations are whole nanoseconds, empty values count as
//! not given.

use super::checks::Note;
use super::table::{Flag, Kind, find};
use serde_yaml_ng::Value;

/// Keys of the two nested maps and the flags that they stand for.
const NESTED: [(&str, &[(&str, &str)]); 2] = [
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("client-crl-file", "client-crl-file"),
            ("client-cert-allowed-hostname", "client-cert-allowed-hostname"),
            ("auto-tls", "auto-tls"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("client-crl-file", "peer-crl-file"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-cns", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("allowed-hostnames", "peer-cert-allowed-hostname"),
            ("auto-tls", "peer-auto-tls"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
];

/// Flags and their values, as texts of the command line.
pub(crate) fn read(text: &str, notes: &mut Vec<Note>) -> Result<Vec<(&'static Flag, String)>, String> {
    let document: Value = serde_yaml_ng::from_str(text).map_err(|error| format!("configuration file: {error}"))?;
    let map = match document {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(map) => map,
        _ => return Err("configuration file: expected keys and values".to_owned()),
    };
    let mut found = Vec::new();
    for (key, value) in map {
        let Some(key) = key.as_str().map(str::to_owned) else {
            return Err("configuration file: a key is not a text".to_owned());
        };
        if let Some((_, names)) = NESTED.iter().find(|(name, _)| *name == key) {
            let inner = match value {
                Value::Null => continue,
                Value::Mapping(inner) => inner,
                _ => return Err(format!("configuration file: {key}: expected keys and values")),
            };
            for (inner_key, inner_value) in inner {
                let inner_key = inner_key.as_str().unwrap_or_default().to_owned();
                match names.iter().find(|(name, _)| *name == inner_key) {
                    Some((_, flag)) => add(&mut found, flag, &inner_value)?,
                    None => {
                        notes.push(Note::warning("unknown key in the configuration file", format!("{key}.{inner_key}")))
                    }
                }
            }
        } else if find(&key).is_some() {
            add(&mut found, &key, &value)?;
        } else {
            notes.push(Note::warning("unknown key in the configuration file", key));
        }
    }
    Ok(found)
}

fn add(found: &mut Vec<(&'static Flag, String)>, name: &str, value: &Value) -> Result<(), String> {
    let Some(flag) = find(name) else { return Err(format!("configuration file: {name}: unknown")) };
    let wrong = |expected: &str| format!("configuration file: {name}: expected {expected}");
    let text = match value {
        Value::Null => return Ok(()),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) if flag.kind == Kind::Duration => {
            format!("{}ns", value.as_i64().ok_or_else(|| wrong("whole nanoseconds"))?)
        }
        Value::Number(value) => value.to_string(),
        Value::String(text) if text.is_empty() => return Ok(()),
        Value::String(_) if flag.kind == Kind::Duration => return Err(wrong("whole nanoseconds, not a text")),
        Value::String(text) => text.clone(),
        Value::Sequence(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            texts.ok_or_else(|| wrong("a list of texts"))?.join(",")
        }
        Value::Mapping(map) if name == "feature-gates" => {
            let mut pairs = Vec::new();
            for (gate, on) in map {
                let (Some(gate), Some(on)) = (gate.as_str(), on.as_bool()) else {
                    return Err(wrong("names with true or false"));
                };
                pairs.push(format!("{gate}={on}"));
            }
            pairs.join(",")
        }
        _ => return Err(wrong("a single value")),
    };
    found.push((flag, text));
    Ok(())
}
