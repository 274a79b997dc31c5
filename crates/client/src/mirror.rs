//! A mirror: the keys under a path, copied to another path or another cluster and kept equal.
//!
//! It owns the comparison at its start and the copying of changes in order. A copy has no lease. Changes that come
//! together are written in one transaction, so the destination goes from one state of the source to a later one; only more
//! than a hundred keys at once are several transactions.

use std::collections::BTreeMap;

use etcd_client::{Txn, TxnOp};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::observer::{Change, Observer};
use crate::store::{Range, Store};

/// The changes in one transaction; etcd takes 128 at the most.
const CHANGES_AT_ONCE: usize = 100;

/// How a mirror treats its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorOptions {
    /// Keys that the source does not have are left alone, unless the source had them while the mirror ran.
    KeepOthers,
    /// Keys that the source does not have are deleted.
    Exact,
}

/// How far a mirror is.
#[derive(Clone, Debug, Default)]
pub struct MirrorProgress {
    /// The source's revision that the destination has; 0 before the first comparison is done.
    pub revision: i64,
    /// The writes and deletions made so far.
    pub changes: u64,
    /// Why it ended; none while it runs.
    pub failure: Option<Error>,
}

/// A running mirror. Dropping it ends it.
pub struct Mirror {
    progress: watch::Receiver<MirrorProgress>,
    task: AbortHandle,
}

impl Namespace {
    /// Keeps the keys under `to/` of the destination equal to those under `path/` here.
    ///
    /// # Errors
    /// Paths that are none.
    pub fn mirror(&self, path: &str, destination: &Self, to: &str, options: MirrorOptions) -> Result<Mirror> {
        let (sender, progress) = watch::channel(MirrorProgress::default());
        let copying = Copying {
            namespace: self.clone(),
            source: self.folder(path)?,
            store: destination.store().patient(),
            destination: destination.folder(to)?,
            options,
            progress: sender,
        };
        let task = tokio::spawn(async move {
            let Err(error) = copying.run().await;
            copying.progress.send_modify(|progress| progress.failure = Some(error));
            copying.progress.closed().await;
        });
        Ok(Mirror { progress, task: task.abort_handle() })
    }
}

impl Mirror {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> MirrorProgress {
        self.progress.borrow().clone()
    }

    /// Waits until the destination has what the source had at a revision.
    ///
    /// # Errors
    /// It ended.
    pub async fn reached(&self, revision: i64) -> Result<()> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|progress| progress.revision >= revision || progress.failure.is_some()).await;
        match &reached.map_err(|_| Error::Stopped)?.failure {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Copying {
    namespace: Namespace,
    source: String,
    store: Store,
    destination: String,
    options: MirrorOptions,
    progress: watch::Sender<MirrorProgress>,
}

impl Copying {
    async fn run(&self) -> std::result::Result<std::convert::Infallible, Error> {
        let range = Range::prefix(self.source.as_bytes());
        let (revision, source) = self.namespace.store().patient().range(&range, None).await?;
        let (_, copies) = self.store.range(&Range::prefix(self.destination.as_bytes()), None).await?;
        let mut differences: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        if self.options == MirrorOptions::Exact {
            differences.extend(copies.iter().map(|kv| (kv.key().to_vec(), None)));
        }
        let copies: BTreeMap<&[u8], &[u8]> = copies.iter().map(|kv| (kv.key(), kv.value())).collect();
        for kv in &source {
            let Some(to) = self.destination_of(kv.key()) else { continue };
            if copies.get(&to[..]) == Some(&kv.value()) {
                differences.remove(&to);
            } else {
                differences.insert(to, Some(kv.value().to_vec()));
            }
        }
        self.write(differences).await?;
        self.reached(revision);

        let mut observer = Observer::start_after(&self.namespace, range, revision, &source);
        let prefix = self.namespace.path_of(self.source.as_bytes()).to_vec();
        loop {
            let (mut changes, mut newest) = (BTreeMap::new(), 0);
            for change in observer.next_batch().await? {
                let (path, value, revision) = match change {
                    Change::Put(entry) => (entry.path, Some(entry.value), entry.mod_revision),
                    Change::Delete { path, revision } => (path, None, revision),
                    Change::Compacted { until, .. } => {
                        newest = newest.max(until);
                        continue;
                    }
                };
                newest = newest.max(revision);
                if let Some(name) = path.strip_prefix(&prefix[..]) {
                    changes.insert([self.destination.as_bytes(), name].concat(), value);
                }
            }
            self.write(changes).await?;
            self.reached(newest);
        }
    }

    fn destination_of(&self, key: &[u8]) -> Option<Vec<u8>> {
        key.strip_prefix(self.source.as_bytes()).map(|name| [self.destination.as_bytes(), name].concat())
    }

    async fn write(&self, changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<()> {
        let count = changes.len() as u64;
        let mut operations = changes.into_iter().map(|(key, value)| match value {
            Some(value) => TxnOp::put(key, value, None),
            None => TxnOp::delete(key, None),
        });
        loop {
            let chunk: Vec<TxnOp> = operations.by_ref().take(CHANGES_AT_ONCE).collect();
            if chunk.is_empty() {
                break;
            }
            self.store.commit(Txn::new().and_then(chunk)).await?;
        }
        self.progress.send_modify(|progress| progress.changes += count);
        Ok(())
    }

    fn reached(&self, revision: i64) {
        self.progress.send_modify(|progress| progress.revision = progress.revision.max(revision));
    }
}
