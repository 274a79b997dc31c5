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
use crate::store::{Range, revision_of};

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
        let key = format!("{folder}{:x}", session.lease()).into_bytes();
        let ticket = session.unless_lost(session.claims().begin(&key)).await?;
        // Written by a task of its own: a caller that goes away in the middle leaves no key behind, because the task
        // then drops the claim.
        let (sender, receiver) = oneshot::channel();
        let (writer, written) = (session.clone(), key.clone());
        session.runtime().spawn(async move {
            let _ = sender.send(write(writer, written, value, ticket).await);
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

async fn write(session: Session, key: Vec<u8>, value: Vec<u8>, ticket: Ticket) -> Result<Claim> {
    let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
    let put = TxnOp::put(key.clone(), value, Some(PutOptions::new().with_lease(session.lease())));
    let txn = Txn::new().when([absent]).and_then([put]).or_else([TxnOp::get(key.clone(), None)]);
    let written = session.unless_lost(session.store().commit(txn)).await;
    let token = written.and_then(|response| {
        if response.succeeded() {
            return Ok(revision_of(response.header()));
        }
        // Ours, written by an earlier try whose answer was lost; or another's, who knows our lease.
        let kv = match response.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(mut got)) => got.take_kvs().into_iter().next(),
            _ => None,
        };
        match kv {
            Some(kv) if kv.lease() == session.lease() => Ok(kv.create_revision()),
            other => Err(Error::Conflict {
                key: String::from_utf8_lossy(&key).into_owned(),
                reason: match other {
                    Some(kv) => format!("held by lease {:x}: wait for its end or choose another name", kv.lease()),
                    None => "the store contradicts itself".to_owned(),
                },
            }),
        }
    });
    match token {
        Ok(token) => Ok(Claim { session, key, token, ticket, over: AtomicBool::new(false) }),
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
    let mut watch = Resuming::new(claim.session.store().clone(), range, from);
    loop {
        match watch.next().await? {
            Batch::Compacted => return Ok(()),
            Batch::Events(events) if events.iter().any(|event| event.event_type() == EventType::Delete) => {
                return Ok(());
            }
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
