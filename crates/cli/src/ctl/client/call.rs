//! Which request goes to which method of which service, and whether it may be sent again.
//!
//! Not here: sending. The invariant: every request that is not a pure read is [`Repeat::Never`].

use std::error::Error;

use quorate_proto::Message;
use quorate_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_proto::etcdserverpb::{self as pb, auth_client::AuthClient, cluster_client::ClusterClient};
use quorate_proto::etcdserverpb::{kv_client::KvClient, lease_client::LeaseClient};
use tonic::transport::Channel;

use crate::ctl::failure::CallError;

/// Whether a request may be sent again when the connection broke under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only reads.
    UntilDeadline,
    /// It may have been carried out.
    Never,
}

/// A request with one reply.
pub(crate) trait Call: Message + Clone {
    /// What the server answers.
    type Reply;
    /// Whether it may be sent again.
    const REPEAT: Repeat;

    /// Sends it.
    fn send(
        channel: Channel,
        request: tonic::Request<Self>,
        receive_bytes_max: usize,
    ) -> impl Future<Output = Result<tonic::Response<Self::Reply>, tonic::Status>>;
}

macro_rules! calls {
    ($($request:ident => $reply:ident: $service:ident.$method:ident, $repeat:ident;)*) => {$(
        impl Call for pb::$request {
            type Reply = pb::$reply;
            const REPEAT: Repeat = Repeat::$repeat;

            async fn send(
                channel: Channel,
                request: tonic::Request<Self>,
                receive_bytes_max: usize,
            ) -> Result<tonic::Response<pb::$reply>, tonic::Status> {
                $service::new(channel).max_decoding_message_size(receive_bytes_max).$method(request).await
            }
        }
    )*};
}

calls! {
    RangeRequest => RangeResponse: KvClient.range, UntilDeadline;
    PutRequest => PutResponse: KvClient.put, Never;
    DeleteRangeRequest => DeleteRangeResponse: KvClient.delete_range, Never;
    TxnRequest => TxnResponse: KvClient.txn, Never;
    CompactionRequest => CompactionResponse: KvClient.compact, Never;
    LeaseGrantRequest => LeaseGrantResponse: LeaseClient.lease_grant, Never;
    LeaseRevokeRequest => LeaseRevokeResponse: LeaseClient.lease_revoke, Never;
    LeaseTimeToLiveRequest => LeaseTimeToLiveResponse: LeaseClient.lease_time_to_live, UntilDeadline;
    LeaseLeasesRequest => LeaseLeasesResponse: LeaseClient.lease_leases, UntilDeadline;
    MemberListRequest => MemberListResponse: ClusterClient.member_list, UntilDeadline;
    MemberAddRequest => MemberAddResponse: ClusterClient.member_add, Never;
    MemberRemoveRequest => MemberRemoveResponse: ClusterClient.member_remove, Never;
    MemberUpdateRequest => MemberUpdateResponse: ClusterClient.member_update, Never;
    MemberPromoteRequest => MemberPromoteResponse: ClusterClient.member_promote, Never;
    AlarmRequest => AlarmResponse: MaintenanceClient.alarm, Never;
    StatusRequest => StatusResponse: MaintenanceClient.status, UntilDeadline;
    HashKvRequest => HashKvResponse: MaintenanceClient.hash_kv, UntilDeadline;
    DefragmentRequest => DefragmentResponse: MaintenanceClient.defragment, Never;
    MoveLeaderRequest => MoveLeaderResponse: MaintenanceClient.move_leader, Never;
    DowngradeRequest => DowngradeResponse: MaintenanceClient.downgrade, Never;
    AuthenticateRequest => AuthenticateResponse: AuthClient.authenticate, UntilDeadline;
    AuthEnableRequest => AuthEnableResponse: AuthClient.auth_enable, Never;
    AuthDisableRequest => AuthDisableResponse: AuthClient.auth_disable, Never;
    AuthStatusRequest => AuthStatusResponse: AuthClient.auth_status, UntilDeadline;
    AuthUserAddRequest => AuthUserAddResponse: AuthClient.user_add, Never;
    AuthUserGetRequest => AuthUserGetResponse: AuthClient.user_get, UntilDeadline;
    AuthUserListRequest => AuthUserListResponse: AuthClient.user_list, UntilDeadline;
    AuthUserDeleteRequest => AuthUserDeleteResponse: AuthClient.user_delete, Never;
    AuthUserChangePasswordRequest => AuthUserChangePasswordResponse: AuthClient.user_change_password, Never;
    AuthUserGrantRoleRequest => AuthUserGrantRoleResponse: AuthClient.user_grant_role, Never;
    AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse: AuthClient.user_revoke_role, Never;
    AuthRoleAddRequest => AuthRoleAddResponse: AuthClient.role_add, Never;
    AuthRoleGetRequest => AuthRoleGetResponse: AuthClient.role_get, UntilDeadline;
    AuthRoleListRequest => AuthRoleListResponse: AuthClient.role_list, UntilDeadline;
    AuthRoleDeleteRequest => AuthRoleDeleteResponse: AuthClient.role_delete, Never;
    AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse: AuthClient.role_grant_permission, Never;
    AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse: AuthClient.role_revoke_permission, Never;
}

/// Reads a status, and whether it says that the connection is no good any more.
pub(crate) fn read_status(status: &tonic::Status) -> (CallError, bool) {
    if let Some(source) = status.source() {
        // The server did not say this: the transport did.
        let code = tonic::Code::Unavailable;
        return (CallError { code, message: format!("error reading from server: {source}") }, true);
    }
    let limit = status.message().strip_prefix("Error, decoded message length too large: found ");
    if let Some((found, limit)) = limit.and_then(|text| text.split_once(" bytes, the limit is: ")) {
        let limit = limit.trim_end_matches(" bytes");
        let message = format!("grpc: received message larger than max ({found} vs. {limit})");
        return (CallError { code: tonic::Code::ResourceExhausted, message }, false);
    }
    if status.code() == tonic::Code::Cancelled && status.message() == "Timeout expired" {
        return (CallError::deadline(), false);
    }
    (CallError { code: status.code(), message: status.message().to_owned() }, false)
}
