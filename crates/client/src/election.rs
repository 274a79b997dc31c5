//! Leader election: one leader at a time among those who campaign, in the order in which they came.
//!
//! Keys and order are those of Go's `concurrency.Election` and of `etcdctl elect`. It owns the campaign and the status of a
//! candidate; what a leader may do is its own affair, and [`Leadership`]'s fence keeps a deposed one from doing it in the
//! store.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use etcd_client::{GetOptions, SortOrder, SortTarget};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;

use crate::claim::Claim;
use crate::error::{Error, Result};
use crate::guard::{Fence, Guard};
use crate::namespace::Namespace;
use crate::observer::Entry;
use crate::resume::Resuming;
use crate::session::{Session, SessionOptions};
use crate::store::{Backoff, Range, revision_of};

/// An election, known by its path. Cheap to clone.
#[derive(Clone)]
pub struct Election {
    namespace: Namespace,
    folder: String,
}

impl Namespace {
    /// The election at a path; `etcdctl elect NAMESPACE/PATH` takes part in the same.
    ///
    /// # Errors
    /// A path that is none.
    pub fn election(&self, path: &str) -> Result<Election> {
        Ok(Election { namespace: self.clone(), folder: self.folder(path)? })
    }
}

/// A leader as everybody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// What the leader says of itself.
    pub value: Vec<u8>,
    /// The proof of its leadership.
    pub fence: Fence,
    /// The revision of the value.
    pub revision: i64,
}

impl Leader {
    fn of(namespace: &Namespace, kv: &etcd_client::KeyValue) -> Self {
        let entry = Entry::of(namespace, kv);
        let key = String::from_utf8_lossy(kv.key()).into_owned();
        Self { value: entry.value, fence: Fence { key, token: entry.create_revision }, revision: entry.mod_revision }
    }
}

impl Election {
    /// Waits until this session leads. Dropping the future withdraws the candidacy.
    ///
    /// # Errors
    /// The session ends, or campaigns or leads here already; the store refuses.
    pub async fn campaign(&self, session: &Session, value: impl Into<Vec<u8>>) -> Result<Leadership> {
        let claim = Claim::enter(session, &self.folder, value.into()).await?;
        let seen = claim.first(&self.folder).await?;
        session.check()?;
        Ok(Leadership { guard: Arc::new(Guard::new(claim, self.namespace.clone(), seen + 1)) })
    }

    /// Campaigns for ever, with a session of its own and a new one after each loss.
    ///
    /// # Errors
    /// A time to live of zero.
    pub fn run(&self, value: impl Into<Vec<u8>>, options: SessionOptions) -> Result<Candidate> {
        if options.ttl.is_zero() {
            return Err(Error::InvalidSetting("a session's time to live is zero"));
        }
        let (status_sender, status) = watch::channel(Status::Follower);
        let (value, values) = watch::channel(value.into());
        let (orders, received) = mpsc::channel(1);
        let running = Running { election: self.clone(), options, values, orders: received, status: status_sender };
        let failure = Arc::new(OnceLock::new());
        let noted = Arc::clone(&failure);
        let task = tokio::spawn(async move {
            running.run(&noted).await;
        });
        Ok(Candidate { status, value, orders, failure, task })
    }

    /// The leader at this moment; none if there is none.
    ///
    /// # Errors
    /// No member answers; the store refuses.
    pub async fn leader(&self) -> Result<Option<Leader>> {
        Ok(self.leader_and_revision().await?.1)
    }

    /// The leader, and then each change of it: the stream has the newest, not each one in between.
    #[must_use]
    pub fn observe(&self) -> LeaderStream {
        let (sender, newest) = watch::channel(None);
        let election = self.clone();
        let task = tokio::spawn(async move {
            let error = election.follow(&sender).await;
            sender.send_replace(Some(Err(error)));
        });
        LeaderStream { newest, task: task.abort_handle() }
    }

    /// The prefix of all candidates' keys.
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    async fn leader_and_revision(&self) -> Result<(i64, Option<Leader>)> {
        let oldest = GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend).with_limit(1);
        let got = self.namespace.store().get(self.folder.as_bytes(), oldest).await?;
        Ok((revision_of(got.header()), got.kvs().first().map(|kv| Leader::of(&self.namespace, kv))))
    }

    /// Reports leaders until the store refuses.
    async fn follow(&self, sender: &watch::Sender<Option<Result<Option<Leader>>>>) -> Error {
        let store = self.namespace.store().patient();
        let patient = Self { namespace: self.namespace.clone(), folder: self.folder.clone() };
        loop {
            let (revision, leader) = match patient.leader_and_revision().await {
                Ok(read) => read,
                Err(Error::Unavailable { .. }) => continue,
                Err(error) => return error,
            };
            sender.send_if_modified(|newest| {
                let is_new = !matches!(newest, Some(Ok(before)) if *before == leader);
                *newest = Some(Ok(leader.clone()));
                is_new
            });
            // A leader changes with its own key only; without one the first key decides.
            let range = match &leader {
                Some(leader) => Range::key(leader.fence.key.as_bytes()),
                None => Range::prefix(self.folder.as_bytes()),
            };
            let mut watch = Resuming::new(store.clone(), range, revision + 1);
            if let Err(error) = watch.next().await {
                return error;
            }
        }
    }
}

/// The leaders of an election, the newest only. Dropping it ends it.
pub struct LeaderStream {
    newest: watch::Receiver<Option<Result<Option<Leader>>>>,
    task: tokio::task::AbortHandle,
}

impl LeaderStream {
    /// The leader, at first and after each change; none while there is none.
    ///
    /// # Errors
    /// The store refuses; nothing new comes after that.
    pub async fn next(&mut self) -> Result<Option<Leader>> {
        loop {
            self.newest.changed().await.map_err(|_| Error::Stopped)?;
            if let Some(newest) = self.newest.borrow_and_update().clone() {
                return newest;
            }
        }
    }
}

impl Drop for LeaderStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A leadership that is held: a [`Guard`] that can be proclaimed and resigned. Cheap to clone; the last clone's drop resigns.
#[derive(Clone)]
pub struct Leadership {
    guard: Arc<Guard>,
}

impl Leadership {
    /// Whether it leads for certain at this moment. Asks the clock, waits for nothing.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.guard.is_held()
    }

    /// Says something else of itself, without losing the leadership. Gives the revision.
    ///
    /// # Errors
    /// It does not lead any more; no member answers.
    pub async fn proclaim(&self, value: impl Into<Vec<u8>>) -> Result<i64> {
        self.guard.set_value(value.into()).await
    }

    /// Ends the leadership, here before in the store, and waits for the store.
    ///
    /// # Errors
    /// The session ended first; the key ends with it.
    pub async fn resign(&self) -> Result<()> {
        self.guard.give_up().await
    }
}

impl Deref for Leadership {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(out)
    }
}

/// What a candidate is.
#[derive(Clone, Debug)]
pub enum Status {
    /// Somebody else leads, or nobody.
    Follower,
    /// This candidate leads. Each leadership has a token of its own.
    Leader(Leadership),
}

impl Status {
    /// Whether this is a leadership that holds at this moment.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self, Self::Leader(leadership) if leadership.is_leader())
    }
}

/// A candidate that campaigns until it is stopped. Dropping it resigns in the background.
pub struct Candidate {
    status: watch::Receiver<Status>,
    value: watch::Sender<Vec<u8>>,
    orders: mpsc::Sender<oneshot::Sender<Result<()>>>,
    /// Why it ended by itself.
    failure: Arc<OnceLock<Error>>,
    task: JoinHandle<()>,
}

impl Candidate {
    /// What it is at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        match &*self.status.borrow() {
            Status::Leader(leadership) if leadership.is_leader() => Status::Leader(leadership.clone()),
            _ => Status::Follower,
        }
    }

    /// Waits until it is something else than when last asked, and says what. The newest status, not each one in between.
    ///
    /// # Errors
    /// The candidate ended, because the store refused something.
    pub async fn changed(&mut self) -> Result<Status> {
        self.status.changed().await.map_err(|_| self.ended())?;
        Ok(self.status.borrow_and_update().clone())
    }

    /// The status at this moment and from then on, as a stream.
    #[must_use]
    pub fn statuses(&self) -> WatchStream<Status> {
        WatchStream::new(self.status.clone())
    }

    /// What it says of itself as a leader, in this leadership and the next ones.
    ///
    /// # Errors
    /// It leads, and the store did not take it.
    pub async fn proclaim(&self, value: impl Into<Vec<u8>>) -> Result<()> {
        let value = value.into();
        self.value.send_replace(value.clone());
        if let Status::Leader(leadership) = self.status() {
            leadership.proclaim(value).await?;
        }
        Ok(())
    }

    /// Gives the leadership up and stands at the end of the queue again; nothing happens to a follower.
    ///
    /// # Errors
    /// The session ended first, which ends the leadership too.
    pub async fn resign(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(answer).await.map_err(|_| self.ended())?;
        answered.await.unwrap_or_else(|_| Err(self.ended()))
    }

    fn ended(&self) -> Error {
        self.failure.get().cloned().unwrap_or(Error::Stopped)
    }

    /// Ends the candidacy; when it returns, the store has let another in.
    pub async fn stop(self) {
        drop(self.orders);
        let _ = self.task.await;
    }
}

/// The task of a candidate. It ends when its orders do.
struct Running {
    election: Election,
    options: SessionOptions,
    values: watch::Receiver<Vec<u8>>,
    orders: mpsc::Receiver<oneshot::Sender<Result<()>>>,
    status: watch::Sender<Status>,
}

impl Running {
    /// Runs until it is stopped, or the store refuses.
    async fn run(mut self, failure: &OnceLock<Error>) {
        let mut backoff = Backoff::new();
        let refused = loop {
            let opened = tokio::select! {
                opened = Session::open(&self.election.namespace, self.options.clone()) => opened,
                order = self.orders.recv() => match order {
                    // Nothing is led that could be resigned.
                    Some(answer) => { let _ = answer.send(Ok(())); continue }
                    None => return,
                },
            };
            let ended = match opened {
                Ok(session) => {
                    backoff = Backoff::new();
                    let ended = self.campaign_with(&session).await;
                    let _ = session.close().await;
                    ended
                }
                Err(error) => Err(error),
            };
            match ended {
                Ok(()) => return,
                Err(Error::SessionLost { .. }) => {}
                Err(Error::Unavailable { .. }) => backoff.wait().await,
                Err(error) => break error,
            }
        };
        // Before the status channel closes, so that whoever waits on it reads the reason.
        let _ = failure.set(refused);
    }

    /// Campaigns and leads until it is stopped, or fails as the session or the store does.
    async fn campaign_with(&mut self, session: &Session) -> Result<()> {
        loop {
            let value = self.values.borrow().clone();
            let Some(won) = self.campaign(session, value.clone()).await else { return Ok(()) };
            let leadership = match won {
                Ok(leadership) => leadership,
                // Somebody deleted the key: stand again.
                Err(Error::NotHeld { .. }) => continue,
                Err(error) => return Err(error),
            };
            self.status.send_replace(Status::Leader(leadership.clone()));
            let newest = self.values.borrow().clone();
            if newest != value {
                // It is proclaimed in the next leadership if this one is over.
                let _ = leadership.proclaim(newest).await;
            }
            let order = tokio::select! {
                biased;
                _ = leadership.lost() => None,
                order = self.orders.recv() => Some(order),
            };
            self.status.send_replace(Status::Follower);
            // Whoever has a clone of the leadership does not keep the session from standing again.
            let resigned = leadership.resign().await;
            match order {
                None => session.check()?,
                Some(Some(answer)) => {
                    let _ = answer.send(resigned);
                }
                Some(None) => return Ok(()),
            }
        }
    }

    /// One campaign to its end; none if it is stopped.
    async fn campaign(&mut self, session: &Session, value: Vec<u8>) -> Option<Result<Leadership>> {
        let election = self.election.clone();
        let campaign = election.campaign(session, value);
        tokio::pin!(campaign);
        loop {
            tokio::select! {
                won = &mut campaign => return Some(won),
                order = self.orders.recv() => match order {
                    Some(answer) => { let _ = answer.send(Ok(())); }
                    None => return None,
                },
            }
        }
    }
}
