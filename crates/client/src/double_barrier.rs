//! A double barrier: so many enter together, and leave together.
//!
//! It owns the rounds. Who waits is a claim `PATH/waiters/LEASE`; the first so many of them become a round when `PATH/round`
//! is written, which names them. Whoever is not named waits until the round is over: until none of its claims is left, by
//! leaving or by the end of a session.

use std::collections::BTreeMap;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse};

use crate::claim::{Claim, changed};
use crate::error::{Error, Result};
use crate::guard::Fence;
use crate::namespace::Namespace;
use crate::session::Session;
use crate::store::{Range, Store, revision_of};

/// The most who can enter together: a transaction compares each, and etcd bounds its size.
const COUNT_MAX: u32 = 100;

/// A double barrier, known by its path. Cheap to clone.
#[derive(Clone)]
pub struct DoubleBarrier {
    namespace: Namespace,
    folder: String,
    count: u32,
}

impl Namespace {
    /// The double barrier at a path, for so many (1 to 100). All must name the same number.
    ///
    /// # Errors
    /// A path that is none; a number out of its bounds.
    pub fn double_barrier(&self, path: &str, count: u32) -> Result<DoubleBarrier> {
        if count == 0 || count > COUNT_MAX {
            return Err(Error::InvalidSetting("a double barrier is for 1 to 100"));
        }
        Ok(DoubleBarrier { namespace: self.clone(), folder: self.folder(path)?, count })
    }
}

/// A place in a round. Dropping it leaves in the background, without waiting for the others.
pub struct Entered {
    claim: Claim,
    barrier: DoubleBarrier,
    /// The revision that created the round.
    round: i64,
}

/// What is stored, at one revision.
struct Seen {
    revision: i64,
    round: Option<Round>,
    /// The waiters' keys and the revisions that created them, oldest first.
    waiters: Vec<(Vec<u8>, i64)>,
}

struct Round {
    created: i64,
    /// Key and revision that created it.
    members: BTreeMap<String, i64>,
}

impl Round {
    fn of(kv: &KeyValue) -> Result<Self> {
        let members = serde_json::from_slice(kv.value()).map_err(|error| Error::InvalidValue {
            key: String::from_utf8_lossy(kv.key()).into_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { created: kv.create_revision(), members })
    }

    fn names(&self, key: &[u8], token: i64) -> bool {
        std::str::from_utf8(key).is_ok_and(|key| self.members.get(key) == Some(&token))
    }
}

impl DoubleBarrier {
    /// Waits until so many wait, and enters with them.
    ///
    /// # Errors
    /// The session ends, or is here already; the store refuses.
    pub async fn enter(&self, session: &Session) -> Result<Entered> {
        let claim = Claim::enter(session, &self.waiters(), Vec::new()).await?;
        let round = session.unless_lost(self.enter_round(&claim, session.store())).await?;
        session.check()?;
        Ok(Entered { claim, barrier: self.clone(), round })
    }

    async fn enter_round(&self, claim: &Claim, store: &Store) -> Result<i64> {
        loop {
            let seen = self.look(store).await?;
            if !seen.waiters.iter().any(|(key, token)| *key == claim.key && *token == claim.token) {
                return Err(claim.not_held());
            }
            match &seen.round {
                Some(round) if round.names(&claim.key, claim.token) => return Ok(round.created),
                Some(round) if self.end_if_over(store, round, &seen).await? => continue,
                None if seen.waiters.len() >= self.count as usize => {
                    self.begin(store, &seen.waiters[..self.count as usize]).await?;
                    continue;
                }
                _ => {}
            }
            changed(store, Range::prefix(self.folder.as_bytes()), seen.revision + 1, |_| true).await?;
        }
    }

    fn waiters(&self) -> String {
        format!("{}waiters/", self.folder)
    }

    fn round(&self) -> String {
        format!("{}round", self.folder)
    }

    async fn look(&self, store: &Store) -> Result<Seen> {
        let oldest_first =
            GetOptions::new().with_prefix().with_keys_only().with_sort(SortTarget::Create, SortOrder::Ascend);
        let reads = [TxnOp::get(self.round(), None), TxnOp::get(self.waiters(), Some(oldest_first))];
        let response = store.commit(Txn::new().and_then(reads)).await?;
        let revision = revision_of(response.header());
        let mut found = response.op_responses().into_iter().map(|answer| match answer {
            TxnOpResponse::Get(mut got) => got.take_kvs(),
            _ => Vec::new(),
        });
        let round = found.next().unwrap_or_default().first().map(Round::of).transpose()?;
        let waiters = found.next().unwrap_or_default();
        let waiters = waiters.iter().map(|kv| (kv.key().to_vec(), kv.create_revision())).collect();
        Ok(Seen { revision, round, waiters })
    }

    /// Makes these a round, if all of them still wait and there is none. Anybody may do it, any number of times.
    async fn begin(&self, store: &Store, members: &[(Vec<u8>, i64)]) -> Result<()> {
        let mut conditions = vec![Compare::create_revision(self.round(), CompareOp::Equal, 0)];
        let mut named = BTreeMap::new();
        for (key, token) in members {
            conditions.push(Compare::create_revision(key.clone(), CompareOp::Equal, *token));
            named.insert(String::from_utf8_lossy(key).into_owned(), *token);
        }
        let value = serde_json::json!(named).to_string();
        let txn = Txn::new().when(conditions).and_then([TxnOp::put(self.round(), value, None)]);
        store.commit(txn).await.map(|_| ())
    }

    /// Ends the round if none of its members is left. Anybody may do it.
    async fn end_if_over(&self, store: &Store, round: &Round, seen: &Seen) -> Result<bool> {
        if seen.waiters.iter().any(|(key, token)| round.names(key, *token)) {
            return Ok(false);
        }
        let fence = Fence { key: self.round(), token: round.created };
        let txn = Txn::new().when([fence.compare()]).and_then([TxnOp::delete(self.round(), None)]);
        store.commit(txn).await.map(|_| true)
    }
}

impl Entered {
    /// The session that entered.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.claim.session
    }

    /// Leaves, and waits until all who entered left or their sessions ended.
    ///
    /// # Errors
    /// The session ended before, which left too; the store refuses.
    pub async fn leave(self) -> Result<()> {
        self.claim.release().await?;
        let store = self.barrier.namespace.store().patient();
        loop {
            let seen = self.barrier.look(&store).await?;
            match &seen.round {
                Some(round) if round.created == self.round => {
                    if self.barrier.end_if_over(&store, round, &seen).await? {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
            let range = Range::prefix(self.barrier.folder.as_bytes());
            changed(&store, range, seen.revision + 1, |_| true).await?;
        }
    }
}
