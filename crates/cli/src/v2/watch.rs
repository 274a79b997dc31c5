//! `watch` and `exec-watch`.

use super::http::Asked;
use super::keys::{Fields, path};
use super::run::Context;
use super::show::{self, Reply, is_dir, text};
use super::{Exit, SERVER};
use crate::command_line::word;
use crate::ctl::interrupt::Interrupt;
use std::process::Stdio;
use tokio::process::Command;

/// One event after the other.
pub(super) struct Events {
    client: super::http::Client,
    key: String,
    recursive: bool,
    /// The first index that is waited for; 0: whatever comes.
    next: u64,
}

impl Events {
    fn new(client: super::http::Client, key: &str, context: &Context) -> Self {
        let after = u64::try_from(context.given.int("after-index")).unwrap_or(0);
        let next = if after > 0 { after + 1 } else { 0 };
        Self { client, key: key.to_owned(), recursive: context.given.is_set("recursive"), next }
    }

    /// Everything below a key that comes behind an index.
    pub(super) fn behind(client: super::http::Client, key: &str, index: u64) -> Self {
        Self { client, key: key.to_owned(), recursive: true, next: index + 1 }
    }

    pub(super) async fn next(&mut self) -> Result<Reply, Exit> {
        loop {
            let mut fields = Fields::default();
            fields.set("recursive", self.recursive.to_string());
            fields.set("wait", "true");
            fields.set("waitIndex", self.next.to_string());
            let asked = Asked { is_wait: true, ..Asked::new("GET", fields.query(&path(&self.key))) };
            let answer = self.client.ask(&asked, None).await.map_err(|fault| Exit::error(SERVER, &fault))?;
            // A server that stops ends its watches without a word.
            if let Some(reply) = show::read(&answer)? {
                self.next = reply.document["node"]["modifiedIndex"].as_u64().unwrap_or(0) + 1;
                return Ok(reply);
            }
        }
    }
}

fn listen() -> Result<Interrupt, Exit> {
    Interrupt::listen().map_err(|failure| Exit::usage(failure.message))
}

pub(super) async fn watch(context: Context) -> Result<(), Exit> {
    let client = context.client().await?;
    let key = context.words().first().ok_or_else(|| Exit::plain(super::USAGE, "key required"))?;
    let mut events = Events::new(client, key, &context);
    let mut interrupt = listen()?;
    loop {
        let reply = tokio::select! {
            reply = events.next() => reply?,
            () = interrupt.wait() => return Ok(()),
        };
        let node = &reply.document["node"];
        if is_dir(node) {
            continue;
        }
        if events.recursive {
            show::print(&format!("[{}] {}\n", text(&reply.document, "action"), text(node, "key")))?;
        }
        show::key(&reply, context.output())?;
        if !context.given.is_set("forever") {
            return Ok(());
        }
    }
}

/// The key and the command, wherever etcdctl's library left them.
fn key_and_command(words: &[String]) -> Option<(String, Vec<String>)> {
    if words.len() < 2 {
        return None;
    }
    if words.iter().skip(1).any(|word| word == "--") {
        return Some((words[0].clone(), words.get(2..).unwrap_or_default().to_vec()));
    }
    let (key, command) = words.split_last()?;
    Some((key.clone(), command.to_vec()))
}

pub(super) async fn exec_watch(context: Context) -> Result<(), Exit> {
    let client = context.client().await?;
    let (key, command) = key_and_command(context.words())
        .ok_or_else(|| Exit::plain(super::USAGE, "key and command to exec required"))?;
    let mut events = Events::new(client, &key, &context);
    let mut interrupt = listen()?;
    let mut running = tokio::task::JoinSet::new();
    loop {
        let reply = tokio::select! {
            reply = events.next() => reply?,
            Some(_) = running.join_next() => continue,
            () = interrupt.wait() => return Ok(()),
        };
        let node = &reply.document["node"];
        if is_dir(node) {
            eprintln!("Ignored dir {} change", text(node, "key"));
            continue;
        }
        let [program, arguments @ ..] = &command[..] else { continue };
        let mut child = Command::new(word::os_string(program));
        child.args(arguments.iter().map(|argument| word::os_string(argument))).stdin(Stdio::null());
        child.env("ETCD_WATCH_ACTION", text(&reply.document, "action"));
        child.env("ETCD_WATCH_MODIFIED_INDEX", node["modifiedIndex"].as_u64().unwrap_or(0).to_string());
        child.env("ETCD_WATCH_KEY", text(node, "key"));
        child.env("ETCD_WATCH_VALUE", text(node, "value"));
        match child.spawn() {
            Ok(mut child) => drop(running.spawn(async move { child.wait().await })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !program.contains('/') => {
                return Err(Exit::usage(format!("exec: {program:?}: executable file not found in $PATH")));
            }
            Err(error) => return Err(Exit::usage(format!("fork/exec {program}: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_in_front_of_the_dashes_or_last() {
        let of = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            key_and_command(&words).map(|(key, command)| format!("{key}: {}", command.join(" ")))
        };
        assert_eq!(of("/k -- sh -c x").as_deref(), Some("/k: sh -c x"));
        assert_eq!(of("sh x /k").as_deref(), Some("/k: sh x"));
        assert_eq!(of("/k"), None);
    }
}
