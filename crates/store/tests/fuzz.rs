//! Every decoder of the store against damaged bytes: files, snapshot streams, command batches.
//!
//! Damage is made from seeds, so that each run is the same. What must hold: no panic, no allocation out of proportion to
//! the bytes that are there, and never a wrong answer: what is not refused is as it was written. Where a checksum would
//! hide the code behind it, it is made right again; then only panics and memory count. `docs/fuzzing.md` says more.

#[path = "../../../fuzz/meter.rs"]
mod meter;
#[path = "../../../fuzz/mutate.rs"]
mod mutate;

use bytes::Bytes;
use meter::{Meter, measured};
use mutate::Mutator;
use prost::Message;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, Member,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, CommandBatch, ConfState, LeaseExpire, LeaseRenew, MemberChange};
use quorate_store::error::{DiskError, Error};
use quorate_store::memory_disk::MemoryDisk;
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use std::path::PathBuf;
use std::sync::Arc;

#[global_allocator]
static METER: Meter = Meter;

/// The samples have some 10 KiB; blocks of 256 KiB are read at once.
const ALLOCATION_BYTES_MAX: usize = 4 << 20;
const CONFIG: StoreConfig = StoreConfig { revlog: RevLogConfig { segment_bytes: 1_500, buffer_bytes: 200 } };

fn open(disk: &MemoryDisk) -> Result<Store, DiskError> {
    Store::open(Arc::new(disk.clone()), "store", CONFIG, Bootstrap::default())
}

fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), lease, ..PutRequest::default() }
}

/// Commands of every kind.
fn commands() -> Vec<Operation> {
    let mut commands = vec![
        Operation::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }),
        Operation::LeaseGrant(LeaseGrantRequest { id: 8, ttl: 90 }),
        Operation::LeaseRenew(LeaseRenew { id: 7 }),
    ];
    for round in 0..8 {
        for key in 0..6 {
            let value = format!("value {round} {}", "x".repeat(5 * key));
            commands.push(Operation::Put(put(&format!("key/{key}"), &value, if key == 2 { 7 } else { 0 })));
        }
        let gone = format!("key/{}", round % 6);
        commands.push(Operation::DeleteRange(DeleteRangeRequest {
            key: gone.into(),
            prev_kv: true,
            ..Default::default()
        }));
        let compare = Compare {
            key: "key/1".into(),
            target: CompareTarget::Version as i32,
            result: CompareResult::Greater as i32,
            target_union: Some(TargetUnion::Version(round)),
            ..Compare::default()
        };
        let nested = TxnRequest {
            success: vec![RequestOp { request: Some(Request::RequestPut(put("n", "1", 8))) }],
            ..TxnRequest::default()
        };
        commands.push(Operation::Txn(TxnRequest {
            compare: vec![compare],
            success: vec![
                RequestOp { request: Some(Request::RequestPut(put("a", "b", 0))) },
                RequestOp { request: Some(Request::RequestTxn(nested)) },
                RequestOp {
                    request: Some(Request::RequestRange(RangeRequest {
                        key: "key/".into(),
                        range_end: "key0".into(),
                        sort_target: 4,
                        ..RangeRequest::default()
                    })),
                },
            ],
            failure: vec![RequestOp { request: Some(Request::RequestPut(put("b", "c", 0))) }],
        }));
    }
    commands.push(Operation::Compact(CompactionRequest { revision: 30, physical: false }));
    commands.push(Operation::LeaseExpire(LeaseExpire { id: 8, term: 1, renewals: 0 }));
    commands.push(Operation::LeaseRevoke(LeaseRevokeRequest { id: 9 }));
    commands
}

fn batch(operation: Operation) -> Bytes {
    CommandBatch { commands: vec![Command { id: 1, operation: Some(operation), caller: None }] }.encode_to_vec().into()
}

/// A store with a past: sealed and growing segments, dead records, leases, members, a later generation.
fn sample() -> (MemoryDisk, Store) {
    let disk = MemoryDisk::new();
    let mut store = open(&disk).unwrap();
    for (operation, index) in commands().into_iter().zip(1..) {
        store.apply_commands(index, 1, batch(operation), &|_| true).unwrap();
    }
    let member = Member { id: 3, name: "three".into(), peer_ur_ls: vec!["http://h:1".into()], ..Member::default() };
    let change = Operation::MemberChange(MemberChange { member: Some(member), ..MemberChange::default() });
    let change = Command { id: 1, operation: Some(change), caller: None }.encode_to_vec().into();
    let conf_state = ConfState { voters: vec![3], ..ConfState::default() };
    store.apply_members(1_000, 1, Ok(conf_state), &change, &|_| true);
    while store.maintain(600).unwrap() {}
    let after = commands().into_iter().skip(5).take(25).zip(1_001..);
    for (operation, index) in after {
        store.apply_commands(index, 2, batch(operation), &|_| false).unwrap();
    }
    // Last, since nothing can be written while it is raised.
    let alarm = Operation::Alarm(AlarmRequest { action: 1, member_id: 3, alarm: 2 });
    store.apply_commands(2_000, 2, batch(alarm), &|_| false).unwrap();
    store.checkpoint().unwrap();
    (disk, store)
}

/// Everything that a store answers, piece by piece; a piece that cannot be read is `None`.
fn answers(store: &Store) -> Vec<Option<String>> {
    let reader = store.reader();
    let read = |answer: Result<String, Error>| match answer {
        Ok(text) => Some(text),
        Err(Error::Corrupt) => None,
        Err(other) => Some(other.to_string()),
    };
    let stats = reader.stats();
    let position = store.position();
    let mut answers = vec![
        Some(format!("{} {} {} {}", stats.revision, stats.compact_revision, stats.digest, stats.keys)),
        Some(format!("{position:?} {:?} {:?}", reader.alarms(), reader.members())),
        Some(format!("{:?}", reader.leases().iter().map(|&(id, _)| reader.lease_keys(id)).collect::<Vec<_>>())),
        read(reader.hash_kv(0).map(|hash| format!("{hash:?}"))),
        // At the compact revision itself the number is one that the process remembers.
        read(reader.hash_kv(stats.compact_revision.saturating_add(1)).map(|hash| format!("{hash:?}"))),
    ];
    // From the first revision to one that does not exist, whatever the store believes: the sample's last is 120 at most.
    for revision in 0..130 {
        let request = RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..RangeRequest::default() };
        let reply = reader.range(&request).and_then(|reply| Ok((reply.count, reply.items.decode()?)));
        answers.push(read(reply.map(|reply| format!("{reply:?}"))));
    }
    answers
}

/// Everything is as it was.
fn assert_same(found: &[Option<String>], wanted: &[Option<String>], what: &str) {
    assert!(found.iter().all(Option::is_some), "{what}: something cannot be read");
    assert_never_wrong(found, wanted, what);
}

/// What is not refused is as it was.
fn assert_never_wrong(found: &[Option<String>], wanted: &[Option<String>], what: &str) {
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.is_none() || found == wanted, "{what}: {found:?}\ninstead of {wanted:?}");
    }
}

fn assert_modest(largest: usize, what: &str) {
    assert!(largest <= ALLOCATION_BYTES_MAX, "{what}: {largest} bytes were asked for at once");
}

/// Keeps what a failure needs: the bytes, in a file beside the other found inputs.
struct Keep<'a> {
    name: &'a str,
    bytes: &'a [u8],
}

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let folder = corpus(self.name);
            let path = folder.join(format!("{:08x}", crc32c::crc32c(self.bytes)));
            println!("the input: {}", path.display());
            let _ = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, self.bytes));
        }
    }
}

fn corpus(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)
}

/// Inputs that were found before, and what the coverage-guided runs left.
fn kept(name: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(corpus(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn damaged_files_are_refused_or_harmless() {
    let (disk, store) = sample();
    let wanted = answers(&store);
    drop(store);
    assert_same(&answers(&open(&disk.fork()).unwrap()), &wanted, "undamaged");
    let files: Vec<(String, Vec<u8>)> =
        disk.paths().into_iter().map(|path| (path.clone(), disk.contents(&path).unwrap())).collect();
    assert!(files.len() >= 6, "{:?}", disk.paths());
    let (mut refused, mut partly, mut harmless) = (0, 0, 0);
    for seed in 0..3_000 {
        let mut mutator = Mutator::new(seed);
        let (path, bytes) = &files[mutator.random.below(files.len() as u64) as usize];
        let (_, other) = &files[mutator.random.below(files.len() as u64) as usize];
        let damaged = mutator.mutate(bytes, other);
        let disk = disk.fork();
        disk.overwrite(path, &damaged);
        let what = format!("seed {seed}, {path}");
        let (opened, largest) = measured(|| open(&disk));
        assert_modest(largest, &what);
        let Ok(mut store) = opened else {
            refused += 1;
            continue;
        };
        let found = answers(&store);
        assert_never_wrong(&found, &wanted, &what);
        if found == wanted {
            harmless += 1;
        } else {
            partly += 1;
        }
        if seed % 4 == 0 {
            // Rewriting what is damaged makes nothing wrong right.
            for _ in 0..50 {
                if !store.maintain(10_000).unwrap_or(false) {
                    break;
                }
            }
            assert_never_wrong(&answers(&store), &wanted, &what);
            if store.checkpoint().is_ok()
                && let Ok(store) = open(&disk)
            {
                assert_never_wrong(&answers(&store), &wanted, &what);
            }
        }
    }
    println!("{refused} refused, {partly} answered in part, {harmless} harmless");
    assert!(refused > 1_000 && partly > 100 && harmless > 20, "the damage is of every kind");
}

/// Files whose checksums are right although their contents are not: nothing panics.
#[test]
fn forged_files_end_no_process() {
    let (disk, store) = sample();
    drop(store);
    let mut taken = 0;
    for seed in 0..4_000 {
        let mut mutator = Mutator::new(seed);
        let paths = disk.paths();
        let path = &paths[mutator.random.below(paths.len() as u64) as usize];
        let bytes = disk.contents(path).unwrap();
        let forged = forge(&mut mutator, path, &bytes);
        let disk = disk.fork();
        disk.overwrite(path, &forged);
        let _keep = Keep { name: "store-file", bytes: &forged };
        println!("seed {seed}, {path}");
        let (opened, largest) = measured(|| open(&disk));
        assert_modest(largest, path);
        if let Ok(mut store) = opened {
            taken += 1;
            drop(answers(&store));
            for _ in 0..20 {
                if !store.maintain(10_000).unwrap_or(false) {
                    break;
                }
            }
        }
    }
    println!("{taken} taken");
    assert!(taken > 200, "most are refused before they are understood: {taken} taken");
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

/// Damages a part that a checksum covers, and makes the checksum right.
fn forge(mutator: &mut Mutator, path: &str, bytes: &[u8]) -> Vec<u8> {
    const FRAMED_HEADER_BYTES: usize = 20;
    const SEGMENT_HEADER_BYTES: usize = 16;
    const TRAILER_BYTES: usize = 24;
    if !path.ends_with(".seg") && bytes.len() >= FRAMED_HEADER_BYTES {
        let body = mutator.mutate(&bytes[FRAMED_HEADER_BYTES..], bytes);
        return reframed(&bytes[..8], &body);
    }
    let trailer_at = bytes.len().saturating_sub(TRAILER_BYTES);
    let sealed = trailer_at > SEGMENT_HEADER_BYTES && bytes[trailer_at + 16..trailer_at + 20] == *b"QIDX";
    if sealed && mutator.random.one_in(2) {
        let records_end = u32_at(bytes, trailer_at) as usize;
        let entries = mutator.mutate(&bytes[records_end..trailer_at], bytes);
        let mut forged = bytes[..records_end].to_vec();
        forged.extend_from_slice(&entries);
        let count = u32_at(bytes, trailer_at + 8).wrapping_add(mutator.random.below(2) as u32);
        let mut trailer = Vec::new();
        for number in [records_end as u32, entries.len() as u32, count, crc32c::crc32c(&entries)] {
            trailer.extend_from_slice(&number.to_le_bytes());
        }
        trailer.extend_from_slice(b"QIDX");
        trailer.extend_from_slice(&crc32c::crc32c(&trailer).to_le_bytes());
        forged.extend_from_slice(&trailer);
        // The file must be as long as the checkpoint says, or it is refused for that alone.
        return forged;
    }
    let end = if sealed { u32_at(bytes, trailer_at) as usize } else { bytes.len() };
    let mut forged = bytes[..SEGMENT_HEADER_BYTES].to_vec();
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset + 8 <= end {
        let next = (offset + 8 + u32_at(bytes, offset + 4) as usize).min(end);
        let mut body = bytes[offset + 8..next].to_vec();
        if mutator.random.one_in(4) {
            let damaged = mutator.mutate(&body, bytes);
            // Of the same length, else everything behind it moves.
            if damaged.len() == body.len() || mutator.random.one_in(10) {
                body = damaged;
            }
        }
        let mut framed = (body.len() as u32).to_le_bytes().to_vec();
        framed.extend_from_slice(&body);
        forged.extend_from_slice(&crc32c::crc32c(&framed).to_le_bytes());
        forged.extend_from_slice(&framed);
        offset = next;
    }
    forged.extend_from_slice(&bytes[end..]);
    forged
}

/// Magic and version, length, checksum, body.
fn reframed(head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), body);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Sends a stream into a new store; what became of it.
fn receive(stream: &[u8], piece_bytes: usize) -> Result<Store, DiskError> {
    let mut store = open(&MemoryDisk::new())?;
    let mut sink = store.receive()?;
    for piece in stream.chunks(piece_bytes) {
        sink.write(piece)?;
    }
    let received = sink.finish()?;
    store.install(received)?;
    Ok(store)
}

fn stream_of(store: &mut Store) -> Vec<u8> {
    let mut source = store.snapshot().unwrap().source().unwrap();
    let mut stream = Vec::new();
    while let Some(piece) = source.next().unwrap() {
        stream.extend_from_slice(&piece);
    }
    stream
}

#[test]
fn a_damaged_snapshot_stream_is_refused() {
    let (_, mut store) = sample();
    let wanted = answers(&store);
    let stream = stream_of(&mut store);
    assert_same(&answers(&receive(&stream, 100).unwrap()), &wanted, "undamaged");
    let mut refused = 0;
    for seed in 0..6_000 {
        let mut mutator = Mutator::new(seed);
        let damaged = mutator.mutate(&stream, &stream);
        let piece_bytes = 1 + mutator.random.below(3_000) as usize;
        let (received, largest) = measured(|| receive(&damaged, piece_bytes));
        assert_modest(largest, &format!("seed {seed}"));
        match received {
            Ok(store) => {
                assert_eq!(damaged, stream, "seed {seed}: only the stream itself is taken");
                assert_same(&answers(&store), &wanted, &format!("seed {seed}"));
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 5_000, "{refused}");
}

#[test]
fn a_forged_snapshot_stream_ends_no_process() {
    let (_, mut store) = sample();
    let stream = stream_of(&mut store);
    for input in kept("snapshot") {
        drop(receive(&input, 1 << 16));
    }
    let mut taken = 0;
    for seed in 0..4_000 {
        let mut mutator = Mutator::new(seed);
        let forged = forge_stream(&mut mutator, &stream);
        let _keep = Keep { name: "snapshot", bytes: &forged };
        println!("seed {seed}");
        let (received, largest) = measured(|| receive(&forged, 1 << 16));
        assert_modest(largest, "a forged stream");
        if let Ok(store) = received {
            taken += 1;
            drop(answers(&store));
        }
    }
    println!("{taken} taken");
    assert!(taken > 200, "most are refused before they are understood: {taken} taken");
}

/// Damages frames of a stream and makes all its checksums and lengths right.
fn forge_stream(mutator: &mut Mutator, stream: &[u8]) -> Vec<u8> {
    const PREAMBLE_BYTES: usize = 20;
    const FRAME_HEAD_BYTES: usize = 9;
    const KIND_END: u8 = 4;
    let mut frames: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut offset = PREAMBLE_BYTES;
    while offset < stream.len() {
        let length = u32_at(stream, offset + 1) as usize;
        let payload = stream[offset + FRAME_HEAD_BYTES..offset + FRAME_HEAD_BYTES + length].to_vec();
        frames.push((stream[offset], payload));
        offset += FRAME_HEAD_BYTES + length;
    }
    frames.retain(|(kind, _)| *kind != KIND_END);
    for _ in 0..1 + mutator.random.below(2) {
        let position = mutator.random.below(frames.len() as u64) as usize;
        match mutator.random.below(12) {
            0 => drop(frames.remove(position)),
            1 => frames.insert(position, frames[position].clone()),
            2 => frames.swap(0, position),
            3 => frames[position].0 = mutator.random.below(6) as u8,
            _ => {
                // A segment's own checksums are made right, too.
                let payload = frames[position].1.clone();
                let is_segment = frames[position].0 == 3;
                frames[position].1 = if is_segment && payload.len() > 40 {
                    forge(mutator, "data.seg", &payload)
                } else {
                    mutator.mutate(&payload, stream)
                };
            }
        }
        if frames.is_empty() {
            break;
        }
    }
    let total: usize = frames.iter().map(|(_, payload)| FRAME_HEAD_BYTES + payload.len()).sum();
    let mut forged = stream[..8].to_vec();
    forged.extend_from_slice(&((PREAMBLE_BYTES + total + FRAME_HEAD_BYTES + 4) as u64).to_le_bytes());
    forged.extend_from_slice(&crc32c::crc32c(&forged).to_le_bytes());
    let push = |forged: &mut Vec<u8>, kind: u8, payload: &[u8]| {
        let mut head = vec![kind];
        head.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), payload);
        forged.extend_from_slice(&head);
        forged.extend_from_slice(&checksum.to_le_bytes());
        forged.extend_from_slice(payload);
    };
    for (kind, payload) in &frames {
        push(&mut forged, *kind, payload);
    }
    let checksum = crc32c::crc32c(&forged);
    push(&mut forged, KIND_END, &checksum.to_le_bytes());
    forged
}

/// Applies a batch to two stores that are cut differently, and again after a restart: they must agree on everything.
fn apply_everywhere(stores: &mut [Store; 2], index: u64, bytes: &Bytes) {
    let outcomes = stores.each_mut().map(|store| match store.apply_commands(index, 1, bytes.clone(), &|_| true) {
        Ok(outcome) => format!("{outcome:?}"),
        Err(error) => error.to_string(),
    });
    assert_eq!(outcomes[0], outcomes[1]);
    let digests = stores.each_ref().map(|store| store.reader().stats().digest);
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn damaged_command_batches_are_refused_or_mean_the_same_everywhere() {
    let encoded: Vec<Bytes> = commands().into_iter().map(batch).collect();
    let roomy = StoreConfig { revlog: RevLogConfig { segment_bytes: 1 << 20, buffer_bytes: 1 << 16 } };
    for seed in 0..40 {
        println!("seed {seed}");
        let mut mutator = Mutator::new(seed);
        let disk = MemoryDisk::new();
        let other = Store::open(Arc::new(MemoryDisk::new()), "store", roomy, Bootstrap::default()).unwrap();
        let mut stores = [open(&disk).unwrap(), other];
        let kept = kept("batch");
        for index in 1..400 {
            let position = mutator.random.below(encoded.len() as u64) as usize;
            let other = &encoded[mutator.random.below(encoded.len() as u64) as usize];
            let bytes = match kept.get(index as usize) {
                Some(bytes) => bytes.clone(),
                None if mutator.random.one_in(3) => encoded[position].to_vec(),
                None => mutator.mutate(&encoded[position], other),
            };
            let _keep = Keep { name: "batch", bytes: &bytes };
            let bytes = Bytes::from(bytes.clone());
            let ((), largest) = measured(|| apply_everywhere(&mut stores, index, &bytes));
            assert_modest(largest, &format!("seed {seed}, entry {index}"));
        }
        let before = answers(&stores[0]);
        let [store, _] = stores;
        store.close().unwrap();
        assert_same(&answers(&open(&disk).unwrap()), &before, &format!("seed {seed}, after a restart"));
    }
}
