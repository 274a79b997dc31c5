//! The KV service.

use crate::api::checks::{check_delete, check_put, check_range, check_size, check_txn, reads_own_copy, writes_nothing};
use crate::api::client::Client;
use crate::api::error::NOT_FOR_LEARNERS;
use crate::api::header::{begin_framed, header_only};
use crate::api::method::Method;
use crate::api::range::{answer, answer_in_messages};
use crate::api::{Call, ClientSurface, Reply, slow};
use crate::grpc::request::framed;
use crate::grpc::status::{Code, Status};
use bytes::Bytes;
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, RangeRequest, TxnRequest, TxnResponse,
};
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::Act;
use quorate_store::outcome::{Reply as Applied, ReplyBody};
use quorate_store::reader::RangeReply;
use std::time::Instant;

/// Tag of `PutResponse.prev_kv`.
const TAG_PUT_PREV_KV: u32 = 2;

/// Waits until a range may be read, and reads it.
async fn read(call: &Call, request: &RangeRequest) -> Result<RangeReply, Status> {
    check_range(request)?;
    if !request.serializable {
        call.surface.backend.read_barrier().await?;
    }
    if request.range_end.is_empty() {
        // One key is never what makes a read slow.
        return call.read(Act::Range(request), |reader| reader.range(request)).await;
    }
    call.read(Act::Range(request), |reader| {
        let started = Instant::now();
        let reply = reader.range(request);
        slow::tell_if_slow_range(&call.surface, request, &reply, started.elapsed());
        reply
    })
    .await
}

pub(super) async fn range(call: &Call, bytes: Bytes) -> Result<Reply, Status> {
    let surface = &call.surface;
    let request: RangeRequest = surface.decode(Method::Range, bytes)?;
    if !request.serializable && surface.backend.status().is_learner {
        return Err(NOT_FOR_LEARNERS);
    }
    let reply = read(call, &request).await?;
    answer(&surface.header(reply.revision), reply)
}

pub(super) async fn range_stream(call: &Call, bytes: Bytes) -> Result<Reply, Status> {
    let surface = &call.surface;
    let request: RangeRequest = surface.decode(Method::RangeStream, bytes)?;
    check_range(&request)?;
    check_streamable(&request)?;
    let reply = read(call, &request).await?;
    Ok(answer_in_messages(surface.header(reply.revision), reply))
}

/// A stream is sent in the order of the keys, and not filtered.
fn check_streamable(request: &RangeRequest) -> Result<(), Status> {
    let by_key = request.sort_target == SortTarget::Key as i32;
    if request.sort_order == SortOrder::Descend as i32 || (request.sort_order != SortOrder::None as i32 && !by_key) {
        return Err(Status::new(Code::Unimplemented, "RangeStream does not support custom sort orders"));
    }
    let filters =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    if filters.iter().any(|&revision| revision != 0) {
        return Err(Status::new(Code::Unimplemented, "RangeStream does not support revision filters"));
    }
    Ok(())
}

pub(super) async fn put(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let received_bytes = bytes.len();
    let request: PutRequest = surface.decode(Method::Put, bytes)?;
    check_put(&request)?;
    check_size(&request, received_bytes, surface.backend.limits().request_bytes_max)?;
    surface.quota.check_put(surface, &request).await?;
    let applied = call.propose(Operation::Put(request)).await?;
    let header = surface.header(applied.revision);
    match applied.body {
        ReplyBody::Put(response) => match response.prev_kv {
            None => Ok(header_only(&header)),
            Some(prev_kv) => {
                let mut out = begin_framed(&header, prost::encoding::message::encoded_len(TAG_PUT_PREV_KV, &prev_kv));
                prost::encoding::message::encode(TAG_PUT_PREV_KV, &prev_kv, &mut out);
                Ok(Bytes::from(out))
            }
        },
        body => Err(unexpected(&body)),
    }
}

pub(super) async fn delete_range(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let received_bytes = bytes.len();
    let request: DeleteRangeRequest = surface.decode(Method::DeleteRange, bytes)?;
    check_delete(&request)?;
    check_size(&request, received_bytes, surface.backend.limits().request_bytes_max)?;
    let applied = call.propose(Operation::DeleteRange(request)).await?;
    let header = surface.header(applied.revision);
    match applied.body {
        ReplyBody::DeleteRange(response) => Ok(framed(&DeleteRangeResponse { header: Some(header), ..*response })),
        body => Err(unexpected(&body)),
    }
}

pub(super) async fn txn(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let received_bytes = bytes.len();
    let request: TxnRequest = surface.decode(Method::Txn, bytes)?;
    check_txn(&request, surface.backend.limits().txn_operations_max)?;
    let is_read = writes_nothing(&request);
    if is_read && !reads_own_copy(&request) {
        surface.backend.read_barrier().await?;
    }
    let client = call.client().await?;
    let response =
        if is_read { read_txn(&client, &request)? } else { write_txn(&client, request, received_bytes).await? };
    Ok(framed(&response))
}

/// Runs a transaction that writes nothing; whoever needs a linearizable answer waits for it before.
fn read_txn(client: &Client, request: &TxnRequest) -> Result<TxnResponse, Status> {
    client.read(Act::Txn(request), |reader| {
        let mut response = reader.read_txn(request)?;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let revision = if revision == 0 { reader.revision() } else { revision };
        response.header = Some(client.surface.header(revision));
        Ok(response)
    })
}

/// Runs a well-formed transaction that may write. `received_bytes`: see [`check_size`].
pub(super) async fn write_txn(
    client: &Client,
    request: TxnRequest,
    received_bytes: usize,
) -> Result<TxnResponse, Status> {
    let surface = &client.surface;
    check_size(&request, received_bytes, surface.backend.limits().request_bytes_max)?;
    surface.quota.check_txn(surface, &request).await?;
    let applied = client.propose(Operation::Txn(request)).await?;
    let header = surface.header(applied.revision);
    match applied.body {
        ReplyBody::Txn(response) => Ok(TxnResponse { header: Some(header), ..*response }),
        body => Err(unexpected(&body)),
    }
}

pub(super) async fn compact(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let request: CompactionRequest = surface.decode(Method::Compact, bytes)?;
    let applied = call.propose(Operation::Compact(request)).await?;
    if request.physical {
        surface.backend.wait_compacted(request.revision).await?;
    }
    Ok(done(surface, &applied))
}

/// The answer to a command that answers with its header only.
pub(super) fn done(surface: &ClientSurface, applied: &Applied) -> Bytes {
    header_only(&surface.header(applied.revision))
}

/// The store answered with another command's answer: an error of this program, told rather than guessed around.
pub(super) fn unexpected(body: &ReplyBody) -> Status {
    Status::new(Code::Internal, format!("quorate: the store gave an answer of another kind: {body:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_the_order_of_keys_only() {
        let check = |sort_order: SortOrder, sort_target: SortTarget| {
            check_streamable(&RangeRequest {
                sort_order: sort_order as i32,
                sort_target: sort_target as i32,
                ..Default::default()
            })
        };
        assert_eq!(check(SortOrder::None, SortTarget::Key), Ok(()));
        assert_eq!(check(SortOrder::None, SortTarget::Create), Ok(()));
        assert_eq!(check(SortOrder::Ascend, SortTarget::Key), Ok(()));
        for (order, target) in [(SortOrder::Descend, SortTarget::Key), (SortOrder::Ascend, SortTarget::Value)] {
            let status = check(order, target).unwrap_err();
            assert_eq!(status.message, "RangeStream does not support custom sort orders");
        }
        let filtered = RangeRequest { max_create_revision: 1, ..Default::default() };
        assert_eq!(
            check_streamable(&filtered),
            Err(Status::new(Code::Unimplemented, "RangeStream does not support revision filters"))
        );
    }
}
