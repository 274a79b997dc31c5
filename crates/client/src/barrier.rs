//! A barrier: closed while a key exists. The key and its meaning are those of Go's `recipe.Barrier`.

use etcd_client::{Compare, CompareOp, EventType, GetOptions, Txn, TxnOp};

use crate::claim::changed;
use crate::error::Result;
use crate::namespace::Namespace;
use crate::store::{Range, revision_of};

/// A barrier, known by its path. Cheap to clone.
#[derive(Clone)]
pub struct Barrier {
    namespace: Namespace,
    key: String,
}

impl Namespace {
    /// The barrier at a path.
    ///
    /// # Errors
    /// A path that is none.
    pub fn barrier(&self, path: &str) -> Result<Barrier> {
        Ok(Barrier { namespace: self.clone(), key: self.key(path)? })
    }
}

impl Barrier {
    /// Closes it, until somebody opens it: it outlives the process. For one that ends with its owner, write its path with
    /// [`Namespace::ephemeral`].
    ///
    /// # Errors
    /// No member answers; the store refuses.
    pub async fn close(&self) -> Result<()> {
        let absent = Compare::create_revision(self.key.as_bytes(), CompareOp::Equal, 0);
        let txn = Txn::new().when([absent]).and_then([TxnOp::put(self.key.as_bytes(), "", None)]);
        self.namespace.store().commit(txn).await.map(|_| ())
    }

    /// Opens it; all who wait go on.
    ///
    /// # Errors
    /// No member answers; the store refuses.
    pub async fn open(&self) -> Result<()> {
        let txn = Txn::new().and_then([TxnOp::delete(self.key.as_bytes(), None)]);
        self.namespace.store().commit(txn).await.map(|_| ())
    }

    /// Waits until it is open. It may be closed again when this returns.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn wait(&self) -> Result<()> {
        let store = self.namespace.store().patient();
        loop {
            let got = store.get(self.key.as_bytes(), GetOptions::new().with_keys_only()).await?;
            if got.kvs().is_empty() {
                return Ok(());
            }
            let from = revision_of(got.header()) + 1;
            let range = Range::key(self.key.as_bytes());
            changed(&store, range, from, |kind| kind == EventType::Delete).await?;
        }
    }
}
