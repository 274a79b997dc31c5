//! What the server counts, under etcd's names, and the text that monitoring reads.
//!
//! Everything counted while serving is an atomic reached through a handle that was resolved once: no name or label is
//! looked up per call. What others know already (the store's figures, the node's status) is asked when the page is made.

mod cluster_versions;
mod exposition;
mod histogram;
mod page;
mod peers;
mod promotions;

pub use histogram::Histogram;
pub(crate) use page::page;
pub use peers::{PeerCounters, RoundTrips, Transfers};

use crate::api::method::Method;
use crate::config::{Features, MetricsDetail};
use crate::disk::DiskTimes;
use crate::grpc::status::Code;
use crate::spans::{OpenSpan, Stages};
use cluster_versions::ClusterVersions;
use parking_lot::Mutex;
use promotions::RefusedPromotions;
use quorate_store::operation_counts::OperationCounts;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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

/// Of reading everything in the background.
#[derive(Debug, Default)]
pub(crate) struct ScrubCounters {
    /// Bytes that were read and are whole.
    pub(crate) bytes: Counter,
    /// Passes over everything that found nothing.
    pub(crate) passes: Counter,
    /// Passes that ended at a broken record.
    pub(crate) broken: Counter,
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
    /// Of all calls, in seconds; with `--metrics=extensive` only.
    pub(crate) handling_seconds: Option<Histogram>,
}

/// Upper bounds of the times of gRPC methods, seconds: Prometheus' default.
const HANDLING_BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How long commands of one kind took to apply, seconds.
#[derive(Debug)]
pub(crate) struct ApplyTimes {
    pub(crate) succeeded_seconds: Histogram,
    pub(crate) failed_seconds: Histogram,
}

/// Which stream of clients broke while it was read. What goes out is the connection's: it fails with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFailure {
    WatchReceive,
    LeaseReceive,
}

impl StreamFailure {
    pub(crate) const ALL: [Self; 2] = [Self::WatchReceive, Self::LeaseReceive];

    /// The labels `Type` and `API`.
    pub(crate) fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::WatchReceive => ("receive", "watch"),
            Self::LeaseReceive => ("receive", "lease-keepalive"),
        }
    }
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

/// Spans of `--enable-distributed-tracing`.
#[derive(Debug, Default)]
pub struct SpanCounters {
    /// Taken by the collector.
    pub sent: Counter,
    /// Lost, because the queue was full or the collector could not be reached.
    pub dropped: Counter,
}

/// All that is counted. One per server.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) features: Features,
    methods: Vec<MethodCounters>,
    pub(crate) client_versions: ClientVersions,
    peers: Mutex<BTreeMap<u64, Arc<PeerCounters>>>,
    pub(crate) cluster_versions: ClusterVersions,
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
    /// Committed entries applied, seconds for each; an entry holds many commands.
    pub entry_seconds: Histogram,
    /// By the number of the command's kind.
    apply_times: Vec<ApplyTimes>,
    /// Entries and ranges that took longer than `--warning-apply-duration`.
    pub slow_applies: Counter,
    /// Unary requests that took longer than `--warning-unary-request-duration`.
    pub slow_requests: Counter,
    /// Time to live of granted leases, seconds.
    pub lease_ttl_seconds: Histogram,
    /// Ranges that were answered, seconds until the answer or its first piece.
    pub(crate) range_times: ApplyTimes,
    /// From a compaction's command to its end, ms.
    pub compaction_milliseconds: Histogram,
    /// Steps of compaction, during which nothing is applied, ms.
    pub compaction_pause_milliseconds: Histogram,
    /// Of reading everything in the background.
    pub(crate) scrub: ScrubCounters,
    /// Stores of this member that turned out not to be trusted.
    pub repairs_begun: Counter,
    /// Stores that other members gave in their place.
    pub repairs_done: Counter,
    /// When the latest compaction ended, seconds since 1970.
    pub compaction_last_seconds: Gauge,
    /// Nothing needs it; what callers ask for is counted all the same, seconds.
    pub defragment_seconds: Histogram,
    /// Snapshots read from the store for somebody else, seconds.
    pub snapshot_seconds: Histogram,
    /// Snapshots that arrived, until they were kept, seconds.
    pub snapshot_saved_seconds: Histogram,
    /// The last part of that: until they were durable, seconds.
    pub snapshot_synced_seconds: Histogram,
    /// 1 while the store becomes a snapshot that arrived.
    pub snapshots_installing: Gauge,
    /// Answers of watch streams with events, seconds from the look for events to the finished answer.
    pub watch_send_seconds: Histogram,
    /// The same, divided by the number of events.
    pub watch_send_event_seconds: Histogram,
    /// Answers to what clients ask of a watch stream, seconds.
    pub watch_control_seconds: Histogram,
    /// Progress messages, seconds.
    pub watch_progress_seconds: Histogram,
    stream_failures: [Counter; StreamFailure::ALL.len()],
    /// Pages of metrics asked for.
    pub scrapes: Counter,
    /// Spans that were sent to the collector, and those that were lost.
    pub spans: SpanCounters,
    /// The latest write and sync of the log, microseconds.
    pub wal_latest_microseconds: Gauge,
    /// The latest entry's application, microseconds.
    pub entry_latest_microseconds: Gauge,
    /// Commands that got no answer or were refused.
    pub proposals_failed: Counter,
    /// Linearizable reads that could not be confirmed.
    pub read_indexes_failed: Counter,
    /// Those of them that got no answer in time.
    pub slow_read_indexes: Counter,
    /// Heartbeats of this leader that were late by an interval or more.
    pub heartbeat_send_failures: Counter,
    /// Learners that were promoted through this member.
    pub learner_promotions: Counter,
    /// Promotions through this member that were refused.
    pub(crate) refused_promotions: RefusedPromotions,
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
        Self::with_detail(MetricsDetail::Basic, Features::default())
    }

    /// Everything at zero, in as much detail as is asked for. `features` are shown as they are.
    pub fn with_detail(detail: MetricsDetail, features: Features) -> Self {
        let seconds = || Histogram::exponential(0.001, 2.0, 14);
        let apply_seconds = || Histogram::exponential(0.0001, 2.0, 20);
        let apply_times = |_: usize| ApplyTimes { succeeded_seconds: apply_seconds(), failed_seconds: apply_seconds() };
        let method = |_: &Method| MethodCounters {
            started: Counter::default(),
            messages_received: Counter::default(),
            messages_sent: Counter::default(),
            handled: Default::default(),
            succeeded_seconds: seconds(),
            failed_seconds: seconds(),
            handling_seconds: match detail {
                MetricsDetail::Basic => None,
                MetricsDetail::Extensive => Some(Histogram::with_bounds(HANDLING_BOUNDS.to_vec())),
            },
        };
        Self {
            features,
            methods: Method::ALL.iter().map(method).collect(),
            client_versions: ClientVersions::default(),
            cluster_versions: ClusterVersions::default(),
            peers: Mutex::default(),
            client_received_bytes: Counter::default(),
            client_sent_bytes: Counter::default(),
            client_connections: Gauge::default(),
            health_successes: Counter::default(),
            health_failures: Counter::default(),
            wal_times: Arc::new(DiskTimes { write_seconds: seconds(), sync_seconds: seconds() }),
            wal_write_bytes: Counter::default(),
            backend_commit_seconds: seconds(),
            entry_seconds: apply_seconds(),
            apply_times: (0..OperationCounts::KINDS).map(apply_times).collect(),
            slow_applies: Counter::default(),
            slow_requests: Counter::default(),
            lease_ttl_seconds: Histogram::exponential(1.0, 2.0, 24),
            range_times: apply_times(0),
            compaction_milliseconds: Histogram::exponential(100.0, 2.0, 14),
            compaction_pause_milliseconds: Histogram::exponential(1.0, 2.0, 13),
            scrub: ScrubCounters::default(),
            repairs_begun: Counter::default(),
            repairs_done: Counter::default(),
            compaction_last_seconds: Gauge::default(),
            defragment_seconds: Histogram::exponential(0.1, 2.0, 13),
            snapshot_seconds: Histogram::exponential(0.01, 2.0, 17),
            snapshot_saved_seconds: Histogram::exponential(0.1, 2.0, 10),
            snapshot_synced_seconds: seconds(),
            snapshots_installing: Gauge::default(),
            watch_send_seconds: seconds(),
            watch_send_event_seconds: seconds(),
            watch_control_seconds: seconds(),
            watch_progress_seconds: seconds(),
            stream_failures: Default::default(),
            refused_promotions: RefusedPromotions::default(),
            scrapes: Counter::default(),
            spans: SpanCounters::default(),
            wal_latest_microseconds: Gauge::default(),
            entry_latest_microseconds: Gauge::default(),
            proposals_failed: Counter::default(),
            read_indexes_failed: Counter::default(),
            slow_read_indexes: Counter::default(),
            heartbeat_send_failures: Counter::default(),
            learner_promotions: Counter::default(),
            events_sent: Counter::default(),
            hash_seconds: Histogram::exponential(0.01, 2.0, 15),
            hash_revision_seconds: Histogram::exponential(0.01, 2.0, 15),
            health_checks: Mutex::default(),
        }
    }

    pub(crate) fn method(&self, method: Method) -> &MethodCounters {
        &self.methods[method as usize]
    }

    /// An entry with these commands was applied. The store applies an entry as a whole, so each command counts with its
    /// share of the time.
    pub(crate) fn applied(&self, operations: &OperationCounts, took: Duration) {
        let seconds = took.as_secs_f64();
        self.entry_seconds.observe(seconds);
        self.entry_latest_microseconds.set(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        let share = seconds / f64::from(operations.total().max(1));
        for (kind, _, succeeded, failed) in operations.occurring() {
            let times = &self.apply_times[kind];
            for (histogram, count) in [(&times.succeeded_seconds, succeeded), (&times.failed_seconds, failed)] {
                if count > 0 {
                    histogram.observe_times(share, count.into());
                }
            }
        }
    }

    /// A stream of a client broke.
    pub(crate) fn stream_failed(&self, failure: StreamFailure) {
        self.stream_failures[failure as usize].increment();
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
    span: Option<Box<OpenSpan>>,
    /// Who calls. A thin pointer: each byte is moved with every call.
    remote: Option<Arc<String>>,
}

impl CallRecord {
    pub(crate) fn start(metrics: Arc<Metrics>, method: Method, remote: Option<Arc<String>>) -> Self {
        metrics.method(method).started.increment();
        Self { metrics, method, started: std::time::Instant::now(), ended: false, span: None, remote }
    }

    /// The call's span, which ends with it.
    pub(crate) fn set_span(&mut self, span: Option<Box<OpenSpan>>) {
        self.span = span;
    }

    /// Where the parts of the call are told, if it has a span.
    pub(crate) fn stages(&self) -> Option<Arc<Stages>> {
        self.span.as_ref().map(|span| span.stages())
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
        let seconds = self.started.elapsed().as_secs_f64();
        histogram.observe(seconds);
        if let Some(histogram) = &counters.handling_seconds {
            histogram.observe(seconds);
        }
        if matches!(self.method, Method::Range | Method::RangeStream) {
            let times = &self.metrics.range_times;
            let histogram = if code == Code::Ok { &times.succeeded_seconds } else { &times.failed_seconds };
            histogram.observe(seconds);
        }
        if let Some(span) = self.span.take() {
            span.end(code);
        }
    }

    /// The caller's address.
    pub(crate) fn remote(&self) -> Option<&str> {
        self.remote.as_ref().map(|remote| remote.as_str())
    }

    /// When it began.
    pub(crate) fn started(&self) -> std::time::Instant {
        self.started
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
        drop(CallRecord::start(metrics.clone(), Method::Watch, None));
        CallRecord::start(metrics.clone(), Method::Watch, None).end(Code::Ok);
        let counters = metrics.method(Method::Watch);
        assert_eq!(counters.started.get(), 2);
        assert_eq!(counters.handled[Code::Canceled as usize].get(), 1);
        assert_eq!(counters.handled[Code::Ok as usize].get(), 1);
    }

    #[test]
    fn times_of_methods_are_kept_when_they_are_asked_for() {
        let metrics = Arc::new(Metrics::with_detail(MetricsDetail::Extensive, Features::default()));
        CallRecord::start(metrics.clone(), Method::Put, None).end(Code::Ok);
        let counted = metrics.method(Method::Put).handling_seconds.as_ref().map(Histogram::count);
        assert_eq!(counted, Some(1));
        assert!(Metrics::new().method(Method::Put).handling_seconds.is_none());
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
