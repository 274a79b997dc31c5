//! A small store with a past, for targets that damage one of its files. Included by path.

use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, CommandBatch};
use quorate_store::error::DiskError;
use quorate_store::memory_disk::MemoryDisk;
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use std::sync::Arc;

/// Opens the store of a disk.
pub(crate) fn open(disk: &MemoryDisk) -> Result<Store, DiskError> {
    let config = StoreConfig { revlog: RevLogConfig { segment_bytes: 700, buffer_bytes: 200 } };
    Store::open(Arc::new(disk.clone()), "store", config, Bootstrap::default())
}

/// A disk with sealed and growing segments, dead records, leases and a checkpoint.
pub(crate) fn disk() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut store = open(&disk).expect("an empty disk opens");
    let put = |key: u8, lease| PutRequest {
        key: vec![b'k', key].into(),
        value: vec![b'v'; 30].into(),
        lease,
        ..PutRequest::default()
    };
    let mut operations = vec![Operation::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 })];
    for round in 0..30 {
        operations.push(Operation::Put(put(round % 5, if round % 3 == 0 { 7 } else { 0 })));
    }
    operations.push(Operation::DeleteRange(DeleteRangeRequest { key: "k\0".into(), ..DeleteRangeRequest::default() }));
    operations.push(Operation::Compact(CompactionRequest { revision: 20, physical: false }));
    for (operation, index) in operations.into_iter().zip(1..) {
        let batch = CommandBatch { commands: vec![Command { id: 1, operation: Some(operation), caller: None }] };
        store.apply_commands(index, 1, batch.encode_to_vec().into(), &|_| false).expect("the disk works");
    }
    while store.maintain(300).expect("the disk works") {}
    store.checkpoint().expect("the disk works");
    disk
}

/// Uses a store in every way that reads.
pub(crate) fn read(store: &mut Store) {
    let reader = store.reader();
    for revision in [0, 1, 21, 25, 40] {
        let all = Bytes::from_static(b"\0");
        let request = RangeRequest { key: all.clone(), range_end: all, revision, ..RangeRequest::default() };
        if let Ok(reply) = reader.range(&request) {
            let _ = reply.items.decode();
        }
    }
    let _ = reader.hash_kv(0);
    for _ in 0..20 {
        if !store.maintain(10_000).unwrap_or(false) {
            break;
        }
    }
}
