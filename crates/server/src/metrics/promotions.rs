//! Promotions of learners that were refused, by etcd's reasons.
//!
//! Invariant: the reasons are a fixed few, so that no caller can make the page grow.

use super::Counter;

/// What a caller is told, and how etcd's metric calls it.
const REASONS: [(&str, &str); 4] = [
    (
        "etcdserver: can only promote a learner member which is in sync with leader",
        "etcdserver: can only promote a learner member which is in sync with leader",
    ),
    ("etcdserver: can only promote a learner member", "membership: can only promote a learner member"),
    ("etcdserver: member not found", "membership: ID not found"),
    (
        "etcdserver: re-configuration failed due to not enough started members",
        "etcdserver: re-configuration failed due to not enough started members",
    ),
];

/// The reason of all that has nothing to do with the learner, such as a cluster without a leader.
const OTHER: &str = "other";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RefusedPromotions {
    known: [Counter; REASONS.len()],
    other: Counter,
}

impl RefusedPromotions {
    /// A caller was told this message instead.
    pub(crate) fn count(&self, message: &str) {
        let counter = REASONS.iter().position(|(told, _)| *told == message).map_or(&self.other, |at| &self.known[at]);
        counter.increment();
    }

    /// Reasons that occurred, each with how often.
    pub(crate) fn occurring(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = REASONS.iter().map(|(_, name)| *name).chain([OTHER]);
        names.zip(self.known.iter().chain([&self.other]).map(Counter::get)).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_etcds() {
        let refused = RefusedPromotions::default();
        assert_eq!(refused.occurring().count(), 0);
        for message in ["etcdserver: member not found", "etcdserver: no leader", "etcdserver: member not found"] {
            refused.count(message);
        }
        let occurred: Vec<_> = refused.occurring().collect();
        assert_eq!(occurred, [("membership: ID not found", 2), ("other", 1)]);
    }
}
