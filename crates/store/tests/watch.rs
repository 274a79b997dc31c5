//! Watching under strain: full queues, history that is cancelled or compacted away while it is read, crowds of watchers,
//! and who gets which key, against the plainest rule there is. Random cases print their seed.

use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use quorate_proto::mvccpb::Event;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, CommandBatch};
use quorate_store::memory_disk::{MemoryDisk, SeededRandom};
use quorate_store::range::{KeyRange, RangeEnd};
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use quorate_store::watch::{Delivery, StreamLimits, WatchRefused, WatchSpec, WatchStream};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Longer than the pieces of history that one call reads.
const LONG_VALUE_BYTES: usize = 100 << 10;
const ROOMY: StreamLimits = StreamLimits { queue_bytes_max: 1 << 24, watchers_max: 100_000 };

struct Writer {
    store: Store,
    index: u64,
}

impl Writer {
    fn new() -> Self {
        let config = StoreConfig { revlog: RevLogConfig { segment_bytes: 64 << 10, buffer_bytes: 4 << 10 } };
        let store = Store::open(Arc::new(MemoryDisk::new()), "store", config, Bootstrap::default()).unwrap();
        Self { store, index: 0 }
    }

    fn apply(&mut self, operation: Operation) {
        self.index += 1;
        let batch = CommandBatch { commands: vec![Command { id: 1, operation: Some(operation), caller: None }] };
        let outcome = self.store.apply_commands(self.index, 1, batch.encode_to_vec().into(), &|_| true).unwrap();
        assert!(outcome.replies[0].1.is_ok(), "{:?}", outcome.replies[0].1);
    }

    fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.apply(Operation::Put(put(key, value)));
    }

    fn compact(&mut self, revision: i64) {
        self.apply(Operation::Compact(CompactionRequest { revision, physical: false }));
        while self.store.maintain(1 << 20).unwrap() {}
    }

    fn stream(&self, limits: StreamLimits) -> WatchStream {
        self.store.reader().watch_hub().open_stream(limits, Arc::new(|| {}))
    }

    fn watchers(&self) -> u64 {
        self.store.reader().watch_hub().watchers()
    }
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn spec(range: KeyRange, start_revision: i64) -> WatchSpec {
    WatchSpec {
        watch_id: 0,
        range,
        start_revision,
        no_put: false,
        no_delete: false,
        prev_kv: false,
        progress_notify: false,
    }
}

fn one(key: &'static str) -> KeyRange {
    KeyRange::new(key.into(), Bytes::new())
}

fn revision_of(event: &Bytes) -> i64 {
    Event::decode(event.clone()).unwrap().kv.unwrap().mod_revision
}

/// Revisions of one call's events, by watcher.
fn revisions(deliveries: &[Delivery]) -> BTreeMap<i64, Vec<i64>> {
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for delivery in deliveries {
        if let Delivery::Events { watch_id, revision, events } = delivery {
            let revisions: Vec<i64> = events.iter().map(revision_of).collect();
            assert!(revisions.last() <= Some(revision), "the header tells how far the watcher is");
            found.entry(*watch_id).or_default().extend(revisions);
        }
    }
    found
}

/// Everything that is there for the taking.
fn drain(stream: &WatchStream, bytes_max: usize) -> BTreeMap<i64, Vec<i64>> {
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    loop {
        let deliveries = stream.next(bytes_max);
        if deliveries.is_empty() {
            return found;
        }
        for (watch_id, revisions) in revisions(&deliveries) {
            found.entry(watch_id).or_default().extend(revisions);
        }
    }
}

/// What a slow stream has not taken stays with all others that wait for the same; what it takes is its own.
#[test]
fn a_queue_is_taken_in_pieces_of_whole_revisions() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut random = SeededRandom::new(seed);
        let mut writer = Writer::new();
        let woken = Arc::new(AtomicUsize::new(0));
        let wakes = woken.clone();
        let wake = Arc::new(move || {
            wakes.fetch_add(1, Ordering::Relaxed);
        });
        let stream = writer.store.reader().watch_hub().open_stream(ROOMY, wake);
        for range in [KeyRange::all(), one("k1")] {
            stream.create(spec(range, 0)).unwrap();
        }
        let (mut wanted, mut wanted_of_one) = (Vec::new(), Vec::new());
        for revision in 2..60 {
            let keys = 1 + random.below(8);
            let puts = (0..keys)
                .map(|key| RequestOp { request: Some(Request::RequestPut(put(format!("k{key}"), vec![b'v'; 100]))) });
            writer.apply(Operation::Txn(TxnRequest { success: puts.collect(), ..TxnRequest::default() }));
            wanted.extend(std::iter::repeat_n(revision, keys as usize));
            wanted_of_one.extend((keys > 1).then_some(revision));
        }
        let bytes_max = random.below(3_000) as usize;
        let mut got: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        stream.request_progress();
        loop {
            let before = woken.load(Ordering::Relaxed);
            let deliveries = stream.next(bytes_max);
            let events: usize = revisions(&deliveries).values().map(Vec::len).sum();
            assert!(events <= bytes_max / 164 + 1 + 9, "{events} events in a piece of {bytes_max} bytes");
            let is_done = deliveries.iter().any(|delivery| matches!(delivery, Delivery::Progress { .. }));
            for (watch_id, revisions) in revisions(&deliveries) {
                let all = got.entry(watch_id).or_default();
                assert_ne!(all.last(), revisions.first(), "a revision was split");
                all.extend(revisions);
            }
            if is_done {
                break;
            }
            assert_eq!(woken.load(Ordering::Relaxed), before + 1, "there is more, and nobody is told");
        }
        assert_eq!((&got[&0], &got[&1]), (&wanted, &wanted_of_one));
    }
}

#[test]
fn a_full_queue_loses_repeats_and_hinders_nothing() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = SeededRandom::new(seed);
        let mut writer = Writer::new();
        let slow = writer.stream(StreamLimits { queue_bytes_max: 1 + random.below(2_000) as usize, watchers_max: 10 });
        let quick = writer.stream(ROOMY);
        let mut got: Vec<i64> = Vec::new();
        let mut quick_got: Vec<i64> = Vec::new();
        for stream in [&slow, &quick] {
            stream.create(spec(KeyRange::all(), 0)).unwrap();
            stream.create(spec(one("k3"), 0)).unwrap();
        }
        let mut third: Vec<i64> = Vec::new();
        for revision in 2..300 {
            let key = random.below(5);
            if key == 3 {
                third.push(revision);
            }
            writer.put(format!("k{key}"), vec![b'v'; random.below(200) as usize]);
            assert!(writer.store.reader().watch_hub().slow_watchers() <= 2, "a slow stream concerns nobody else");
            quick_got.extend(drain(&quick, 1).remove(&0).unwrap_or_default());
            if random.one_in(40) {
                got.extend(revisions(&slow.next(random.below(3_000) as usize)).remove(&0).unwrap_or_default());
            }
        }
        let wanted: Vec<i64> = (2..300).collect();
        assert_eq!(quick_got, wanted);
        got.extend(drain(&slow, 500).remove(&0).unwrap_or_default());
        assert_eq!(got, wanted);
        assert_eq!(writer.store.reader().watch_hub().slow_watchers(), 0);
        // In step again.
        writer.put("k3", "again");
        assert_eq!(drain(&slow, 1), BTreeMap::from([(0, vec![300]), (1, vec![300])]));
    }
}

#[test]
fn a_full_queue_never_splits_a_revision() {
    for queue_bytes_max in [1, 50, 150, 500, 5_000] {
        let mut writer = Writer::new();
        let stream = writer.stream(StreamLimits { queue_bytes_max, watchers_max: 10 });
        stream.create(spec(KeyRange::all(), 0)).unwrap();
        for round in 0..20 {
            let success = (0..=round)
                .map(|key| RequestOp { request: Some(Request::RequestPut(put(format!("k{key:02}"), "v"))) })
                .collect();
            writer.apply(Operation::Txn(TxnRequest { success, ..TxnRequest::default() }));
        }
        let mut wanted = 2;
        loop {
            let deliveries = stream.next(64);
            if deliveries.is_empty() {
                break;
            }
            for revisions in revisions(&deliveries).values() {
                // Whole revisions only: revision r has r - 1 changes.
                for chunk in revisions.chunk_by(|left, right| left == right) {
                    assert_eq!((chunk[0], chunk.len() as i64), (wanted, wanted - 1), "queue of {queue_bytes_max}");
                    wanted += 1;
                }
            }
        }
        assert_eq!(wanted, 22);
    }
}

#[test]
fn a_watcher_that_is_cancelled_while_it_is_behind_is_silent_and_the_others_go_on() {
    let mut writer = Writer::new();
    for _ in 0..30 {
        writer.put("k", vec![b'v'; LONG_VALUE_BYTES]);
    }
    let stream = writer.stream(ROOMY);
    for _ in 0..3 {
        stream.create(spec(one("k"), 2)).unwrap();
    }
    let first = revisions(&stream.next(1));
    let read = first[&0].len();
    assert!((1..30).contains(&read), "one piece of history is a part of it: {read}");
    assert_eq!(writer.store.reader().watch_hub().slow_watchers(), 3);
    assert!(stream.cancel(0));
    assert!(!stream.cancel(0));
    assert_eq!(writer.watchers(), 2);
    let mut rest = drain(&stream, 1);
    assert_eq!(rest.remove(&0), None, "it was cancelled");
    for watch_id in [1, 2] {
        let mut all = first.get(&watch_id).cloned().unwrap_or_default();
        all.extend(rest.remove(&watch_id).unwrap());
        assert_eq!(all, (2..32).collect::<Vec<_>>(), "watcher {watch_id}");
    }
    // The id of a watcher that ended by itself is free for one that names it.
    let again = WatchSpec { watch_id: 1, ..spec(one("k"), 0) };
    assert_eq!(stream.create(again.clone()), Err(WatchRefused::DuplicateId));
    assert!(stream.cancel(1));
    assert_eq!(stream.create(again), Ok((1, 31)));
}

#[test]
fn a_compaction_ends_a_watcher_that_it_overtakes_and_no_other() {
    for range in [one("k"), KeyRange::all()] {
        let mut writer = Writer::new();
        for _ in 0..30 {
            writer.put("k", vec![b'v'; LONG_VALUE_BYTES]);
        }
        let stream = writer.stream(ROOMY);
        let other = writer.stream(ROOMY);
        stream.create(spec(range.clone(), 2)).unwrap();
        other.create(spec(range.clone(), 20)).unwrap();
        other.create(spec(range, 0)).unwrap();
        let read = revisions(&stream.next(1))[&0].len() as i64;
        // Up to what it needs next it may go on.
        writer.compact(2 + read);
        assert_eq!(revisions(&stream.next(1))[&0][0], 2 + read);
        writer.compact(20);
        assert_eq!(stream.next(1), [Delivery::Compacted { watch_id: 0, compact_revision: 20 }]);
        assert_eq!(stream.next(1), []);
        assert!(!stream.cancel(0), "it ended");
        assert_eq!(writer.watchers(), 2);
        writer.put("k", "last");
        let got = drain(&other, 1);
        assert_eq!(got[&0], (20..=32).collect::<Vec<_>>());
        assert_eq!(got[&1], [32]);
    }
}

#[test]
fn a_crowd_on_one_prefix_gets_everything_with_one_wake_for_each_stream() {
    let mut writer = Writer::new();
    let wakes: Vec<Arc<AtomicUsize>> = (0..20).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let streams: Vec<WatchStream> = wakes
        .iter()
        .map(|wakes| {
            let wakes = wakes.clone();
            let wake = move || {
                wakes.fetch_add(1, Ordering::Relaxed);
            };
            writer.store.reader().watch_hub().open_stream(ROOMY, Arc::new(wake))
        })
        .collect();
    let prefix = || KeyRange::new(Bytes::from_static(b"p/"), Bytes::from_static(b"p0"));
    for stream in &streams {
        for id in 0..100 {
            assert_eq!(stream.create(spec(prefix(), 0)), Ok((id, 1)));
        }
    }
    assert_eq!(writer.watchers(), 2_000);
    for round in 0..10 {
        writer.put(format!("p/{round}"), "v");
        writer.put(format!("q/{round}"), "v");
    }
    let wanted: Vec<i64> = (0..10).map(|round| 2 + 2 * round).collect();
    for (stream, wakes) in streams.iter().zip(&wakes) {
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "woken once until it takes");
        let got = drain(stream, 1 << 20);
        assert_eq!(got.len(), 100);
        assert!(got.values().all(|revisions| *revisions == wanted));
        assert_eq!(stream.next(1), []);
    }
    writer.put("p/x", "v");
    assert!(wakes.iter().all(|wakes| wakes.load(Ordering::Relaxed) == 2), "and again afterwards");
    drop(streams);
    assert_eq!(writer.watchers(), 0);
    writer.put("p/x", "v");
    assert!(wakes.iter().all(|wakes| wakes.load(Ordering::Relaxed) == 2), "nobody is left to be woken");
}

/// As in etcd: a client that keeps the header's revision as its place must not fall back behind it.
#[test]
fn a_watcher_that_caught_up_is_told_the_stores_revision() {
    let mut writer = Writer::new();
    for key in ["a", "b", "b"] {
        writer.put(key, "value");
    }
    let stream = writer.stream(ROOMY);
    stream.create(spec(one("a"), 1)).unwrap();
    let [Delivery::Events { revision, events, .. }] = &stream.next(1 << 20)[..] else { panic!("one answer") };
    assert_eq!((*revision, events.len()), (4, 1));
    writer.put("a", "value");
    let [Delivery::Events { revision, events, .. }] = &stream.next(1 << 20)[..] else { panic!("one answer") };
    assert_eq!((*revision, events.len()), (5, 1));
}

#[test]
fn the_bounds_of_a_stream_hold() {
    let writer = Writer::new();
    let stream = writer.stream(StreamLimits { queue_bytes_max: 100, watchers_max: 2 });
    assert_eq!(stream.create(spec(one("a"), 0)), Ok((0, 1)));
    assert_eq!(stream.create(spec(one("a"), 0)), Ok((1, 1)));
    assert_eq!(stream.create(spec(one("a"), 0)), Err(WatchRefused::TooMany));
    assert!(stream.cancel(0));
    assert!(stream.create(spec(one("a"), 0)).is_ok());
    assert_eq!(writer.watchers(), 2);
}

/// Bytes from few letters, the ends of the scale among them, so that ranges often touch.
fn some_bytes(random: &mut SeededRandom, length_min: u64) -> Bytes {
    let length = length_min + random.below(4 - length_min);
    (0..length).map(|_| [0x00, b'a', b'b', 0xfe, 0xff][random.below(5) as usize]).collect()
}

fn some_range(random: &mut SeededRandom) -> KeyRange {
    let start = some_bytes(random, 0);
    match random.below(5) {
        0 => KeyRange { start, end: RangeEnd::Single },
        1 => KeyRange { start, end: RangeEnd::Open },
        2 => KeyRange { start, end: RangeEnd::Before(some_bytes(random, 1)) },
        _ => {
            // The range of all keys that begin with `start`, where there is one.
            let mut end = start.to_vec();
            while end.last() == Some(&0xff) {
                end.pop();
            }
            match end.last_mut() {
                Some(last) => *last += 1,
                None => return KeyRange { start, end: RangeEnd::Open },
            }
            KeyRange { start, end: RangeEnd::Before(end.into()) }
        }
    }
}

/// The rule, written down once more.
fn belongs(range: &KeyRange, key: &[u8]) -> bool {
    match &range.end {
        RangeEnd::Single => *key == range.start[..],
        RangeEnd::Open => *key >= range.start[..],
        RangeEnd::Before(end) => *key >= range.start[..] && *key < end[..],
    }
}

struct Expecting {
    range: KeyRange,
    no_put: bool,
    no_delete: bool,
    wanted: Vec<(i64, Bytes, bool)>,
    got: Vec<(i64, Bytes, bool)>,
}

#[test]
fn every_range_gets_its_keys_and_no_others() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = SeededRandom::new(seed);
        let mut writer = Writer::new();
        let mut streams: Vec<(WatchStream, BTreeMap<i64, Expecting>)> =
            (0..3).map(|_| (writer.stream(ROOMY), BTreeMap::new())).collect();
        let mut present: BTreeMap<Bytes, ()> = BTreeMap::new();
        for _ in 0..300 {
            let which = random.below(3) as usize;
            match random.below(10) {
                0..3 => {
                    let range = some_range(&mut random);
                    let (no_put, no_delete) = (random.one_in(6), random.one_in(6));
                    let wanted = WatchSpec { no_put, no_delete, ..spec(range.clone(), 0) };
                    match streams[which].0.create(wanted) {
                        Ok((id, _)) => {
                            let expecting = Expecting { range, no_put, no_delete, wanted: Vec::new(), got: Vec::new() };
                            assert!(streams[which].1.insert(id, expecting).is_none());
                        }
                        Err(refused) => assert!(refused == WatchRefused::EmptyRange && range.is_empty()),
                    }
                }
                3 => {
                    let ids: Vec<i64> = streams[which].1.keys().copied().collect();
                    if !ids.is_empty() {
                        take(&mut streams[which]);
                        let id = ids[random.below(ids.len() as u64) as usize];
                        assert!(streams[which].0.cancel(id));
                        check(&streams[which].1.remove(&id).unwrap());
                    }
                }
                4 if random.one_in(10) => {
                    take(&mut streams[which]);
                    streams[which].1.values().for_each(check);
                    streams[which] = (writer.stream(ROOMY), BTreeMap::new());
                }
                5 => {
                    let range = some_range(&mut random);
                    let gone: Vec<Bytes> = present.keys().filter(|key| belongs(&range, key)).cloned().collect();
                    let range_end = match &range.end {
                        RangeEnd::Single => Bytes::new(),
                        RangeEnd::Open => Bytes::from_static(b"\0"),
                        // On the wire this end means something else.
                        RangeEnd::Before(end) if end[..] == [0] => continue,
                        RangeEnd::Before(end) => end.clone(),
                    };
                    let key = range.start.clone();
                    writer.apply(Operation::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }));
                    let revision = writer.store.reader().revision();
                    for key in gone {
                        present.remove(&key);
                        expect(&mut streams, revision, &key, true);
                    }
                }
                _ => {
                    let key = some_bytes(&mut random, 1);
                    writer.put(key.clone(), "v");
                    present.insert(key.clone(), ());
                    expect(&mut streams, writer.store.reader().revision(), &key, false);
                }
            }
        }
        for stream in &mut streams {
            take(stream);
            stream.1.values().for_each(check);
        }
    }
}

fn expect(streams: &mut [(WatchStream, BTreeMap<i64, Expecting>)], revision: i64, key: &Bytes, deletion: bool) {
    for watcher in streams.iter_mut().flat_map(|(_, watchers)| watchers.values_mut()) {
        let left_out = if deletion { watcher.no_delete } else { watcher.no_put };
        if !left_out && belongs(&watcher.range, key) {
            watcher.wanted.push((revision, key.clone(), deletion));
        }
    }
}

fn take((stream, watchers): &mut (WatchStream, BTreeMap<i64, Expecting>)) {
    for delivery in stream.next(1 << 20) {
        let Delivery::Events { watch_id, events, .. } = delivery else { panic!("{delivery:?}") };
        for event in events {
            let event = Event::decode(event).unwrap();
            let kv = event.kv.unwrap();
            watchers.get_mut(&watch_id).unwrap().got.push((kv.mod_revision, kv.key, event.r#type == 1));
        }
    }
}

fn check(watcher: &Expecting) {
    assert_eq!(watcher.got, watcher.wanted, "{:?}", watcher.range);
}

#[test]
fn a_receiver_on_another_thread_misses_nothing() {
    let mut writer = Writer::new();
    let reader = writer.store.reader();
    let (wake, woken) = mpsc::channel::<()>();
    let limits = StreamLimits { queue_bytes_max: 2_000, watchers_max: 10 };
    let stream = reader.watch_hub().open_stream(limits, Arc::new(move || wake.send(()).unwrap_or_default()));
    stream.create(spec(KeyRange::all(), 0)).unwrap();
    let receiving = std::thread::spawn(move || {
        let mut got = Vec::new();
        while got.last() != Some(&5_001) {
            woken.recv_timeout(Duration::from_secs(30)).expect("a wake is never forgotten");
            // One call for each wake: more to come means another wake.
            got.extend(revisions(&stream.next(700)).remove(&0).unwrap_or_default());
        }
        got
    });
    for index in 0..5_000 {
        writer.put(format!("k{}", index % 7), "value");
        if index % 500 == 0 {
            // A watcher that comes and goes on the way disturbs nobody.
            let other = writer.stream(ROOMY);
            other.create(spec(KeyRange::all(), 2)).unwrap();
            other.next(1);
        }
    }
    assert_eq!(receiving.join().unwrap(), (2..=5_001).collect::<Vec<_>>());
}
