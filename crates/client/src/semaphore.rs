//! A semaphore: so many holders at a time, in the order in which they asked.
//!
//! It owns the agreement on the number, which is stored at `PATH/limit` by whoever comes first; claims are
//! `PATH/holders/LEASE`. Every waiter watches all holders, so it is meant for tens of waiters, not thousands.

use etcd_client::{Compare, CompareOp, GetOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse};

use crate::claim::{Claim, deleted};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::namespace::Namespace;
use crate::session::Session;
use crate::store::Range;

/// A semaphore, known by its path. Cheap to clone.
#[derive(Clone)]
pub struct Semaphore {
    namespace: Namespace,
    folder: String,
    limit: u32,
}

impl Namespace {
    /// The semaphore at a path, for so many holders.
    ///
    /// # Errors
    /// A path that is none; no holders at all; [`Error::Conflict`] if it exists for another number; no member answers.
    pub async fn semaphore(&self, path: &str, limit: u32) -> Result<Semaphore> {
        if limit == 0 {
            return Err(Error::InvalidSetting("a semaphore for no holder"));
        }
        let key = self.key(&format!("{path}/limit"))?;
        let absent = Compare::create_revision(key.as_bytes(), CompareOp::Equal, 0);
        let txn = Txn::new()
            .when([absent])
            .and_then([TxnOp::put(key.as_bytes(), limit.to_string(), None)])
            .or_else([TxnOp::get(key.as_bytes(), None)]);
        let response = self.store().commit(txn).await?;
        if let Some(TxnOpResponse::Get(got)) = response.op_responses().into_iter().next() {
            let stored =
                got.kvs().first().map(|kv| String::from_utf8_lossy(kv.value()).into_owned()).unwrap_or_default();
            if stored != limit.to_string() {
                let reason = format!("the semaphore is for {stored}, not for {limit}: agree on one number");
                return Err(Error::Conflict { key, reason });
            }
        }
        Ok(Semaphore { namespace: self.clone(), folder: self.folder(&format!("{path}/holders"))?, limit })
    }
}

impl Semaphore {
    /// Waits for a permit. Dropping the future gives the place in the queue up.
    ///
    /// # Errors
    /// The session ends, or holds or awaits a permit here already; the store refuses.
    pub async fn acquire(&self, session: &Session) -> Result<Guard> {
        let claim = Claim::enter(session, &self.folder, Vec::new()).await?;
        // The count in an answer knows no revisions: the keys have to come, as many as matter.
        let before = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_max_create_revision(claim.token - 1)
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_limit(i64::from(self.limit));
        loop {
            let (seen, answers) = claim.fenced(vec![TxnOp::get(self.folder.as_str(), Some(before.clone()))]).await?;
            let held = match answers.first() {
                Some(TxnOpResponse::Get(got)) => got.kvs().len(),
                _ => 0,
            };
            if held < self.limit as usize {
                session.check()?;
                return Ok(Guard::new(claim, self.namespace.clone(), seen + 1));
            }
            let free = deleted(&claim, Range::prefix(self.folder.as_bytes()), seen + 1);
            session.unless_lost(free).await?;
        }
    }
}
