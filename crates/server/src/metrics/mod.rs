//! What the server counts, under etcd's names, and the text that monitoring reads.
//!
//! Everything counted while serving is an atomic reached through a handle that was resolved once: no name or label is
//! looked up per call. What others know already (the store's figures, the node's status) is asked when the page is made.

mod exposition;
mod histogram;
mod page;

pub use histogram::Histogram;
pub(crate) use page::page;

use crate::api::method::Method;
use crate::disk::DiskTimes;
use crate::grpc::status::Code;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Makes it `value`.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `amount`, which may be below zero.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// The number.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One method's calls.
#[derive(Debug)]
pub(crate) struct MethodCounters {
    pub(crate) started: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) handled: [Counter; Code::COUNT],
    /// Of calls that went well, in seconds; filled for the requests that etcd times.
    pub(crate) succeeded_seconds: Histogram,
    /// Of calls that failed, in seconds.
    pub(crate) failed_seconds: Histogram,
}

/// Traffic with one member.
#[derive(Debug, Default)]
pub struct PeerCounters {
    /// Bytes sent to it.
    pub sent_bytes: Counter,
    /// Bytes received from it.
    pub received_bytes: Counter,
    /// Messages that could not be sent.
    pub sent_failures: Counter,
    /// Messages that could not be read.
    pub received_failures: Counter,
    /// Connections lost.
    pub disconnections: Counter,
    /// 1 while a connection is up.
    pub active: Gauge,
}

/// `client-api-version` of unary and streaming calls: the values seen, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct ClientVersions {
    calls: Mutex<Vec<(String, [u64; 2])>>,
}

/// Different versions told apart at the most; all others count as unknown.
const CLIENT_VERSIONS_MAX: usize = 16;

/// The name of a client that does not tell its version.
const CLIENT_VERSION_UNKNOWN: &str = "unknown";

impl ClientVersions {
    /// Counts a call.
    pub(crate) fn count(&self, version: Option<&str>, streaming: bool) {
        let mut calls = self.calls.lock();
        let wanted = version.unwrap_or(CLIENT_VERSION_UNKNOWN);
        let slot = usize::from(streaming);
        if let Some((_, counts)) = calls.iter_mut().find(|(known, _)| known == wanted) {
            counts[slot] += 1;
        } else if calls.len() < CLIENT_VERSIONS_MAX || wanted == CLIENT_VERSION_UNKNOWN {
            let mut counts = [0; 2];
            counts[slot] = 1;
            calls.push((wanted.to_owned(), counts));
        } else {
            drop(calls);
            self.count(None, streaming);
        }
    }

    fn all(&self) -> Vec<(String, [u64; 2])> {
        let mut calls = self.calls.lock().clone();
        calls.sort();
        calls
    }
}

/// All that is counted. One per server.
#[derive(Debug)]
pub struct Metrics {
    methods: Vec<MethodCounters>,
    pub(crate) client_versions: ClientVersions,
    peers: Mutex<BTreeMap<u64, Arc<PeerCounters>>>,
    /// Bytes of gRPC messages from clients.
    pub client_received_bytes: Counter,
    /// Bytes of gRPC messages to clients.
    pub client_sent_bytes: Counter,
    /// Client connections open.
    pub client_connections: Gauge,
    /// `/health` answers that said yes.
    pub health_successes: Counter,
    /// `/health` answers that said no.
    pub health_failures: Counter,
    /// Writes and syncs of the log's files.
    pub wal_times: Arc<DiskTimes>,
    /// Bytes appended to the log.
    pub wal_write_bytes: Counter,
    /// Checkpoints of the store written durably, seconds.
    pub backend_commit_seconds: Histogram,
    /// Committed entries applied, seconds for each.
    pub apply_seconds: Histogram,
    /// Entries applied that took longer than etcd's limit of 100 ms.
    pub slow_applies: Counter,
    /// Commands that got no answer or were refused.
    pub proposals_failed: Counter,
    /// Linearizable reads that could not be confirmed.
    pub read_indexes_failed: Counter,
    /// Those of them that got no answer in time.
    pub slow_read_indexes: Counter,
    /// Heartbeats of this leader that were late by an interval or more.
    pub heartbeat_send_failures: Counter,
    /// Events handed to watchers.
    pub events_sent: Counter,
    /// Hashes of the whole history, seconds.
    pub(crate) hash_seconds: Histogram,
    /// Hashes at a revision, seconds.
    pub(crate) hash_revision_seconds: Histogram,
    /// By page and check; both are names of this program.
    pub(crate) health_checks: Mutex<BTreeMap<(&'static str, &'static str), HealthCheck>>,
}

/// The results of one check of `/livez` or `/readyz`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HealthCheck {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    /// The latest result.
    pub(crate) healthy: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let seconds = || Histogram::exponential(0.001, 2.0, 14);
        let method = |_: &Method| MethodCounters {
            started: Counter::default(),
            messages_received: Counter::default(),
            messages_sent: Counter::default(),
            handled: Default::default(),
            succeeded_seconds: seconds(),
            failed_seconds: seconds(),
        };
        Self {
            methods: Method::ALL.iter().map(method).collect(),
            client_versions: ClientVersions::default(),
            peers: Mutex::default(),
            client_received_bytes: Counter::default(),
            client_sent_bytes: Counter::default(),
            client_connections: Gauge::default(),
            health_successes: Counter::default(),
            health_failures: Counter::default(),
            wal_times: Arc::new(DiskTimes { write_seconds: seconds(), sync_seconds: seconds() }),
            wal_write_bytes: Counter::default(),
            backend_commit_seconds: seconds(),
            apply_seconds: Histogram::exponential(0.0001, 2.0, 20),
            slow_applies: Counter::default(),
            proposals_failed: Counter::default(),
            read_indexes_failed: Counter::default(),
            slow_read_indexes: Counter::default(),
            heartbeat_send_failures: Counter::default(),
            events_sent: Counter::default(),
            hash_seconds: Histogram::exponential(0.01, 2.0, 15),
            hash_revision_seconds: Histogram::exponential(0.01, 2.0, 15),
            health_checks: Mutex::default(),
        }
    }

    pub(crate) fn method(&self, method: Method) -> &MethodCounters {
        &self.methods[method as usize]
    }

    /// A check of a page came to a result.
    pub(crate) fn checked(&self, page: &'static str, check: &'static str, healthy: bool) {
        let mut checks = self.health_checks.lock();
        let results = checks.entry((page, check)).or_default();
        results.healthy = healthy;
        *if healthy { &mut results.successes } else { &mut results.failures } += 1;
    }

    /// The counters of a member; resolve once per connection.
    pub fn peer(&self, id: u64) -> Arc<PeerCounters> {
        self.peers.lock().entry(id).or_default().clone()
    }

    /// Forgets a member that was removed.
    pub fn forget_peer(&self, id: u64) {
        self.peers.lock().remove(&id);
    }
}

/// One call from its start to its end. A call that is dropped on the way was cancelled by its client.
pub(crate) struct CallRecord {
    metrics: Arc<Metrics>,
    method: Method,
    started: std::time::Instant,
    ended: bool,
}

impl CallRecord {
    pub(crate) fn start(metrics: Arc<Metrics>, method: Method) -> Self {
        metrics.method(method).started.increment();
        Self { metrics, method, started: std::time::Instant::now(), ended: false }
    }

    /// A message of the caller arrived.
    pub(crate) fn received(&self, bytes: usize) {
        self.metrics.method(self.method).messages_received.increment();
        self.metrics.client_received_bytes.add(bytes as u64);
    }

    /// Messages went out.
    pub(crate) fn sent(&self, messages: u64, bytes: usize) {
        self.metrics.method(self.method).messages_sent.add(messages);
        self.metrics.client_sent_bytes.add(bytes as u64);
    }

    pub(crate) fn end(&mut self, code: Code) {
        debug_assert!(!self.ended);
        self.ended = true;
        let counters = self.metrics.method(self.method);
        counters.handled[code as usize].increment();
        let histogram = if code == Code::Ok { &counters.succeeded_seconds } else { &counters.failed_seconds };
        histogram.observe(self.started.elapsed().as_secs_f64());
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Code::Canceled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_dropped_counts_as_cancelled() {
        let metrics = Arc::new(Metrics::new());
        drop(CallRecord::start(metrics.clone(), Method::Watch));
        CallRecord::start(metrics.clone(), Method::Watch).end(Code::Ok);
        let counters = metrics.method(Method::Watch);
        assert_eq!(counters.started.get(), 2);
        assert_eq!(counters.handled[Code::Canceled as usize].get(), 1);
        assert_eq!(counters.handled[Code::Ok as usize].get(), 1);
    }

    #[test]
    fn client_versions_are_bounded() {
        let versions = ClientVersions::default();
        versions.count(Some("3.7"), true);
        for number in 0..100 {
            versions.count(Some(&number.to_string()), false);
        }
        let all = versions.all();
        assert_eq!(all.len(), CLIENT_VERSIONS_MAX + 1);
        assert_eq!(all.iter().map(|(_, counts)| counts[0]).sum::<u64>(), 100);
        assert!(all.contains(&("3.7".to_owned(), [0, 1])));
    }
}
