//! The golden scripts of `testdata/v2`: requests to the v2 tree and, below each, indented by two spaces, what comes of
//! them.
//!
//! `put|post|delete PATH [FIELD=VALUE…]`, `get PATH [recursive]`, `watch NAME PATH [recursive] [stream] [since=N]`,
//! `take NAME`, `at SECONDS` (what the clocks say), `term N`, `expire [term=N]`, `many N` (sets of /many),
//! `checkpoint`, `crash` (opens the last checkpoint and applies the rest again), `snapshot` (goes on in a store that
//! received one). Every step is done by a second store as well, from the same entries: their digests have to agree.
//! With `RECORD=1` in the environment the outputs are written anew.

use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, CommandBatch, ConfState, V2Change, V2Expire, v2_change};
use quorate_store::memory_disk::MemoryDisk;
use quorate_store::outcome::ReplyBody;
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use quorate_store::v2::{Event, Fault, Image, KEYS, Taken, WatchSpec, Watcher, clean};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CONFIG: StoreConfig = StoreConfig { revlog: RevLogConfig { segment_bytes: 512, buffer_bytes: 128 } };
/// What the clocks say at the beginning, seconds since 1970.
const START_S: i64 = 1_800_000_000;

fn bootstrap() -> Bootstrap {
    let member = Member { id: 1, name: "one".to_owned(), ..Member::default() };
    Bootstrap { members: vec![member], conf_state: ConfState { voters: vec![1], ..ConfState::default() } }
}

fn open(disk: &Arc<MemoryDisk>) -> Store {
    Store::open(disk.clone(), "store", CONFIG, bootstrap()).unwrap()
}

struct Machine {
    disk: Arc<MemoryDisk>,
    store: Option<Store>,
    twin: Store,
    entries: Vec<(u64, u64, Bytes)>,
    watchers: BTreeMap<String, (Watcher, Arc<AtomicBool>)>,
    now_s: i64,
    term: u64,
}

fn shown(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path.strip_prefix(KEYS).unwrap_or(path)).into_owned();
    if path.is_empty() { "/".to_owned() } else { path }
}

fn image(image: &Image) -> String {
    let mut text = shown(&image.path);
    if image.dir {
        text += " dir";
    }
    if let Some(value) = &image.value {
        let _ = write!(text, "={}", String::from_utf8_lossy(value));
    }
    let _ = write!(text, " @{} created {}", image.modified_index, image.created_index);
    if let Some(expiration_ns) = image.expiration_ns {
        let _ = write!(text, " dies at {} ttl {}", expiration_ns / 1_000_000_000 - START_S, image.ttl_s);
    }
    for child in &image.children {
        for line in self::image(child).lines() {
            let _ = write!(text, "\n  {line}");
        }
    }
    text
}

fn event(event: &Event) -> String {
    let mut text = format!("{} {}", event.action.name(), image(&event.node));
    if let Some(prev) = &event.prev_node {
        let _ = write!(text, "\n  was {}", image(prev));
    }
    if event.refresh {
        text += "\n  a refresh";
    }
    text
}

fn fault(fault: &Fault) -> String {
    format!("{} {:?}: {} [{}]", fault.code.number(), fault.code, shown(&fault.cause), fault.index)
}

fn path_of(word: &str) -> Vec<u8> {
    clean(&[KEYS, b"/", word.as_bytes()].concat())
}

impl Machine {
    fn new() -> Self {
        let disk = Arc::new(MemoryDisk::new());
        let store = Some(open(&disk));
        let twin = open(&Arc::new(MemoryDisk::new()));
        Self { disk, store, twin, entries: Vec::new(), watchers: BTreeMap::new(), now_s: START_S, term: 1 }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("the store is open")
    }

    fn now_ns(&self) -> i64 {
        self.now_s * 1_000_000_000
    }

    fn apply(&mut self, operation: Operation) -> String {
        let command = Command { id: 1, operation: Some(operation), caller: None };
        let batch = Bytes::from(CommandBatch { commands: vec![command] }.encode_to_vec());
        let (index, term) = (self.entries.len() as u64 + 1, self.term);
        self.entries.push((index, term, batch.clone()));
        let outcome = self.store().apply_commands(index, term, batch.clone(), &|_| true).unwrap();
        self.twin.apply_commands(index, term, batch, &|_| false).unwrap();
        let digest = self.store().reader().stats().digest;
        assert_eq!(digest, self.twin.reader().stats().digest, "two members part");
        let (_, reply) = outcome.replies.into_iter().next().expect("the caller waits here");
        match reply.unwrap().body {
            ReplyBody::V2(answer) => match answer.outcome {
                Ok(made) => event(&made),
                Err(why) => fault(&why),
            },
            _ => format!("index {}", self.store().reader().v2_index()),
        }
    }

    fn change(&self, method: v2_change::Method, words: &[&str]) -> V2Change {
        let mut change = V2Change { path: path_of(words[0]).into(), time_ns: self.now_ns(), ..V2Change::default() };
        change.set_method(method);
        for word in &words[1..] {
            let (name, value) = word.split_once('=').unwrap_or((word, "true"));
            let bytes = Bytes::copy_from_slice(value.as_bytes());
            match name {
                "value" => change.value = bytes,
                "prevValue" => change.prev_value = bytes,
                "prevIndex" => change.prev_index = value.parse().unwrap(),
                "prevExist" => change.prev_exist = Some(value == "true"),
                "dir" => change.dir = true,
                "recursive" => change.recursive = true,
                "refresh" => change.refresh = true,
                "ttl" => change.expiration_ns = self.now_ns() + value.parse::<i64>().unwrap() * 1_000_000_000,
                "expiration" => change.expiration_ns = value.parse().unwrap(),
                _ => panic!("no field {name}"),
            }
        }
        change
    }

    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let method = match words[0] {
            "put" => Some(v2_change::Method::Put),
            "post" => Some(v2_change::Method::Post),
            "delete" => Some(v2_change::Method::Delete),
            _ => None,
        };
        if let Some(method) = method {
            let change = self.change(method, &words[1..]);
            return self.apply(Operation::V2Change(Box::new(change)));
        }
        match words[0] {
            "get" => {
                let now_ns = self.now_ns();
                let recursive = words.contains(&"recursive");
                match self.store().reader().v2_get(&path_of(words[1]), recursive, now_ns) {
                    (_, Ok(found)) => image(&found),
                    (_, Err(why)) => fault(&why),
                }
            }
            "watch" => {
                let spec = WatchSpec {
                    path: path_of(words[2]),
                    recursive: words.contains(&"recursive"),
                    stream: words.contains(&"stream"),
                    since: option("since").map_or(0, |since| since.parse().unwrap()),
                };
                let woken = Arc::new(AtomicBool::new(false));
                let flag = woken.clone();
                match self.store().reader().v2_watch(&spec, Box::new(move || flag.store(true, Ordering::SeqCst))) {
                    Ok(watcher) => {
                        let text = format!("from index {}", watcher.index);
                        self.watchers.insert(words[1].to_owned(), (watcher, woken));
                        text
                    }
                    Err(why) => fault(&why),
                }
            }
            "take" => {
                let (watcher, woken) = &self.watchers[words[1]];
                let mut text = if woken.swap(false, Ordering::SeqCst) { "woken\n" } else { "" }.to_owned();
                loop {
                    match watcher.take() {
                        Taken::Event(found) => text += &(event(&found) + "\n"),
                        Taken::Nothing => return text + "waits",
                        Taken::End => return text + "ended",
                    }
                }
            }
            "watchers" => self.store().reader().v2_stats().watchers.to_string(),
            "drop" => {
                self.watchers.remove(words[1]).expect("the watcher exists");
                String::new()
            }
            "at" => {
                self.now_s = START_S + words[1].parse::<i64>().unwrap();
                String::new()
            }
            "term" => {
                self.term = words[1].parse().unwrap();
                String::new()
            }
            "expire" => {
                let term = option("term").map_or(self.term, |term| term.parse().unwrap());
                self.apply(Operation::V2Expire(V2Expire { time_ns: self.now_ns(), term }))
            }
            "many" => {
                let count: usize = words[1].parse().unwrap();
                let mut last = String::new();
                for number in 0..count {
                    let value = format!("value={number}");
                    let change = self.change(v2_change::Method::Put, &["/many", &value]);
                    last = self.apply(Operation::V2Change(Box::new(change)));
                }
                last
            }
            "checkpoint" => {
                self.store().checkpoint().unwrap();
                String::new()
            }
            "crash" => {
                self.watchers.clear();
                self.store = None;
                let mut store = open(&self.disk);
                let applied = store.position().applied_index;
                for (index, term, batch) in self.entries.iter().filter(|(index, ..)| *index > applied) {
                    store.apply_commands(*index, *term, batch.clone(), &|_| false).unwrap();
                }
                assert_eq!(store.reader().stats().digest, self.twin.reader().stats().digest);
                let text = format!("index {}", store.reader().v2_index());
                self.store = Some(store);
                text
            }
            "snapshot" => {
                let mut source = self.store().snapshot().unwrap().source().unwrap();
                let disk = Arc::new(MemoryDisk::new());
                let mut store = open(&disk);
                let mut sink = store.receive().unwrap();
                while let Some(piece) = source.next().unwrap() {
                    sink.write(&piece).unwrap();
                }
                store.install(sink.finish().unwrap()).unwrap();
                let text = format!("index {}", store.reader().v2_index());
                (self.disk, self.store) = (disk, Some(store));
                self.watchers.clear();
                text
            }
            other => panic!("no command {other}"),
        }
    }
}

#[test]
fn every_script_is_answered_as_written() {
    let record = std::env::var_os("RECORD").is_some_and(|value| value == "1");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v2");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        assert!(expected.starts_with("# "), "{} opens with a sentence of why", path.display());
        let mut machine = Machine::new();
        let mut produced = String::new();
        for line in expected.lines().filter(|line| !line.starts_with("  ")) {
            produced += &format!("{line}\n");
            if !line.is_empty() && !line.starts_with('#') {
                for answer in machine.run(line).lines() {
                    produced += &format!("  {answer}\n");
                }
            }
        }
        if record {
            std::fs::write(&path, produced).unwrap();
        } else {
            assert_eq!(expected, produced, "{}", path.display());
        }
    }
}

/// A slow stream costs no more than its bounds, and is ended then; ten thousand that wait once are woken once.
#[test]
fn slow_and_many_watchers_are_bounded() {
    let mut machine = Machine::new();
    let wake = || Box::new(|| {}) as Box<dyn Fn() + Send + Sync>;
    let spec = WatchSpec { path: path_of("/many"), recursive: false, stream: true, since: 0 };
    let reader = machine.store().reader();
    let slow = reader.v2_watch(&spec, wake()).unwrap();
    let once = WatchSpec { stream: false, ..spec };
    let many: Vec<_> = (0..10_000).map(|_| reader.v2_watch(&once, wake()).unwrap()).collect();
    assert_eq!(reader.v2_stats().watchers, 10_001);
    machine.run("many 1");
    assert_eq!(reader.v2_stats().watchers, 1);
    assert!(many.iter().all(|watcher| matches!(watcher.take(), Taken::Event(_)) && watcher.take() == Taken::End));
    machine.run("many 200");
    assert_eq!(reader.v2_stats().watchers, 0);
    let mut taken = 0;
    while let Taken::Event(_) = slow.take() {
        taken += 1;
    }
    assert_eq!((taken, slow.take()), (quorate_store::v2::STREAM_EVENTS_MAX, Taken::End));
}
