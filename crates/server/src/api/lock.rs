//! The lock service: a lock is the oldest key of a queue.

use crate::api::Call;
use crate::api::client::Client;
use crate::api::header::header_only;
use crate::api::kv::unexpected;
use crate::api::method::Method;
use crate::api::queue::{
    Place, commit, create_revision_is, found, get, key, oldest, prefix, put, range_operation, revision, session,
    untyped,
};
use crate::grpc::request::framed;
use crate::grpc::status::{Code, Status};
use bytes::Bytes;
use quorate_proto::etcdserverpb::{DeleteRangeRequest, TxnRequest};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use quorate_store::outcome::ReplyBody;

pub(super) async fn lock(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: LockRequest = call.surface.decode(Method::Lock, bytes)?;
    let acquired = async { acquire(&call.client().await?.for_long(), request).await };
    acquired.await.map_err(untyped)
}

async fn acquire(client: &Client, request: LockRequest) -> Result<Bytes, Status> {
    let surface = &client.surface;
    let lease = session(client, request.lease).await?;
    let prefix = prefix(&request.name);
    let key = key(&prefix, lease);
    let response = commit(
        client,
        TxnRequest {
            compare: vec![create_revision_is(&key, 0)],
            success: vec![put(&key, Bytes::new(), lease), range_operation(oldest(&prefix))],
            failure: vec![range_operation(get(&key)), range_operation(oldest(&prefix))],
        },
    )
    .await?;
    let own = if response.succeeded {
        revision(&response)
    } else {
        found(&response, 0).first().map_or(0, |own| own.create_revision)
    };
    let granted = |revision: i64| framed(&LockResponse { header: Some(surface.header(revision)), key: key.clone() });
    if found(&response, 1).first().is_none_or(|owner| owner.create_revision == own) {
        return Ok(granted(revision(&response)));
    }
    let place = Place::new(client, prefix, key.clone(), own);
    match place.wait().await? {
        Some(revision) => {
            place.keep();
            Ok(granted(revision))
        }
        None => Err(Status::new(Code::Unknown, "mutex: session is expired")),
    }
}

pub(super) async fn unlock(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: UnlockRequest = call.surface.decode(Method::Unlock, bytes)?;
    release(call, request).await.map_err(untyped)
}

async fn release(call: &Call, request: UnlockRequest) -> Result<Bytes, Status> {
    let request = DeleteRangeRequest { key: request.key, ..Default::default() };
    crate::api::checks::check_delete(&request)?;
    let applied = call.propose(Operation::DeleteRange(request)).await?;
    match applied.body {
        ReplyBody::DeleteRange(_) => Ok(header_only(&call.surface.header(applied.revision))),
        body => Err(unexpected(&body)),
    }
}
