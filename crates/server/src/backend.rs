//! The one door from the network to the replicated store: what every service of the client port calls.
//!
//! Knows nothing of gRPC or HTTP; the tables of waiting callers are `waiting`'s.

use crate::config::duration;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::spans::{self, FollowedCommand};
use crate::threads::apply::ApplyTask;
use crate::threads::queue::Sender;
use crate::waiting::Waiting;
use parking_lot::Mutex;
use quorate_node::api::{Input, NodeStatus, Refusal};
use quorate_proto::Message;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Caller, Command};
use quorate_store::export::Moment;
use quorate_store::outcome::Reply;
use quorate_store::reader::StoreReader;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

/// How long a call waits, beside two election timeouts, ms.
const CALL_MS: u64 = 5_000;
/// How often late callers are looked for, ms.
const EXPIRY_INTERVAL_MS: u64 = 100;

/// How soon, and how often at the least, a caller looks whether a compaction is done.
const COMPACTED_LOOK_MIN: std::time::Duration = std::time::Duration::from_millis(1);
/// See [`COMPACTED_LOOK_MIN`].
const COMPACTED_LOOK_MAX: std::time::Duration = std::time::Duration::from_millis(50);

/// Why a call has no answer. Each maps to one gRPC status and etcd's text (`api/error.rs`).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// The store's own outcome.
    #[error(transparent)]
    Store(#[from] quorate_store::error::Error),
    /// The node can't serve it; nothing was done.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// No answer in time; the command may still take effect.
    #[error("etcdserver: request timed out")]
    TimedOut,
}

/// Who this member is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// etcd's cluster id.
    pub cluster_id: u64,
    /// etcd's member id.
    pub member_id: u64,
    /// `--name`.
    pub name: String,
}

/// Bounds on what one client may ask.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`.
    pub txn_operations_max: usize,
    /// The smallest TTL that a lease gets, seconds: 1.5 election timeouts, rounded up.
    pub lease_ttl_s_min: i64,
    /// `--quota-backend-bytes`, resolved.
    pub quota: quorate_store::quota::Quota,
    /// `--quorate-sticky-nospace`: the alarm for want of space stays until somebody disarms it.
    pub sticky_nospace: bool,
    /// `--watch-progress-notify-interval`.
    pub progress_interval: std::time::Duration,
    /// `--warning-unary-request-duration`.
    pub slow_request: std::time::Duration,
    /// `--warning-apply-duration`.
    pub slow_apply: std::time::Duration,
}

/// Shared by all connections.
#[derive(Clone)]
pub struct Backend {
    inner: Arc<Inner>,
}

struct Inner {
    reader: StoreReader,
    identity: Identity,
    limits: Limits,
    mailbox: Arc<Mailbox>,
    /// The way to the store's owner.
    apply: Sender<ApplyTask>,
    waiting: Arc<Waiting>,
    /// Commands of calls that were polled in the same round of the network thread, on their way to the mailbox.
    gathered: Mutex<Vec<Command>>,
    gathered_wake: tokio::sync::Notify,
    status: StatusBoard,
    clock: Clock,
    call_ms: u64,
    metrics: Arc<Metrics>,
}

/// Where a command's outcome will come, and what follows it on its way.
type HandedOn = (oneshot::Receiver<Result<Reply, CallError>>, Option<Box<FollowedCommand>>);

/// Milliseconds since the process began, never going back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    begin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { begin: Instant::now() }
    }
    pub(crate) fn now_ms(self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The node's newest status, for everybody. Whoever subscribes is woken by changes of the cluster's view, not by the log's
/// growth.
#[derive(Clone)]
pub(crate) struct StatusBoard {
    view: watch::Sender<NodeStatus>,
    figures: Arc<Figures>,
}

struct Figures {
    sole_voter: AtomicBool,
    commit: AtomicU64,
    last_index: AtomicU64,
}

impl StatusBoard {
    pub(crate) fn new(status: NodeStatus) -> Self {
        let figures = Figures {
            sole_voter: AtomicBool::new(status.sole_voter),
            commit: AtomicU64::new(status.commit),
            last_index: AtomicU64::new(status.last_index),
        };
        Self { view: watch::Sender::new(status), figures: Arc::new(figures) }
    }
    /// The node's view of the cluster changed.
    pub(crate) fn publish(&self, status: NodeStatus) {
        self.figures.sole_voter.store(status.sole_voter, Ordering::Release);
        self.publish_log(&status);
        self.view.send_replace(status);
    }
    /// The log grew.
    pub(crate) fn publish_log(&self, status: &NodeStatus) {
        self.figures.commit.store(status.commit, Ordering::Relaxed);
        self.figures.last_index.store(status.last_index, Ordering::Relaxed);
    }
    pub(crate) fn read(&self) -> NodeStatus {
        NodeStatus {
            commit: self.figures.commit.load(Ordering::Relaxed),
            last_index: self.figures.last_index.load(Ordering::Relaxed),
            ..*self.view.borrow()
        }
    }
    fn is_sole_voter(&self) -> bool {
        self.figures.sole_voter.load(Ordering::Acquire)
    }
    pub(crate) fn subscribe(&self) -> watch::Receiver<NodeStatus> {
        self.view.subscribe()
    }
}

/// What a backend is made of.
pub(crate) struct BackendParts {
    pub(crate) reader: StoreReader,
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) apply: Sender<ApplyTask>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) status: StatusBoard,
    pub(crate) clock: Clock,
    pub(crate) election_timeout_ms: u64,
    pub(crate) metrics: Arc<Metrics>,
}

impl Backend {
    pub(crate) fn new(parts: BackendParts) -> Self {
        let BackendParts {
            reader,
            identity,
            limits,
            mailbox,
            apply,
            waiting,
            status,
            clock,
            election_timeout_ms,
            metrics,
        } = parts;
        let call_ms = CALL_MS + 2 * election_timeout_ms;
        Self {
            inner: Arc::new(Inner {
                reader,
                identity,
                limits,
                mailbox,
                apply,
                waiting,
                gathered: Mutex::default(),
                gathered_wake: tokio::sync::Notify::new(),
                status,
                clock,
                call_ms,
                metrics,
            }),
        }
    }

    /// Runs for ever: carries gathered commands to the node, once per round of the network thread. The task becomes
    /// runnable with the round's first command and runs behind everything that was runnable before it, so that a burst
    /// of calls costs one lock and one wake-up.
    pub(crate) async fn run_gathering(self) {
        let mut commands = Vec::new();
        loop {
            self.inner.gathered_wake.notified().await;
            std::mem::swap(&mut *self.inner.gathered.lock(), &mut commands);
            self.inner.mailbox.propose(commands.drain(..));
        }
    }

    /// Runs for ever: tells callers what was answered.
    pub(crate) async fn run_delivery(self) {
        self.inner.waiting.run_delivery().await;
    }

    /// Runs for ever: tells callers whose time is up.
    pub(crate) async fn run_expiry(self) {
        let mut interval = tokio::time::interval(std::time::Duration::from_millis(EXPIRY_INTERVAL_MS));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.inner.waiting.expire(self.inner.clock.now_ms());
        }
    }

    /// The store, for reading.
    pub fn reader(&self) -> &StoreReader {
        &self.inner.reader
    }
    /// Who this member is.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }
    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }
    /// The node's newest status.
    pub fn status(&self) -> NodeStatus {
        self.inner.status.read()
    }
    /// The highest index known to be committed. The node tells its own at the end of a turn; what was applied before that
    /// was committed, too.
    pub fn commit_index(&self) -> u64 {
        self.inner.reader.applied_index().max(self.status().commit)
    }
    /// Tells every change of [`Self::status`].
    pub fn subscribe_status(&self) -> watch::Receiver<NodeStatus> {
        self.inner.status.subscribe()
    }
    /// Commands of this member that wait for their outcome.
    pub fn proposals_pending(&self) -> u64 {
        self.inner.waiting.commands() as u64
    }
    /// Replicates a command and answers when this member applied it. `caller` is whom it is judged by: nobody for what
    /// members do among themselves.
    pub fn propose(
        &self,
        caller: Option<Caller>,
        operation: Operation,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send + '_ {
        // At once, so that the future does not hold the command.
        let mut handed_on = self.hand_on(caller, operation);
        async move {
            // In place, since moving it would make the future larger.
            let outcome = match &mut handed_on {
                Ok((answer, followed)) => {
                    let outcome = answer.await.unwrap_or(Err(CallError::TimedOut));
                    drop(followed.take());
                    outcome
                }
                Err(error) => Err(error.clone()),
            };
            if matches!(outcome, Err(CallError::Refused(_) | CallError::TimedOut)) {
                self.inner.metrics.proposals_failed.increment();
            }
            outcome
        }
    }
    /// Puts a command on its way; answers where its outcome will come. A function of its own, so that a call's future
    /// does not hold what it needs.
    fn hand_on(&self, caller: Option<Caller>, operation: Operation) -> Result<HandedOn, CallError> {
        let inner = &*self.inner;
        let mut command = Command { id: 0, operation: Some(operation), caller };
        let (id, answer) = inner.waiting.enter_command(command.encoded_len(), self.deadline_ms())?;
        command.id = id;
        let followed = inner.waiting.followed().follow(id);
        let is_first = {
            let mut gathered = inner.gathered.lock();
            gathered.push(command);
            gathered.len() == 1
        };
        if is_first {
            inner.gathered_wake.notify_one();
        }
        Ok((answer, followed))
    }
    /// Returns when a read of [`Self::reader`] is linearizable.
    pub async fn read_barrier(&self) -> Result<(), CallError> {
        let inner = &*self.inner;
        if inner.status.is_sole_voter() {
            return Ok(());
        }
        let _stage = spans::stage(spans::READ_BARRIER);
        let confirmed = match self.ask_to_read() {
            Ok(answer) => answer.await.unwrap_or(Err(CallError::TimedOut)),
            Err(error) => Err(error),
        };
        if let Err(error) = &confirmed {
            inner.metrics.read_indexes_failed.increment();
            if *error == CallError::TimedOut {
                inner.metrics.slow_read_indexes.increment();
                tracing::warn!(
                    timeout = duration::text(std::time::Duration::from_millis(inner.call_ms)),
                    "timed out waiting for read index response (local node might have slow network)"
                );
            }
        }
        confirmed
    }
    fn ask_to_read(&self) -> Result<oneshot::Receiver<Result<(), CallError>>, CallError> {
        let inner = &*self.inner;
        let (ticket, answer) = inner.waiting.enter_read(self.deadline_ms())?;
        if let Some(ticket) = ticket {
            inner.mailbox.post(Input::Read { ticket });
        }
        Ok(answer)
    }
    /// What remains of a lease, ms, as this member knows it; `None`: no such lease.
    pub async fn lease_remaining(&self, id: i64) -> Result<Option<u64>, CallError> {
        let (ticket, answer) = self.inner.waiting.enter_lease(self.deadline_ms())?;
        self.inner.mailbox.post(Input::AskLease { ticket, id });
        answer.await.map_err(|_| CallError::TimedOut)
    }
    /// The store as it is, to be read while it goes on.
    pub async fn moment(&self) -> Result<Moment, CallError> {
        let (answer, moment) = oneshot::channel();
        let busy = || CallError::Refused(Refusal::TooManyRequests);
        self.inner.apply.try_send(ApplyTask::Moment(answer)).map_err(|_| busy())?;
        moment.await.map_err(|_| CallError::TimedOut)
    }
    /// Returns when everything that a compaction made unreachable is forgotten here (`physical`).
    pub async fn wait_compacted(&self, revision: i64) -> Result<(), CallError> {
        let deadline_ms = self.deadline_ms();
        let mut pause = COMPACTED_LOOK_MIN;
        while self.inner.reader.compacted_revision() < revision {
            if self.inner.clock.now_ms() >= deadline_ms {
                return Err(CallError::TimedOut);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(COMPACTED_LOOK_MAX);
        }
        Ok(())
    }
    /// Asks the leader (this member) to hand over to `to`.
    pub fn transfer_leader(&self, to: u64) {
        self.inner.mailbox.post(Input::TransferLeader { to });
    }
    /// A new positive lease id.
    pub fn new_lease_id(&self) -> i64 {
        rand::rng().random_range(1..=i64::MAX)
    }

    fn deadline_ms(&self) -> u64 {
        self.inner.clock.now_ms() + self.inner.call_ms
    }
}
