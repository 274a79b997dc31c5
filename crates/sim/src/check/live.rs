//! Liveness: when nothing hinders the cluster any more, every member serves within a bound of virtual time, and all
//! catch up with each other.

use crate::history::Violation;
use std::collections::BTreeMap;

const NAME: &str = "liveness";

/// What still has to happen after the faults are over.
#[derive(Clone, Debug, Default)]
pub struct LiveCheck {
    healed_us: u64,
    /// Members, and when a write through each was answered.
    served_us: BTreeMap<u64, Option<u64>>,
}

impl LiveCheck {
    /// Everything is well from now on; each of these members is to answer a write.
    pub fn healed(&mut self, now_us: u64, members: impl Iterator<Item = u64>) {
        self.healed_us = now_us;
        self.served_us = members.map(|member| (member, None)).collect();
    }

    /// A member came later: it is to answer a write, too.
    pub fn expect(&mut self, member: u64) {
        self.served_us.entry(member).or_insert(None);
    }

    /// A member refused to start for good, as it should with files that are broken: nothing is expected of it.
    pub fn excuse(&mut self, member: u64) {
        self.served_us.remove(&member);
    }

    /// A write through a member was answered.
    pub fn served(&mut self, member: u64, now_us: u64) {
        if let Some(served_us) = self.served_us.get_mut(&member) {
            served_us.get_or_insert(now_us);
        }
    }

    /// Whether nothing more is expected of this member.
    pub fn is_served(&self, member: u64) -> bool {
        self.served_us.get(&member).is_none_or(Option::is_some)
    }

    /// Whether every member answered.
    pub fn all_served(&self) -> bool {
        self.served_us.values().all(Option::is_some)
    }

    /// How long the slowest member took, us; of those that answered.
    pub fn slowest_us(&self) -> u64 {
        self.served_us.values().flatten().map(|served_us| served_us - self.healed_us).max().unwrap_or(0)
    }

    /// Judges the end of a run: `converged` says whether all members applied the same.
    pub fn check(&self, converged: bool, bound_us: u64) -> Result<(), Violation> {
        for (member, served_us) in &self.served_us {
            if served_us.is_none_or(|served_us| served_us > self.healed_us + bound_us) {
                return Err(Violation::new(
                    NAME,
                    format!(
                        "member {member} answered no write within {bound_us} us of all faults' end at {} us{}",
                        self.healed_us,
                        served_us.map_or(String::new(), |served_us| format!(", only at {served_us} us")),
                    ),
                ));
            }
        }
        if !converged {
            return Err(Violation::new(NAME, "the members did not catch up with each other after all faults' end"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_does_not_serve_and_one_that_lags_are_found() {
        let mut check = LiveCheck::default();
        check.healed(100, [1, 2, 3].into_iter());
        check.excuse(3);
        check.served(1, 150);
        assert!(check.check(true, 100).is_err());
        check.served(2, 300);
        assert!(check.check(true, 100).is_err(), "too late");
        check.check(true, 200).unwrap();
        assert!(check.check(false, 200).is_err());
    }
}
