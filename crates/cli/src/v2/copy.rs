//! `copy`: the keys of one cluster, an etcd 3.4's for example, into another over the v2 API, while both run.
//!
//! Not here: users and roles, whose passwords no API tells. The invariant: with `--follow`, no change of the source
//! between the listing and the first event is missed; without, the target has what the source had at one index.

use super::http::{Asked, Client, Fault};
use super::keys::{Fields, path};
use super::run::{Context, name_and_password};
use super::show::{self, is_dir, print, text};
use super::watch::Events;
use super::{Exit, SERVER};
use crate::command_line::word;
use crate::ctl::interrupt::Interrupt;
use serde_json::Value;

const FORM: &str = "application/x-www-form-urlencoded";

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    keys: u64,
    directories: u64,
}

fn fault(fault: &Fault) -> Exit {
    Exit::error(SERVER, fault)
}

/// A node as a request; a directory that is there gets its time to live.
fn write(node: &Value, is_there: bool) -> Asked {
    let (mut query, mut form) = (Fields::default(), Fields::default());
    if is_dir(node) {
        query.set("dir", "true");
        query.set("prevExist", is_there.to_string());
    } else {
        form.set("value", word::from_bytes(text(node, "value").as_bytes()));
    }
    if let Some(ttl_s) = node["ttl"].as_i64() {
        form.set("ttl", ttl_s.max(1).to_string());
    }
    let asked = Asked::new("PUT", query.query(&path(&word::from_bytes(text(node, "key").as_bytes()))));
    Asked { body: Some((FORM, form.into_text())), ..asked }
}

/// An answer's failure, unless its code is among those that do not matter.
fn judged(answer: &super::http::Answer, harmless: &[u64]) -> Result<bool, Exit> {
    let code = serde_json::from_slice::<Value>(&answer.body).ok().and_then(|document| document["errorCode"].as_u64());
    if code.is_some_and(|code| harmless.contains(&code)) {
        return Ok(false);
    }
    show::read(answer).map(|_| true)
}

/// Codes of the v2 API.
const KEY_NOT_FOUND: u64 = 100;
const NODE_EXISTS: u64 = 105;
const NOT_FILE: u64 = 102;

async fn put(target: &Client, node: &Value, tally: &mut Tally, context: &Context) -> Result<(), Exit> {
    let ask = async |asked: &Asked| target.ask(asked, context.deadline()).await.map_err(|error| fault(&error));
    if !is_dir(node) {
        judged(&ask(&write(node, false)).await?, &[])?;
        tally.keys += 1;
        return Ok(());
    }
    // The root is everywhere.
    if !text(node, "key").is_empty() && text(node, "key") != "/" {
        if !judged(&ask(&write(node, false)).await?, &[NODE_EXISTS])? {
            judged(&ask(&write(node, true)).await?, &[])?;
        }
        tally.directories += 1;
    }
    Ok(())
}

/// Writes a listing, parents first.
async fn put_all(target: &Client, listing: &Value, context: &Context) -> Result<Tally, Exit> {
    let mut tally = Tally::default();
    let mut waiting = vec![listing];
    while let Some(node) = waiting.pop() {
        put(target, node, &mut tally, context).await?;
        waiting.extend(node["nodes"].as_array().into_iter().flatten().rev());
    }
    Ok(tally)
}

/// Does to the target what an event says of the source.
async fn follow(target: &Client, event: &Value, context: &Context) -> Result<(), Exit> {
    let node = &event["node"];
    if !matches!(text(event, "action"), "delete" | "expire" | "compareAndDelete") {
        return put(target, node, &mut Tally::default(), context).await;
    }
    let mut fields = Fields::default();
    fields.set("recursive", "true");
    let asked = Asked::new("DELETE", fields.query(&path(&word::from_bytes(text(node, "key").as_bytes()))));
    let answer = target.ask(&asked, context.deadline()).await.map_err(|error| fault(&error))?;
    judged(&answer, &[KEY_NOT_FOUND, NOT_FILE]).map(drop)
}

pub(super) async fn copy(context: Context) -> Result<(), Exit> {
    let from = context.given.text("from");
    if from.is_empty() {
        return Err(Exit::usage("copy: say with --from where the keys are, for example --from http://10.0.0.1:2379"));
    }
    let credentials = match context.given.text("from-username") {
        "" => None,
        user => Some(name_and_password(user, "Password at the source: ")?),
    };
    let target = context.client().await?;
    let endpoints = from.split(',').map(str::to_owned).collect();
    let Client { tls, timeout, debug, .. } = context.client_as_told()?;
    let source = Client { endpoints, tls, credentials, timeout, debug };
    let prefix = context.given.text("prefix").to_owned();
    let mut fields = Fields::default();
    for name in ["recursive", "quorum", "sorted"] {
        fields.set(name, "true");
    }
    let asked = Asked { is_wait: true, ..Asked::new("GET", fields.query(&path(&prefix))) };
    let answer = source.ask(&asked, None).await.map_err(|error| fault(&error))?;
    let listed = show::read(&answer)?.ok_or_else(|| Exit::plain(SERVER, "the source answers nothing"))?;
    let Tally { keys, directories } = put_all(&target, &listed.document["node"], &context).await?;
    print(&format!("copied {keys} keys and {directories} directories as of index {}\n", listed.index))?;
    if !context.given.is_set("follow") {
        return Ok(());
    }
    let mut interrupt = Interrupt::listen().map_err(|failure| Exit::usage(failure.message))?;
    let mut events = Events::behind(source, &prefix, listed.index);
    print("following: end with CTRL+C when nothing writes to the source any more\n")?;
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            () = interrupt.wait() => return Ok(()),
        };
        follow(&target, &event.document, &context).await?;
        let index = event.document["node"]["modifiedIndex"].as_u64().unwrap_or(0);
        print(&format!(
            "{} {} at index {index}\n",
            text(&event.document, "action"),
            text(&event.document["node"], "key")
        ))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_are_written_with_their_time_to_live() {
        let asked = write(&json!({"key": "/a b", "value": "x&y", "ttl": 7}), false);
        assert_eq!((&*asked.path, asked.body), ("/v2/keys/a%20b", Some((FORM, "value=x%26y&ttl=7".to_owned()))));
        let asked = write(&json!({"key": "/d", "dir": true}), true);
        assert_eq!((&*asked.path, asked.body), ("/v2/keys/d?dir=true&prevExist=true", Some((FORM, String::new()))));
    }
}
