//! etcd's inner messages, as far as files hold them: leases, records of its log, the entries in them.
//!
//! Owns field numbers. Not here: etcd's public messages (`quorate_proto`).

use quorate_proto::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, CompactionRequest, DeleteRangeRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest,
};

/// A lease in its bucket.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Lease {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) ttl: i64,
    #[prost(int64, tag = "3")]
    pub(crate) remaining_ttl: i64,
}

/// A record of the log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WalRecord {
    #[prost(int64, tag = "1")]
    pub(crate) kind: i64,
    #[prost(uint32, tag = "2")]
    pub(crate) crc: u32,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) data: Option<bytes::Bytes>,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Entry {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) data: bytes::Bytes,
}

/// Raft's hard state.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct HardState {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) vote: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) commit: u64,
}

/// Who asked.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RequestHeader {
    #[prost(string, tag = "2")]
    pub(crate) username: String,
    #[prost(uint64, tag = "3")]
    pub(crate) auth_revision: u64,
}

/// What an entry asks for; what changes nothing that is taken over is left out.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InternalRequest {
    #[prost(message, optional, tag = "4")]
    pub(crate) put: Option<PutRequest>,
    #[prost(message, optional, tag = "5")]
    pub(crate) delete_range: Option<DeleteRangeRequest>,
    #[prost(message, optional, tag = "6")]
    pub(crate) txn: Option<TxnRequest>,
    #[prost(message, optional, tag = "7")]
    pub(crate) compaction: Option<CompactionRequest>,
    #[prost(message, optional, tag = "8")]
    pub(crate) lease_grant: Option<LeaseGrantRequest>,
    #[prost(message, optional, tag = "9")]
    pub(crate) lease_revoke: Option<LeaseRevokeRequest>,
    #[prost(message, optional, tag = "10")]
    pub(crate) alarm: Option<AlarmRequest>,
    #[prost(message, optional, tag = "100")]
    pub(crate) header: Option<RequestHeader>,
    #[prost(message, optional, tag = "1000")]
    pub(crate) auth_enable: Option<AuthEnableRequest>,
    #[prost(message, optional, tag = "1011")]
    pub(crate) auth_disable: Option<AuthDisableRequest>,
    #[prost(message, optional, tag = "1100")]
    pub(crate) auth_user_add: Option<AuthUserAddRequest>,
    #[prost(message, optional, tag = "1101")]
    pub(crate) auth_user_delete: Option<AuthUserDeleteRequest>,
    #[prost(message, optional, tag = "1103")]
    pub(crate) auth_user_change_password: Option<AuthUserChangePasswordRequest>,
    #[prost(message, optional, tag = "1104")]
    pub(crate) auth_user_grant_role: Option<AuthUserGrantRoleRequest>,
    #[prost(message, optional, tag = "1105")]
    pub(crate) auth_user_revoke_role: Option<AuthUserRevokeRoleRequest>,
    #[prost(message, optional, tag = "1200")]
    pub(crate) auth_role_add: Option<AuthRoleAddRequest>,
    #[prost(message, optional, tag = "1201")]
    pub(crate) auth_role_delete: Option<AuthRoleDeleteRequest>,
    #[prost(message, optional, tag = "1203")]
    pub(crate) auth_role_grant_permission: Option<AuthRoleGrantPermissionRequest>,
    #[prost(message, optional, tag = "1204")]
    pub(crate) auth_role_revoke_permission: Option<AuthRoleRevokePermissionRequest>,
}
