//! What is held: a claim that has its turn, and the news of its end.
//!
//! It owns the fence: every write through a guard is one transaction that compares the claim in the store, so that a holder
//! who missed its own end writes nothing. What a guard protects is the recipe's.

use std::fmt;
use std::future::Future;

use etcd_client::{Compare, CompareOp, EventType, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::claim::Claim;
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::resume::{Batch, Resuming};
use crate::session::Session;
use crate::store::{Range, revision_of};

/// A lock, a permit or a leadership that is held. Dropping it releases it in the background; [`Guard::release`] waits for
/// it and reports.
pub struct Guard {
    claim: Claim,
    namespace: Namespace,
    gone: watch::Receiver<bool>,
    watcher: AbortHandle,
}

/// The proof of a claim, to give to another process or to keep beside data: a key and the revision that created it. Tokens
/// of one lock only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The whole key.
    pub key: String,
    /// The revision that created it.
    pub token: i64,
}

impl Fence {
    /// The comparison that holds while the claim does, for a transaction of one's own.
    #[must_use]
    pub fn compare(&self) -> Compare {
        Compare::create_revision(self.key.as_bytes(), CompareOp::Equal, self.token)
    }
}

impl Guard {
    /// `from` is the first revision at which the key may have ended unseen.
    pub(crate) fn new(claim: Claim, namespace: Namespace, from: i64) -> Self {
        let (sender, gone) = watch::channel(false);
        let watcher = claim.session.runtime().spawn(watch_own_key(Watched::of(&claim), from, sender)).abort_handle();
        Self { claim, namespace, gone, watcher }
    }

    /// The fencing token: it grows with every holder. Give it to whatever the holder writes to, and let that refuse a
    /// token smaller than one it has seen.
    #[must_use]
    pub fn token(&self) -> i64 {
        self.claim.token
    }

    /// The key and the token.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { key: self.claim.key_name(), token: self.claim.token }
    }

    /// The session that holds it.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.claim.session
    }

    /// Whether it is held for certain at this moment. Asks the clock, waits for nothing.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.check().is_ok()
    }

    /// Fails if it is not held any more.
    ///
    /// # Errors
    /// [`Error::SessionLost`], or [`Error::NotHeld`] if somebody deleted the key.
    pub fn check(&self) -> Result<()> {
        if *self.gone.borrow() || self.claim.is_over() {
            return Err(self.claim.not_held());
        }
        self.claim.session.check()
    }

    /// Waits until it is not held any more, and says why.
    pub async fn lost(&self) -> Error {
        let mut gone = self.gone.clone();
        tokio::select! {
            loss = self.claim.session.lost() => self.claim.session.lost_error(loss),
            _ = gone.wait_for(|gone| *gone) => self.claim.not_held(),
        }
    }

    /// Does something until it is done or this is not held any more; what is not done then is dropped at its next wait.
    ///
    /// # Errors
    /// What [`Guard::lost`] says.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        self.check()?;
        tokio::select! {
            biased;
            error = self.lost() => Err(error),
            done = work => Ok(done),
        }
    }

    /// Writes a key of the namespace, if this is still held in the store when it executes the write. Gives the revision.
    ///
    /// # Errors
    /// Not held any more: nothing was written. Otherwise no member answered.
    pub async fn put(&self, path: &str, value: impl Into<Vec<u8>>) -> Result<i64> {
        self.check()?;
        let put = TxnOp::put(self.namespace.key(path)?, value, None);
        Ok(self.claim.fenced(vec![put]).await?.0)
    }

    /// Deletes a key of the namespace, if this is still held in the store. Gives the revision.
    ///
    /// # Errors
    /// As [`Guard::put`].
    pub async fn delete(&self, path: &str) -> Result<i64> {
        self.check()?;
        let delete = TxnOp::delete(self.namespace.key(path)?, None);
        Ok(self.claim.fenced(vec![delete]).await?.0)
    }

    /// Runs a transaction, if this is still held in the store. Its keys are whole keys: [`Namespace::key`] makes them.
    /// It is tried once.
    ///
    /// # Errors
    /// Not held any more: nothing was done. [`Error::OutcomeUnknown`] if the answer was lost.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.check()?;
        let fenced = Txn::new().when([self.claim.compare()]).and_then([TxnOp::txn(txn)]);
        let response = self.claim.session.unless_lost(self.claim.session.store().commit_once(fenced)).await?;
        match response.op_responses().into_iter().next() {
            Some(TxnOpResponse::Txn(inner)) if response.succeeded() => Ok(inner),
            _ => Err(self.claim.not_held()),
        }
    }

    /// Releases it and waits until the store did.
    ///
    /// # Errors
    /// The session ended first, or the store refused; the key then ends with the session.
    pub async fn release(self) -> Result<()> {
        self.give_up().await
    }

    /// The same without consuming it: it is not held from the call on.
    pub(crate) async fn give_up(&self) -> Result<()> {
        self.watcher.abort();
        self.claim.release().await
    }

    /// The claim, for recipes that release it with something else.
    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Writes the claim's own value, as a leader's.
    pub(crate) async fn set_value(&self, value: Vec<u8>) -> Result<i64> {
        self.check()?;
        let options = PutOptions::new().with_lease(self.claim.session.lease());
        Ok(self.claim.fenced(vec![TxnOp::put(self.claim.key.clone(), value, Some(options))]).await?.0)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.is_held();
        out.debug_struct("Guard").field("fence", &self.fence()).field("held", &held).finish_non_exhaustive()
    }
}

/// What the watching task needs; not the claim itself, which would then never be dropped.
struct Watched {
    store: crate::store::Store,
    key: Vec<u8>,
    token: i64,
}

impl Watched {
    fn of(claim: &Claim) -> Self {
        Self { store: claim.session.store().clone(), key: claim.key.clone(), token: claim.token }
    }
}

/// Reports the deletion of the claim's key by anybody: an operator, or a revocation of the lease.
async fn watch_own_key(watched: Watched, from: i64, gone: watch::Sender<bool>) {
    let mut watch = Resuming::new(watched.store.clone(), Range::key(watched.key.clone()), from);
    loop {
        let is_gone = match watch.next().await {
            Ok(Batch::Events(events)) => events.iter().any(|event| event.event_type() == EventType::Delete),
            Ok(Batch::Compacted) => match watched.store.get(&watched.key, etcd_client::GetOptions::new()).await {
                Ok(got) => {
                    watch.restart(revision_of(got.header()) + 1);
                    got.kvs().first().is_none_or(|kv| kv.create_revision() != watched.token)
                }
                // No right to read: the session's end is still seen.
                Err(_) => return std::future::pending().await,
            },
            Err(_) => return std::future::pending().await,
        };
        if is_gone {
            gone.send_replace(true);
            return;
        }
    }
}
