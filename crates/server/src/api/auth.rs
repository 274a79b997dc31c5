//! The auth service of a cluster without authentication.

use crate::api::ClientSurface;
use crate::api::error::AUTH_NOT_ENABLED;
use crate::api::method::Method;
use crate::grpc::request::framed;
use crate::grpc::status::Status;
use bytes::Bytes;
use quorate_proto::etcdserverpb::{AuthStatusRequest, AuthStatusResponse, AuthenticateRequest};
use std::sync::Arc;

/// The auth store's revision before anything was changed in it.
pub(crate) const AUTH_REVISION: u64 = 1;

pub(super) fn status(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let AuthStatusRequest {} = surface.decode(Method::AuthStatus, bytes)?;
    let header = Some(surface.header(surface.backend.reader().revision()));
    Ok(framed(&AuthStatusResponse { header, enabled: false, auth_revision: AUTH_REVISION }))
}

pub(super) fn authenticate(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let _: AuthenticateRequest = surface.decode(Method::Authenticate, bytes)?;
    Err(AUTH_NOT_ENABLED)
}
