//! Answers about keys, as etcdctl shows them.

use super::http::{Answer, Fault};
use super::{Exit, SERVER};
use crate::ctl::print::write_out;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// A key's answer: the document, and the index of its head.
pub(super) struct Reply {
    pub(super) document: Value,
    pub(super) index: u64,
}

/// Reads an answer about keys; `None` is an empty one, which a watch gets when its server stops.
///
/// # Errors
/// The server's refusal.
pub(super) fn read(answer: &Answer) -> Result<Option<Reply>, Exit> {
    let refused = |text: String| Err(Exit::error(SERVER, &Fault::Refusal(text)));
    let succeeded = matches!(answer.status, 200 | 201);
    if succeeded && answer.body.is_empty() {
        return Ok(None);
    }
    let Ok(document) = serde_json::from_slice::<Value>(&answer.body) else {
        return refused(
            "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint.".to_owned(),
        );
    };
    if succeeded {
        return Ok(Some(Reply { document, index: answer.index }));
    }
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| document[name].as_u64().unwrap_or(0);
    refused(format!("{}: {} ({}) [{}]", number("errorCode"), text("message"), text("cause"), number("index")))
}

pub(super) fn text<'a>(node: &'a Value, name: &str) -> &'a str {
    node[name].as_str().unwrap_or_default()
}

pub(super) fn is_dir(node: &Value) -> bool {
    node["dir"].as_bool().unwrap_or(false)
}

/// A node with the fields and in the order of Go's client.
fn put_node(out: &mut String, node: &Value) {
    if node.is_null() {
        out.push_str("null");
        return;
    }
    let _ = write!(out, "{{\"key\":{}", go_string(text(node, "key")));
    if is_dir(node) {
        out.push_str(",\"dir\":true");
    }
    let _ = write!(out, ",\"value\":{},\"nodes\":", go_string(text(node, "value")));
    match node["nodes"].as_array() {
        None => out.push_str("null"),
        Some(nodes) => {
            for (position, child) in nodes.iter().enumerate() {
                out.push(if position == 0 { '[' } else { ',' });
                put_node(out, child);
            }
            out.push_str(if nodes.is_empty() { "[]" } else { "]" });
        }
    }
    let number = |name: &str| node[name].as_u64().unwrap_or(0);
    let _ = write!(out, ",\"createdIndex\":{},\"modifiedIndex\":{}", number("createdIndex"), number("modifiedIndex"));
    if let Some(expiration) = node["expiration"].as_str() {
        let _ = write!(out, ",\"expiration\":{}", go_string(expiration));
    }
    if let Some(ttl) = node["ttl"].as_i64().filter(|&ttl| ttl != 0) {
        let _ = write!(out, ",\"ttl\":{ttl}");
    }
    out.push('}');
}

/// A string as Go's encoder writes it.
fn go_string(text: &str) -> String {
    let mut out = Value::from(text).to_string();
    for (plain, escaped) in
        [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")]
    {
        out = out.replace(plain, escaped);
    }
    out
}

/// Writes to standard output.
///
/// # Errors
/// Nobody reads it any more.
pub(super) fn print(text: &str) -> Result<(), Exit> {
    write_out(text.as_bytes()).map_err(|failure| Exit::usage(failure.message))
}

/// Shows a key in the form that `--output` asks for.
///
/// # Errors
/// As [`print`].
pub(super) fn key(reply: &Reply, form: &str) -> Result<(), Exit> {
    let (document, empty) = (&reply.document, Value::Object(Map::new()));
    let action = text(document, "action");
    let (node, prev) = (&document["node"], document.get("prevNode").unwrap_or(&empty));
    match form {
        "simple" if action == "delete" => print(&format!("PrevNode.Value: {}\n", text(prev, "value"))),
        "simple" => print(&format!("{}\n", text(node, "value"))),
        "extended" => {
            let number = |name: &str| node[name].as_i64().unwrap_or(0);
            let mut out = format!(
                "Key: {}\nCreated-Index: {}\nModified-Index: {}\n",
                text(node, "key"),
                number("createdIndex"),
                number("modifiedIndex")
            );
            if document.get("prevNode").is_some() {
                let _ = writeln!(out, "PrevNode.Value: {}", text(prev, "value"));
            }
            let _ = writeln!(out, "TTL: {}\nIndex: {}", number("ttl"), reply.index);
            if action != "delete" {
                let _ = writeln!(out, "\n{}", text(node, "value"));
            }
            print(&out)
        }
        "json" => {
            let mut out = format!("{{\"action\":{},\"node\":", json!(action));
            put_node(&mut out, node);
            out.push_str(",\"prevNode\":");
            put_node(&mut out, &document["prevNode"]);
            out.push_str("}\n");
            print(&out)
        }
        other => {
            eprintln!("Unsupported output format: {other}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, index: 7, body: body.to_owned().into() }
    }

    #[test]
    fn refusals_have_their_index() {
        let body = r#"{"errorCode":100,"message":"Key not found","cause":"/two","index":4}"#;
        let exit = read(&answer(404, body)).err().unwrap();
        assert_eq!(exit, Exit { code: SERVER, text: "Error:  100: Key not found (/two) [4]\n".to_owned() });
        assert!(read(&answer(200, "")).unwrap().is_none());
        assert!(read(&answer(200, "x")).err().unwrap().text.starts_with("Error:  client: response is invalid json."));
    }

    #[test]
    fn nodes_are_written_as_gos_client_does() {
        let mut out = String::new();
        put_node(&mut out, &json!({"key": "/a", "value": "<", "modifiedIndex": 5, "createdIndex": 4, "ttl": 9}));
        let want = r#"{"key":"/a","value":"\u003c","nodes":null,"createdIndex":4,"modifiedIndex":5,"ttl":9}"#;
        assert_eq!(out, want);
        out.clear();
        put_node(&mut out, &json!({"dir": true, "nodes": [{"key": "/a"}, {"key": "/b"}]}));
        assert!(
            out.starts_with(r#"{"key":"","dir":true,"value":"","nodes":[{"key":"/a","value":"","nodes":null"#),
            "{out}"
        );
    }
}
