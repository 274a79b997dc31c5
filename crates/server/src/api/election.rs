//! The election service: the leader is the oldest key of a queue, its word that key's value.

use crate::api::client::Client;
use crate::api::ending::{Ending, UntilEnding};
use crate::api::method::Method;
use crate::api::queue::{
    KeyEvents, Place, commit, create_revision_is, delete, found, get, is_deletion, key, oldest, prefix, put,
    range_operation, read, revision, session, single, untyped, whole,
};
use crate::api::{Call, Reply};
use crate::grpc::body::Chunk;
use crate::grpc::request::framed;
use crate::grpc::status::{Code, Status};
use bytes::Bytes;
use futures::StreamExt;
use quorate_proto::etcdserverpb::TxnRequest;
use quorate_proto::mvccpb::KeyValue;
use quorate_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use quorate_store::auth::Act;
use std::collections::VecDeque;

fn failed(text: &'static str) -> Status {
    Status::new(Code::Unknown, text)
}

fn missing_leader() -> Status {
    failed("\"leader\" field must be provided")
}

fn not_leader() -> Status {
    failed("election: not leader")
}

pub(super) async fn campaign(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: CampaignRequest = call.surface.decode(Method::Campaign, bytes)?;
    let won = async { run_campaign(&call.client().await?.for_long(), request).await };
    won.await.map_err(untyped)
}

async fn run_campaign(client: &Client, request: CampaignRequest) -> Result<Bytes, Status> {
    let surface = &client.surface;
    let lease = session(client, request.lease).await?;
    let prefix = prefix(&request.name);
    let key = key(&prefix, lease);
    let response = commit(
        client,
        TxnRequest {
            compare: vec![create_revision_is(&key, 0)],
            success: vec![put(&key, request.value.clone(), lease)],
            failure: vec![range_operation(get(&key))],
        },
    )
    .await?;
    let mut own = revision(&response);
    let known = if response.succeeded { None } else { found(&response, 0).first() };
    if let Some(known) = known {
        own = known.create_revision;
    }
    let place = Place::new(client, prefix, key.clone(), own);
    if known.is_some_and(|known| known.value != request.value) {
        say(client, &key, own, lease, request.value).await?;
    }
    if place.wait().await?.is_none() {
        return Err(not_leader());
    }
    place.keep();
    Ok(framed(&CampaignResponse {
        header: Some(surface.header(revision(&response))),
        leader: Some(LeaderKey { name: request.name, key, rev: own, lease }),
    }))
}

/// Changes the word of a key that stands in the queue; answers the revision.
async fn say(client: &Client, key: &Bytes, own: i64, lease: i64, value: Bytes) -> Result<i64, Status> {
    let response = commit(
        client,
        TxnRequest {
            compare: vec![create_revision_is(key, own)],
            success: vec![put(key, value, lease)],
            failure: Vec::new(),
        },
    )
    .await?;
    if response.succeeded { Ok(revision(&response)) } else { Err(not_leader()) }
}

pub(super) async fn proclaim(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let request: ProclaimRequest = surface.decode(Method::Proclaim, bytes)?;
    let leader = request.leader.ok_or_else(missing_leader)?;
    if leader.key.is_empty() {
        return Err(untyped(crate::api::error::KEY_NOT_PROVIDED));
    }
    let said = async {
        let client = call.client().await?;
        let lease = session(&client, leader.lease).await?;
        say(&client, &leader.key, leader.rev, lease, request.value).await
    };
    let revision = said.await.map_err(untyped)?;
    Ok(framed(&ProclaimResponse { header: Some(surface.header(revision)) }))
}

pub(super) async fn resign(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: ResignRequest = call.surface.decode(Method::Resign, bytes)?;
    let leader = request.leader.ok_or_else(missing_leader)?;
    if leader.key.is_empty() {
        return Err(untyped(crate::api::error::KEY_NOT_PROVIDED));
    }
    let txn = TxnRequest {
        compare: vec![create_revision_is(&leader.key, leader.rev)],
        success: vec![delete(&leader.key)],
        failure: Vec::new(),
    };
    let resigned = async { commit(&call.client().await?, txn).await };
    let response = resigned.await.map_err(untyped)?;
    Ok(framed(&ResignResponse { header: response.header }))
}

pub(super) async fn leader(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let request: LeaderRequest = surface.decode(Method::Leader, bytes)?;
    let asked = async {
        surface.backend.read_barrier().await?;
        read(&call.client().await?, &oldest(&prefix(&request.name))).await
    };
    let (revision, found) = asked.await.map_err(untyped)?;
    match found.into_iter().next() {
        Some(kv) => Ok(framed(&LeaderResponse { header: Some(surface.header(revision)), kv: Some(kv) })),
        None => Err(failed("election: no leader")),
    }
}

/// Tells who leads and every word of theirs, from here on.
pub(super) async fn observe(call: &Call, bytes: Bytes) -> Result<Reply, Status> {
    let request: LeaderRequest = call.surface.decode(Method::Observe, bytes)?;
    let ending = Ending::new(call);
    let observer = Observer {
        client: call.client().await.map_err(untyped)?.for_long(),
        prefix: prefix(&request.name),
        phase: Phase::Find,
        said: VecDeque::new(),
    };
    let stream = futures::stream::try_unfold(observer, |mut observer| async move {
        let (revision, kv) = observer.next().await.map_err(untyped)?;
        let response = LeaderResponse { header: Some(observer.client.surface.header(revision)), kv: Some(kv) };
        Ok(Some((Chunk { bytes: framed(&response), messages: 1 }, observer)))
    });
    Ok(Reply::Stream(Box::pin(UntilEnding { stream: stream.boxed(), ending })))
}

struct Observer {
    client: Client,
    prefix: Bytes,
    phase: Phase,
    /// Words that were read and not told yet, with the revision of each answer. At most one batch of events.
    said: VecDeque<(i64, KeyValue)>,
}

enum Phase {
    /// It is not known who leads.
    Find,
    /// Nobody leads; the first key decides.
    Await(KeyEvents),
    /// This leader's key is followed until it is gone.
    Follow(KeyEvents),
}

impl Observer {
    async fn next(&mut self) -> Result<(i64, KeyValue), Status> {
        loop {
            if let Some(said) = self.said.pop_front() {
                // Who lost its right to read hears nothing more.
                self.client.authorize(Act::Observe(&self.prefix))?;
                return Ok(said);
            }
            // Whatever was lost of the history, looking again finds who leads.
            self.phase = match std::mem::replace(&mut self.phase, Phase::Find) {
                Phase::Find => {
                    let (revision, found) = read(&self.client, &oldest(&self.prefix)).await?;
                    match found.into_iter().next() {
                        Some(leader) => self.follow(revision, leader),
                        None => KeyEvents::open(&self.client.surface, whole(&self.prefix), revision + 1)
                            .map_or(Phase::Find, Phase::Await),
                    }
                }
                Phase::Await(mut events) => match events.next().await {
                    Err(_) => Phase::Find,
                    Ok((_, changes)) => match changes.into_iter().find(|change| !is_deletion(change)) {
                        Some(change) => {
                            let leader = change.kv.unwrap_or_default();
                            self.follow(leader.mod_revision, leader)
                        }
                        None => Phase::Await(events),
                    },
                },
                Phase::Follow(mut events) => match events.next().await {
                    Err(_) => Phase::Find,
                    Ok((revision, changes)) => {
                        let mut gone = false;
                        for change in changes {
                            if is_deletion(&change) {
                                gone = true;
                                break;
                            }
                            self.said.push_back((revision, change.kv.unwrap_or_default()));
                        }
                        if gone { Phase::Find } else { Phase::Follow(events) }
                    }
                },
            };
        }
    }

    fn follow(&mut self, revision: i64, leader: KeyValue) -> Phase {
        let events = KeyEvents::open(&self.client.surface, single(leader.key.clone()), revision + 1);
        self.said.push_back((revision, leader));
        events.map_or(Phase::Find, Phase::Follow)
    }
}
