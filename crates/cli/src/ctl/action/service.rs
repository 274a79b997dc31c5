//! `register`, `discover`, `members`, `observe`: instances of services, groups, and keys that are followed.
//!
//! Not here: reading without a gap (`live`). The invariant: an instance is stored in the form of the recipes (JSON, as Go's
//! `naming/endpoints` writes it), and a process that ends by itself has taken it out.

use std::time::Duration;

use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb::{KeyValue, event::EventType};

use super::child;
use super::interrupt::Interrupt;
use super::live::{Live, as_events};
use super::lock::canceled;
use crate::command_line::word;
use crate::ctl::client::{Client, Session, WatchReply};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{CallError, Failure};
use crate::ctl::print::{Format, Printer, Reply, write_out};

/// How long to wait before registering again when that failed.
const AGAIN_PAUSE: Duration = Duration::from_secs(1);

/// `register`
pub(crate) async fn register(mut run: Invocation) -> Result<(), Failure> {
    let [service, instance, address, command @ ..] = run.words() else {
        return Err(Failure::arguments(
            "register takes a service, an instance and its address, and an optional command",
        ));
    };
    if service.is_empty() || service.ends_with('/') || instance.is_empty() || instance.contains('/') {
        return Err(Failure::arguments("a service does not end with a slash, and an instance has none"));
    }
    let key = format!("{service}/{instance}");
    let value = serde_json::json!({ "Op": 0, "Addr": address, "Metadata": null }).to_string();
    let command = command.to_vec();
    let ttl_seconds = run.values.int("ttl");
    if ttl_seconds <= 0 {
        return Err(Failure::arguments("--ttl is not a number of seconds above zero"));
    }
    let (client, _) = run.client().await?;
    let mut interrupt = Interrupt::listen()?;
    let runs_a_command = !command.is_empty();
    let child = child::run(&command, &[]);
    tokio::pin!(child);
    let mut is_first = true;
    loop {
        let registered = tokio::select! {
            registered = put(client.clone(), &key, &value, ttl_seconds) => registered,
            () = interrupt.wait() => return Err(canceled()),
        };
        let mut session = match registered {
            Ok(session) => session,
            Err(error) if is_first => return Err(error.into()),
            Err(error) => {
                eprintln!("not registered: {error}");
                tokio::time::sleep(AGAIN_PAUSE).await;
                continue;
            }
        };
        write_out(format!("registered {key}\n").as_bytes())?;
        is_first = false;
        let ended = tokio::select! {
            () = interrupt.wait() => Ok(()),
            ran = &mut child, if runs_a_command => ran.map_err(|fault| Failure::new(fault.code, fault.message)),
            () = session.lost() => {
                eprintln!("lost {key}, registering again");
                continue;
            }
        };
        session.close().await?;
        return ended;
    }
}

async fn put(mut client: Client, key: &str, value: &str, ttl_seconds: i64) -> Result<Session, CallError> {
    let session = Session::start(client.clone(), ttl_seconds).await?;
    let request = pb::PutRequest {
        key: word::bytes(key).into(),
        value: word::bytes(value).into(),
        lease: session.lease,
        ..Default::default()
    };
    let deadline = client.command_deadline();
    match client.call(request, deadline).await {
        Ok(_) => Ok(session),
        Err(error) => {
            // The lease ends by itself if this fails.
            let _ = session.close().await;
            Err(error)
        }
    }
}

/// `discover`
pub(crate) async fn discover(run: Invocation) -> Result<(), Failure> {
    directory(run, "discover takes a service").await
}

/// `members`
pub(crate) async fn members(run: Invocation) -> Result<(), Failure> {
    directory(run, "members takes a group").await
}

/// Shows what is below a path, and if wanted what comes and goes; `usage` is what is said to other words than one path.
async fn directory(mut run: Invocation, usage: &str) -> Result<(), Failure> {
    let [path] = run.words() else { return Err(Failure::arguments(usage)) };
    let (path, follows) = (path.clone(), run.values.is_set("watch"));
    let (client, printer) = run.client().await?;
    let mut interrupt = Interrupt::listen()?;
    let prefix = format!("{path}/");
    let (mut live, read) = Live::start(client, &prefix).await?;
    if printer.format == Format::Simple {
        for kv in &read.kvs {
            write_out(instance_line("", &prefix, kv).as_bytes())?;
        }
    } else {
        printer.print(Reply::Get(&read))?;
    }
    if !follows {
        return Ok(());
    }
    loop {
        let changes = tokio::select! {
            changes = live.next() => changes?,
            () = interrupt.wait() => return Ok(()),
        };
        show_changes(&changes, &prefix, printer)?;
    }
}

fn show_changes(changes: &WatchReply, prefix: &str, printer: Printer) -> Result<(), Failure> {
    if printer.format != Format::Simple {
        return printer.print(Reply::Watch(changes));
    }
    for event in &changes.events {
        let Some(kv) = &event.kv else { continue };
        let line = match event.r#type() {
            EventType::Put => instance_line("+ ", prefix, kv),
            EventType::Delete => format!("- {}\n", name_of(prefix, kv)),
        };
        write_out(line.as_bytes())?;
    }
    Ok(())
}

fn name_of(prefix: &str, kv: &KeyValue) -> String {
    let prefix = word::bytes(prefix);
    String::from_utf8_lossy(kv.key.strip_prefix(&prefix[..]).unwrap_or(&kv.key)).into_owned()
}

/// `NAME ADDRESS`; the value as it is if it has not the form of an instance.
fn instance_line(sign: &str, prefix: &str, kv: &KeyValue) -> String {
    let instance: Option<serde_json::Value> = serde_json::from_slice(&kv.value).ok();
    let address = instance.as_ref().and_then(|instance| instance.get("Addr")).and_then(serde_json::Value::as_str);
    let shown = address.map_or_else(|| String::from_utf8_lossy(&kv.value).into_owned(), str::to_owned);
    format!("{sign}{} {shown}\n", name_of(prefix, kv))
}

/// `observe`
pub(crate) async fn observe(mut run: Invocation) -> Result<(), Failure> {
    let [prefix] = run.words() else { return Err(Failure::arguments("observe takes a prefix of keys")) };
    let (prefix, only_changes) = (prefix.clone(), run.values.is_set("changes-only"));
    if prefix.is_empty() {
        return Err(Failure::arguments("observe takes a prefix of keys"));
    }
    let (client, printer) = run.client().await?;
    let mut interrupt = Interrupt::listen()?;
    let (mut live, read) = Live::start(client, &prefix).await?;
    if !only_changes && !read.kvs.is_empty() {
        printer.print(Reply::Watch(&as_events(&read)))?;
    }
    loop {
        let changes = tokio::select! {
            changes = live.next() => changes?,
            () = interrupt.wait() => return Ok(()),
        };
        printer.print(Reply::Watch(&changes))?;
    }
}
