//! A lock that many readers or one writer hold, in the order in which they asked.
//!
//! Claims are `PATH/read/LEASE` and `PATH/write/LEASE`. A reader waits for the writers before it, a writer for everybody
//! before it, so neither starves. What a lock in a store can promise is said at [`crate::Mutex`].

use crate::claim::Claim;
use crate::error::Result;
use crate::guard::Guard;
use crate::namespace::Namespace;
use crate::session::Session;

/// A lock for readers and writers, known by its path. Cheap to clone.
#[derive(Clone)]
pub struct RwLock {
    namespace: Namespace,
    folder: String,
}

impl Namespace {
    /// The lock for readers and writers at a path.
    ///
    /// # Errors
    /// A path that is none.
    pub fn rw_lock(&self, path: &str) -> Result<RwLock> {
        Ok(RwLock { namespace: self.clone(), folder: self.folder(path)? })
    }
}

impl RwLock {
    /// Waits until no writer holds it or asked before. Dropping the future gives the place in the queue up.
    ///
    /// # Errors
    /// The session ends, or reads here already; the store refuses.
    pub async fn read(&self, session: &Session) -> Result<Guard> {
        let writers = format!("{}write/", self.folder);
        self.acquire(session, &format!("{}read/", self.folder), &writers).await
    }

    /// Waits until nobody holds it or asked before.
    ///
    /// # Errors
    /// The session ends, or writes here already; the store refuses.
    pub async fn write(&self, session: &Session) -> Result<Guard> {
        self.acquire(session, &format!("{}write/", self.folder), &self.folder).await
    }

    async fn acquire(&self, session: &Session, own: &str, others: &str) -> Result<Guard> {
        let claim = Claim::enter(session, own, Vec::new()).await?;
        let seen = claim.first(others).await?;
        session.check()?;
        Ok(Guard::new(claim, self.namespace.clone(), seen + 1))
    }
}
