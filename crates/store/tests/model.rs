//! The store against a model that is too simple to be wrong: a list of all changes.
//!
//! Random commands go to two stores (one compacts and restarts often, one never) and to the model; ranges at random
//! revisions, prefix and key watchers of all kinds, HashKV and the digest are compared. Each case prints its seed.

use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use quorate_proto::mvccpb::{Event, KeyValue};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, CommandBatch};
use quorate_store::error::Error;
use quorate_store::memory_disk::{MemoryDisk, SeededRandom};
use quorate_store::range::KeyRange;
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use quorate_store::watch::{Delivery, StreamLimits, WatchSpec, WatchStream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CASES: u64 = 60;
const STEPS: usize = 250;

/// One change as the model remembers it: the key-value after it (a deletion has version 0).
#[derive(Clone)]
struct Change {
    main: i64,
    kv: KeyValue,
}

/// All changes since the beginning.
#[derive(Default)]
struct Model {
    changes: Vec<Change>,
    revision: i64,
    compacted: i64,
    leases: BTreeMap<i64, i64>,
    /// HashKV at these revisions is what the compaction hashed, once it is done.
    compactions: BTreeSet<i64>,
}

impl Model {
    fn state(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut state = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            if change.kv.version == 0 {
                state.remove(&change.kv.key);
            } else {
                state.insert(change.kv.key.clone(), change.kv.clone());
            }
        }
        state
    }

    fn put(&mut self, main: i64, request: &PutRequest) {
        let before = self.state(main).get(&request.key).cloned();
        let kv = KeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            create_revision: before.as_ref().map_or(main, |kv| kv.create_revision),
            mod_revision: main,
            version: before.map_or(0, |kv| kv.version) + 1,
            lease: request.lease,
        };
        self.changes.push(Change { main, kv });
    }

    fn delete(&mut self, main: i64, range: &KeyRange) -> usize {
        let gone: Vec<Bytes> = self.state(main).into_keys().filter(|key| range.contains(key)).collect();
        for key in &gone {
            let kv = KeyValue { key: key.clone(), mod_revision: main, ..KeyValue::default() };
            self.changes.push(Change { main, kv });
        }
        gone.len()
    }

    /// What a watcher from `from` on must have got in all.
    fn events(&self, watcher: &Watcher) -> Vec<(i64, i32, Bytes, Option<KeyValue>)> {
        let mut events = Vec::new();
        for change in &self.changes {
            let deletion = change.kv.version == 0;
            if change.main < watcher.from
                || !watcher.range.contains(&change.kv.key)
                || (deletion && watcher.no_delete)
                || (!deletion && watcher.no_put)
            {
                continue;
            }
            let is_creation = !deletion && change.kv.create_revision == change.main;
            let previous = self.state(change.main - 1).get(&change.kv.key).filter(|_| !is_creation).cloned();
            events.push((change.main, i32::from(deletion), change.kv.key.clone(), previous));
        }
        events
    }
}

struct Watcher {
    stream: WatchStream,
    range: KeyRange,
    from: i64,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    got: Vec<Event>,
    /// Told that the next revision it needs is compacted.
    ended: bool,
}

impl Watcher {
    fn pull(&mut self) {
        for delivery in self.stream.next(4_096) {
            match delivery {
                Delivery::Events { events, .. } => {
                    self.got.extend(events.into_iter().map(|event| Event::decode(event).unwrap()));
                }
                Delivery::Compacted { .. } => self.ended = true,
                Delivery::Progress { .. } | Delivery::WatcherProgress { .. } => {}
                Delivery::Broken { .. } => panic!("broken"),
            }
        }
    }

    /// What came is a prefix of what should: nothing lost, repeated or out of order.
    fn check(&self, model: &Model, complete: bool) {
        let want = model.events(self);
        assert!(self.got.len() <= want.len(), "{} events of {}", self.got.len(), want.len());
        for (got, (main, kind, key, previous)) in self.got.iter().zip(&want) {
            let kv = got.kv.as_ref().unwrap();
            assert_eq!((kv.mod_revision, got.r#type, &kv.key), (*main, *kind, key));
            match (&got.prev_kv, self.prev_kv) {
                (Some(got), true) => assert_eq!(Some(got), previous.as_ref()),
                (None, true) => assert!(previous.is_none() || main - 1 < model.compacted, "lost the previous value"),
                (got, false) => assert!(got.is_none()),
            }
        }
        if complete && !self.ended {
            assert_eq!(self.got.len(), want.len(), "events from {} in {:?}", self.from, self.range);
        }
        if self.ended {
            let last = self.got.last().map_or(self.from, |event| event.kv.as_ref().unwrap().mod_revision);
            assert!(last < model.compacted.max(1), "ended without need");
        }
    }
}

struct Bench {
    random: SeededRandom,
    model: Model,
    disk: Arc<MemoryDisk>,
    busy: Store,
    quiet: Store,
    index: u64,
    watchers: Vec<Watcher>,
}

fn open(disk: &Arc<MemoryDisk>, segment_bytes: u32) -> Store {
    let config = StoreConfig { revlog: RevLogConfig { segment_bytes, buffer_bytes: 300 } };
    Store::open(disk.clone(), "store", config, Bootstrap::default()).unwrap()
}

impl Bench {
    fn new(seed: u64) -> Self {
        let disk = Arc::new(MemoryDisk::new());
        let busy = open(&disk, 1_500);
        let quiet = open(&Arc::new(MemoryDisk::new()), 1 << 20);
        let model = Model { revision: 1, compacted: -1, ..Model::default() };
        Self { random: SeededRandom::new(seed), model, disk, busy, quiet, index: 0, watchers: Vec::new() }
    }

    fn key(&mut self) -> Bytes {
        format!("k{}", self.random.below(12)).into()
    }

    fn range(&mut self) -> KeyRange {
        let (start, end) = (self.key(), self.key());
        match self.random.below(4) {
            0 => KeyRange::new(start, Bytes::new()),
            1 => KeyRange::new(Bytes::from_static(b"k"), Bytes::from_static(b"l")),
            2 => KeyRange::new(start, Bytes::from_static(b"\0")),
            _ => KeyRange::new(start, end),
        }
    }

    fn put_request(&mut self) -> PutRequest {
        let length = self.random.below(40) as usize;
        let lease = if self.random.one_in(4) { 1 + self.random.below(4) as i64 } else { 0 };
        let lease = if self.model.leases.contains_key(&lease) { lease } else { 0 };
        PutRequest { key: self.key(), value: vec![b'v'; length].into(), lease, ..PutRequest::default() }
    }

    /// Sends an operation to both stores; they must answer alike.
    fn send(&mut self, operation: Operation) -> Result<i64, Error> {
        self.index += 1;
        let batch = CommandBatch { commands: vec![Command { id: 1, operation: Some(operation), caller: None }] };
        let bytes = Bytes::from(batch.encode_to_vec());
        let mut answers = [&mut self.busy, &mut self.quiet].map(|store| {
            let outcome = store.apply_commands(self.index, 1, bytes.clone(), &|_| true).unwrap();
            outcome.replies.into_iter().next().unwrap().1
        });
        let texts = answers.each_ref().map(|answer| format!("{answer:?}"));
        assert_eq!(texts[0], texts[1]);
        std::mem::replace(&mut answers[0], Err(Error::Corrupt)).map(|reply| reply.revision)
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..8 => {
                let request = self.put_request();
                let revision = self.send(Operation::Put(request.clone())).unwrap();
                self.model.revision += 1;
                assert_eq!(revision, self.model.revision);
                self.model.put(revision, &request);
            }
            8 | 9 => {
                let range = self.range();
                let deleted = self.model.delete(self.model.revision + 1, &range);
                let revision = self.send(Operation::DeleteRange(delete_request(&range))).unwrap();
                self.model.revision += i64::from(deleted > 0);
                assert_eq!(revision, self.model.revision);
            }
            10 | 11 => self.transaction(),
            12 => {
                let id = 1 + self.random.below(4) as i64;
                let result = self.send(Operation::LeaseGrant(LeaseGrantRequest { id, ttl: 60 }));
                assert_eq!(result.is_err(), self.model.leases.contains_key(&id));
                self.model.leases.insert(id, 60);
            }
            13 => self.revoke(),
            14 => {
                let target = self.random.below(self.model.revision as u64 + 2) as i64;
                let result = self.send(Operation::Compact(CompactionRequest { revision: target, physical: false }));
                let want = if target <= self.model.compacted {
                    Err(Error::Compacted)
                } else if target > self.model.revision {
                    Err(Error::FutureRevision)
                } else {
                    self.model.compacted = target;
                    self.model.compactions.insert(target);
                    Ok(self.model.revision)
                };
                assert_eq!(result, want);
            }
            15 => {
                self.busy.maintain(700).unwrap();
            }
            16 => self.watch(),
            17 if self.random.one_in(3) => self.restart(),
            _ => self.compare(),
        }
        for watcher in &mut self.watchers {
            if self.random.one_in(3) {
                watcher.pull();
            }
        }
    }

    fn transaction(&mut self) {
        let mut operations = Vec::new();
        let mut used = BTreeSet::new();
        let main = self.model.revision + 1;
        let mut changed = 0;
        for _ in 0..self.random.below(4) {
            let request = self.put_request();
            if used.insert(request.key.clone()) {
                self.model.put(main, &request);
                changed += 1;
                operations.push(RequestOp { request: Some(Request::RequestPut(request)) });
            }
        }
        let range = KeyRange::new(Bytes::from_static(b"k1"), Bytes::from_static(b"k3"));
        if self.random.one_in(3) && used.iter().all(|key| !range.contains(key)) {
            changed += self.model.delete(main, &range);
            operations.push(RequestOp { request: Some(Request::RequestDeleteRange(delete_request(&range))) });
        }
        let nested = TxnRequest { success: operations, ..TxnRequest::default() };
        let request = Some(Request::RequestTxn(nested));
        let outer = TxnRequest { success: vec![RequestOp { request }], ..TxnRequest::default() };
        let revision = self.send(Operation::Txn(outer)).unwrap();
        self.model.revision += i64::from(changed > 0);
        assert_eq!(revision, self.model.revision);
    }

    fn revoke(&mut self) {
        let id = 1 + self.random.below(4) as i64;
        let known = self.model.leases.remove(&id).is_some();
        let result = self.send(Operation::LeaseRevoke(LeaseRevokeRequest { id }));
        if !known {
            assert_eq!(result, Err(Error::LeaseNotFound));
            return;
        }
        let main = self.model.revision + 1;
        let attached: Vec<_> = self.model.state(main).into_values().filter(|kv| kv.lease == id).collect();
        for kv in &attached {
            self.model.delete(main, &KeyRange::new(kv.key.clone(), Bytes::new()));
        }
        self.model.revision += i64::from(!attached.is_empty());
        assert_eq!(result, Ok(self.model.revision));
    }

    fn watch(&mut self) {
        let limits = StreamLimits { queue_bytes_max: 400, watchers_max: 10 };
        let stream = self.busy.reader().watch_hub().open_stream(limits, Arc::new(|| {}));
        let range = self.range();
        let from = self.random.below(self.model.revision as u64 + 4) as i64;
        let (no_put, no_delete) = (self.random.one_in(5), self.random.one_in(5));
        let prev_kv = self.random.one_in(2);
        let spec = WatchSpec {
            watch_id: 0,
            range: range.clone(),
            start_revision: from,
            no_put,
            no_delete,
            prev_kv,
            progress_notify: false,
        };
        if stream.create(spec).is_err() {
            assert!(range.is_empty());
            return;
        }
        let from = if from == 0 { self.model.revision + 1 } else { from };
        self.watchers.push(Watcher { stream, range, from, no_put, no_delete, prev_kv, got: Vec::new(), ended: false });
    }

    /// Stops and starts the busy store; its watchers end with it.
    fn restart(&mut self) {
        self.finish_watchers();
        self.busy.checkpoint().unwrap();
        self.busy = open(&self.disk, 1_500);
    }

    fn finish_watchers(&mut self) {
        for watcher in &mut self.watchers {
            for _ in 0..200 {
                watcher.pull();
            }
            watcher.check(&self.model, true);
        }
        self.watchers.clear();
    }

    fn compare(&mut self) {
        let range = self.range();
        let asked = if self.random.one_in(2) { 0 } else { self.random.below(self.model.revision as u64 + 2) as i64 };
        let request = RangeRequest {
            key: range.start.clone(),
            range_end: range_end(&range),
            revision: asked,
            limit: self.random.below(6) as i64,
            keys_only: self.random.one_in(4),
            count_only: self.random.one_in(5),
            ..RangeRequest::default()
        };
        let revision = if asked == 0 { self.model.revision } else { asked };
        let got = self.busy.reader().range(&request);
        if asked > self.model.revision {
            assert_eq!(got.err(), Some(Error::FutureRevision));
            return;
        }
        if revision < self.model.compacted {
            assert_eq!(got.err(), Some(Error::Compacted));
            return;
        }
        let mut want: Vec<KeyValue> =
            self.model.state(revision).into_values().filter(|kv| range.contains(&kv.key)).collect();
        let got = got.unwrap();
        assert_eq!((got.count, got.revision), (want.len() as i64, self.model.revision));
        let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        assert_eq!(got.more, !request.count_only && want.len() > limit);
        want.truncate(if request.count_only { 0 } else { limit });
        if request.keys_only {
            for kv in &mut want {
                kv.value = Bytes::new();
                kv.lease = 0;
            }
        }
        assert_eq!(got.items.encoded_bytes(), want.iter().map(framed).sum::<u64>());
        assert_eq!(got.items.decode().unwrap(), want);
        let hash = self.random.below(self.model.revision as u64 + 1) as i64;
        if !self.model.compactions.contains(&hash) {
            assert_eq!(self.busy.reader().hash_kv(hash), self.quiet.reader().hash_kv(hash), "HashKV at {hash}");
        }
        assert_eq!(self.busy.reader().stats().digest, self.quiet.reader().stats().digest);
        for (id, _) in self.busy.reader().leases() {
            let attached: Vec<Bytes> = self
                .model
                .state(self.model.revision)
                .into_values()
                .filter(|kv| kv.lease == id)
                .map(|kv| kv.key)
                .collect();
            assert_eq!(self.busy.reader().lease_keys(id), attached);
        }
    }
}

fn framed(kv: &KeyValue) -> u64 {
    let length = kv.encoded_len();
    (1 + prost::length_delimiter_len(length) + length) as u64
}

fn range_end(range: &KeyRange) -> Bytes {
    use quorate_store::range::RangeEnd;
    match &range.end {
        RangeEnd::Single => Bytes::new(),
        RangeEnd::Open => Bytes::from_static(b"\0"),
        RangeEnd::Before(end) => end.clone(),
    }
}

fn delete_request(range: &KeyRange) -> DeleteRangeRequest {
    DeleteRangeRequest { key: range.start.clone(), range_end: range_end(range), prev_kv: true }
}

#[test]
fn agrees_with_the_model() {
    for seed in 0..CASES {
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        for _ in 0..STEPS {
            bench.step();
        }
        bench.finish_watchers();
        // A snapshot carries the whole state.
        let snapshot = bench.busy.snapshot().unwrap();
        let disk = Arc::new(MemoryDisk::new());
        let mut other = open(&disk, 1_500);
        let mut sink = other.receive().unwrap();
        let mut source = snapshot.source().unwrap();
        while let Some(piece) = source.next().unwrap() {
            sink.write(&piece).unwrap();
        }
        other.install(sink.finish().unwrap()).unwrap();
        assert_eq!(other.reader().stats().digest, bench.busy.reader().stats().digest);
        if !bench.model.compactions.contains(&bench.model.revision) {
            let revision = bench.model.revision;
            assert_eq!(other.reader().hash_kv(revision), bench.busy.reader().hash_kv(revision));
        }
    }
}
