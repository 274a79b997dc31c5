//! Keys that live as long as their owner.
//!
//! It owns two of them: [`Ephemeral`] hangs on a session and ends with it; [`Presence`] has sessions of its own, one after
//! the other, and comes back after each loss. What the values mean is the caller's.

use std::sync::{Arc, OnceLock};

use etcd_client::{Compare, CompareOp, EventType, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::resume::{Batch, Resuming};
use crate::session::{Session, SessionOptions};
use crate::store::{Backoff, Range, revision_of};

/// A key of a session. Dropping it deletes the key in the background.
pub struct Ephemeral {
    session: Session,
    key: String,
    over: bool,
}

impl Namespace {
    /// Creates a key that lives until the session ends or it is deleted.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the key exists; the session ends; the store refuses.
    pub async fn ephemeral(&self, session: &Session, path: &str, value: impl Into<Vec<u8>>) -> Result<Ephemeral> {
        let key = self.key(path)?;
        session.check()?;
        // Before the call, so that a caller who goes away in the middle leaves no key behind.
        let created = Ephemeral { session: session.clone(), key, over: false };
        let written = session.unless_lost(place(session, &created.key, value.into(), Placing::IfAbsent)).await;
        match written {
            Ok(Placed::Ours { .. }) => Ok(created),
            Ok(Placed::Taken { by_lease, .. }) => {
                let key = created.forget();
                Err(Error::Conflict { key, reason: taken(by_lease) })
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps a key present until it is stopped: in sessions of its own, again after each loss. A key that exists at
    /// first is taken over, as one's own of an earlier run; afterwards another's is waited for.
    ///
    /// # Errors
    /// A path that is none, a time to live of zero.
    pub fn presence(&self, path: &str, value: impl Into<Vec<u8>>, options: SessionOptions) -> Result<Presence> {
        if options.ttl.is_zero() {
            return Err(Error::InvalidSetting("a session's time to live is zero"));
        }
        Ok(Presence::start(self.clone(), self.key(path)?, value.into(), options))
    }
}

fn taken(by_lease: i64) -> String {
    match by_lease {
        0 => "it exists without a lease: delete it or choose another path".to_owned(),
        lease => format!("it belongs to lease {lease:x}: wait for its end or choose another path"),
    }
}

impl Ephemeral {
    /// The whole key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The session that it lives in.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Writes another value. Gives the revision.
    ///
    /// # Errors
    /// The session ended, or the key is gone or another's.
    pub async fn update(&self, value: impl Into<Vec<u8>>) -> Result<i64> {
        self.session.check()?;
        let placing = place(&self.session, &self.key, value.into(), Placing::IfOurs);
        match self.session.unless_lost(placing).await? {
            Placed::Ours { revision } => Ok(revision),
            Placed::Taken { .. } => Err(Error::NotHeld { key: self.key.clone() }),
        }
    }

    /// Deletes the key and waits until that is done.
    ///
    /// # Errors
    /// The session ended first, which ends the key too; the store refuses.
    pub async fn delete(mut self) -> Result<()> {
        let deleted = self.session.unless_lost(remove(&self.session, &self.key)).await;
        self.over = true;
        deleted
    }

    /// Leaves the key alone.
    fn forget(mut self) -> String {
        self.over = true;
        std::mem::take(&mut self.key)
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        if !self.over {
            let (session, key) = (self.session.clone(), std::mem::take(&mut self.key));
            self.session.runtime().spawn(async move {
                // The session's end deletes it otherwise.
                let _ = session.unless_lost(remove(&session, &key)).await;
            });
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Placing {
    IfAbsent,
    IfOurs,
    TakingOver,
}

enum Placed {
    Ours {
        revision: i64,
    },
    /// Another's, or nobody's at a revision.
    Taken {
        by_lease: i64,
        revision: i64,
    },
}

/// Writes the value under the session's lease if the key may be written.
async fn place(session: &Session, key: &str, value: Vec<u8>, placing: Placing) -> Result<Placed> {
    let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(session.lease())));
    let ours = Compare::lease(key, CompareOp::Equal, session.lease());
    let absent = Compare::create_revision(key, CompareOp::Equal, 0);
    // A try that is repeated finds the key to be ours, and writes the same again.
    let otherwise = match placing {
        Placing::IfAbsent => {
            TxnOp::txn(Txn::new().when([absent]).and_then([put.clone()]).or_else([TxnOp::get(key, None)]))
        }
        Placing::IfOurs => TxnOp::get(key, None),
        Placing::TakingOver => put.clone(),
    };
    let txn = Txn::new().when([ours]).and_then([put]).or_else([otherwise]);
    let response = session.store().commit(txn).await?;
    let revision = revision_of(response.header());
    let mut answer = response.op_responses().into_iter().next();
    if let Some(TxnOpResponse::Txn(inner)) = answer {
        answer = inner.op_responses().into_iter().next();
    }
    Ok(match answer {
        Some(TxnOpResponse::Get(got)) => {
            Placed::Taken { by_lease: got.kvs().first().map_or(0, |kv| kv.lease()), revision }
        }
        _ => Placed::Ours { revision },
    })
}

async fn remove(session: &Session, key: &str) -> Result<()> {
    let ours = Compare::lease(key, CompareOp::Equal, session.lease());
    let txn = Txn::new().when([ours]).and_then([TxnOp::delete(key, None)]);
    session.store().commit(txn).await.map(|_| ())
}

/// Whether a [`Presence`] is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The key is not there: not yet, or not again after a loss.
    Absent,
    /// The key is there, with this session's lease.
    Present {
        /// The lease.
        lease: i64,
        /// The revision of the value.
        revision: i64,
    },
    /// The key is another's, who came after the loss; it is waited for.
    Taken {
        /// The other's lease; 0 if it has none.
        by_lease: i64,
    },
}

/// A key that is kept present. Dropping it deletes the key in the background.
pub struct Presence {
    key: String,
    value: watch::Sender<(u64, Vec<u8>)>,
    standing: watch::Receiver<Reported>,
    /// The standing that was waited for last.
    seen: Standing,
    failure: Arc<OnceLock<Error>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The standing, and which of the wanted values is stored.
#[derive(Clone, Debug)]
struct Reported {
    standing: Standing,
    stored: u64,
}

impl Presence {
    fn start(namespace: Namespace, key: String, value: Vec<u8>, options: SessionOptions) -> Self {
        let (value, values) = watch::channel((1, value));
        let (standing_sender, standing) = watch::channel(Reported { standing: Standing::Absent, stored: 0 });
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper { namespace, key: key.clone(), options, values, standing: standing_sender };
        let failure = Arc::new(OnceLock::new());
        let noted = Arc::clone(&failure);
        let task = tokio::spawn(async move { keeper.run(stopped, &noted).await });
        Self { key, value, standing, seen: Standing::Absent, failure, stop, task }
    }

    /// The whole key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is seen at this moment, as far as is known here.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().standing.clone()
    }

    /// Waits for another standing than this call gave last; at first, than [`Standing::Absent`].
    ///
    /// # Errors
    /// It ended, because the store refused something.
    pub async fn changed(&mut self) -> Result<Standing> {
        let seen = &self.seen;
        let changed = self.standing.wait_for(|reported| reported.standing != *seen).await;
        self.seen = changed.map_err(|_| ended(&self.failure))?.standing.clone();
        Ok(self.seen.clone())
    }

    /// Counts the standing of this moment as given.
    pub(crate) fn mark_seen(&mut self) {
        self.seen = self.standing();
    }

    /// Waits until the newest value is stored.
    ///
    /// # Errors
    /// It ended, because the store refused something.
    pub async fn present(&self) -> Result<i64> {
        let wanted = self.value.borrow().0;
        let mut standing = self.standing.clone();
        let is_stored =
            |reported: &Reported| reported.stored >= wanted && matches!(reported.standing, Standing::Present { .. });
        let reported = standing.wait_for(is_stored).await.map_err(|_| ended(&self.failure))?;
        match reported.standing {
            Standing::Present { revision, .. } => Ok(revision),
            _ => Err(Error::Stopped),
        }
    }

    /// Wants another value and waits until it is stored, which is after the next rejoining if the key is lost. It stays
    /// wanted if the future is dropped. Gives the revision.
    ///
    /// # Errors
    /// As [`Presence::present`].
    pub async fn update(&self, value: impl Into<Vec<u8>>) -> Result<i64> {
        let value = value.into();
        self.value.send_modify(|wanted| *wanted = (wanted.0 + 1, value));
        self.present().await
    }

    /// Deletes the key and waits until that is done.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

fn ended(failure: &OnceLock<Error>) -> Error {
    failure.get().cloned().unwrap_or(Error::Stopped)
}

/// The task of a presence.
struct Keeper {
    namespace: Namespace,
    key: String,
    options: SessionOptions,
    values: watch::Receiver<(u64, Vec<u8>)>,
    standing: watch::Sender<Reported>,
}

impl Keeper {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>, failure: &OnceLock<Error>) {
        let (mut placing, mut backoff) = (Placing::TakingOver, Backoff::new());
        loop {
            let opened = tokio::select! {
                biased;
                _ = &mut stopped => return,
                opened = Session::open(&self.namespace, self.options.clone()) => opened,
            };
            let error = match opened {
                Ok(session) => {
                    backoff = Backoff::new();
                    let kept = tokio::select! {
                        biased;
                        _ = &mut stopped => Ok(()),
                        error = self.keep(&session, &mut placing) => Err(error),
                    };
                    self.report(Standing::Absent, None);
                    let _ = session.close().await;
                    match kept {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            match error {
                Error::SessionLost { .. } => {}
                Error::Unavailable { .. } => backoff.wait().await,
                refused => {
                    let _ = failure.set(refused);
                    return;
                }
            }
        }
    }

    /// Keeps the key in one session, until that ends or the store refuses.
    async fn keep(&mut self, session: &Session, placing: &mut Placing) -> Error {
        loop {
            let (number, value) = self.values.borrow_and_update().clone();
            let placed = session.unless_lost(place(session, &self.key, value, *placing)).await;
            let from = match placed {
                Ok(Placed::Ours { revision }) => {
                    *placing = Placing::IfAbsent;
                    self.report(Standing::Present { lease: session.lease(), revision }, Some(number));
                    revision + 1
                }
                Ok(Placed::Taken { by_lease, revision }) => {
                    self.report(Standing::Taken { by_lease }, None);
                    revision + 1
                }
                Err(error) => return error,
            };
            // Until another value is wanted, or the key is not what it was.
            let changed = tokio::select! {
                biased;
                loss = session.lost() => return session.lost_error(loss),
                changed = changed_by_others(session, &self.key, from) => changed,
                wanted = self.values.changed() => wanted.map_err(|_| Error::Stopped),
            };
            if let Err(error) = changed {
                return error;
            }
        }
    }

    fn report(&self, standing: Standing, stored: Option<u64>) {
        self.standing.send_modify(|reported| {
            reported.standing = standing;
            reported.stored = stored.unwrap_or(reported.stored);
        });
    }
}

/// Waits until the key was deleted or written by another.
async fn changed_by_others(session: &Session, key: &str, from: i64) -> Result<()> {
    let mut watch = Resuming::new(session.store().clone(), Range::key(key.as_bytes()), from);
    loop {
        let Batch::Events(events) = watch.next().await? else { return Ok(()) };
        let is_foreign = |event: &etcd_client::Event| {
            event.event_type() == EventType::Delete || event.kv().is_none_or(|kv| kv.lease() != session.lease())
        };
        if events.iter().any(is_foreign) {
            return Ok(());
        }
    }
}
