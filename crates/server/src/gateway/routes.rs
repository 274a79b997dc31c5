//! Which path is which method.

use crate::api::method::Method;

/// Where all paths begin.
pub(super) const ROOT: &str = "/v3/";

/// The method of a path; all are asked by POST.
pub(super) fn find(path: &str) -> Option<Method> {
    Some(match path.strip_prefix(ROOT)? {
        "kv/range" => Method::Range,
        "kv/put" => Method::Put,
        "kv/deleterange" => Method::DeleteRange,
        "kv/txn" => Method::Txn,
        "kv/compaction" => Method::Compact,
        "watch" => Method::Watch,
        "lease/grant" => Method::LeaseGrant,
        "lease/revoke" | "kv/lease/revoke" => Method::LeaseRevoke,
        "lease/keepalive" => Method::LeaseKeepAlive,
        "lease/timetolive" | "kv/lease/timetolive" => Method::LeaseTimeToLive,
        "lease/leases" | "kv/lease/leases" => Method::LeaseLeases,
        "cluster/member/add" => Method::MemberAdd,
        "cluster/member/remove" => Method::MemberRemove,
        "cluster/member/update" => Method::MemberUpdate,
        "cluster/member/list" => Method::MemberList,
        "cluster/member/promote" => Method::MemberPromote,
        "maintenance/alarm" => Method::Alarm,
        "maintenance/status" => Method::Status,
        "maintenance/defragment" => Method::Defragment,
        "maintenance/hash" => Method::Hash,
        "maintenance/hashkv" => Method::HashKv,
        "maintenance/snapshot" => Method::Snapshot,
        "maintenance/transfer-leadership" => Method::MoveLeader,
        "maintenance/downgrade" => Method::Downgrade,
        "auth/enable" => Method::AuthEnable,
        "auth/disable" => Method::AuthDisable,
        "auth/status" => Method::AuthStatus,
        "auth/authenticate" => Method::Authenticate,
        "auth/user/add" => Method::UserAdd,
        "auth/user/get" => Method::UserGet,
        "auth/user/list" => Method::UserList,
        "auth/user/delete" => Method::UserDelete,
        "auth/user/changepw" => Method::UserChangePassword,
        "auth/user/grant" => Method::UserGrantRole,
        "auth/user/revoke" => Method::UserRevokeRole,
        "auth/role/add" => Method::RoleAdd,
        "auth/role/get" => Method::RoleGet,
        "auth/role/list" => Method::RoleList,
        "auth/role/delete" => Method::RoleDelete,
        "auth/role/grant" => Method::RoleGrantPermission,
        "auth/role/revoke" => Method::RoleRevokePermission,
        "lock/lock" => Method::Lock,
        "lock/unlock" => Method::Unlock,
        "election/campaign" => Method::Campaign,
        "election/proclaim" => Method::Proclaim,
        "election/leader" => Method::Leader,
        "election/observe" => Method::Observe,
        "election/resign" => Method::Resign,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::descriptor;

    #[test]
    fn paths_are_found_as_they_are_written() {
        assert_eq!(find("/v3/kv/range"), Some(Method::Range));
        assert_eq!(find("/v3/kv/lease/leases"), Some(Method::LeaseLeases));
        for path in ["/v3/kv/range/", "/v3/", "/v3", "/v3/kv", "/kv/range", "/v3/kv/rangestream", "/V3/kv/range"] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn every_method_but_health_has_its_messages() {
        for method in Method::ALL {
            let path = format!("/{}/{}", method.service(), method.name());
            assert_eq!(descriptor::method(&path).is_some(), method.service() != "grpc.health.v1.Health", "{path}");
        }
    }
}
