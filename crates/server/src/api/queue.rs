//! Queues of keys in the store, which locks and elections are made of.
//!
//! Who stands in a queue has put a key under its prefix, attached to a lease; the key of the lowest create revision is
//! served. Invariant: nobody is served whose own key is gone.

use crate::api::ClientSurface;
use crate::api::client::Client;
use crate::api::kv::write_txn;
use crate::api::lease::run_grant;
use crate::grpc::status::{Code, Status};
use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
};
use quorate_proto::mvccpb::{Event, KeyValue, event::EventType};
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::{Act, cluster_caller};
use quorate_store::range::KeyRange;
use quorate_store::watch::{Delivery, StreamLimits, WatchSpec, WatchStream};
use std::sync::Arc;
use tokio::sync::Notify;

/// The TTL of a lease made for a caller that brought none, seconds (etcd's figure).
const SESSION_TTL_S: i64 = 60;

/// Events that wait for the waiting call, and history read at a time, bytes.
const WATCH_BYTES: usize = 64 << 10;

/// A failure as these services tell it: with etcd's text, but no code of its own.
pub(super) fn untyped(status: Status) -> Status {
    Status { code: Code::Unknown, ..status }
}

/// The lease a caller brought, or a new one.
pub(super) async fn session(client: &Client, lease: i64) -> Result<i64, Status> {
    if lease != 0 {
        return Ok(lease);
    }
    Ok(run_grant(client, LeaseGrantRequest { ttl: SESSION_TTL_S, id: 0 }).await?.id)
}

/// `name/`, below which the queue's keys lie.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The first key behind a prefix that ends in a slash.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    let last = end.last_mut().expect("a queue's prefix ends in a slash");
    *last += 1;
    end.into()
}

/// The key of a lease in a queue: the lease in hexadecimal, as Go prints it.
pub(super) fn key(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

pub(super) fn create_revision_is(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(super) fn put(key: &Bytes, value: Bytes, lease: i64) -> RequestOp {
    let request = PutRequest { key: key.clone(), value, lease, ..Default::default() };
    RequestOp { request: Some(Request::RequestPut(request)) }
}

pub(super) fn get(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..Default::default() }
}

pub(super) fn range_operation(request: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(request)) }
}

pub(super) fn delete(key: &Bytes) -> RequestOp {
    let request = DeleteRangeRequest { key: key.clone(), ..Default::default() };
    RequestOp { request: Some(Request::RequestDeleteRange(request)) }
}

/// The key that is served: the oldest.
pub(super) fn oldest(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..Default::default()
    }
}

/// The key that is served right before the one of a create revision.
fn predecessor(prefix: &Bytes, create_revision: i64) -> RangeRequest {
    RangeRequest { sort_order: SortOrder::Descend as i32, max_create_revision: create_revision - 1, ..oldest(prefix) }
}

/// Reads what is newest; answers with the revision it was read at.
pub(super) async fn read(client: &Client, request: &RangeRequest) -> Result<(i64, Vec<KeyValue>), Status> {
    client.surface.backend.read_barrier().await?;
    client.read(Act::Range(request), |reader| {
        let reply = reader.range(request)?;
        Ok((reply.revision, reply.items.decode()?))
    })
}

/// Runs a transaction made here.
pub(super) async fn commit(client: &Client, request: TxnRequest) -> Result<TxnResponse, Status> {
    let bytes = request.encoded_len();
    write_txn(client, request, bytes).await
}

/// The store's revision in a transaction's answer.
pub(super) fn revision(response: &TxnResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// The records that a range within a transaction found.
pub(super) fn found(response: &TxnResponse, operation: usize) -> &[KeyValue] {
    use quorate_proto::etcdserverpb::response_op::Response;
    match response.responses.get(operation).and_then(|response| response.response.as_ref()) {
        Some(Response::ResponseRange(range)) => &range.kvs,
        _ => &[],
    }
}

/// Changes of some keys, as they happen.
pub(super) struct KeyEvents {
    stream: WatchStream,
    woken: Arc<Notify>,
}

/// What to do about history that is gone: read again what is newest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl KeyEvents {
    /// From a revision on.
    pub(super) fn open(surface: &ClientSurface, range: KeyRange, start_revision: i64) -> Result<Self, Lost> {
        let woken = Arc::new(Notify::new());
        let wake = woken.clone();
        let limits = StreamLimits { queue_bytes_max: WATCH_BYTES, watchers_max: 1 };
        let stream = surface.backend.reader().watch_hub().open_stream(limits, Arc::new(move || wake.notify_one()));
        let spec = WatchSpec {
            watch_id: 0,
            range,
            start_revision,
            no_put: false,
            no_delete: false,
            prev_kv: false,
            progress_notify: false,
        };
        stream.create(spec).map_err(|_| Lost)?;
        Ok(Self { stream, woken })
    }

    /// The next events, and the revision up to which they are complete.
    pub(super) async fn next(&mut self) -> Result<(i64, Vec<Event>), Lost> {
        loop {
            let mut reached = 0;
            let mut decoded = Vec::new();
            for delivery in self.stream.next(WATCH_BYTES) {
                match delivery {
                    Delivery::Events { revision, events, .. } => {
                        reached = revision;
                        for event in events {
                            decoded.push(Event::decode(event).map_err(|_| Lost)?);
                        }
                    }
                    Delivery::Progress { .. } | Delivery::WatcherProgress { .. } => {}
                    Delivery::Compacted { .. } | Delivery::Broken { .. } => return Err(Lost),
                }
            }
            if !decoded.is_empty() {
                return Ok((reached, decoded));
            }
            self.woken.notified().await;
        }
    }
}

pub(super) fn is_deletion(event: &Event) -> bool {
    event.r#type == EventType::Delete as i32
}

/// A place in a queue. Dropped before its turn came, it gives the place up.
pub(super) struct Place {
    client: Client,
    prefix: Bytes,
    key: Bytes,
    create_revision: i64,
    keep: bool,
}

impl Place {
    /// The place of a key that was just put, or found.
    pub(super) fn new(client: &Client, prefix: Bytes, key: Bytes, create_revision: i64) -> Self {
        Self { client: client.clone(), prefix, key, create_revision, keep: false }
    }

    /// The turn came, or the place must outlive the call.
    pub(super) fn keep(mut self) {
        self.keep = true;
    }

    /// Waits until every key before this one is gone. Answers the revision at which the own key was seen to be there
    /// still; `None`: it is gone.
    pub(super) async fn wait(&self) -> Result<Option<i64>, Status> {
        while let (revision, Some(before)) = self.before().await? {
            if let Ok(mut events) = KeyEvents::open(&self.client.surface, single(before.key), revision + 1) {
                while let Ok((_, changes)) = events.next().await {
                    if changes.iter().any(is_deletion) {
                        break;
                    }
                }
            }
        }
        let (revision, own) = read(&self.client, &get(&self.key)).await?;
        let stands = own.first().is_some_and(|own| own.create_revision == self.create_revision);
        Ok(stands.then_some(revision))
    }

    async fn before(&self) -> Result<(i64, Option<KeyValue>), Status> {
        let (revision, found) = read(&self.client, &predecessor(&self.prefix, self.create_revision)).await?;
        Ok((revision, found.into_iter().next()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let surface = self.client.surface.clone();
        let request = TxnRequest {
            compare: vec![create_revision_is(&self.key, self.create_revision)],
            success: vec![delete(&self.key)],
            failure: Vec::new(),
        };
        // Nobody waits for the outcome; should it fail, the lease ends the place. It is the server that tidies up: the
        // client may have lost its right to the key while it waited.
        runtime.spawn(async move {
            let _ = surface.backend.propose(Some(cluster_caller()), Operation::Txn(request)).await;
        });
    }
}

pub(super) fn single(key: Bytes) -> KeyRange {
    KeyRange::new(key, Bytes::new())
}

/// All keys of a queue.
pub(super) fn whole(prefix: &Bytes) -> KeyRange {
    KeyRange::new(prefix.clone(), prefix_end(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_etcd_names_them() {
        assert_eq!(key(&prefix(b"L3"), 0x3cee_a1fe_8521_2a51), "L3/3ceea1fe85212a51");
        assert_eq!(key(&prefix(b""), 7), "/7");
        assert_eq!(key(&prefix(b"n"), -9), "n/-9");
        assert_eq!(key(&prefix(b"n"), i64::MIN), "n/-8000000000000000");
    }

    #[test]
    fn a_queue_is_all_below_its_prefix() {
        let range = whole(&prefix(b"a"));
        assert!(range.contains(b"a/1") && range.contains(b"a/"));
        assert!(!range.contains(b"a") && !range.contains(b"a0") && !range.contains(b"b/1"));
    }
}
