//! A session: one lease, kept alive by a task, and the clock that says until when it is certain.
//!
//! It owns the lease and its deadline. It owns no key: claims, guards and ephemeral keys are made with it.
//!
//! Invariant: the store lets a lease live for its whole time from when it *executed* the last renewal, which is never
//! before that renewal was *sent*. So a session counts from the sending, takes a margin off, and is lost before the store
//! can give its keys to anybody else; a process that was paused sees it in its first question after waking, because
//! questions compare the clock and wait for no task.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, LEASE_NOT_FOUND, Result};
use crate::namespace::Namespace;
use crate::store::{Backoff, Store};

/// The time to live of a session's lease, if no other is asked for.
pub const TTL_DEFAULT: Duration = Duration::from_secs(10);

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It could not be renewed in time; the store may end it any moment.
    NotRenewed,
    /// The store says that the lease is gone: revoked by somebody, or expired.
    Expired,
    /// It was closed here.
    Closed,
}

impl fmt::Display for Loss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotRenewed => "it could not be renewed in time",
            Self::Expired => "its lease is gone",
            Self::Closed => "it was closed",
        })
    }
}

/// How a session is opened.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// How long the lease lives after its last renewal. Whole seconds, rounded up; etcd gives at least its election
    /// timeout and a half (2 s by default). Longer rides out longer outages, shorter hands over sooner.
    pub ttl: Duration,
    /// How long before the lease can end the session counts as lost: the time that the holder has to stop. A fifth of
    /// the lease's time if none is given. It also covers clocks of different speed.
    pub margin: Option<Duration>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { ttl: TTL_DEFAULT, margin: None }
    }
}

impl SessionOptions {
    /// A session with this time to live.
    #[must_use]
    pub fn ttl(ttl: Duration) -> Self {
        Self { ttl, ..Self::default() }
    }
}

/// A lease that is kept alive until the session is closed, dropped or lost. Cheap to clone; the last clone's drop
/// revokes the lease in the background. A session that is lost stays lost: open another.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    /// Repeats until the session is over.
    store: Store,
    lease: i64,
    ttl: Duration,
    clock: Arc<Clock>,
    state: watch::Sender<Option<Loss>>,
    /// Dropped or used, it tells the task to revoke the lease; the answer goes back through what is sent.
    stop: Mutex<Option<oneshot::Sender<oneshot::Sender<Result<()>>>>>,
    claims: Arc<Claims>,
    runtime: Handle,
}

/// Until when the session is certain.
struct Clock {
    origin: Instant,
    /// Nanoseconds after the origin.
    deadline: AtomicU64,
}

impl Clock {
    fn deadline(&self) -> Instant {
        self.origin + Duration::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    fn set(&self, deadline: Instant) {
        let nanos = deadline.saturating_duration_since(self.origin).as_nanos();
        self.deadline.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Release);
    }
}

impl Session {
    /// Grants a lease and begins to renew it, three times within its time to live.
    ///
    /// # Errors
    /// No member answers, the store refuses, or the options contradict each other.
    pub async fn open(namespace: &Namespace, options: SessionOptions) -> Result<Self> {
        let seconds = i64::try_from(options.ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        if seconds == 0 {
            return Err(Error::InvalidSetting("a session's time to live is zero"));
        }
        let store = namespace.store();
        // Each try counts from its own sending. A grant that was executed unheard leaves a lease without keys, which
        // ends by itself.
        let (sent, granted) = store
            .retried(|client| {
                let mut lease = client.lease_client();
                async move { Ok((Instant::now(), lease.grant(seconds, None).await?)) }
            })
            .await?;
        let ttl = Duration::from_secs(granted.ttl().max(0).unsigned_abs());
        let margin = options.margin.unwrap_or(ttl / 5);
        if margin >= ttl {
            return Err(Error::InvalidSetting("a session's margin is not less than its time to live"));
        }
        let clock = Arc::new(Clock { origin: sent, deadline: AtomicU64::new(0) });
        clock.set(sent + ttl - margin);
        let state = watch::Sender::new(None);
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper {
            store: store.clone(),
            lease: granted.id(),
            ttl,
            margin,
            clock: Arc::clone(&clock),
            stream: None,
            state: state.clone(),
        };
        let runtime = Handle::current();
        runtime.spawn(keeper.run(sent, stopped));
        let inner = Inner {
            store: store.patient(),
            lease: granted.id(),
            ttl,
            clock,
            state,
            stop: Mutex::new(Some(stop)),
            claims: Arc::default(),
            runtime,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The lease's id.
    #[must_use]
    pub fn lease(&self) -> i64 {
        self.inner.lease
    }

    /// The time to live that the store gave.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.inner.ttl
    }

    /// Whether nobody else can have got what this session holds. Asks the clock, waits for nothing.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.loss().is_none()
    }

    /// How the session ended; none while it lives.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        let recorded = *self.inner.state.borrow();
        recorded.or_else(|| (Instant::now() >= self.inner.clock.deadline()).then_some(Loss::NotRenewed))
    }

    /// Fails once the session is over.
    ///
    /// # Errors
    /// [`Error::SessionLost`].
    pub fn check(&self) -> Result<()> {
        self.loss().map_or(Ok(()), |loss| Err(self.lost_error(loss)))
    }

    /// For how much longer the session is certain, without another renewal.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        match self.loss() {
            Some(_) => Duration::ZERO,
            None => self.inner.clock.deadline().saturating_duration_since(Instant::now()),
        }
    }

    /// Waits until the session is over, and says how. Then there is the margin left to stop what it guarded.
    pub async fn lost(&self) -> Loss {
        let mut state = self.inner.state.subscribe();
        let ended = state.wait_for(Option::is_some).await.ok().and_then(|loss| *loss);
        ended.unwrap_or(Loss::Closed)
    }

    /// Ends the session and with it all that it holds, and reports it.
    ///
    /// # Errors
    /// The lease could not be revoked: it ends by itself within its time to live.
    pub async fn close(self) -> Result<()> {
        let stop = self.inner.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(stop) = stop else { return Ok(()) };
        let (answer, answered) = oneshot::channel();
        if stop.send(answer).is_err() {
            return Ok(());
        }
        answered.await.unwrap_or(Ok(()))
    }

    /// Does something unless the session ends first.
    pub(crate) async fn unless_lost<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            loss = self.lost() => Err(self.lost_error(loss)),
            done = work => match done {
                // The store knows of the end before the next renewal asks it.
                Err(Error::Refused(cause)) if is_lease_not_found(&cause) => {
                    end(&self.inner.state, Loss::Expired);
                    Err(self.lost_error(Loss::Expired))
                }
                done => done,
            },
        }
    }

    pub(crate) fn lost_error(&self, loss: Loss) -> Error {
        Error::SessionLost { lease: self.inner.lease, loss }
    }

    /// Calls that repeat for as long as the caller waits.
    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn claims(&self) -> &Arc<Claims> {
        &self.inner.claims
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Session")
            .field("lease", &self.inner.lease)
            .field("loss", &self.loss())
            .finish_non_exhaustive()
    }
}

/// The task that renews.
struct Keeper {
    store: Store,
    lease: i64,
    ttl: Duration,
    margin: Duration,
    clock: Arc<Clock>,
    stream: Option<(LeaseKeeper, LeaseKeepAliveStream)>,
    state: watch::Sender<Option<Loss>>,
}

enum Renewal {
    /// Sent at this time, and answered.
    Done(Instant),
    Gone,
    Failed,
}

impl Keeper {
    async fn run(mut self, granted: Instant, stopped: oneshot::Receiver<oneshot::Sender<Result<()>>>) {
        let (mut at, mut backoff) = (granted + self.ttl / 3, Backoff::new());
        tokio::pin!(stopped);
        loop {
            let deadline = self.clock.deadline();
            tokio::select! {
                biased;
                () = sleep_until(deadline) => {
                    end(&self.state, Loss::NotRenewed);
                    return;
                }
                answer = &mut stopped => {
                    // Whoever holds something by this session learns it before anybody else can get it.
                    end(&self.state, Loss::Closed);
                    let revoked = self.revoke().await;
                    if let Ok(answer) = answer {
                        let _ = answer.send(revoked);
                    }
                    return;
                }
                renewal = renew(&self.store, self.lease, self.ttl / 3, &mut self.stream, at) => match renewal {
                    Renewal::Done(sent) => {
                        self.clock.set(sent + self.ttl - self.margin);
                        (at, backoff) = (sent + self.ttl / 3, Backoff::new());
                    }
                    Renewal::Gone => {
                        end(&self.state, Loss::Expired);
                        return;
                    }
                    Renewal::Failed => {
                        self.stream = None;
                        at = Instant::now() + backoff.next();
                    }
                },
            }
        }
    }

    async fn revoke(&self) -> Result<()> {
        let revoked = self.store.retried(|client| {
            let (mut lease, id) = (client.lease_client(), self.lease);
            async move { lease.revoke(id).await }
        });
        match timeout(self.ttl, revoked).await {
            Ok(Ok(_)) => Ok(()),
            // Whatever ended it, it is gone.
            Ok(Err(Error::Refused(cause))) if cause.to_string().contains("lease not found") => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Unavailable { tried: self.ttl, cause: None }),
        }
    }
}

/// Records how a session ended; the first reason stays.
fn end(state: &watch::Sender<Option<Loss>>, loss: Loss) {
    state.send_if_modified(|ended| {
        let is_first = ended.is_none();
        ended.get_or_insert(loss);
        is_first
    });
}

fn is_lease_not_found(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains(LEASE_NOT_FOUND))
}

/// One renewal at the given time, over the stream that is open or a new one, which may lead to another member.
async fn renew(
    store: &Store,
    lease: i64,
    limit: Duration,
    stream: &mut Option<(LeaseKeeper, LeaseKeepAliveStream)>,
    at: Instant,
) -> Renewal {
    sleep_until(at).await;
    let sent = Instant::now();
    let exchange = async {
        match stream {
            Some((keeper, answers)) => {
                keeper.keep_alive().await?;
                Ok(answers.message().await?.map(|answer| answer.ttl()))
            }
            None => {
                *stream = Some(store.client().lease_client().keep_alive(lease).await?);
                Ok(Some(1))
            }
        }
    };
    match timeout(limit, exchange).await {
        Ok(Ok(Some(ttl))) if ttl > 0 => Renewal::Done(sent),
        Ok(Ok(Some(_))) => Renewal::Gone,
        Ok(Err(etcd_client::Error::LeaseKeepAliveError(message))) if message == LEASE_NOT_FOUND => Renewal::Gone,
        Ok(Ok(None) | Err(_)) | Err(_) => Renewal::Failed,
    }
}

/// The keys that this session claims, so that two parts of a program do not take one claim for theirs.
#[derive(Default)]
pub(crate) struct Claims {
    entries: Mutex<ClaimEntries>,
    freed: Notify,
}

#[derive(Default)]
struct ClaimEntries {
    phases: HashMap<Vec<u8>, (Ticket, Phase)>,
    tickets: u64,
}

/// Tells one claim of a key from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Held,
    /// Given up here, and not yet deleted in the store.
    Releasing,
}

impl Claims {
    /// Notes the claim, after a deletion of the same key that is under way.
    pub(crate) async fn begin(&self, key: &[u8]) -> Result<Ticket> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            {
                let mut entries = self.entries();
                match entries.phases.get(key) {
                    None => {
                        entries.tickets += 1;
                        let ticket = Ticket(entries.tickets);
                        entries.phases.insert(key.to_vec(), (ticket, Phase::Held));
                        return Ok(ticket);
                    }
                    Some((_, Phase::Held)) => {
                        return Err(Error::InUse { key: String::from_utf8_lossy(key).into_owned() });
                    }
                    Some((_, Phase::Releasing)) => {}
                }
            }
            freed.await;
        }
    }

    pub(crate) fn releasing(&self, key: &[u8], ticket: Ticket) {
        match self.entries().phases.get_mut(key) {
            Some((noted, phase)) if *noted == ticket => *phase = Phase::Releasing,
            _ => {}
        }
    }

    pub(crate) fn end(&self, key: &[u8], ticket: Ticket) {
        let mut entries = self.entries();
        if entries.phases.get(key).is_some_and(|(noted, _)| *noted == ticket) {
            entries.phases.remove(key);
        }
        drop(entries);
        self.freed.notify_waiters();
    }

    fn entries(&self) -> MutexGuard<'_, ClaimEntries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
