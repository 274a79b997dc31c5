//! One state: members that applied the same index have the same digest and the same revision.

use crate::check::log::CommittedLog;
use crate::history::Violation;
use std::collections::BTreeMap;

const NAME: &str = "state";

/// Digests seen so far.
#[derive(Default)]
pub struct StateCheck {
    /// By applied index: who was seen first there, and with which digest.
    digests: BTreeMap<u64, (u64, u64)>,
}

impl StateCheck {
    /// A member's store is behind `index`.
    pub fn observe(
        &mut self,
        log: &CommittedLog,
        member: u64,
        index: u64,
        digest: u64,
        revision: i64,
    ) -> Result<(), Violation> {
        if index > log.last_index() {
            return Err(Violation::new(
                NAME,
                format!(
                    "member {member} says that it applied {index}, nobody was handed more than {}",
                    log.last_index()
                ),
            ));
        }
        let expected = log.revision_at(index);
        if revision != expected {
            return Err(Violation::new(
                NAME,
                format!("member {member} is at revision {revision} behind index {index}, the log says {expected}"),
            ));
        }
        let (first, known) = *self.digests.entry(index).or_insert((member, digest));
        if known != digest {
            return Err(Violation::new(
                NAME,
                format!("members {first} and {member} differ behind index {index}: {known:016x} and {digest:016x}"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::log::tests::{entry, put};

    #[test]
    fn equal_states_pass_and_others_are_found() {
        let mut log = CommittedLog::new();
        log.observe_apply(1, &entry(1, 1, vec![(1, put("a", "1"))]), 0).unwrap();
        let mut check = StateCheck::default();
        check.observe(&log, 1, 1, 77, 2).unwrap();
        check.observe(&log, 2, 1, 77, 2).unwrap();
        assert!(check.observe(&log, 3, 1, 78, 2).is_err(), "another digest");
        assert!(check.observe(&log, 3, 1, 77, 3).is_err(), "another revision");
        assert!(check.observe(&log, 3, 2, 77, 2).is_err(), "an index that nobody was handed");
    }
}
