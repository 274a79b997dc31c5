//! The queue that locks and elections are made of: keys under one prefix, each on its owner's lease; the oldest key
//! has the turn.
//!
//! Not here: what the turn is good for. The invariant: who waits, waits for the end of every key that is older than its
//! own, so no two have the turn at once, and turns come in the order in which the keys were made.

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::response_op::Response;
use quorate_proto::mvccpb::event::EventType;

use crate::command_line::word;
use crate::ctl::client::{Client, Watch};
use crate::ctl::failure::{self, CallError, Failure};
use crate::ctl::print::prefix_end;

/// A place in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The queue's name and the lease, as `name/lease`.
    pub(crate) key: String,
    /// The revision at which the key was made.
    pub(crate) revision: i64,
}

impl Place {
    /// Takes a place at the end of the queue `name`, or the one that the lease already has there.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn take(client: &mut Client, name: &str, lease: i64, value: &str) -> Result<Self, CallError> {
        let key = format!("{name}/{lease:x}");
        let bytes = bytes::Bytes::from(word::bytes(&key));
        let range = pb::RangeRequest { key: bytes.clone(), ..Default::default() };
        let put = pb::PutRequest { key: bytes.clone(), value: word::bytes(value).into(), lease, ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![pb::Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Create.into(),
                key: bytes.clone(),
                target_union: Some(TargetUnion::CreateRevision(0)),
                ..Default::default()
            }],
            success: vec![pb::RequestOp { request: Some(Request::RequestPut(put)) }],
            failure: vec![pb::RequestOp { request: Some(Request::RequestRange(range)) }],
        };
        let reply = client.call(request, None).await?;
        let revision = match reply.responses.first().and_then(|operation| operation.response.as_ref()) {
            Some(Response::ResponseRange(range)) if !reply.succeeded => {
                range.kvs.first().map_or(0, |kv| kv.create_revision)
            }
            _ => reply.header.unwrap_or_default().revision,
        };
        Ok(Self { key, revision })
    }

    /// Waits until every older key of the queue is gone.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn wait_for_turn(&self, client: &mut Client, name: &str) -> Result<(), Failure> {
        while let Some((key, revision)) = self.predecessor(client, name).await? {
            let create = pb::WatchCreateRequest { key, start_revision: revision + 1, ..Default::default() };
            let mut watch = Watch::new(client.clone(), create);
            loop {
                let reply = watch.next().await;
                if let Some(reason) = reply.ended {
                    return Err(Failure::new(failure::SERVER, reason));
                }
                if reply.events.iter().any(|event| event.r#type() == EventType::Delete) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The youngest key that is older than this one, with the revision at which that was so.
    async fn predecessor(&self, client: &mut Client, name: &str) -> Result<Option<(bytes::Bytes, i64)>, CallError> {
        let request = pb::RangeRequest {
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: self.revision - 1,
            ..queue_range(name)
        };
        let reply = client.call(request, None).await?;
        let revision = reply.header.unwrap_or_default().revision;
        Ok(reply.kvs.into_iter().next().map(|kv| (kv.key, revision)))
    }

    /// The place's own key and value.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn read(&self, client: &mut Client) -> Result<pb::RangeResponse, CallError> {
        client.call(pb::RangeRequest { key: word::bytes(&self.key).into(), ..Default::default() }, None).await
    }

    /// Leaves the queue.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn leave(&self, client: &mut Client) -> Result<(), CallError> {
        let deadline = client.command_deadline();
        let request = pb::DeleteRangeRequest { key: word::bytes(&self.key).into(), ..Default::default() };
        client.call(request, deadline).await.map(drop)
    }
}

/// The range of all keys of a queue.
pub(crate) fn queue_range(name: &str) -> pb::RangeRequest {
    let prefix = word::bytes(&format!("{name}/"));
    pb::RangeRequest { range_end: prefix_end(&prefix).into(), key: prefix.into(), ..Default::default() }
}
