//! The commands for keys and directories.

use super::http::{Asked, escaped};
use super::run::{Context, seconds};
use super::show::{self, Reply, is_dir, text};
use super::{Exit, SERVER, USAGE};
use crate::command_line::word;
use std::io::Read;

const FORM: &str = "application/x-www-form-urlencoded";

/// The path of a key in requests, as Go cleans it: a slash at its end stays.
pub(super) fn path(key: &str) -> String {
    let bytes = word::bytes(key);
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in bytes.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut path = "/v2/keys".to_owned();
    for part in parts {
        path.push('/');
        path.push_str(&escaped(part).replace('+', "%20"));
    }
    if bytes.ends_with(b"/") {
        path.push('/');
    }
    path
}

/// A query or a form.
#[derive(Default)]
pub(super) struct Fields(String);

impl Fields {
    pub(super) fn set(&mut self, name: &str, value: impl AsRef<str>) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0 += &format!("{name}={}", escaped(&word::bytes(value.as_ref())));
    }

    /// As a body.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Behind a path.
    pub(super) fn query(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0) }
    }
}

fn key_of(context: &Context) -> Result<String, Exit> {
    context.words().first().cloned().ok_or_else(|| Exit::plain(USAGE, "key required"))
}

/// The second word, else what standard input holds.
fn value_of(context: &Context) -> Result<String, Exit> {
    if let Some(value) = context.words().get(1) {
        return Ok(value.clone());
    }
    let mut bytes = Vec::new();
    match std::io::stdin().lock().read_to_end(&mut bytes) {
        Ok(_) if !bytes.is_empty() => Ok(word::from_bytes(&bytes)),
        _ => Err(Exit::plain(USAGE, "value required")),
    }
}

async fn ask(context: &Context, asked: impl FnOnce() -> Result<Asked, Exit>) -> Result<Reply, Exit> {
    let client = context.client().await?;
    let asked = asked()?;
    let answer = client.ask(&asked, context.deadline()).await.map_err(|fault| Exit::error(SERVER, &fault))?;
    show::read(&answer)?.ok_or_else(|| Exit::plain(SERVER, "client: response body is empty"))
}

/// What a change says beside the key.
#[derive(Default)]
struct Change {
    value: Option<String>,
    ttl_s: i64,
    prev_exist: Option<&'static str>,
    prev_value: String,
    prev_index: i64,
    method: Option<&'static str>,
}

fn change(key: &str, change: &Change) -> Asked {
    let (mut query, mut form) = (Fields::default(), Fields::default());
    match &change.value {
        None => query.set("dir", "true"),
        Some(value) => form.set("value", value),
    }
    if let Some(prev_exist) = change.prev_exist {
        query.set("prevExist", prev_exist);
    }
    if change.prev_index != 0 {
        query.set("prevIndex", change.prev_index.cast_unsigned().to_string());
    }
    if !change.prev_value.is_empty() {
        query.set("prevValue", &change.prev_value);
    }
    if let Some(ttl_s) = seconds(change.ttl_s) {
        form.set("ttl", ttl_s.to_string());
    }
    let asked = Asked::new(change.method.unwrap_or("PUT"), query.query(&path(key)));
    Asked { body: Some((FORM, form.0)), ..asked }
}

async fn changed(context: &Context, make: impl FnOnce(&Context) -> Result<Change, Exit>) -> Result<Reply, Exit> {
    ask(context, || {
        let key = key_of(context)?;
        Ok(change(&key, &make(context)?))
    })
    .await
}

pub(super) async fn set(context: Context) -> Result<(), Exit> {
    let reply = changed(&context, |context| {
        Ok(Change {
            value: Some(value_of(context)?),
            ttl_s: context.given.int("ttl"),
            prev_value: context.given.text("swap-with-value").to_owned(),
            prev_index: context.given.int("swap-with-index"),
            ..Change::default()
        })
    })
    .await?;
    show::key(&reply, context.output())
}

pub(super) async fn update(context: Context) -> Result<(), Exit> {
    let reply = changed(&context, |context| {
        let (value, ttl_s) = (Some(value_of(context)?), context.given.int("ttl"));
        Ok(Change { value, ttl_s, prev_exist: Some("true"), ..Change::default() })
    })
    .await?;
    show::key(&reply, context.output())
}

pub(super) async fn mk(context: Context) -> Result<(), Exit> {
    let in_order = context.given.is_set("in-order");
    let reply = changed(&context, |context| {
        let (value, ttl_s) = (Some(value_of(context)?), context.given.int("ttl"));
        Ok(match in_order {
            true => Change { value, ttl_s, method: Some("POST"), ..Change::default() },
            false => Change { value, ttl_s, prev_exist: Some("false"), ..Change::default() },
        })
    })
    .await?;
    show::key(&reply, context.output())
}

async fn directory(context: Context, prev_exist: Option<&'static str>) -> Result<(), Exit> {
    let reply =
        changed(&context, |context| Ok(Change { ttl_s: context.given.int("ttl"), prev_exist, ..Change::default() }))
            .await?;
    if context.output() == "simple" { Ok(()) } else { show::key(&reply, context.output()) }
}

pub(super) async fn mkdir(context: Context) -> Result<(), Exit> {
    directory(context, Some("false")).await
}

pub(super) async fn setdir(context: Context) -> Result<(), Exit> {
    directory(context, None).await
}

pub(super) async fn updatedir(context: Context) -> Result<(), Exit> {
    directory(context, Some("true")).await
}

async fn removed(context: &Context, fields: Fields) -> Result<(), Exit> {
    let reply = ask(context, || Ok(Asked::new("DELETE", fields.query(&path(&key_of(context)?))))).await?;
    if is_dir(&reply.document["node"]) && context.output() == "simple" {
        return Ok(());
    }
    show::key(&reply, context.output())
}

pub(super) async fn rm(context: Context) -> Result<(), Exit> {
    let mut fields = Fields::default();
    for name in ["recursive", "dir"] {
        if context.given.is_set(name) {
            fields.set(name, "true");
        }
    }
    if !context.given.text("with-value").is_empty() {
        fields.set("prevValue", context.given.text("with-value"));
    }
    if context.given.int("with-index") != 0 {
        fields.set("prevIndex", context.given.int("with-index").cast_unsigned().to_string());
    }
    removed(&context, fields).await
}

pub(super) async fn rmdir(context: Context) -> Result<(), Exit> {
    let mut fields = Fields::default();
    fields.set("dir", "true");
    removed(&context, fields).await
}

fn read(context: &Context, key: &str) -> Asked {
    let mut fields = Fields::default();
    for (field, flag) in [("quorum", "quorum"), ("recursive", "recursive"), ("sorted", "sort")] {
        fields.set(field, context.given.is_set(flag).to_string());
    }
    Asked::new("GET", fields.query(&path(key)))
}

pub(super) async fn get(context: Context) -> Result<(), Exit> {
    let reply = ask(&context, || Ok(read(&context, &key_of(&context)?))).await?;
    let node = &reply.document["node"];
    if is_dir(node) {
        return Err(Exit { code: USAGE, text: format!("{}: is a directory\n", text(node, "key")) });
    }
    show::key(&reply, context.output())
}

pub(super) async fn ls(context: Context) -> Result<(), Exit> {
    let key = context.words().first().map_or("/", String::as_str);
    let reply = ask(&context, || Ok(read(&context, key))).await?;
    if context.output() != "simple" {
        return show::key(&reply, context.output());
    }
    let node = &reply.document["node"];
    let mut out = String::new();
    if !is_dir(node) {
        out += &format!("{}\n", text(node, "key"));
    }
    let nodes = node["nodes"].as_array().into_iter().flatten();
    nodes.for_each(|child| list(&mut out, child, context.given.is_set("p")));
    show::print(&out)
}

fn list(out: &mut String, node: &serde_json::Value, with_slashes: bool) {
    let slash = if is_dir(node) && with_slashes { "/" } else { "" };
    *out += &format!("{}{slash}\n", text(node, "key"));
    let nodes = node["nodes"].as_array().into_iter().flatten();
    nodes.for_each(|child| list(out, child, with_slashes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_paths() {
        for (key, want) in [
            ("/", "/v2/keys/"),
            ("", "/v2/keys"),
            ("a", "/v2/keys/a"),
            ("//a/./b/", "/v2/keys/a/b/"),
            ("/a b?", "/v2/keys/a%20b%3F"),
        ] {
            assert_eq!(path(key), want, "{key}");
        }
    }

    #[test]
    fn changes_are_forms() {
        let asked = change("/a", &Change { value: Some("x y".to_owned()), ttl_s: 5, ..Change::default() });
        assert_eq!((asked.method, &*asked.path), ("PUT", "/v2/keys/a"));
        assert_eq!(asked.body, Some((FORM, "value=x+y&ttl=5".to_owned())));
        let asked = change("/d", &Change { prev_exist: Some("true"), prev_index: 4, ..Change::default() });
        assert_eq!(asked.path, "/v2/keys/d?dir=true&prevExist=true&prevIndex=4");
    }
}
