//! A queue of jobs: each is done by one taker at a time, and again by another if the taker goes before it is done.
//!
//! It owns the order: by priority, then by creation. An item is `PATH/items/PRIORITY/ID`, and a claim of it is
//! `PATH/taken/PRIORITY/ID` with the taker's lease, so that an item is free again when its taker's session ends. A taker
//! that was paused learns from the fence that its item is another's.

use std::collections::BTreeSet;

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse};

use crate::claim::{Claim, changed};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::namespace::Namespace;
use crate::session::Session;
use crate::store::{Range, Store, random_u64, revision_of};

/// The items that are looked at in one call, when those before are taken.
const ITEMS_AT_ONCE: i64 = 100;

/// A queue, known by its path. Cheap to clone. Every idle taker watches the whole queue, so it is meant for tens of takers.
#[derive(Clone)]
pub struct Queue {
    namespace: Namespace,
    items: String,
    taken: String,
    folder: String,
}

impl Namespace {
    /// The queue at a path.
    ///
    /// # Errors
    /// A path that is none.
    pub fn queue(&self, path: &str) -> Result<Queue> {
        let folder = self.folder(path)?;
        Ok(Queue {
            namespace: self.clone(),
            items: folder.clone() + "items/",
            taken: folder.clone() + "taken/",
            folder,
        })
    }
}

/// An item that is taken: its value and a [`Guard`]. Dropping it gives it back in the background.
pub struct Job {
    guard: Guard,
    item: Vec<u8>,
    priority: u16,
    value: Vec<u8>,
}

impl Queue {
    /// Appends an item, with priority 0: it is taken before all with a greater number. Gives the revision.
    ///
    /// # Errors
    /// No member answers; the store refuses.
    pub async fn push(&self, value: impl Into<Vec<u8>>) -> Result<i64> {
        self.push_with_priority(0, value).await
    }

    /// Appends an item to those of its priority; the smallest number is taken first.
    ///
    /// # Errors
    /// As [`Queue::push`].
    pub async fn push_with_priority(&self, priority: u16, value: impl Into<Vec<u8>>) -> Result<i64> {
        // A name that nobody else makes, so that a try that is repeated appends once.
        let key = format!("{}{priority:05}/{:016x}{:016x}", self.items, random_u64(), random_u64());
        let absent = Compare::create_revision(key.as_bytes(), CompareOp::Equal, 0);
        let txn = Txn::new()
            .when([absent])
            .and_then([TxnOp::put(key.as_bytes(), value, Some(PutOptions::new()))])
            .or_else([TxnOp::get(key.as_bytes(), Some(GetOptions::new().with_keys_only()))]);
        let response = self.namespace.store().commit(txn).await?;
        match response.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(got)) => Ok(got.kvs().first().map_or(0, |kv| kv.create_revision())),
            _ => Ok(revision_of(response.header())),
        }
    }

    /// Waits for an item and takes it. Dropping the future gives it back.
    ///
    /// # Errors
    /// The session ends; the store refuses.
    pub async fn take(&self, session: &Session) -> Result<Job> {
        loop {
            let from = match self.look(session).await? {
                Ok(job) => return Ok(job),
                Err(revision) => revision + 1,
            };
            let change = changed(session.store(), Range::prefix(self.folder.as_bytes()), from, |_| true);
            session.unless_lost(change).await?;
        }
    }

    /// An item if one is free.
    ///
    /// # Errors
    /// As [`Queue::take`].
    pub async fn try_take(&self, session: &Session) -> Result<Option<Job>> {
        Ok(self.look(session).await?.ok())
    }

    /// How many items there are, the taken ones included.
    ///
    /// # Errors
    /// No member answers; the store refuses.
    pub async fn len(&self) -> Result<u64> {
        let count = GetOptions::new().with_prefix().with_count_only();
        Ok(self.namespace.store().get(self.items.as_bytes(), count).await?.count().unsigned_abs())
    }

    /// Whether there is none.
    ///
    /// # Errors
    /// As [`Queue::len`].
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// A free item, or the revision up to which there was none.
    async fn look(&self, session: &Session) -> Result<std::result::Result<Job, i64>> {
        let store = session.store();
        let end = Range::prefix(self.items.as_bytes()).end.unwrap_or_default();
        let (mut from, mut oldest_look) = (self.items.clone().into_bytes(), i64::MAX);
        loop {
            // Which is the smallest number that has items?
            let first = GetOptions::new().with_range(end.clone()).with_keys_only().with_limit(1);
            let got = session.unless_lost(store.get(&from, first)).await?;
            oldest_look = oldest_look.min(revision_of(got.header()));
            let Some(priority) = got.kvs().first().and_then(|kv| self.priority_of(kv.key())) else {
                return Ok(Err(oldest_look));
            };
            if let Some(job) = session.unless_lost(self.take_of(session, store, priority)).await? {
                return Ok(Ok(job));
            }
            from = Range::prefix(format!("{}{priority:05}/", self.items).as_bytes()).end.unwrap_or_default();
        }
    }

    fn priority_of(&self, key: &[u8]) -> Option<u16> {
        let rest = key.strip_prefix(self.items.as_bytes())?.split(|byte| *byte == b'/').next()?;
        std::str::from_utf8(rest).ok()?.parse().ok()
    }

    /// Takes the oldest free item of a priority; none if there is none.
    async fn take_of(&self, session: &Session, store: &Store, priority: u16) -> Result<Option<Job>> {
        let (items, taken) = (format!("{}{priority:05}/", self.items), format!("{}{priority:05}/", self.taken));
        let mut after = 0;
        loop {
            let oldest = GetOptions::new()
                .with_prefix()
                .with_keys_only()
                .with_min_create_revision(after + 1)
                .with_sort(SortTarget::Create, SortOrder::Ascend)
                .with_limit(ITEMS_AT_ONCE);
            let all_taken = GetOptions::new().with_prefix().with_keys_only();
            let reads = [TxnOp::get(items.as_str(), Some(oldest)), TxnOp::get(taken.as_str(), Some(all_taken))];
            let mut answers = store.commit(Txn::new().and_then(reads)).await?.op_responses().into_iter();
            let (Some(TxnOpResponse::Get(found)), Some(TxnOpResponse::Get(claimed))) = (answers.next(), answers.next())
            else {
                return Ok(None);
            };
            let claimed: BTreeSet<&[u8]> =
                claimed.kvs().iter().filter_map(|kv| kv.key().strip_prefix(taken.as_bytes())).collect();
            for item in found.kvs() {
                let Some(name) = item.key().strip_prefix(items.as_bytes()) else { continue };
                if !claimed.contains(name) {
                    let claim = [taken.as_bytes(), name].concat();
                    if let Some(job) = self.take_item(session, item, claim, priority).await? {
                        return Ok(Some(job));
                    }
                }
            }
            match found.kvs().last() {
                Some(last) if found.kvs().len() as i64 == ITEMS_AT_ONCE => after = last.create_revision(),
                _ => return Ok(None),
            }
        }
    }

    async fn take_item(
        &self,
        session: &Session,
        item: &etcd_client::KeyValue,
        claim: Vec<u8>,
        priority: u16,
    ) -> Result<Option<Job>> {
        let exists = Compare::create_revision(item.key(), CompareOp::Equal, item.create_revision());
        let claim = match Claim::create(session, claim, Vec::new(), vec![exists]).await {
            Ok(Ok(claim)) => claim,
            // Another was faster, or another part of this program has it.
            Ok(Err(_)) | Err(Error::InUse { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (seen, answers) = claim.fenced(vec![TxnOp::get(item.key(), None)]).await?;
        let value = match answers.into_iter().next() {
            Some(TxnOpResponse::Get(mut got)) => got.take_kvs().into_iter().next(),
            _ => None,
        };
        // Only its taker deletes an item; if somebody else did, there is nothing to do.
        let Some(value) = value else { return Ok(None) };
        let guard = Guard::new(claim, self.namespace.clone(), seen + 1);
        Ok(Some(Job { guard, item: item.key().to_vec(), priority, value: value.value().to_vec() }))
    }
}

impl Job {
    /// What was pushed.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The priority that it was pushed with.
    #[must_use]
    pub fn priority(&self) -> u16 {
        self.priority
    }

    /// What holds it: for fenced writes, and to learn that it is another's.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Removes the item. If this fails, another does it again.
    ///
    /// # Errors
    /// The item is another's; the session ended, and the item may be removed or not.
    pub async fn done(self) -> Result<()> {
        self.done_with(Vec::new()).await
    }

    /// Removes the item and does these operations in the same transaction: what comes of a job is written once, however
    /// often the job was begun. Their keys are whole keys: [`Namespace::key`] makes them.
    ///
    /// # Errors
    /// As [`Job::done`].
    pub async fn done_with(self, mut operations: Vec<TxnOp>) -> Result<()> {
        let claim = self.guard.claim();
        self.guard.check()?;
        operations.push(TxnOp::delete(self.item.clone(), None));
        operations.push(TxnOp::delete(claim.key.clone(), None));
        let gone = GetOptions::new().with_keys_only();
        let txn = Txn::new()
            .when([claim.compare()])
            .and_then(operations)
            .or_else([TxnOp::get(self.item.clone(), Some(gone))]);
        let response = claim.session.unless_lost(claim.session.store().commit(txn)).await?;
        // Nobody but us may remove it while the session lives: an earlier try did, whose answer was lost.
        let is_gone = match response.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(got)) => got.kvs().is_empty() && claim.session.is_alive(),
            _ => true,
        };
        if response.succeeded() || is_gone {
            claim.deleted();
            return Ok(());
        }
        Err(claim.not_held())
    }

    /// Gives the item back, to its old place, and waits until that is done.
    ///
    /// # Errors
    /// The session ended, which gives it back too.
    pub async fn give_back(self) -> Result<()> {
        self.guard.release().await
    }
}
