//! A claim: a key of a session under a prefix, and its place in the order of creation.
//!
//! It owns the key from before it is written until it is deleted; who is next among the claims is decided here too. Keys
//! are `PREFIX/LEASE` with the lease in hexadecimal, as Go's `concurrency` package, `etcdctl lock` and `etcdctl elect`
//! write them, so that programs in both languages wait for each other.
//!
//! Invariant: a claim is over here before its deletion is sent.

use std::sync::atomic::{AtomicBool, Ordering};

use etcd_client::{
    Compare, CompareOp, EventType, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::resume::{Batch, Resuming};
use crate::session::{Session, Ticket};
use crate::store::{Range, Store, revision_of};

/// A key that this session created.
pub(crate) struct Claim {
    pub(crate) session: Session,
    pub(crate) key: Vec<u8>,
    /// The revision that created the key: the fencing token.
    pub(crate) token: i64,
    ticket: Ticket,
    over: AtomicBool,
}

impl Claim {
    /// Creates the session's key under the prefix, which ends with a slash.
    pub(crate) async fn enter(session: &Session, folder: &str, value: Vec<u8>) -> Result<Self> {
        let key = format!("{folder}{:x}", session.lease());
        let shown = key.clone();
        match Self::create(session, key.into_bytes(), value, Vec::new()).await? {
            Ok(claim) => Ok(claim),
            Err(Some(lease)) => {
                let reason = format!("held by lease {lease:x}: wait for its end or choose another name");
                Err(Error::Conflict { key: shown, reason })
            }
            Err(None) => Err(Error::NotHeld { key: shown }),
        }
    }

    /// Creates a key of the session if it does not exist and the conditions hold; otherwise tells whose it is.
    pub(crate) async fn create(
        session: &Session,
        key: Vec<u8>,
        value: Vec<u8>,
        conditions: Vec<Compare>,
    ) -> Result<std::result::Result<Self, Option<i64>>> {
        let ticket = session.unless_lost(session.claims().begin(&key)).await?;
        // Written by a task of its own: a caller that goes away in the middle leaves no key behind, because the task
        // then drops the claim.
        let (sender, receiver) = oneshot::channel();
        let (writer, written) = (session.clone(), key.clone());
        session.runtime().spawn(async move {
            let _ = sender.send(write(writer, written, value, conditions, ticket).await);
        });
        let mut entering = Entering { session, claim: Some((key, ticket)) };
        let entered = receiver.await;
        entering.claim = None;
        entered.unwrap_or(Err(Error::Stopped))
    }

    /// The comparison that holds while the claim does.
    pub(crate) fn compare(&self) -> Compare {
        Compare::create_revision(self.key.clone(), CompareOp::Equal, self.token)
    }

    /// Whether it was given up here.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(crate) fn key_name(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }

    pub(crate) fn not_held(&self) -> Error {
        match self.session.loss() {
            Some(loss) => self.session.lost_error(loss),
            None => Error::NotHeld { key: self.key_name() },
        }
    }

    /// Runs operations in the store if the claim holds there. They may be repeated.
    pub(crate) async fn fenced(&self, operations: Vec<TxnOp>) -> Result<(i64, Vec<TxnOpResponse>)> {
        let txn = Txn::new().when([self.compare()]).and_then(operations);
        let response = self.session.unless_lost(self.session.store().commit(txn)).await?;
        if !response.succeeded() {
            return Err(self.not_held());
        }
        Ok((revision_of(response.header()), response.op_responses()))
    }

    /// Waits until no older claim is under the prefix; gives the revision at which that was seen.
    pub(crate) async fn first(&self, folder: &str) -> Result<i64> {
        let older = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_max_create_revision(self.token - 1)
            .with_sort(SortTarget::Create, SortOrder::Descend)
            .with_limit(1);
        loop {
            let (revision, answers) = self.fenced(vec![TxnOp::get(folder, Some(older.clone()))]).await?;
            let Some(before) = first_key(&answers) else { return Ok(revision) };
            let wait = deleted(self, Range::key(before), revision + 1);
            self.session.unless_lost(wait).await?;
        }
    }

    /// Notes that the key was deleted with something else.
    pub(crate) fn deleted(&self) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.session.claims().end(&self.key, self.ticket);
        }
    }

    /// Deletes the key and waits until that is done.
    pub(crate) async fn release(&self) -> Result<()> {
        if self.over.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.session.claims().releasing(&self.key, self.ticket);
        // Carried to its end even if the caller goes away, so that the key is never half released.
        let (sender, receiver) = oneshot::channel();
        let (session, key, token, ticket) = (self.session.clone(), self.key.clone(), self.token, self.ticket);
        self.session.runtime().spawn(async move {
            let _ = sender.send(delete(&session, key, token, ticket).await);
        });
        receiver.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.over.swap(true, Ordering::AcqRel) {
            return;
        }
        self.session.claims().releasing(&self.key, self.ticket);
        let (session, token, ticket) = (self.session.clone(), self.token, self.ticket);
        let key = std::mem::take(&mut self.key);
        self.session.runtime().spawn(async move {
            // The session's end deletes the key otherwise.
            let _ = delete(&session, key, token, ticket).await;
        });
    }
}

/// A caller that waits for its key to be written. If it goes away, the key counts as being released.
struct Entering<'session> {
    session: &'session Session,
    claim: Option<(Vec<u8>, Ticket)>,
}

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        if let Some((key, ticket)) = &self.claim {
            self.session.claims().releasing(key, *ticket);
        }
    }
}

async fn write(
    session: Session,
    key: Vec<u8>,
    value: Vec<u8>,
    mut conditions: Vec<Compare>,
    ticket: Ticket,
) -> Result<std::result::Result<Claim, Option<i64>>> {
    conditions.push(Compare::create_revision(key.clone(), CompareOp::Equal, 0));
    let put = TxnOp::put(key.clone(), value, Some(PutOptions::new().with_lease(session.lease())));
    let txn = Txn::new().when(conditions).and_then([put]).or_else([TxnOp::get(key.clone(), None)]);
    let written = session.unless_lost(session.store().commit(txn)).await;
    let token = written.map(|response| {
        if response.succeeded() {
            return Ok(revision_of(response.header()));
        }
        // With our lease it is ours, written by an earlier try whose answer was lost: the session's list of claims keeps
        // any other claim of it away.
        match response.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(got)) => match got.kvs().first() {
                Some(kv) if kv.lease() == session.lease() => Ok(kv.create_revision()),
                other => Err(other.map(|kv| kv.lease())),
            },
            _ => Err(None),
        }
    });
    match token {
        Ok(Ok(token)) => Ok(Ok(Claim { session, key, token, ticket, over: AtomicBool::new(false) })),
        Ok(Err(other)) => {
            session.claims().end(&key, ticket);
            Ok(Err(other))
        }
        Err(error) => {
            session.claims().end(&key, ticket);
            Err(error)
        }
    }
}

async fn delete(session: &Session, key: Vec<u8>, token: i64, ticket: Ticket) -> Result<()> {
    let ours = Compare::create_revision(key.clone(), CompareOp::Equal, token);
    let txn = Txn::new().when([ours]).and_then([TxnOp::delete(key.clone(), None)]);
    let deleted = session.unless_lost(session.store().commit(txn)).await;
    session.claims().end(&key, ticket);
    match deleted {
        // A lease that is gone took the key with it.
        Ok(_) | Err(Error::SessionLost { loss: crate::session::Loss::Expired, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits until some key of the range is deleted, at or after a revision. After a compaction it returns too: then the caller
/// looks again.
pub(crate) async fn deleted(claim: &Claim, range: Range, from: i64) -> Result<()> {
    changed(claim.session.store(), range, from, |kind| kind == EventType::Delete).await
}

/// The same for any kind of change.
pub(crate) async fn changed(store: &Store, range: Range, from: i64, wanted: impl Fn(EventType) -> bool) -> Result<()> {
    let mut watch = Resuming::new(store.patient(), range, from);
    loop {
        match watch.next().await? {
            Batch::Compacted => return Ok(()),
            Batch::Events(events) if events.iter().any(|event| wanted(event.event_type())) => return Ok(()),
            Batch::Events(_) => {}
        }
    }
}

/// The first key in the first answer.
pub(crate) fn first_key(answers: &[TxnOpResponse]) -> Option<Vec<u8>> {
    match answers.first() {
        Some(TxnOpResponse::Get(got)) => got.kvs().first().map(|kv| kv.key().to_vec()),
        _ => None,
    }
}
