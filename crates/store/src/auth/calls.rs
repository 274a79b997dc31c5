//! The calls that are judged by their method alone.

/// Who may make such a call while auth is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Everybody: it is how one becomes somebody, or tells nothing.
    Open,
    /// Every user that exists.
    User,
    /// Holders of the role root.
    Root,
}

/// The rule of a method; `None`: denied.
pub(super) fn rule(method: &str) -> Option<Rule> {
    Some(match method {
        "/etcdserverpb.Auth/Authenticate"
        | "/etcdserverpb.Auth/AuthStatus"
        | "/grpc.health.v1.Health/Check"
        | "/grpc.health.v1.Health/Watch" => Rule::Open,
        "/etcdserverpb.Maintenance/Status" | "/etcdserverpb.Cluster/MemberList" => Rule::User,
        "/etcdserverpb.Maintenance/Defragment"
        | "/etcdserverpb.Maintenance/Hash"
        | "/etcdserverpb.Maintenance/HashKV"
        | "/etcdserverpb.Maintenance/Snapshot"
        | "/etcdserverpb.Maintenance/MoveLeader"
        | "/etcdserverpb.Maintenance/Downgrade"
        | "/etcdserverpb.Cluster/MemberAdd"
        | "/etcdserverpb.Cluster/MemberRemove"
        | "/etcdserverpb.Cluster/MemberUpdate"
        | "/etcdserverpb.Cluster/MemberPromote"
        | "/etcdserverpb.Auth/UserList"
        | "/etcdserverpb.Auth/RoleList" => Rule::Root,
        _ => return None,
    })
}
