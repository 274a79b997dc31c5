//! Reading the store from any thread: never waits for consensus, hardly ever for the writer.

use crate::error::Error;
use crate::range::KeyRange;
use crate::watch::WatchHub;
use bytes::Bytes;
use quorate_proto::etcdserverpb::{AlarmMember, Member, RangeRequest};
use quorate_proto::mvccpb::KeyValue;
use std::sync::Arc;

/// Shared by everybody who reads. Cheap to clone.
#[derive(Clone)]
pub struct StoreReader {
    _inner: Arc<()>,
}

/// A range's answer in small pieces, ready for the wire.
pub struct RangeReply {
    /// The store's revision when it was read (for the header).
    pub revision: i64,
    /// Keys in the range, whatever the limit.
    pub count: i64,
    /// Whether the limit cut it.
    pub more: bool,
    /// The records of the answer.
    pub items: RangeItems,
}

/// The key-values of an answer: positions, read when they are sent.
pub struct RangeItems {}

impl RangeItems {
    /// How many.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes of the `kvs` fields of a RangeResponse when encoded (tags and lengths included): what all `next_encoded`
    /// calls will append together.
    pub fn encoded_bytes(&self) -> u64 {
        todo!()
    }
    /// Appends further `kvs` fields (field 2 of RangeResponse, encoded) to `out` until it holds `bytes_max` or the items
    /// end; answers whether there are more.
    pub fn next_encoded(&mut self, _out: &mut Vec<u8>, _bytes_max: usize) -> Result<bool, Error> {
        todo!()
    }
    /// All of them decoded (for transactions, JSON, small answers).
    pub fn decode(self) -> Result<Vec<KeyValue>, Error> {
        todo!()
    }
}

/// HashKV's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over the history, as etcd computes it.
    pub hash: u32,
    /// The compact revision; -1: never compacted.
    pub compact_revision: i64,
    /// The revision hashed.
    pub hash_revision: i64,
    /// The store's revision.
    pub revision: i64,
}

/// Figures for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The newest revision.
    pub revision: i64,
    /// -1: never compacted.
    pub compact_revision: i64,
    /// The last applied index.
    pub applied_index: u64,
    /// Its term.
    pub applied_term: u64,
    /// Keys that exist.
    pub keys: u64,
    /// Bytes of files.
    pub disk_bytes: u64,
    /// Bytes that are alive in them.
    pub live_bytes: u64,
    /// Leases.
    pub leases: u64,
    /// Puts, deletes, transactions, ranges, events since start.
    pub puts: u64,
    /// Deleted keys since start.
    pub deletes: u64,
    /// Transactions since start.
    pub txns: u64,
    /// Ranges since start.
    pub ranges: u64,
    /// Digest of the applied state: equal on all members at one applied index.
    pub digest: u64,
}

impl StoreReader {
    /// Runs a validated range request.
    pub fn range(&self, _request: &RangeRequest) -> Result<RangeReply, Error> {
        todo!()
    }
    /// The newest revision.
    pub fn revision(&self) -> i64 {
        todo!()
    }
    /// The last applied index.
    pub fn applied_index(&self) -> u64 {
        todo!()
    }
    /// Figures.
    pub fn stats(&self) -> StoreStats {
        todo!()
    }
    /// HashKV at a revision (0: the newest). Reads the whole history: not on a network thread.
    pub fn hash_kv(&self, _revision: i64) -> Result<HashKv, Error> {
        todo!()
    }
    /// A lease's granted TTL in seconds; `None`: no such lease.
    pub fn lease_ttl(&self, _id: i64) -> Option<i64> {
        todo!()
    }
    /// All leases: id and granted TTL, ascending ids.
    pub fn leases(&self) -> Vec<(i64, i64)> {
        todo!()
    }
    /// The keys attached to a lease, sorted.
    pub fn lease_keys(&self, _id: i64) -> Vec<Bytes> {
        todo!()
    }
    /// The members, ascending ids.
    pub fn members(&self) -> Vec<Member> {
        todo!()
    }
    /// Raised alarms.
    pub fn alarms(&self) -> Vec<AlarmMember> {
        todo!()
    }
    /// The cluster version, for example "3.7.0"; empty before the first leader set it.
    pub fn cluster_version(&self) -> String {
        todo!()
    }
    /// Where watchers register.
    pub fn watch_hub(&self) -> &WatchHub {
        todo!()
    }
    /// Whether any key of the range exists at the head revision.
    pub fn any(&self, _range: &KeyRange) -> bool {
        todo!()
    }
}
