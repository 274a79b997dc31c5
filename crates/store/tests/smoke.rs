//! The store as its owner uses it, end to end in memory.

use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use quorate_proto::mvccpb::Event;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, CommandBatch};
use quorate_store::memory_disk::MemoryDisk;
use quorate_store::range::KeyRange;
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use quorate_store::watch::{Delivery, StreamLimits, WatchSpec};
use std::sync::Arc;

fn open(disk: &Arc<MemoryDisk>) -> Store {
    let config = StoreConfig { revlog: RevLogConfig { segment_bytes: 4_096, buffer_bytes: 512 } };
    Store::open(disk.clone(), "store", config, Bootstrap::default()).unwrap()
}

fn apply(store: &mut Store, index: u64, operation: Operation) {
    let batch = CommandBatch { commands: vec![Command { id: index, operation: Some(operation), caller: None }] };
    let outcome = store.apply_commands(index, 1, batch.encode_to_vec().into(), &|_| true).unwrap();
    assert!(outcome.replies[0].1.is_ok(), "{:?}", outcome.replies);
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put(PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() })
}

fn get(store: &Store, key: &str, revision: i64) -> Option<String> {
    let request = RangeRequest { key: key.to_owned().into(), revision, ..RangeRequest::default() };
    let found = store.reader().range(&request).unwrap().items.decode().unwrap();
    found.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

#[test]
fn keeps_what_it_was_told_over_restarts_and_compaction() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk);
    let mut index = 0;
    for round in 0..20 {
        for key in 0..50 {
            index += 1;
            apply(&mut store, index, put(&format!("key{key:02}"), &format!("value {key} {round}")));
        }
        if round % 5 == 4 {
            index += 1;
            let revision = store.reader().revision() - 60;
            apply(&mut store, index, Operation::Compact(CompactionRequest { revision, physical: false }));
            while store.maintain(1 << 16).unwrap() {}
            store.checkpoint().unwrap();
        }
        if round % 7 == 6 {
            let (digest, hash) = (store.reader().stats().digest, store.reader().hash_kv(0).unwrap());
            store.close().unwrap();
            store = open(&disk);
            assert_eq!((store.reader().stats().digest, store.reader().hash_kv(0).unwrap()), (digest, hash));
        }
    }
    assert_eq!(store.reader().revision(), 1_001);
    for key in 0..50 {
        assert_eq!(get(&store, &format!("key{key:02}"), 0), Some(format!("value {key} 19")));
        assert_eq!(get(&store, &format!("key{key:02}"), 951), Some(format!("value {key} 18")));
    }
    assert!(disk.total_bytes() < 60_000, "compaction gives space back: {}", disk.total_bytes());
}

#[test]
fn a_watcher_gets_history_and_news_once_each_in_order() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk);
    for index in 1..=30 {
        apply(&mut store, index, put(&format!("w/{}", index % 3), &index.to_string()));
    }
    let limits = StreamLimits { queue_bytes_max: 300, watchers_max: 10 };
    let stream = store.reader().watch_hub().open_stream(limits, Arc::new(|| {}));
    let spec = WatchSpec {
        watch_id: 0,
        range: KeyRange::new(Bytes::from_static(b"w/"), Bytes::from_static(b"w0")),
        start_revision: 5,
        no_put: false,
        no_delete: false,
        prev_kv: true,
        progress_notify: false,
    };
    assert_eq!(stream.create(spec), Ok((0, 31)));
    stream.request_progress();
    let mut seen = Vec::new();
    let mut progress = Vec::new();
    for index in 31..=90 {
        apply(&mut store, index, put(&format!("w/{}", index % 3), &index.to_string()));
        if index % 10 == 0 {
            for delivery in std::iter::repeat_with(|| stream.next(1 << 20)).take(4).flatten() {
                match delivery {
                    Delivery::Events { events, .. } => seen.extend(events),
                    Delivery::Progress { revision } => progress.push((revision, seen.len())),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    let revisions: Vec<i64> = seen
        .iter()
        .map(|event| {
            let event = Event::decode(event.clone()).unwrap();
            let (kv, prev) = (event.kv.unwrap(), event.prev_kv.unwrap());
            assert_eq!((prev.key, prev.mod_revision), (kv.key, kv.mod_revision - 3));
            kv.mod_revision
        })
        .collect();
    assert_eq!(revisions, (5..=91).collect::<Vec<_>>());
    assert_eq!(progress, [(41, 37)]);
}

/// A piece that ends with the last record says that nothing follows: its reader would wait for it.
#[test]
fn the_last_piece_of_a_range_says_so() {
    let mut store = open(&Arc::new(MemoryDisk::new()));
    for index in 1..=4 {
        apply(&mut store, index, put(&format!("key{index}"), "value"));
    }
    let request = RangeRequest { key: "key".into(), range_end: "kez".into(), ..RangeRequest::default() };
    let reply = store.reader().range(&request).unwrap();
    let bytes = reply.items.encoded_bytes() as usize;
    for (piece_bytes, pieces) in [(bytes / 4, 4), (bytes / 2, 2), (bytes - 1, 1), (bytes, 1), (bytes + 1, 1), (0, 4)] {
        let mut items = store.reader().range(&request).unwrap().items;
        let mut sent = 0;
        let taken = std::iter::repeat_with(|| {
            let mut out = Vec::new();
            let more = items.next_encoded(&mut out, piece_bytes).unwrap();
            sent += out.len();
            more
        });
        assert_eq!(taken.take_while(|more| *more).count() + 1, pieces, "pieces of {piece_bytes} of {bytes} bytes");
        assert_eq!(sent, bytes);
    }
}
