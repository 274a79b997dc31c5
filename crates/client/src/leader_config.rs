//! A configuration that only the leader of an election changes, and everybody reads.
//!
//! It owns the rule: a change is one transaction that compares the leader's key, so a deposed leader changes nothing, even if
//! its last request arrives late.

use etcd_client::GetOptions;

use crate::election::{Election, Leadership};
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::observer::{Entry, Observer, Start};

/// A configuration, known by its path. Cheap to clone.
#[derive(Clone)]
pub struct LeaderConfig {
    namespace: Namespace,
    election: Election,
    path: String,
}

impl Namespace {
    /// The configuration at a path, which the leader of an election changes.
    ///
    /// # Errors
    /// Paths that are none.
    pub fn leader_config(&self, election: &str, path: &str) -> Result<LeaderConfig> {
        self.key(path)?;
        Ok(LeaderConfig { namespace: self.clone(), election: self.election(election)?, path: path.to_owned() })
    }
}

impl LeaderConfig {
    /// Changes it. Gives the revision.
    ///
    /// # Errors
    /// The leadership is over, or of another election: nothing was written. No member answers.
    pub async fn publish(&self, leadership: &Leadership, value: impl Into<Vec<u8>>) -> Result<i64> {
        let fence = leadership.fence();
        if !fence.key.starts_with(self.election.folder()) {
            let reason = "a leadership of another election: campaign in this configuration's".to_owned();
            return Err(Error::Conflict { key: fence.key, reason });
        }
        leadership.put(&self.path, value).await
    }

    /// The configuration at this moment; none if there is none.
    ///
    /// # Errors
    /// No member answers; the store refuses.
    pub async fn current(&self) -> Result<Option<Entry>> {
        let key = self.namespace.key(&self.path)?;
        let got = self.namespace.store().get(key.as_bytes(), GetOptions::new()).await?;
        Ok(got.kvs().first().map(|kv| Entry::of(&self.namespace, kv)))
    }

    /// The configuration, and each change of it.
    ///
    /// # Errors
    /// No member answers; the store refuses.
    pub async fn observe(&self) -> Result<Observer> {
        self.namespace.observe(&self.path, Start::State).await
    }
}
