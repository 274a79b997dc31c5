//! When leases run out, as this member's clock sees it.
//!
//! Every member keeps the deadlines, from what the log says, so that a new leader goes on where the old one stopped. Only
//! the leader acts on them. Owns no lease: the store does. Invariant: each lease stands exactly once in `waiting` (at its
//! deadline) or in `proposed` (at the time of the next attempt, in case nothing comes of the proposed expiry).

use quorate_proto::quoratepb::LeaseRecord;
use quorate_store::outcome::LeaseChange;
use std::collections::{BTreeMap, BTreeSet};

/// A lease's clock.
#[derive(Clone, Copy, Debug)]
struct Clock {
    ttl_ms: u64,
    deadline_ms: u64,
    renewals: u64,
    /// When the expiry that was proposed since the last change is to be proposed again.
    retry_ms: Option<u64>,
}

/// The deadlines of all leases.
#[derive(Debug, Default)]
pub(crate) struct LeaseClocks {
    by_id: BTreeMap<i64, Clock>,
    waiting: BTreeSet<(u64, i64)>,
    proposed: BTreeSet<(u64, i64)>,
}

/// A lease whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DueLease {
    pub(crate) id: i64,
    pub(crate) renewals: u64,
}

impl LeaseClocks {
    /// Replaces all: each begins anew.
    pub(crate) fn load(&mut self, now_ms: u64, records: &[LeaseRecord]) {
        *self = Self::default();
        for record in records {
            self.set(now_ms, record.id, ttl_ms(record.ttl_s), record.renewals);
        }
    }

    /// Takes over what an applied entry did.
    pub(crate) fn change(&mut self, now_ms: u64, change: LeaseChange) {
        match change {
            LeaseChange::Granted { id, ttl_s, renewals } => self.set(now_ms, id, ttl_ms(ttl_s), renewals),
            LeaseChange::Renewed { id, renewals } => {
                if let Some(ttl_ms) = self.by_id.get(&id).map(|clock| clock.ttl_ms) {
                    self.set(now_ms, id, ttl_ms, renewals);
                }
            }
            LeaseChange::Ended { id } => self.remove(id),
        }
    }

    fn set(&mut self, now_ms: u64, id: i64, ttl_ms: u64, renewals: u64) {
        self.remove(id);
        let deadline_ms = now_ms.saturating_add(ttl_ms);
        self.by_id.insert(id, Clock { ttl_ms, deadline_ms, renewals, retry_ms: None });
        self.waiting.insert((deadline_ms, id));
    }

    fn remove(&mut self, id: i64) {
        if let Some(clock) = self.by_id.remove(&id) {
            match clock.retry_ms {
                Some(retry_ms) => self.proposed.remove(&(retry_ms, id)),
                None => self.waiting.remove(&(clock.deadline_ms, id)),
            };
        }
    }

    /// What remains of a lease, ms; `None` when there is none of that id.
    pub(crate) fn remaining_ms(&self, now_ms: u64, id: i64) -> Option<u64> {
        self.by_id.get(&id).map(|clock| clock.deadline_ms.saturating_sub(now_ms))
    }

    /// Whether an expiry should be proposed, first or again.
    pub(crate) fn any_due(&self, now_ms: u64) -> bool {
        [&self.waiting, &self.proposed].iter().any(|set| set.first().is_some_and(|&(due_ms, _)| due_ms <= now_ms))
    }

    /// Takes leases whose time is over, so many that at most `proposed_max` are proposed at once. One that is neither
    /// ended nor renewed by `retry_ms` comes again.
    pub(crate) fn take_due(&mut self, now_ms: u64, retry_ms: u64, proposed_max: usize) -> Vec<DueLease> {
        assert!(retry_ms > now_ms, "a retry at once would never end");
        let mut due = Vec::new();
        while let Some(&(due_ms, id)) = self.proposed.first()
            && due_ms <= now_ms
        {
            self.proposed.pop_first();
            due.push(self.propose(id, retry_ms));
        }
        while self.proposed.len() < proposed_max
            && let Some(&(due_ms, id)) = self.waiting.first()
            && due_ms <= now_ms
        {
            self.waiting.pop_first();
            due.push(self.propose(id, retry_ms));
        }
        due
    }

    fn propose(&mut self, id: i64, retry_ms: u64) -> DueLease {
        let clock = self.by_id.get_mut(&id).expect("both orders name only leases of by_id");
        clock.retry_ms = Some(retry_ms);
        self.proposed.insert((retry_ms, id));
        DueLease { id, renewals: clock.renewals }
    }
}

fn ttl_ms(ttl_s: i64) -> u64 {
    u64::try_from(ttl_s).unwrap_or(0).saturating_mul(1000)
}
