//! Transactions over many keys, written as if nobody else were there.
//!
//! It owns the reads of an attempt: all are of one revision, and the commit compares each of them, so a transaction that
//! commits is as if it had run alone at the moment of its commit. It holds nothing between attempts.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};

use crate::error::{Error, Result, is_compacted};
use crate::namespace::Namespace;
use crate::store::{Backoff, revision_of};

/// The attempts before a transaction is given up as contended.
const ATTEMPTS_MAX: u32 = 100;

/// One attempt. Reads see the writes of the attempt; nothing is written before the commit. Clones are the same attempt.
#[derive(Clone)]
pub struct Transaction {
    namespace: Namespace,
    attempt: Arc<Mutex<Attempt>>,
}

#[derive(Default)]
struct Attempt {
    /// The revision of all reads; none before the first.
    revision: Option<i64>,
    /// What was read, with the revision of each value; 0 if there is none.
    reads: BTreeMap<String, (i64, Option<Vec<u8>>)>,
    /// What is to be written; none is a deletion.
    writes: BTreeMap<String, Option<Vec<u8>>>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// All was written, at this revision.
    Done(i64),
    /// Something that was read has changed: nothing was written. Begin again.
    Conflict,
}

impl Namespace {
    /// Begins one attempt; see [`Namespace::transact`] for repeated ones.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        Transaction { namespace: self.clone(), attempt: Arc::default() }
    }

    /// Runs a function until an attempt commits, a hundred times at the most. The function may run often: it must not do
    /// anything but read and write by its transaction. An error of the function ends it without a write.
    ///
    /// # Errors
    /// The function's; [`Error::Contended`]; [`Error::OutcomeUnknown`] if the answer to a commit was lost.
    pub async fn transact<T, F>(&self, mut function: impl FnMut(Transaction) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut backoff = Backoff::new();
        for _ in 0..ATTEMPTS_MAX {
            let attempt = self.transaction();
            match function(attempt.clone()).await {
                Ok(value) => {
                    if let Commit::Done(_) = attempt.commit().await? {
                        return Ok(value);
                    }
                }
                // What the attempt read from is compacted: it took too long.
                Err(error) if is_compacted(&error) => {}
                Err(error) => return Err(error),
            }
            backoff.wait().await;
        }
        Err(Error::Contended { attempts: ATTEMPTS_MAX })
    }
}

impl Transaction {
    /// The value of a key; none if it does not exist.
    ///
    /// # Errors
    /// A path that is none; no member answers; the store refuses.
    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let key = self.namespace.key(path)?;
        let revision = {
            let attempt = self.attempt();
            if let Some(written) = attempt.writes.get(&key) {
                return Ok(written.clone());
            }
            if let Some((_, value)) = attempt.reads.get(&key) {
                return Ok(value.clone());
            }
            attempt.revision
        };
        let options = GetOptions::new().with_revision(revision.unwrap_or(0));
        let mut got = self.namespace.store().get(key.as_bytes(), options).await?;
        // Two first reads at once may have seen two revisions: the later answer is read again.
        let pinned = *self.attempt().revision.get_or_insert(revision_of(got.header()));
        if revision.is_none() && pinned != revision_of(got.header()) {
            got = self.namespace.store().get(key.as_bytes(), GetOptions::new().with_revision(pinned)).await?;
        }
        let kv = got.kvs().first();
        let value = kv.map(|kv| kv.value().to_vec());
        self.attempt().reads.insert(key, (kv.map_or(0, |kv| kv.mod_revision()), value.clone()));
        Ok(value)
    }

    /// Writes a key at the commit.
    ///
    /// # Errors
    /// A path that is none.
    pub fn put(&self, path: &str, value: impl Into<Vec<u8>>) -> Result<()> {
        let key = self.namespace.key(path)?;
        self.attempt().writes.insert(key, Some(value.into()));
        Ok(())
    }

    /// Deletes a key at the commit.
    ///
    /// # Errors
    /// A path that is none.
    pub fn delete(&self, path: &str) -> Result<()> {
        let key = self.namespace.key(path)?;
        self.attempt().writes.insert(key, None);
        Ok(())
    }

    /// Writes all if all that was read is still so. What clones do after that belongs to no attempt.
    ///
    /// # Errors
    /// The store refuses, as when there are more keys than a transaction may have (128 in etcd);
    /// [`Error::OutcomeUnknown`] if the answer was lost.
    pub async fn commit(self) -> Result<Commit> {
        let attempt = std::mem::take(&mut *self.attempt());
        if attempt.writes.is_empty() {
            // All reads are of one revision: they were so together.
            return Ok(Commit::Done(attempt.revision.unwrap_or(0)));
        }
        let unchanged: Vec<Compare> = attempt
            .reads
            .iter()
            .map(|(key, (revision, _))| Compare::mod_revision(key.as_bytes(), CompareOp::Equal, *revision))
            .collect();
        let writes: Vec<TxnOp> = attempt
            .writes
            .into_iter()
            .map(|(key, value)| match value {
                Some(value) => TxnOp::put(key, value, None),
                None => TxnOp::delete(key, None),
            })
            .collect();
        let response = self.namespace.store().commit_once(Txn::new().when(unchanged).and_then(writes)).await?;
        Ok(if response.succeeded() { Commit::Done(revision_of(response.header())) } else { Commit::Conflict })
    }

    fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
