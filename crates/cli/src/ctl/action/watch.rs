//! `watch`: shows events as they come, and runs a command for each.
//!
//! Not here: keeping a watch alive (`client::watch`). The invariant: events are shown in the order in which they came,
//! and a command for an event is done before the next reply is read.

use futures::stream::{FuturesUnordered, StreamExt};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb::event::EventType;
use tokio::sync::{broadcast, mpsc};

use super::{child, line};
use crate::command_line::flag::{Fault, Flag, Values};
use crate::command_line::go_text::quote;
use crate::command_line::word;
use crate::ctl::client::{Client, Watch, WatchReply};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::{Printer, Reply, prefix_end, write_out};
use crate::ctl::tree;

/// How many lines of the interactive form may have been read ahead.
const LINES_AHEAD_MAX: usize = 1;
/// How many requests for progress a watch may be behind.
const PROGRESS_WAITING_MAX: usize = 8;
const KEY_VARIABLE: &str = "ETCDCTL_WATCH_KEY";
const RANGE_END_VARIABLE: &str = "ETCDCTL_WATCH_RANGE_END";
const PREFIX_AND_RANGE_END: &str = "`range_end` and `--prefix` are mutually exclusive";

/// `watch`
pub(crate) async fn watch(mut run: Invocation) -> Result<(), Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if run.values.is_set("interactive") {
        check_variables(&variable)?;
        let (client, printer) = run.client().await?;
        return interactive(client, printer, &variable).await;
    }
    let wish = Wish::read(&run.values, &variable)?;
    let (client, printer) = run.client().await?;
    let watch = Watch::new(client, wish.create);
    follow(watch, printer, &wish.command, None).await
}

/// A range without a key is a slip.
fn check_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Failure> {
    match (variable(KEY_VARIABLE), variable(RANGE_END_VARIABLE)) {
        (None, Some(range_end)) => {
            let range_end = quote(&word::bytes(&range_end));
            let message = format!("{KEY_VARIABLE} is empty but got {RANGE_END_VARIABLE}={range_end}");
            Err(Failure::arguments(message))
        }
        _ => Ok(()),
    }
}

/// What is to be watched, and what to run for each event.
#[derive(Debug, PartialEq)]
struct Wish {
    create: pb::WatchCreateRequest,
    command: Vec<String>,
}

impl Wish {
    /// Reads the words and flags of `watch`; where no word names the key, variables do.
    fn read(values: &Values, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        check_variables(variable)?;
        let wrong = |detail: &str| Failure::arguments(format!("bad number of arguments{detail}"));
        let (range, command) = values.words.split_at(values.words_before_dashes.unwrap_or(values.words.len()));
        if values.words_before_dashes.is_some() && command.is_empty() {
            return Err(wrong(" (found separator --, but no commands)"));
        }
        let (key, range_end) = match (variable(KEY_VARIABLE), variable(RANGE_END_VARIABLE), range) {
            (Some(_), _, [_, ..]) => return Err(wrong(" (found conflicting environment key)")),
            (Some(key), range_end, []) => (key, range_end),
            (None, _, []) => return Err(wrong("")),
            (None, _, [key, range_end]) => (key.clone(), Some(range_end.clone())),
            // More words than a range has leave the key alone.
            (None, _, [key, ..]) => (key.clone(), None),
        };
        let (key, range_end) = match (values.is_set("prefix"), range_end) {
            (true, Some(_)) => return Err(Failure::arguments(PREFIX_AND_RANGE_END)),
            (true, None) if key.is_empty() => (b"\0".to_vec(), b"\0".to_vec()),
            (true, None) => (word::bytes(&key), prefix_end(&word::bytes(&key))),
            (false, range_end) => (word::bytes(&key), word::bytes(&range_end.unwrap_or_default())),
        };
        let create = pb::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: values.int("rev"),
            prev_kv: values.is_set("prev-kv"),
            progress_notify: values.is_set("progress-notify"),
            ..Default::default()
        };
        Ok(Self { create, command: command.to_vec() })
    }
}

/// Shows a watch until the server ends it.
async fn follow(
    mut watch: Watch,
    printer: Printer,
    command: &[String],
    mut progress: Option<broadcast::Receiver<()>>,
) -> Result<(), Failure> {
    loop {
        let asked = async {
            match &mut progress {
                // A request that was missed is answered by the one after it.
                Some(progress) => drop(progress.recv().await),
                None => std::future::pending().await,
            }
        };
        let reply = tokio::select! {
            reply = watch.next() => reply,
            () = asked => {
                watch.ask_progress().await;
                continue;
            }
        };
        show(&reply, printer)?;
        for event in &reply.events {
            run_for_event(command, &reply, event).await?;
        }
        if reply.ended.is_some() {
            return Err(Failure::new(failure::INTERRUPTED, "watch is canceled by the server"));
        }
    }
}

fn show(reply: &WatchReply, printer: Printer) -> Result<(), Failure> {
    if let Some(reason) = &reply.ended {
        eprintln!("watch was canceled ({reason})");
    }
    if reply.is_progress() {
        let revision = reply.header.unwrap_or_default().revision;
        write_out(format!("progress notify: {revision}\n").as_bytes())?;
    }
    printer.print(Reply::Watch(reply))
}

async fn run_for_event(
    command: &[String],
    reply: &WatchReply,
    event: &quorate_proto::mvccpb::Event,
) -> Result<(), Failure> {
    let kind = if event.r#type() == EventType::Put { "PUT" } else { "DELETE" };
    let kv = event.kv.clone().unwrap_or_default();
    let variables = [
        ("ETCD_WATCH_REVISION", reply.header.unwrap_or_default().revision.to_string()),
        ("ETCD_WATCH_EVENT_TYPE", quote(kind.as_bytes())),
        ("ETCD_WATCH_KEY", quote(&kv.key)),
        ("ETCD_WATCH_VALUE", quote(&kv.value)),
    ];
    child::run(command, &variables).await.map_err(|fault| {
        let words: Vec<String> = command.iter().map(|each| quote(&word::bytes(each))).collect();
        eprintln!("command [{}] error ({})", words.join(" "), fault.message);
        Failure::new(failure::SERVER, "")
    })
}

/// Reads lines that start watches, and shows all of them at once.
async fn interactive(
    client: Client,
    printer: Printer,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Failure> {
    let (lines, mut typed) = mpsc::channel(LINES_AHEAD_MAX);
    // A thread, because a terminal cannot be waited for together with the network.
    std::thread::spawn(move || {
        loop {
            let line = line::read_line(&mut std::io::stdin().lock());
            let ended = line.is_err();
            if lines.blocking_send(line).is_err() || ended {
                return;
            }
        }
    });
    let (progress, _) = broadcast::channel(PROGRESS_WAITING_MAX);
    let mut watches = FuturesUnordered::new();
    loop {
        let line = tokio::select! {
            line = typed.recv() => line.unwrap_or(Err(line::LineFault::End)),
            Some(ended) = watches.next() => return ended,
        };
        let line = line.map_err(|fault| Failure::input(format!("error reading watch request line: {fault}")))?;
        match Typed::read(&line, variable)? {
            Typed::Watch(wish) => {
                let watch = Watch::new(client.clone(), wish.create);
                let listening = progress.subscribe();
                watches.push(async move { follow(watch, printer, &wish.command, Some(listening)).await });
            }
            // Nobody listens while nothing is watched.
            Typed::Progress => drop(progress.send(())),
            Typed::Nonsense(message) => eprintln!("{message}"),
        }
    }
}

/// What a line of the interactive form asks for.
#[derive(Debug, PartialEq)]
enum Typed {
    Watch(Wish),
    Progress,
    /// Shown, and passed over.
    Nonsense(String),
}

impl Typed {
    fn read(line: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let words = line::split(line).map_err(|fault| Failure::input(fault.to_string()))?;
        match words.first().map(String::as_str) {
            None => Ok(Self::Nonsense(format!("Invalid command: {line} (watch and progress supported)"))),
            Some("progress") => Ok(Self::Progress),
            Some("watch") if words.len() < 2 && variable(KEY_VARIABLE).is_none() => {
                Ok(Self::Nonsense(format!("Invalid command {line} (command type or key is not provided)")))
            }
            Some("watch") => {
                let flags: Vec<&'static Flag> = tree::WATCH.flags.iter().collect();
                let values = Values::read(&flags, &words[1..]).map_err(|fault| match fault {
                    Fault::Help => Failure::arguments("help requested"),
                    Fault::Message(message) => Failure::arguments(message),
                })?;
                if values.words_before_dashes == Some(0) && variable(KEY_VARIABLE).is_none() {
                    return Ok(Self::Nonsense(format!("Invalid command {line} (bad number of arguments)")));
                }
                match Wish::read(&values, variable) {
                    Err(failure) if failure.message == PREFIX_AND_RANGE_END => {
                        Ok(Self::Nonsense(format!("Invalid command {line} ({})", failure.message)))
                    }
                    wish => wish.map(Self::Watch),
                }
            }
            Some(_) => Ok(Self::Nonsense(format!("Invalid command {line} (only support watch)"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Wish, Failure> {
        let flags: Vec<&'static Flag> = tree::WATCH.flags.iter().collect();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let values = Values::read(&flags, &words).expect("readable flags");
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Wish::read(&values, &find)
    }

    fn check(line: &str, variables: &[(&str, &str)], key: &str, range_end: &str, command: &[&str]) {
        let wish = read(line, variables).expect(line);
        assert_eq!((wish.create.key.as_ref(), wish.create.range_end.as_ref()), (key.as_bytes(), range_end.as_bytes()));
        assert_eq!(wish.command, command, "{line}");
    }

    #[test]
    fn ranges_and_commands() {
        check("a --rev 3", &[], "a", "", &[]);
        check("a z -- echo hi --prefix", &[], "a", "z", &["echo", "hi", "--prefix"]);
        check("--prefix a", &[], "a", "b", &[]);
        check("a echo hi", &[], "a", "", &[]);
        check("-- echo", &[(KEY_VARIABLE, "k"), (RANGE_END_VARIABLE, "z")], "k", "z", &["echo"]);
        check("--prefix", &[(KEY_VARIABLE, "k")], "k", "l", &[]);
    }

    #[test]
    fn refused_words() {
        let refused = |line: &str, variables: &[(&str, &str)], message: &str| {
            assert_eq!(read(line, variables), Err(Failure::arguments(message)), "{line}");
        };
        refused("", &[], "bad number of arguments");
        refused("-- echo", &[], "bad number of arguments");
        refused("a --", &[], "bad number of arguments (found separator --, but no commands)");
        refused("b", &[(KEY_VARIABLE, "a")], "bad number of arguments (found conflicting environment key)");
        refused("", &[(RANGE_END_VARIABLE, "z")], "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=\"z\"");
        refused("a b --prefix", &[], "`range_end` and `--prefix` are mutually exclusive");
    }

    #[test]
    fn typed_lines() {
        let nonsense = |text: &str| Ok(Typed::Nonsense(text.to_owned()));
        let read = |line: &str| Typed::read(line, &|_| None);
        assert_eq!(read(""), nonsense("Invalid command:  (watch and progress supported)"));
        assert_eq!(read("foo"), nonsense("Invalid command foo (only support watch)"));
        assert_eq!(read("watch"), nonsense("Invalid command watch (command type or key is not provided)"));
        assert_eq!(read("progress"), Ok(Typed::Progress));
        assert_eq!(read("watch a --bogus"), Err(Failure::arguments("unknown flag: --bogus")));
        let Ok(Typed::Watch(wish)) = read(r#"watch "a b" --rev 4 -- echo"#) else { panic!("no watch") };
        assert_eq!((wish.create.key.as_ref(), wish.create.start_revision), (&b"a b"[..], 4));
        assert_eq!(wish.command, ["echo"]);
        assert_eq!(read("watch --rev 4"), Err(Failure::arguments("bad number of arguments")));
        let with_key = |line: &str| Typed::read(line, &|name| (name == KEY_VARIABLE).then(|| "k".to_owned()));
        let Ok(Typed::Watch(wish)) = with_key("watch") else { panic!("no watch") };
        assert_eq!(wish.create.key.as_ref(), b"k");
        let message = "bad number of arguments (found conflicting environment key)";
        assert_eq!(with_key("watch a"), Err(Failure::arguments(message)));
    }
}
