//! The lease service.

use crate::api::client::Client;
use crate::api::ending::{Ending, UntilEnding};
use crate::api::kv::{done, unexpected};
use crate::api::method::Method;
use crate::api::{Call, Reply};
use crate::backend::CallError;
use crate::grpc::body::Chunk;
use crate::grpc::request::{MessageReader, framed};
use crate::grpc::status::Status;
use crate::metrics::StreamFailure;
use bytes::Bytes;
use futures::StreamExt;
use http_body::Body;
use quorate_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use quorate_proto::quoratepb::LeaseRenew;
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::Act;
use quorate_store::error::Error;
use quorate_store::outcome::ReplyBody;
use std::future::poll_fn;

/// The longest TTL, seconds (etcd's figure).
const TTL_S_MAX: i64 = 9_000_000_000;

/// Ids drawn for one grant before giving up: a second draw is a matter of 1 in 2^63 times the number of leases.
const DRAWS_MAX: usize = 4;

pub(super) async fn grant(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: LeaseGrantRequest = call.surface.decode(Method::LeaseGrant, bytes)?;
    let response = run_grant(&call.client().await?, request).await?;
    Ok(framed(&response))
}

/// Grants a lease; id 0: one is drawn.
pub(super) async fn run_grant(client: &Client, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
    let surface = &client.surface;
    if request.ttl > TTL_S_MAX {
        return Err(Error::LeaseTtlTooLarge.into());
    }
    surface.quota.check_lease(surface).await?;
    let ttl = request.ttl.max(surface.backend.limits().lease_ttl_s_min);
    let mut draws = 0;
    loop {
        let drawn = request.id == 0;
        let id = if drawn { surface.backend.new_lease_id() } else { request.id };
        draws += 1;
        match client.propose(Operation::LeaseGrant(LeaseGrantRequest { ttl, id })).await {
            Err(CallError::Store(Error::LeaseExists)) if drawn && draws < DRAWS_MAX => {}
            Err(error) => return Err(error.into()),
            Ok(applied) => {
                let header = Some(surface.header(applied.revision));
                return match applied.body {
                    ReplyBody::Lease { id, ttl_s } => {
                        Ok(LeaseGrantResponse { header, id, ttl: ttl_s, error: String::new() })
                    }
                    body => Err(unexpected(&body)),
                };
            }
        }
    }
}

pub(super) async fn revoke(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: LeaseRevokeRequest = call.surface.decode(Method::LeaseRevoke, bytes)?;
    let applied = call.propose(Operation::LeaseRevoke(request)).await?;
    Ok(done(&call.surface, &applied))
}

/// Renews the lease of each message, one after the other, until the caller has no more.
pub(super) fn keep_alive<B>(call: Call, reader: MessageReader<B>) -> Reply
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    let ending = Ending::new(&call);
    let stream = futures::stream::try_unfold((call, reader), |(call, mut reader)| async move {
        let received = poll_fn(|cx| reader.poll_message(cx)).await.transpose();
        if received.is_err() {
            call.surface.metrics.stream_failed(StreamFailure::LeaseReceive);
        }
        let Some(bytes) = received? else {
            return Ok(None);
        };
        let counters = call.surface.metrics.method(Method::LeaseKeepAlive);
        counters.messages_received.increment();
        call.surface.metrics.client_received_bytes.add(bytes.len() as u64);
        let response = renew(&call, bytes).await?;
        Ok(Some((Chunk { bytes: response, messages: 1 }, (call, reader))))
    });
    Reply::Stream(Box::pin(UntilEnding { stream: stream.boxed(), ending }))
}

async fn renew(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let request: LeaseKeepAliveRequest = surface.decode(Method::LeaseKeepAlive, bytes)?;
    let id = request.id;
    let renewal = Operation::LeaseRenew(LeaseRenew { id });
    let (revision, ttl) = match call.client().await?.propose(renewal).await {
        Ok(applied) => match applied.body {
            ReplyBody::Lease { ttl_s, .. } => (applied.revision, ttl_s),
            body => return Err(unexpected(&body)),
        },
        // A lease that is gone is no failure of the stream.
        Err(CallError::Store(Error::LeaseNotFound)) => (surface.backend.reader().revision(), 0),
        Err(error) => return Err(error.into()),
    };
    Ok(framed(&LeaseKeepAliveResponse { header: Some(surface.header(revision)), id, ttl }))
}

pub(super) async fn time_to_live(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let request: LeaseTimeToLiveRequest = surface.decode(Method::LeaseTimeToLive, bytes)?;
    surface.backend.read_barrier().await?;
    let client = call.client().await?;
    let act = Act::LeaseTimeToLive { id: request.id, keys: request.keys };
    client.authorize(act)?;
    let remaining_ms = surface.backend.lease_remaining(request.id).await?;
    let response = client.read(act, |reader| {
        let mut response = LeaseTimeToLiveResponse {
            header: Some(surface.header(reader.revision())),
            id: request.id,
            ttl: -1,
            granted_ttl: 0,
            keys: Vec::new(),
        };
        if let (Some(remaining_ms), Some(granted_ttl)) = (remaining_ms, reader.lease_ttl(request.id)) {
            response.ttl = (remaining_ms / 1000) as i64;
            response.granted_ttl = granted_ttl;
            if request.keys {
                response.keys = reader.lease_keys(request.id);
            }
        }
        Ok(response)
    })?;
    Ok(framed(&response))
}

pub(super) async fn leases(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let LeaseLeasesRequest {} = surface.decode(Method::LeaseLeases, bytes)?;
    surface.backend.read_barrier().await?;
    let (revision, mut leases) = call.read(Act::LeaseLeases, |reader| Ok((reader.revision(), reader.leases()))).await?;
    // etcd lists what ends first at the top. The granted TTL stands for what remains, which the leader alone knows well.
    leases.sort_by_key(|&(id, ttl_s)| (ttl_s, id));
    let leases = leases.into_iter().map(|(id, _)| LeaseStatus { id }).collect();
    Ok(framed(&LeaseLeasesResponse { header: Some(surface.header(revision)), leases }))
}
