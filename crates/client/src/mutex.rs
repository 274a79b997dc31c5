//! A lock that one session holds at a time, in the order in which they asked.
//!
//! Keys, order and waiting are those of Go's `concurrency.Mutex` and of `etcdctl lock`. A lock in a store is a lease, not
//! mutual exclusion by itself: a holder that stops for longer than its session lives is followed by the next, and only the
//! fence keeps it from writing. [`Guard`] carries both.

use std::time::Duration;

use crate::claim::{Claim, first_key};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::namespace::Namespace;
use crate::session::Session;

use etcd_client::{GetOptions, SortOrder, SortTarget, TxnOp};

/// A lock, known by its path. Cheap to clone.
#[derive(Clone)]
pub struct Mutex {
    namespace: Namespace,
    folder: String,
}

impl Namespace {
    /// The lock at a path; `etcdctl lock NAMESPACE/PATH` waits for the same.
    ///
    /// # Errors
    /// A path that is none.
    pub fn mutex(&self, path: &str) -> Result<Mutex> {
        Ok(Mutex { namespace: self.clone(), folder: self.folder(path)? })
    }
}

impl Mutex {
    /// Waits for the lock. Dropping the future gives the place in the queue up.
    ///
    /// # Errors
    /// The session ends, or holds or awaits this lock already; the store refuses.
    pub async fn lock(&self, session: &Session) -> Result<Guard> {
        let claim = Claim::enter(session, &self.folder, Vec::new()).await?;
        let seen = claim.first(&self.folder).await?;
        self.held(claim, seen)
    }

    /// The same for so long at the most; none if others hold it all the time.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    pub async fn lock_within(&self, session: &Session, limit: Duration) -> Result<Option<Guard>> {
        match tokio::time::timeout(limit, self.lock(session)).await {
            Ok(locked) => locked.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The lock if it is free; none if somebody holds it or waits for it.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    pub async fn try_lock(&self, session: &Session) -> Result<Option<Guard>> {
        let claim = Claim::enter(session, &self.folder, Vec::new()).await?;
        let oldest = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_limit(1);
        let (seen, answers) = claim.fenced(vec![TxnOp::get(self.folder.as_str(), Some(oldest))]).await?;
        if first_key(&answers).as_ref() == Some(&claim.key) {
            return self.held(claim, seen).map(Some);
        }
        match claim.release().await {
            Ok(()) | Err(Error::NotHeld { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn held(&self, claim: Claim, seen: i64) -> Result<Guard> {
        // A process that slept through its turn learns it here and not from its first write.
        claim.session.check()?;
        Ok(Guard::new(claim, self.namespace.clone(), seen + 1))
    }
}
