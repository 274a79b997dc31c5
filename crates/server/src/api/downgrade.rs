//! `Maintenance.Downgrade`.
//!
//! Owns the order of the questions. Whether a target is allowed is decided by [`quorate_store::downgrade`], before the
//! command is proposed and again when it is applied.

use crate::api::ClientSurface;
use crate::api::error::{UNKNOWN_METHOD, WRONG_DOWNGRADE_VERSION};
use crate::api::method::Method;
use crate::cluster_version::major_minor;
use crate::grpc::request::framed;
use crate::grpc::status::Status;
use bytes::Bytes;
use quorate_proto::etcdserverpb::downgrade_request::DowngradeAction;
use quorate_proto::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use quorate_proto::quoratepb::DowngradeSet;
use quorate_proto::quoratepb::command::Operation;
use quorate_store::downgrade::MinorVersion;
use quorate_store::error::Error;
use std::sync::Arc;

pub(super) async fn downgrade(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let request: DowngradeRequest = surface.decode(Method::Downgrade, bytes)?;
    let reader = surface.backend.reader();
    let version_before = reader.cluster_version();
    let version = match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => {
            validate(surface, &request.version).await?;
            version_before
        }
        Ok(DowngradeAction::Enable) => {
            enable(surface, &request.version).await.inspect_err(|refusal| {
                tracing::warn!(error = &*refusal.message, "reject downgrade request");
            })?;
            reader.cluster_version()
        }
        Ok(DowngradeAction::Cancel) => {
            // As in etcd: whoever cancels nothing is not told so.
            if let Err(refusal) = cancel(surface).await {
                tracing::warn!(error = &*refusal.message, "failed to cancel downgrade");
            }
            reader.cluster_version()
        }
        Err(_) => return Err(UNKNOWN_METHOD),
    };
    let header = Some(surface.header(reader.revision()));
    Ok(framed(&DowngradeResponse { header, version: major_minor(&version) }))
}

/// The target, as commands name it.
async fn validate(surface: &ClientSurface, version: &str) -> Result<String, Status> {
    let target = MinorVersion::parse(version).ok_or(WRONG_DOWNGRADE_VERSION)?.to_string();
    if surface.backend.reader().cluster_version().is_empty() {
        return Err(Error::ClusterVersionUnavailable.into());
    }
    surface.backend.read_barrier().await?;
    surface.backend.reader().check_downgrade(&target)?;
    Ok(target)
}

async fn enable(surface: &ClientSurface, version: &str) -> Result<(), Status> {
    let target = validate(surface, version).await?;
    surface.backend.propose(None, Operation::DowngradeSet(DowngradeSet { target })).await?;
    Ok(())
}

async fn cancel(surface: &ClientSurface) -> Result<(), Status> {
    surface.backend.propose(None, Operation::DowngradeSet(DowngradeSet::default())).await?;
    Ok(())
}
