//! One client: makes its calls one after the other and counts them.
//!
//! It owns the requests of each kind of work but the fan-out of watches. The invariants: a client has one call under
//! way at a time; what a call asks for follows from its number; and each call is recorded exactly once.

use super::arguments::{Answer, Consistency, Extent, Load, Work};
use super::connect::{Connection, MESSAGE_BYTES_MAX};
use super::payload::{Payload, read_stamp};
use super::schedule::{Schedule, Slot};
use super::tally::{Tally, no_answer};
use bytes::Bytes;
use futures::channel::mpsc;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::lease_client::LeaseClient;
use quorate_proto::etcdserverpb::watch_client::WatchClient;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, WatchCreateRequest, WatchRequest, WatchResponse, request_op, response_op,
};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Response, Status, Streaming};

/// How long a client rests after a call that failed because the server was not there: a run against a dead server
/// must neither burn a processor nor use up its calls at once.
const UNAVAILABLE_PAUSE: Duration = Duration::from_millis(10);

/// The kinds of calls of a work, as the report names them; [`Caller`] records by place in this list.
pub(crate) fn kinds(work: Work) -> &'static [&'static str] {
    match work {
        Work::Put | Work::Fill => &["put"],
        Work::Range { .. } => &["range"],
        Work::Txn => &["txn"],
        Work::Watch { .. } => &["event", "put"],
        Work::WatchLatency => &["put to event"],
        Work::Lease { .. } => &["lease grant", "lease keep-alive", "lease revoke"],
        Work::Mixed { .. } => &["read", "write"],
    }
}

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) work: Work,
    pub(crate) payload: Payload,
    pub(crate) timeout: Duration,
    /// Marks the values of this run, so that events of other writers are told apart.
    pub(crate) tag: u64,
    /// What the times within values are counted from; not after the run's start.
    pub(crate) epoch: Instant,
    /// For [`Work::Txn`]: the mod revision last seen of each key, 0 for none; else empty.
    revisions: Vec<AtomicI64>,
    /// Guarded updates whose guard did not hold.
    guard_conflicts: AtomicU64,
}

impl Shared {
    pub(crate) fn new(work: Work, load: &Load, tag: u64) -> Self {
        let keys_guarded = if work == Work::Txn { load.shape.key_space } else { 0 };
        Self {
            work,
            payload: Payload::new(load.shape.clone()),
            timeout: load.timeout,
            tag,
            epoch: Instant::now(),
            revisions: (0..keys_guarded).map(|_| AtomicI64::new(0)).collect(),
            guard_conflicts: AtomicU64::new(0),
        }
    }

    /// How many guarded updates found another mod revision than the one they expected.
    pub(crate) fn guard_conflicts(&self) -> u64 {
        self.guard_conflicts.load(Ordering::Relaxed)
    }
}

/// One client of a connection.
#[derive(Debug)]
pub(crate) struct Caller {
    shared: Arc<Shared>,
    tally: Arc<Tally>,
    /// The place of this client among all of the run.
    client_number: u64,
    kv: KvClient<Connection>,
    lease: LeaseClient<Connection>,
    watch: WatchClient<Connection>,
    watcher: Option<Watcher>,
}

/// A watch stream with one watch on it. The stream ends when the sender is dropped.
#[derive(Debug)]
struct Watcher {
    _requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

/// Waits for the answer, but no longer than the timeout.
pub(crate) async fn answer_of<T>(
    timeout: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(no_answer(timeout)),
    }
}

/// The next message of a stream that should go on.
pub(crate) async fn next_of<T>(timeout: Duration, stream: &mut Streaming<T>) -> Result<T, Status> {
    match tokio::time::timeout(timeout, stream.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(Status::unavailable("the server ended the stream")),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(no_answer(timeout)),
    }
}

/// A stub that accepts large answers.
pub(crate) fn watch_client(channel: Connection) -> WatchClient<Connection> {
    WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// The request that opens a watch of these keys; an empty `range_end` means one key.
pub(crate) fn watch_create(key: Bytes, range_end: Bytes) -> WatchRequest {
    let create = WatchCreateRequest { key, range_end, ..Default::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// Why a watch response means the end of its watch.
pub(crate) fn canceled_status(response: &WatchResponse) -> Option<Status> {
    response.canceled.then(|| Status::cancelled(format!("watch canceled: {}", response.cancel_reason)))
}

impl Caller {
    pub(crate) fn new(shared: Arc<Shared>, tally: Arc<Tally>, client_number: u64, channel: Connection) -> Self {
        Self {
            shared,
            tally,
            client_number,
            kv: KvClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            lease: LeaseClient::new(channel.clone()),
            watch: watch_client(channel),
            watcher: None,
        }
    }

    /// Makes calls until the run is over.
    pub(crate) async fn run(mut self, schedule: Arc<Schedule>) {
        while let Some(slot) = schedule.next().await {
            if let Err(Code::Unavailable) = self.call(slot).await {
                tokio::time::sleep(UNAVAILABLE_PAUSE).await;
            }
        }
    }

    /// Makes and records the call or, for leases, the calls of one slot.
    async fn call(&mut self, slot: Slot) -> Result<(), Code> {
        let payload = &self.shared.payload;
        let key = payload.key_number(slot.number);
        match self.shared.work {
            Work::Put => {
                let outcome = self.put(key, slot.number).await;
                self.record(0, slot.begin, outcome)
            }
            Work::Fill => {
                let outcome = self.put(slot.number, slot.number).await;
                self.record(0, slot.begin, outcome)
            }
            // The watchers count events themselves; these are the writers.
            Work::Watch { .. } => {
                let since_epoch = slot.begin - self.shared.epoch;
                let value = payload.stamped_value(slot.number, self.shared.tag, since_epoch.as_nanos() as u64);
                let outcome = self.put_value(key, value).await;
                self.record(1, slot.begin, outcome)
            }
            Work::Range { consistency, extent, answer } => {
                let outcome = self.range(key, consistency, extent, answer).await;
                self.record(0, slot.begin, outcome)
            }
            Work::Txn => {
                let outcome = self.guarded_update(key, slot.number).await;
                self.record(0, slot.begin, outcome)
            }
            Work::WatchLatency => {
                let outcome = self.put_and_see(slot.number).await;
                if outcome.is_err() {
                    // An event that is still to come must not be taken for that of the next put; the watch may be gone.
                    self.watcher = None;
                }
                self.record(0, slot.begin, outcome)
            }
            Work::Lease { ttl_s } => self.lease_cycle(slot, ttl_s).await,
            Work::Mixed { reads, writes, consistency } => {
                if payload.word(slot.number, 2) % (reads + writes) < reads {
                    let outcome = self.range(key, consistency, Extent::Key, Answer::Pairs).await;
                    self.record(0, slot.begin, outcome)
                } else {
                    let outcome = self.put(key, slot.number).await;
                    self.record(1, slot.begin, outcome)
                }
            }
        }
    }

    fn record(&self, kind: usize, begin: Instant, outcome: Result<(), Status>) -> Result<(), Code> {
        let latency_ns = begin.elapsed().as_nanos() as u64;
        self.tally.record(kind, latency_ns, outcome.as_ref().copied());
        outcome.map_err(|status| status.code())
    }

    async fn put(&mut self, key_number: u64, number: u64) -> Result<(), Status> {
        let value = self.shared.payload.value(number);
        self.put_value(key_number, value).await
    }

    async fn put_value(&mut self, key_number: u64, value: Bytes) -> Result<(), Status> {
        let request = PutRequest { key: self.shared.payload.key(key_number), value, ..Default::default() };
        answer_of(self.shared.timeout, self.kv.put(request)).await.map(drop)
    }

    async fn range(
        &mut self,
        key_number: u64,
        consistency: Consistency,
        extent: Extent,
        answer: Answer,
    ) -> Result<(), Status> {
        let (key, range_end, limit) = match extent {
            Extent::Key => (self.shared.payload.key(key_number), Bytes::new(), 0),
            Extent::Prefix { limit } => {
                let (key, range_end) = self.shared.payload.prefix_range();
                (key, range_end, limit)
            }
        };
        let request = RangeRequest {
            key,
            range_end,
            limit,
            serializable: consistency == Consistency::Serializable,
            count_only: answer == Answer::Count,
            ..Default::default()
        };
        answer_of(self.shared.timeout, self.kv.range(request)).await.map(drop)
    }

    /// If the key is as it was last seen then put, else get: how controllers write.
    async fn guarded_update(&mut self, key_number: u64, number: u64) -> Result<(), Status> {
        let shared = self.shared.clone();
        let known = &shared.revisions[key_number as usize];
        let key = shared.payload.key(key_number);
        let guard = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(known.load(Ordering::Relaxed))),
            ..Default::default()
        };
        let put = PutRequest { key: key.clone(), value: shared.payload.value(number), ..Default::default() };
        let get = RangeRequest { key, ..Default::default() };
        let request = TxnRequest {
            compare: vec![guard],
            success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
            failure: vec![RequestOp { request: Some(request_op::Request::RequestRange(get)) }],
        };
        let answer = answer_of(shared.timeout, self.kv.txn(request)).await?;
        if answer.succeeded {
            // The header's revision is that of the put. Another client may have learnt a later one already.
            let revision = answer.header.map_or(0, |header| header.revision);
            known.fetch_max(revision, Ordering::Relaxed);
            return Ok(());
        }
        shared.guard_conflicts.fetch_add(1, Ordering::Relaxed);
        let first = answer.responses.into_iter().next().and_then(|response| response.response);
        let Some(response_op::Response::ResponseRange(range)) = first else {
            return Err(Status::internal("a transaction whose guard failed has no range answer"));
        };
        match range.kvs.first() {
            Some(pair) => known.fetch_max(pair.mod_revision, Ordering::Relaxed),
            // Somebody deleted it.
            None => known.swap(0, Ordering::Relaxed),
        };
        Ok(())
    }

    /// Puts the client's own key and waits until its watch shows that very put.
    async fn put_and_see(&mut self, number: u64) -> Result<(), Status> {
        let (timeout, tag) = (self.shared.timeout, self.shared.tag);
        let mut watcher = match self.watcher.take() {
            Some(watcher) => watcher,
            None => self.open_watcher().await?,
        };
        let value = self.shared.payload.stamped_value(number, tag, number);
        let both = async {
            let seen = async {
                loop {
                    let response = next_of(timeout, &mut watcher.responses).await?;
                    if let Some(status) = canceled_status(&response) {
                        return Err(status);
                    }
                    let values = response.events.iter().filter_map(|event| event.kv.as_ref()).map(|pair| &pair.value);
                    if values.filter_map(|value| read_stamp(value, tag)).any(|word| word == number) {
                        return Ok(());
                    }
                }
            };
            // The event may arrive before the answer to the put.
            futures::try_join!(seen, self.put_value(self.client_number, value))
        };
        match tokio::time::timeout(timeout, both).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(no_answer(timeout)),
        };
        self.watcher = Some(watcher);
        Ok(())
    }

    /// Opens the watch of the client's own key; it is not part of what watch-latency measures.
    pub(crate) async fn prepare(&mut self) -> Result<(), Status> {
        if self.shared.work == Work::WatchLatency {
            self.watcher = Some(self.open_watcher().await?);
        }
        Ok(())
    }

    async fn open_watcher(&mut self) -> Result<Watcher, Status> {
        let timeout = self.shared.timeout;
        let (mut requests, stream) = mpsc::channel(1);
        let create = watch_create(self.shared.payload.key(self.client_number), Bytes::new());
        requests.try_send(create).map_err(|_| Status::internal("an empty channel takes one request"))?;
        let mut responses = answer_of(timeout, self.watch.watch(stream)).await?;
        let created = next_of(timeout, &mut responses).await?;
        match canceled_status(&created) {
            Some(status) => Err(status),
            None => Ok(Watcher { _requests: requests, responses }),
        }
    }

    async fn lease_cycle(&mut self, slot: Slot, ttl_s: i64) -> Result<(), Code> {
        let timeout = self.shared.timeout;
        let grant = LeaseGrantRequest { ttl: ttl_s, id: 0 };
        let granted = answer_of(timeout, self.lease.lease_grant(grant)).await;
        let id = granted.as_ref().map_or(0, |granted| granted.id);
        self.record(0, slot.begin, granted.map(drop))?;

        let begin = Instant::now();
        let kept = self.keep_alive_once(id).await;
        // A lease that could not be kept alive is revoked all the same: nothing is to be left behind.
        let kept = self.record(1, begin, kept);

        let begin = Instant::now();
        let revoked = answer_of(timeout, self.lease.lease_revoke(LeaseRevokeRequest { id })).await;
        self.record(2, begin, revoked.map(drop)).and(kept)
    }

    /// Opens a stream, sends one request, takes one answer: what etcd's client calls `KeepAliveOnce`.
    async fn keep_alive_once(&mut self, id: i64) -> Result<(), Status> {
        let timeout = self.shared.timeout;
        let (mut requests, stream) = mpsc::channel(1);
        let request = LeaseKeepAliveRequest { id };
        requests.try_send(request).map_err(|_| Status::internal("an empty channel takes one request"))?;
        let once = async {
            let mut responses = self.lease.lease_keep_alive(stream).await?.into_inner();
            next_of(timeout, &mut responses).await
        };
        let answer = match tokio::time::timeout(timeout, once).await {
            Ok(answer) => answer?,
            Err(_) => return Err(no_answer(timeout)),
        };
        drop(requests);
        if answer.ttl > 0 { Ok(()) } else { Err(Status::not_found("etcdserver: requested lease not found")) }
    }
}
