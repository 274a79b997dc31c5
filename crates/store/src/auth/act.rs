//! What a caller may want to do, as far as permissions tell it apart.

use quorate_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use quorate_proto::quoratepb::command::Operation;

/// Something to be authorised, with the request's own fields as the client sent them (unchecked, unchanged).
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// Range and RangeStream.
    Range(&'a RangeRequest),
    /// Put.
    Put(&'a PutRequest),
    /// DeleteRange.
    DeleteRange(&'a DeleteRangeRequest),
    /// Txn, with everything in it.
    Txn(&'a TxnRequest),
    /// One watcher, as its create request names the keys; with or without previous values.
    Watch {
        /// The first key; empty: the smallest one.
        key: &'a [u8],
        /// Empty: the key alone; a single zero byte: all keys from `key` on.
        range_end: &'a [u8],
    },
    /// Compact.
    Compact,
    /// LeaseGrant.
    LeaseGrant,
    /// LeaseRevoke of this lease.
    LeaseRevoke(i64),
    /// One LeaseKeepAlive of this lease.
    LeaseRenew(i64),
    /// LeaseTimeToLive.
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// Whether its keys are asked for.
        keys: bool,
    },
    /// LeaseLeases.
    LeaseLeases,
    /// Lock and Campaign: a key of one's own below the prefix, and waiting for those before it.
    Contend {
        /// The name with its slash.
        prefix: &'a [u8],
        /// The own key.
        key: &'a [u8],
        /// The lease that it hangs on.
        lease: i64,
    },
    /// Unlock of this key.
    Unlock(&'a [u8]),
    /// Proclaim.
    Proclaim {
        /// The leader's key.
        key: &'a [u8],
        /// The lease that it hangs on.
        lease: i64,
    },
    /// Resign from this key.
    Resign(&'a [u8]),
    /// Leader and Observe of an election: the name with its slash.
    Observe(&'a [u8]),
    /// Alarm, by its request's action.
    Alarm(i32),
    /// Any change of users and roles, enabling and disabling.
    AuthChange,
    /// UserGet of this user.
    UserGet(&'a str),
    /// RoleGet of this role.
    RoleGet(&'a str),
    /// A call that is judged by its method alone, for example "/etcdserverpb.Maintenance/Snapshot". Of a method whose
    /// request matters there is an act of its own above; given here it is denied like one that nobody knows.
    Call(&'a str),
    /// What members do among themselves and no client can ask for.
    Members,
    /// An operation that this release does not know.
    Unknown,
}

impl<'a> Act<'a> {
    /// What a command of the log is.
    pub fn of(operation: Option<&'a Operation>) -> Self {
        let Some(operation) = operation else {
            return Self::Unknown;
        };
        match operation {
            Operation::Put(request) => Self::Put(request),
            Operation::DeleteRange(request) => Self::DeleteRange(request),
            Operation::Txn(request) => Self::Txn(request),
            Operation::Compact(_) => Self::Compact,
            Operation::LeaseGrant(_) => Self::LeaseGrant,
            Operation::LeaseRevoke(request) => Self::LeaseRevoke(request.id),
            Operation::LeaseRenew(request) => Self::LeaseRenew(request.id),
            Operation::Alarm(request) => Self::Alarm(request.action),
            // A change of members, or of the version, is judged by its method where the call comes in, as in etcd.
            // So is a change of the v2 tree, by v2's users or v3's root.
            Operation::LeaseExpire(_)
            | Operation::MemberPublish(_)
            | Operation::ClusterVersionSet(_)
            | Operation::DowngradeSet(_)
            | Operation::AuthTokenKeySet(_)
            | Operation::MemberChange(_)
            | Operation::V2Change(_)
            | Operation::V2Expire(_)
            | Operation::DigestCheck(_)
            | Operation::DigestReport(_) => Self::Members,
            Operation::AuthEnable(_)
            | Operation::AuthDisable(_)
            | Operation::AuthUserAdd(_)
            | Operation::AuthUserDelete(_)
            | Operation::AuthUserChangePassword(_)
            | Operation::AuthUserGrantRole(_)
            | Operation::AuthUserRevokeRole(_)
            | Operation::AuthRoleAdd(_)
            | Operation::AuthRoleDelete(_)
            | Operation::AuthRoleGrantPermission(_)
            | Operation::AuthRoleRevokePermission(_) => Self::AuthChange,
        }
    }

    /// Whether the keys of leases have a say.
    pub(crate) fn names_lease(&self) -> bool {
        match self {
            Self::Put(request) => request.lease != 0,
            Self::Txn(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseRenew(_)
            | Self::LeaseTimeToLive { .. }
            | Self::LeaseLeases
            | Self::Contend { .. }
            | Self::Proclaim { .. } => true,
            _ => false,
        }
    }
}
