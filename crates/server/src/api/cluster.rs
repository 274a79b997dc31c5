//! The cluster service.

use crate::api::ClientSurface;
use crate::api::method::Method;
use crate::grpc::request::framed;
use crate::grpc::status::Status;
use bytes::Bytes;
use quorate_proto::etcdserverpb::{MemberListRequest, MemberListResponse};
use std::sync::Arc;

pub(super) async fn member_list(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let request: MemberListRequest = surface.decode(Method::MemberList, bytes)?;
    if request.linearizable {
        surface.backend.read_barrier().await?;
    }
    // Answers about members have no revision in their header.
    let header = Some(surface.header(0));
    Ok(framed(&MemberListResponse { header, members: surface.backend.reader().members() }))
}
