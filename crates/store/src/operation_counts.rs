//! How many commands of which kind an entry held, for whoever measures.
//!
//! The names are etcd's, since they become labels that dashboards know; our own kinds have names of their own.

use quorate_proto::quoratepb::command::Operation;

/// Names of the kinds, by their number.
const NAMES: [&str; 23] = [
    "Put",
    "DeleteRange",
    "Txn",
    "Compaction",
    "LeaseGrant",
    "LeaseRevoke",
    "LeaseRenew",
    "Alarm",
    "ClusterMemberAttrSet",
    "ClusterVersionSet",
    "AuthEnable",
    "AuthDisable",
    "AuthUserAdd",
    "AuthUserDelete",
    "AuthUserChangePassword",
    "AuthUserGrantRole",
    "AuthUserRevokeRole",
    "AuthRoleAdd",
    "AuthRoleDelete",
    "AuthRoleGrantPermission",
    "AuthRoleRevokePermission",
    "DowngradeInfoSet",
    OTHER_NAME,
];
const COMPACTION: usize = 3;
const OTHER: usize = NAMES.len() - 1;
const OTHER_NAME: &str = "Other";

/// Counts by kind and by whether it went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationCounts {
    succeeded: [u32; NAMES.len()],
    failed: [u32; NAMES.len()],
}

impl OperationCounts {
    /// How many kinds there are.
    pub const KINDS: usize = NAMES.len();

    pub(crate) fn count(&mut self, operation: Option<&Operation>, succeeded: bool) {
        let counts = if succeeded { &mut self.succeeded } else { &mut self.failed };
        counts[kind(operation)] += 1;
    }

    /// Compactions that took effect.
    pub fn compactions(&self) -> u32 {
        self.succeeded[COMPACTION]
    }

    /// Adds another entry's.
    pub fn add(&mut self, other: &Self) {
        for kind in 0..Self::KINDS {
            self.succeeded[kind] += other.succeeded[kind];
            self.failed[kind] += other.failed[kind];
        }
    }

    /// All commands.
    pub fn total(&self) -> u32 {
        self.succeeded.iter().chain(&self.failed).sum()
    }

    /// Kinds that occur: number, name, how many went well and how many did not.
    pub fn occurring(&self) -> impl Iterator<Item = (usize, &'static str, u32, u32)> + '_ {
        (0..Self::KINDS)
            .map(|kind| (kind, NAMES[kind], self.succeeded[kind], self.failed[kind]))
            .filter(|(_, _, succeeded, failed)| succeeded + failed > 0)
    }

    /// The name of a kind below [`Self::KINDS`].
    pub fn name(kind: usize) -> &'static str {
        NAMES[kind]
    }
}

fn kind(operation: Option<&Operation>) -> usize {
    match operation {
        Some(Operation::Put(_)) => 0,
        Some(Operation::DeleteRange(_)) => 1,
        Some(Operation::Txn(_)) => 2,
        Some(Operation::Compact(_)) => COMPACTION,
        Some(Operation::LeaseGrant(_)) => 4,
        Some(Operation::LeaseRevoke(_) | Operation::LeaseExpire(_)) => 5,
        Some(Operation::LeaseRenew(_)) => 6,
        Some(Operation::Alarm(_)) => 7,
        Some(Operation::MemberPublish(_)) => 8,
        Some(Operation::ClusterVersionSet(_)) => 9,
        Some(Operation::AuthEnable(_)) => 10,
        Some(Operation::AuthDisable(_)) => 11,
        Some(Operation::AuthUserAdd(_)) => 12,
        Some(Operation::AuthUserDelete(_)) => 13,
        Some(Operation::AuthUserChangePassword(_)) => 14,
        Some(Operation::AuthUserGrantRole(_)) => 15,
        Some(Operation::AuthUserRevokeRole(_)) => 16,
        Some(Operation::AuthRoleAdd(_)) => 17,
        Some(Operation::AuthRoleDelete(_)) => 18,
        Some(Operation::AuthRoleGrantPermission(_)) => 19,
        Some(Operation::AuthRoleRevokePermission(_)) => 20,
        Some(Operation::DowngradeSet(_)) => 21,
        // Kinds that nobody measures apart.
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::etcdserverpb::{AuthRoleRevokePermissionRequest, CompactionRequest, PutRequest};

    #[test]
    fn kinds_are_counted_apart() {
        let put = Operation::Put(PutRequest::default());
        let compact = Operation::Compact(CompactionRequest::default());
        let mut counts = OperationCounts::default();
        counts.count(Some(&put), true);
        counts.count(Some(&put), true);
        counts.count(Some(&compact), false);
        counts.count(None, true);
        let mut twice = counts;
        twice.add(&counts);
        assert_eq!((counts.total(), twice.total(), counts.compactions()), (4, 8, 0));
        assert_eq!(
            counts.occurring().collect::<Vec<_>>(),
            [(0, "Put", 2, 0), (3, "Compaction", 0, 1), (OTHER, OTHER_NAME, 1, 0)]
        );
        assert_eq!(OperationCounts::name(OTHER), OTHER_NAME);
        let last = Operation::AuthRoleRevokePermission(AuthRoleRevokePermissionRequest::default());
        assert_eq!(OperationCounts::name(kind(Some(&last))), "AuthRoleRevokePermission");
    }
}
