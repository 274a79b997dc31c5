//! The golden scripts of `testdata/`: commands, and below each the effects that it must have.
//!
//! A block is one line of verb and arguments, a line `----`, and the expected output up to an empty line. With
//! `QUORATE_RECORD=1` in the environment the outputs are written anew; then every difference is to be explained.

use super::cluster::{Cluster, change, grant, is_raft, member, put, renew, revoke};
use crate::api::{CommittedEntry, Effect, Input, Payload};
use prost::Message as _;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::member_change::Action;
use quorate_proto::quoratepb::peer_message::Kind;
use quorate_proto::quoratepb::{Command, CommandBatch, LogEntry, PeerMessage, RaftMessage};
use quorate_store::members::decode_change;
use std::fmt::Write as _;
use std::path::Path;

fn check(script: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("{script}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut cluster = Cluster::new(&[], &[], |_| {});
    let mut produced = String::new();
    let mut blocks = text.lines().peekable();
    while let Some(line) = blocks.next() {
        produced.push_str(line);
        produced.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        assert_eq!(blocks.next_if_eq(&"----"), Some("----"), "{script}: `{line}` needs a line ---- below");
        while blocks.next_if(|line| !line.is_empty()).is_some() {}
        produced.push_str("----\n");
        let output = run(&mut cluster, line);
        produced.push_str(&output);
    }
    if std::env::var_os("QUORATE_RECORD").is_some() {
        std::fs::write(&path, &produced).expect("the script can be written");
    }
    if produced != text {
        let first = produced.lines().zip(text.lines()).position(|(produced, text)| produced != text);
        let at = first.unwrap_or_else(|| produced.lines().count().min(text.lines().count()));
        panic!(
            "{script}, line {}: expected\n  {}\nbut it is\n  {}\n(the whole output:\n{produced})",
            at + 1,
            text.lines().nth(at).unwrap_or("the end"),
            produced.lines().nth(at).unwrap_or("the end"),
        );
    }
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

scripts!(
    election,
    group_commit,
    forwarding,
    read_index,
    leases,
    snapshot,
    fail_over,
    transfer,
    members,
    membership,
    backlog,
    stall,
);

fn run(cluster: &mut Cluster, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |position: usize| -> u64 {
        let word = words.get(position).unwrap_or_else(|| panic!("`{line}` lacks an argument"));
        word.parse().unwrap_or_else(|_| panic!("`{word}` in `{line}` is no number"))
    };
    let mut quiet = false;
    match words[0] {
        // members 1 2 3 learners 4 with waiting_max=3
        "members" => *cluster = new_cluster(&words[1..]),
        "add" => add_member(cluster, number(1)),
        "elect" => {
            cluster.elect(number(1));
            quiet = true;
        }
        "tick" => {
            for _ in 0..words.get(2).map_or(1, |_| number(2)) {
                cluster.now_ms += 100;
                cluster.input(number(1), Input::Tick);
            }
        }
        "ticks" => {
            for _ in 0..number(1) {
                cluster.tick_all();
            }
            quiet = true;
        }
        "time" => cluster.now_ms += number(1),
        "propose" => {
            let commands = words[2..].iter().map(|word| command(word)).collect();
            cluster.input(number(1), Input::Propose(commands));
        }
        "read" => cluster.input(number(1), Input::Read { ticket: number(2) }),
        "ask" => cluster.input(number(1), Input::AskLease { ticket: 1, id: number(2) as i64 }),
        "deliver" => deliver(cluster, &words[1..]),
        "drop" => {
            let (from, to) = (number(1), number(2));
            cluster.wire.retain(|letter| (letter.0, letter.1) != (from, to));
        }
        // Out of the wire's reach until `release`.
        "hold" => cluster.hold(number(1), number(2)),
        "release" => cluster.wire.extend(std::mem::take(&mut cluster.held)),
        "persist" => while cluster.persist_one(number(1)) {},
        "apply" => while cluster.apply_one(number(1)) {},
        "build" => while cluster.build_one(number(1)) {},
        "install" => while cluster.install_one(number(1)) {},
        "checkpoint" => cluster.checkpoint(number(1)),
        "settle" => {
            cluster.settle();
            quiet = words.get(1) != Some(&"loud");
        }
        "cut" => {
            let (one, other) = (number(1), number(2));
            cluster.cut.extend([(one, other), (other, one)]);
        }
        "heal" => cluster.cut.clear(),
        "crash" => cluster.crash(number(1)),
        "start" => cluster.start(number(1)),
        "lost" => cluster.input(number(1), Input::PeerLost { peer: number(2), refused: words[3] == "refused" }),
        "transfer" => cluster.input(number(1), Input::TransferLeader { to: number(2) }),
        "change" => {
            let steps: Vec<(u32, u64)> = words[2..]
                .iter()
                .map(|word| {
                    let kind = ["voter", "remove", "learner"].iter().position(|kind| word.starts_with(kind));
                    let id = word.trim_start_matches(|letter: char| !letter.is_ascii_digit());
                    (kind.expect("a kind of change") as u32, id.parse().expect("a member"))
                })
                .collect();
            let node = cluster.member(number(1)).node.as_mut().expect("it runs");
            assert!(node.propose_members(&steps, bytes::Bytes::from_static(b"change")), "`{line}` is refused");
            cluster.collect(number(1));
        }
        "state" => {
            cluster.notes.clear();
            for id in cluster.running() {
                let words = state(cluster, id);
                cluster.notes.push(words);
            }
        }
        verb => panic!("no verb {verb}"),
    }
    let notes = std::mem::take(&mut cluster.notes);
    if quiet { "ok\n".to_owned() } else { notes.iter().fold(String::new(), |all, note| all + note + "\n") }
}

fn new_cluster(words: &[&str]) -> Cluster {
    let (mut voters, mut learners, mut settings) = (Vec::new(), Vec::new(), Vec::new());
    let mut part = "voters";
    for word in words {
        match (*word, part) {
            ("learners" | "with", _) => part = word,
            (_, "voters") => voters.push(word.parse().expect("a member")),
            (_, "learners") => learners.push(word.parse().expect("a member")),
            _ => settings.push(word.split_once('=').expect("a setting")),
        }
    }
    Cluster::new(&voters, &learners, |config| {
        for (name, value) in &settings {
            let value: usize = value.parse().expect("a number");
            match *name {
                "waiting_max" => config.waiting_max = value,
                "log_bytes_max" => config.log_bytes_max = value,
                "entry_bytes_max" => config.entry_bytes_max = value,
                _ => panic!("no setting {name}"),
            }
        }
    })
}

fn add_member(cluster: &mut Cluster, id: u64) {
    cluster.add(super::cluster::config(id), super::cluster::ModelStore::default());
}

/// `5` is a put, `grant:5:77:10` a lease of 10 seconds, `renew:6:77` and `revoke:7:77` go on. `voter:5:4` adds member 4,
/// `learner:5:4` as a learner, `auto:5:4` as one that is promoted by itself; `promote:6:4`, `update:6:4`, `remove:6:4`.
fn command(word: &str) -> Command {
    let parts: Vec<&str> = word.split(':').collect();
    let number = |position: usize| -> u64 { parts[position].parse().expect("a number") };
    match parts[0] {
        "grant" => grant(number(1), number(2) as i64, number(3) as i64),
        "renew" => renew(number(1), number(2) as i64),
        "revoke" => revoke(number(1), number(2) as i64),
        "large" => put(number(1), 10_000),
        "voter" => change(number(1), Action::Add, member(number(2), false), false),
        "learner" => change(number(1), Action::Add, member(number(2), true), false),
        "auto" => change(number(1), Action::Add, member(number(2), true), true),
        "promote" => change(number(1), Action::Promote, member(number(2), false), false),
        "update" => change(number(1), Action::Update, member(number(2), false), false),
        "remove" => change(number(1), Action::Remove, member(number(2), false), false),
        _ => put(number(0), 10),
    }
}

/// `deliver`: all on the wire; `deliver 1 2`: those from 1 to 2; `deliver 1 2 twice`: each two times.
fn deliver(cluster: &mut Cluster, words: &[&str]) {
    let pair: Option<(u64, u64)> =
        (words.len() >= 2).then(|| (words[0].parse().expect("a member"), words[1].parse().expect("a member")));
    let twice = words.last() == Some(&"twice");
    let (chosen, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut cluster.wire)
        .into_iter()
        .partition(|letter| pair.is_none_or(|pair| (letter.0, letter.1) == pair));
    cluster.wire = rest;
    for (from, to, letter) in chosen {
        if twice {
            cluster.hand_over(from, to, letter.clone());
        }
        cluster.hand_over(from, to, letter);
    }
}

fn state(cluster: &Cluster, id: u64) -> String {
    let status = cluster.node(id).status();
    let machine = &cluster.members[&id];
    let mut words = format!(
        "{id}: term={} leader={} commit={} last={} applied={}",
        status.term, status.leader, status.commit, status.last_index, machine.store.index
    );
    if status.is_learner {
        words += " learner";
    }
    if status.sole_voter {
        words += " sole";
    }
    if !machine.store.ids.is_empty() {
        let _ = write!(words, " ids={:?}", machine.store.ids);
    }
    if !machine.store.leases.is_empty() {
        let _ = write!(words, " leases={:?}", machine.store.leases);
    }
    if !machine.store.expiries.is_empty() {
        let _ = write!(words, " expiries={:?}", machine.store.expiries);
    }
    let waiting = cluster.wire.iter().filter(|letter| letter.1 == id && is_raft(&letter.2)).count();
    if waiting > 0 {
        let _ = write!(words, " mail={waiting}");
    }
    words
}

/// An effect in a line.
pub(super) fn words(id: u64, effect: &Effect) -> String {
    match effect {
        Effect::Persist(persist) => {
            let mut words = format!("{id}: persist {}", persist.number);
            if let Some(point) = &persist.snapshot {
                let _ = write!(words, " snapshot={}/{}", point.index, point.term);
            }
            if let Some(hard_state) = &persist.hard_state {
                let _ =
                    write!(words, " term={} vote={} commit={}", hard_state.term, hard_state.vote, hard_state.commit);
            }
            words + &entries(&persist.entries)
        }
        Effect::Send { to, message } => format!("{id} -> {to}: {}", message_words(message)),
        Effect::SendSnapshot { to, message } => format!("{id} -> {to}: {}", raft_words(message)),
        Effect::Apply(entries) => {
            entries.iter().fold(format!("{id}: apply"), |words, entry| words + " " + &committed(entry))
        }
        Effect::BuildSnapshot => format!("{id}: build a snapshot"),
        Effect::InstallSnapshot(point) => format!("{id}: install the snapshot {}/{}", point.index, point.term),
        Effect::TruncateLog { up_to } => format!("{id}: truncate the log up to {up_to}"),
        Effect::ReadReady { tickets } => format!("{id}: read {tickets:?}"),
        Effect::ReadFailed { tickets, reason } => format!("{id}: cannot read {tickets:?}: {reason:?}"),
        Effect::LeaseRemaining { remaining_ms, .. } => format!("{id}: remaining {remaining_ms:?}"),
        Effect::Refused { ids, reason } => format!("{id}: refuse {ids:?}: {reason:?}"),
        Effect::Status(status) => format!(
            "{id}: status term={} leader={} changes={}{}{}",
            status.term,
            status.leader,
            status.leader_changes,
            if status.is_learner { " learner" } else { "" },
            if status.sole_voter { " sole" } else { "" }
        ),
    }
}

fn committed(entry: &CommittedEntry) -> String {
    let what = match &entry.payload {
        Payload::Empty => "empty".to_owned(),
        Payload::Commands(batch) => batch_words(batch),
        Payload::Members { verdict: Ok(conf_state), change } => format!(
            "members{:?}learners{:?}outgoing{:?}({})",
            conf_state.voters,
            conf_state.learners,
            conf_state.voters_outgoing,
            decode_change(change.clone()).0
        ),
        Payload::Members { verdict: Err(error), change } => {
            format!("members refused ({}): {error}", decode_change(change.clone()).0)
        }
    };
    format!("{}/{}:{what}", entry.index, entry.term)
}

fn batch_words(batch: &bytes::Bytes) -> String {
    let batch = CommandBatch::decode(batch.clone()).expect("a batch is a batch");
    commands_words(&batch.commands)
}

fn commands_words(commands: &[Command]) -> String {
    let words: Vec<String> = commands
        .iter()
        .map(|command| match &command.operation {
            Some(Operation::LeaseExpire(expire)) => {
                format!("expire lease {} term {} renewals {}", expire.id, expire.term, expire.renewals)
            }
            _ => command.id.to_string(),
        })
        .collect();
    format!("({})", words.join(" "))
}

fn entries(entries: &[LogEntry]) -> String {
    entries.iter().fold(String::new(), |words, entry| {
        let what = match entry.entry_type {
            0 if entry.data.is_empty() => "empty".to_owned(),
            0 => batch_words(&entry.data),
            _ => "members".to_owned(),
        };
        format!("{words} {}/{}:{what}", entry.index, entry.term)
    })
}

fn message_words(message: &PeerMessage) -> String {
    match &message.kind {
        Some(Kind::Raft(message)) => raft_words(message),
        Some(Kind::Forward(forward)) => {
            format!("forward {} term={} {}", forward.sequence, forward.term, commands_words(&forward.commands))
        }
        Some(Kind::ForwardRejected(rejected)) => {
            format!("forward {} rejected {:?} leader={}", rejected.sequence, rejected.ids, rejected.leader)
        }
        Some(Kind::Probe(_)) => "probe".to_owned(),
        Some(Kind::ForwardRefused(refused)) => format!("refused {} {:?}", refused.id, refused.reason()),
        Some(Kind::RepairRequest(request)) => format!("asks for a store of {} or later", request.index),
        None => "nothing".to_owned(),
    }
}

fn raft_words(message: &RaftMessage) -> String {
    const NAMES: [(u32, &str); 12] = [
        (3, "append"),
        (4, "appended"),
        (5, "vote?"),
        (6, "vote"),
        (7, "snapshot"),
        (8, "heartbeat"),
        (9, "alive"),
        (14, "timeout-now"),
        (15, "read-index?"),
        (16, "read-index"),
        (17, "pre-vote?"),
        (18, "pre-vote"),
    ];
    let name = NAMES.iter().find(|(kind, _)| *kind == message.message_type).map_or("?", |(_, name)| name);
    let mut words = format!("{name} term={}", message.term);
    if matches!(message.message_type, 3..=6 | 16..=18) {
        let _ = write!(words, " at={}/{}", message.index, message.log_term);
    }
    if matches!(message.message_type, 3 | 8) {
        let _ = write!(words, " commit={}", message.commit);
    }
    if message.reject {
        let _ = write!(words, " rejected hint={}", message.reject_hint);
    }
    if message.request_snapshot != 0 {
        words += " snapshot?";
    }
    if let Some(meta) = &message.snapshot {
        let _ = write!(words, " of={}/{}", meta.index, meta.term);
    }
    if let Some(counter) = message.context.get(16..24) {
        let _ = write!(words, " round={}", u64::from_le_bytes(*counter.first_chunk().expect("8 bytes")));
    }
    if message.message_type != 15 && message.message_type != 16 {
        words += &entries(&message.entries);
    }
    words
}
