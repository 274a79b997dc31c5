//! What a script's commands do: stores in memory, the entries they were given, and the streams of watchers.
//!
//! Invariant: every entry is remembered, so that `crash` can do what a member does after a power cut: open the store at
//! its last checkpoint and apply the rest again, with the same answers.

use crate::auth;
use crate::notation::{self, Words};
use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, RangeResponse,
    ResponseHeader, TxnRequest,
};
use quorate_proto::mvccpb::Event;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Caller, Command, CommandBatch, LeaseExpire, LeaseRenew};
use quorate_store::auth::{Act, AuthError};
use quorate_store::error::Error;
use quorate_store::memory_disk::MemoryDisk;
use quorate_store::outcome::{LeaseChange, Outcome, Reply, ReplyBody};
use quorate_store::range::KeyRange;
use quorate_store::reader::StoreReader;
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use quorate_store::watch::{Delivery, StreamLimits, WatchRefused, WatchSpec, WatchStream};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Small files, so that a script of a few commands has several segments.
const CONFIG: StoreConfig = StoreConfig { revlog: RevLogConfig { segment_bytes: 512, buffer_bytes: 128 } };

/// An applied entry.
struct Entry {
    index: u64,
    term: u64,
    batch: Bytes,
    replies: String,
}

/// One store with its disk and past.
struct Place {
    disk: Arc<MemoryDisk>,
    /// Away only while it is opened again.
    store: Option<Store>,
    entries: Vec<Entry>,
    /// With whoever opened it.
    streams: BTreeMap<String, (WatchStream, Option<Caller>)>,
    index: u64,
}

impl Place {
    fn new() -> Self {
        let disk = Arc::new(MemoryDisk::new());
        let store = Some(open(&disk));
        Self { disk, store, entries: Vec::new(), streams: BTreeMap::new(), index: 0 }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("the store is open")
    }
}

fn open(disk: &Arc<MemoryDisk>) -> Store {
    Store::open(disk.clone(), "store", CONFIG, Bootstrap::default()).unwrap()
}

/// The stores of a script, by name; it begins in `main`.
pub(crate) struct Machine {
    places: BTreeMap<String, Place>,
    current: String,
    term: u64,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let current = "main".to_owned();
        Self { places: BTreeMap::from([(current.clone(), Place::new())]), current, term: 1 }
    }

    fn place(&mut self) -> &mut Place {
        self.places.get_mut(&self.current).expect("the current store exists")
    }

    fn store(&mut self) -> &mut Store {
        self.place().store()
    }

    /// Runs a command line; answers its output, lines each with its end.
    pub(crate) fn run(&mut self, line: &str) -> String {
        if let Some(commands) = line.strip_prefix("entry ") {
            let commands = commands.split(" | ").map(|command| {
                let (caller, command) = self.caller(command);
                let operation = self.operation(&mut Words::new(command)).expect("an entry holds writes only");
                (caller, operation)
            });
            let commands = commands.collect();
            return self.apply(commands);
        }
        let (caller, line) = self.caller(line);
        let mut words = Words::new(line);
        if let Some(operation) = self.operation(&mut words) {
            assert_eq!(words.peek(), None, "`{line}` has too many words");
            return self.apply(vec![(caller, operation)]);
        }
        let reader = self.store().reader();
        match words.word() {
            "auth" | "user" | "role" | "users" | "roles" => auth::show(&reader, caller.as_ref(), Words::new(line)),
            "get" => {
                let request = notation::range(&mut words);
                let read = |reader: &StoreReader| reader.range(&request);
                match reader.read_as(caller.as_ref(), Act::Range(&request), read).unwrap_or_else(refused) {
                    Ok(reply) => notation::range_lines(&RangeResponse {
                        header: Some(ResponseHeader { revision: reply.revision, ..ResponseHeader::default() }),
                        count: reply.count,
                        more: reply.more,
                        kvs: reply.items.decode().unwrap(),
                    }),
                    Err(error) => failed(&error),
                }
            }
            "txn" => {
                let request = notation::txn(&mut words);
                let read = |reader: &StoreReader| reader.read_txn(&request);
                match reader.read_as(caller.as_ref(), Act::Txn(&request), read).unwrap_or_else(refused) {
                    Ok(response) => notation::txn_lines(&response),
                    Err(error) => failed(&error),
                }
            }
            "term" => {
                self.term = words.number();
                String::new()
            }
            "leases" => self.leases(caller.as_ref()),
            "renewals" => {
                let id = words.number::<i64>();
                let leases = self.store().position().leases;
                let lease = leases.iter().find(|lease| lease.id == id).expect("the lease exists");
                format!("{}\n", lease.renewals)
            }
            "alarms" => alarm_lines(&self.store().reader().alarms()),
            "hash" => match reader.authorize(caller.as_ref(), Act::Call("/etcdserverpb.Maintenance/HashKV")) {
                Ok(()) => self.hash(words.peek().map_or(0, |word| words.parse(word))),
                Err(error) => failed(&error.into()),
            },
            "stats" => self.stats(),
            "checkpoint" => {
                let index = self.store().checkpoint().unwrap();
                format!("covers entry {index}\n")
            }
            "restart" => self.restart(),
            "crash" => self.crash(words.peek().map_or(0, |word| words.parse(word))),
            "maintain" => {
                while self.store().maintain(4_096).unwrap() {}
                String::new()
            }
            "snapshot-to" => self.snapshot_to(words.word()),
            "use" => {
                self.current = words.word().to_owned();
                self.places.entry(self.current.clone()).or_insert_with(Place::new);
                String::new()
            }
            "stream" | "watch" | "next" | "cancel" | "progress" | "interval" | "close" | "watchers" => {
                self.watching(&mut Words::new(line), caller)
            }
            other => words.unknown(other),
        }
    }

    /// Takes `as NAME` off a line: the user as of this auth revision, or as of another one with `as NAME@REVISION`.
    fn caller<'a>(&mut self, line: &'a str) -> (Option<Caller>, &'a str) {
        let Some((name, rest)) = line.strip_prefix("as ").and_then(|rest| rest.split_once(' ')) else {
            return (None, line);
        };
        let (user, auth_revision) = match name.split_once('@') {
            Some((user, revision)) => (user, revision.parse().expect("a revision")),
            None => (name, self.store().reader().auth_revision()),
        };
        (Some(Caller { user: user.to_owned(), auth_revision, cluster: false }), rest)
    }

    /// A command that goes through the log, if the words say one.
    fn operation(&self, words: &mut Words<'_>) -> Option<Operation> {
        if let Some(operation) = auth::operation(words) {
            return Some(operation);
        }
        let verb = words.peek()?;
        if !matches!(verb, "put" | "del" | "txn" | "compact" | "grant" | "renew" | "revoke" | "expire" | "alarm") {
            return None;
        }
        words.word();
        Some(match verb {
            "put" => Operation::Put(notation::put(words)),
            "del" => Operation::DeleteRange(notation::delete(words)),
            "txn" => {
                let request = notation::txn(words);
                if writes_nothing(&request) {
                    // Answered by the reader, as a member does.
                    words.rewind();
                    return None;
                }
                Operation::Txn(request)
            }
            "compact" => Operation::Compact(CompactionRequest { revision: words.number(), physical: true }),
            "grant" => Operation::LeaseGrant(LeaseGrantRequest { id: words.number(), ttl: words.number() }),
            "renew" => Operation::LeaseRenew(LeaseRenew { id: words.number() }),
            "revoke" => Operation::LeaseRevoke(LeaseRevokeRequest { id: words.number() }),
            "expire" => Operation::LeaseExpire(LeaseExpire {
                id: words.number(),
                term: words.number(),
                renewals: words.number(),
            }),
            _ => Operation::Alarm(alarm(words)),
        })
    }

    fn apply(&mut self, commands: Vec<(Option<Caller>, Operation)>) -> String {
        let term = self.term;
        let place = self.place();
        place.index += 1;
        let index = place.index;
        let commands = commands.into_iter().zip(1..);
        let commands =
            commands.map(|((caller, operation), id)| Command { id, operation: Some(operation), caller }).collect();
        let batch = Bytes::from(CommandBatch { commands }.encode_to_vec());
        let outcome = place.store().apply_commands(index, term, batch.clone(), &|_| true).unwrap();
        let replies = outcome_lines(&outcome);
        place.entries.push(Entry { index, term, batch, replies: replies.clone() });
        replies
    }

    fn leases(&mut self, caller: Option<&Caller>) -> String {
        let reader = self.store().reader();
        let mut text = String::new();
        let leases = match reader.read_as(caller, Act::LeaseLeases, StoreReader::leases) {
            Ok(leases) => leases,
            Err(error) => return failed(&error.into()),
        };
        for (id, ttl_s) in leases {
            let _ = write!(text, "{id}: {ttl_s} s");
            for key in reader.lease_keys(id) {
                let _ = write!(text, " {}", notation::shown(&key));
            }
            text.push('\n');
        }
        text
    }

    fn hash(&mut self, revision: i64) -> String {
        match self.store().reader().hash_kv(revision) {
            Ok(hash) => format!(
                "{:08x} of revision {}, compacted {}, revision {}\n",
                hash.hash, hash.hash_revision, hash.compact_revision, hash.revision
            ),
            Err(error) => failed(&error),
        }
    }

    fn stats(&mut self) -> String {
        let stats = self.store().reader().stats();
        format!(
            "revision {}, compacted {}, applied {} of term {}, keys {}, leases {}\nsince start: puts {}, deletes {}, txns {}\n",
            stats.revision,
            stats.compact_revision,
            stats.applied_index,
            stats.applied_term,
            stats.keys,
            stats.leases,
            stats.puts,
            stats.deletes,
            stats.txns
        )
    }

    /// A stop and a start; streams end with it.
    fn restart(&mut self) -> String {
        let place = self.place();
        place.streams.clear();
        place.store.take().expect("the store is open").close().unwrap();
        place.store = Some(open(&place.disk));
        String::new()
    }

    /// A power cut, and what the member does when it is back.
    fn crash(&mut self, seed: u64) -> String {
        let place = self.place();
        place.streams.clear();
        let digest = place.store().reader().stats().digest;
        place.store = None;
        place.disk.crash(seed);
        let mut store = open(&place.disk);
        let from = store.position().applied_index;
        let mut count = 0;
        for entry in place.entries.iter().filter(|entry| entry.index > from) {
            let outcome = store.apply_commands(entry.index, entry.term, entry.batch.clone(), &|_| true).unwrap();
            assert_eq!(outcome_lines(&outcome), entry.replies, "entry {} has another outcome", entry.index);
            count += 1;
        }
        assert_eq!(store.reader().stats().digest, digest, "the state after a crash is another");
        place.store = Some(store);
        format!("{count} entries applied again\n")
    }

    fn snapshot_to(&mut self, name: &str) -> String {
        let snapshot = self.store().snapshot().unwrap();
        let stats = self.store().reader().stats();
        let (index, hash) = (self.place().index, self.store().reader().hash_kv(0));
        let target = self.places.entry(name.to_owned()).or_insert_with(Place::new);
        let mut source = snapshot.source().unwrap();
        let mut sink = target.store().receive().unwrap();
        while let Some(piece) = source.next().unwrap() {
            sink.write(&piece).unwrap();
        }
        let received = sink.finish().unwrap();
        target.store().install(received).unwrap();
        target.index = index;
        // What was applied before is of no use to the new state.
        target.entries.clear();
        let reader = target.store().reader();
        assert_eq!(reader.stats().digest, stats.digest, "the digest came along");
        assert_eq!(reader.hash_kv(0), hash, "the history came along");
        format!("revision {}, applied {}\n", reader.stats().revision, reader.stats().applied_index)
    }

    fn watching(&mut self, words: &mut Words<'_>, caller: Option<Caller>) -> String {
        let place = self.place();
        match (words.word(), words.peek()) {
            ("watchers", _) => {
                let reader = place.store().reader();
                let hub = reader.watch_hub();
                format!("{} on {} streams, {} behind\n", hub.watchers(), hub.streams(), hub.slow_watchers())
            }
            ("stream", Some(name)) => {
                words.word();
                let mut limits = StreamLimits { queue_bytes_max: 1 << 20, watchers_max: 100 };
                while let Some((option, number)) = words.option() {
                    match option {
                        "queue" => limits.queue_bytes_max = words.parse(number),
                        "watchers" => limits.watchers_max = words.parse(number),
                        _ => words.unknown(option),
                    }
                }
                let stream = place.store().reader().watch_hub().open_stream(limits, Arc::new(|| {}));
                place.streams.insert(name.to_owned(), (stream, caller));
                String::new()
            }
            (verb, Some(name)) => {
                words.word();
                let Some((stream, caller)) = place.streams.get(name) else {
                    panic!("there is no stream {name}");
                };
                match verb {
                    "watch" => {
                        let (key, range_end) = notation::keys(words.peek().unwrap_or_default());
                        let act = Act::Watch { key: &key, range_end: &range_end };
                        let reader = place.store.as_ref().expect("the store is open").reader();
                        match reader.authorize(caller.as_ref(), act) {
                            Ok(()) => created(stream.create(spec(words))),
                            Err(error) => format!("refused: {error}\n"),
                        }
                    }
                    "cancel" => {
                        let known = stream.cancel(words.number());
                        if known { String::new() } else { "no such watcher\n".to_owned() }
                    }
                    "progress" => {
                        stream.request_progress();
                        String::new()
                    }
                    "interval" => {
                        stream.interval_passed();
                        String::new()
                    }
                    "close" => {
                        place.streams.remove(name);
                        String::new()
                    }
                    _ => match words.option() {
                        None => taken(stream, 1 << 20, 100),
                        // One call with a bound on the history that it reads.
                        Some(("bytes", bytes)) => taken(stream, words.parse(bytes), 1),
                        Some((option, _)) => words.unknown(option),
                    },
                }
            }
            (_, None) => words.unknown("a stream's name"),
        }
    }
}

/// A read that was not permitted, as if the store had said so.
fn refused<T>(error: AuthError) -> Result<T, Error> {
    Err(error.into())
}

pub(crate) fn failed(error: &Error) -> String {
    format!("error: {error}\n")
}

/// Whether a member answers the transaction from its copy, without the log.
fn writes_nothing(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(Request::RequestRange(_)) | None => true,
        Some(Request::RequestTxn(nested)) => writes_nothing(nested),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
    })
}

fn alarm(words: &mut Words<'_>) -> AlarmRequest {
    let action = match words.word() {
        "raise" => AlarmAction::Activate,
        "clear" => AlarmAction::Deactivate,
        "get" => AlarmAction::Get,
        other => words.unknown(other),
    };
    let alarm = match words.word() {
        "none" => AlarmType::None,
        "nospace" => AlarmType::Nospace,
        "corrupt" => AlarmType::Corrupt,
        other => words.unknown(other),
    };
    AlarmRequest { action: action as i32, member_id: words.number(), alarm: alarm as i32 }
}

fn alarm_lines(alarms: &[AlarmMember]) -> String {
    let mut text = String::new();
    for alarm in alarms {
        let name = AlarmType::try_from(alarm.alarm).map_or("unknown", |alarm| alarm.as_str_name());
        let _ = writeln!(text, "{} of member {}", name.to_lowercase(), alarm.member_id);
    }
    text
}

fn reply_lines(reply: &Result<Reply, Error>) -> String {
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return failed(error),
    };
    match &reply.body {
        ReplyBody::Put(response) => notation::put_lines(response),
        ReplyBody::DeleteRange(response) => notation::delete_lines(response),
        ReplyBody::Txn(response) => notation::txn_lines(response),
        ReplyBody::Lease { id, ttl_s } => format!("lease {id}, {ttl_s} s\n"),
        ReplyBody::Alarms(alarms) => alarm_lines(alarms),
        ReplyBody::Members(members) => format!("{} members\n", members.len()),
        ReplyBody::V2(_) => unreachable!("these scripts change no v2 key"),
        ReplyBody::Done => format!("revision {}\n", reply.revision),
    }
}

fn outcome_lines(outcome: &Outcome) -> String {
    let mut text: String = outcome.replies.iter().map(|(_, reply)| reply_lines(reply)).collect();
    for lease in &outcome.leases {
        if let LeaseChange::Ended { id } = lease {
            let _ = writeln!(text, "lease {id} ended");
        }
    }
    text
}

fn spec(words: &mut Words<'_>) -> WatchSpec {
    let (key, end) = notation::keys(words.word());
    let mut spec = WatchSpec {
        watch_id: 0,
        range: KeyRange::new(key, end),
        start_revision: 0,
        no_put: false,
        no_delete: false,
        prev_kv: false,
        progress_notify: false,
    };
    while let Some((option, number)) = words.option() {
        match option {
            "id" => spec.watch_id = words.parse(number),
            "start" => spec.start_revision = words.parse(number),
            "no-put" => spec.no_put = true,
            "no-delete" => spec.no_delete = true,
            "prev" => spec.prev_kv = true,
            "notify" => spec.progress_notify = true,
            _ => words.unknown(option),
        }
    }
    spec
}

fn created(result: Result<(i64, i64), WatchRefused>) -> String {
    match result {
        Ok((watch_id, revision)) => format!("watcher {watch_id}, revision {revision}\n"),
        Err(WatchRefused::DuplicateId) => "refused: duplicate id\n".to_owned(),
        Err(WatchRefused::EmptyRange) => "refused: empty range\n".to_owned(),
        Err(WatchRefused::Compacted) => "refused: compacted\n".to_owned(),
        Err(WatchRefused::TooMany) => "refused: too many\n".to_owned(),
    }
}

/// What comes out of a stream in at most `calls` calls.
fn taken(stream: &WatchStream, bytes_max: usize, calls: usize) -> String {
    let mut text = String::new();
    for _ in 0..calls {
        let deliveries = stream.next(bytes_max);
        if deliveries.is_empty() {
            break;
        }
        for delivery in deliveries {
            let _ = match delivery {
                Delivery::Events { watch_id, events, .. } => {
                    for event in events {
                        let event = Event::decode(event).unwrap();
                        let _ = writeln!(text, "{watch_id}: {}", notation::event(&event));
                    }
                    Ok(())
                }
                Delivery::Progress { revision } => writeln!(text, "all: progress {revision}"),
                Delivery::WatcherProgress { watch_id, revision } => writeln!(text, "{watch_id}: progress {revision}"),
                Delivery::Compacted { watch_id, compact_revision } => {
                    writeln!(text, "{watch_id}: cancelled, compacted {compact_revision}")
                }
                Delivery::Broken { watch_id } => writeln!(text, "{watch_id}: cancelled, broken"),
            };
        }
    }
    text
}
