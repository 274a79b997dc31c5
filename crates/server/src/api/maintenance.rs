//! The maintenance service.

use crate::api::error::{BAD_TRANSFEREE, NO_LEADER, NOT_LEADER};
use crate::api::header::header_only;
use crate::api::kv::unexpected;
use crate::api::method::Method;
use crate::api::{Call, ClientSurface};
use crate::cluster_version;
use crate::config::duration;
use crate::grpc::request::framed;
use crate::grpc::status::{Code, Status};
use crate::metrics::Histogram;
use crate::version;
use bytes::Bytes;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse, StatusRequest,
    StatusResponse,
};
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::Act;
use quorate_store::outcome::ReplyBody;
use quorate_store::reader::HashKv;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an empty store reports: etcdctl divides by the size.
const DATABASE_BYTES_MIN: u64 = 4096;

/// What a change of leader may take beside two election timeouts.
const TRANSFER_ALLOWANCE: Duration = Duration::from_secs(5);

pub(super) async fn alarm(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let request: AlarmRequest = surface.decode(Method::Alarm, bytes)?;
    call.authorize(Act::Alarm(request.action)).await?;
    let Ok(action) = AlarmAction::try_from(request.action) else {
        return Err(Status::new(Code::InvalidArgument, format!("etcdserver: unknown alarm action {}", request.action)));
    };
    let Ok(kind) = AlarmType::try_from(request.alarm) else {
        return Err(Status::new(Code::InvalidArgument, format!("etcdserver: unknown alarm type {}", request.alarm)));
    };
    let answer = |revision: i64, alarms: Vec<AlarmMember>| {
        framed(&AlarmResponse { header: Some(surface.header(revision)), alarms })
    };
    let reader = surface.backend.reader();
    match action {
        AlarmAction::Get => {
            surface.backend.read_barrier().await?;
            let alarms = reader.alarms().into_iter();
            let wanted = |alarm: &AlarmMember| kind == AlarmType::None || alarm.alarm == kind as i32;
            Ok(answer(reader.revision(), alarms.filter(wanted).collect()))
        }
        AlarmAction::Activate | AlarmAction::Deactivate if kind == AlarmType::None => {
            Ok(header_only(&surface.header(reader.revision())))
        }
        AlarmAction::Activate | AlarmAction::Deactivate => {
            let applied = call.propose(Operation::Alarm(request)).await?;
            match applied.body {
                ReplyBody::Alarms(alarms) => Ok(answer(applied.revision, alarms)),
                body => Err(unexpected(&body)),
            }
        }
    }
}

pub(super) fn status(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let StatusRequest {} = surface.decode(Method::Status, bytes)?;
    let reader = surface.backend.reader();
    let stats = reader.stats();
    // Before the commit index, which must not lie behind it.
    let applied_index = reader.applied_index();
    let node = surface.backend.status();
    let downgrade_target = reader.downgrade_target();
    let mut errors = Vec::new();
    if node.leader == 0 {
        errors.push(NO_LEADER.message.into_owned());
    }
    errors.extend(reader.alarms().iter().map(alarm_text));
    Ok(framed(&StatusResponse {
        header: Some(surface.header(stats.revision)),
        version: version::ETCD.to_owned(),
        db_size: stats.disk_bytes.max(DATABASE_BYTES_MIN) as i64,
        leader: node.leader,
        raft_index: surface.backend.commit_index(),
        raft_term: node.term,
        raft_applied_index: applied_index,
        errors,
        db_size_in_use: stats.live_bytes as i64,
        is_learner: node.is_learner,
        storage_version: cluster_version::storage(&reader.cluster_version()).to_owned(),
        db_size_quota: surface.backend.limits().quota.bytes as i64,
        downgrade_info: Some(DowngradeInfo { enabled: !downgrade_target.is_empty(), target_version: downgrade_target }),
    }))
}

/// An alarm as etcd prints it.
fn alarm_text(alarm: &AlarmMember) -> String {
    match AlarmType::try_from(alarm.alarm) {
        Ok(kind) => format!("memberID:{} alarm:{}", alarm.member_id, kind.as_str_name()),
        Err(_) => format!("memberID:{} alarm:{}", alarm.member_id, alarm.alarm),
    }
}

/// There is nothing to defragment: space that is free is given back as it becomes free.
pub(super) fn defragment(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let DefragmentRequest {} = surface.decode(Method::Defragment, bytes)?;
    let started = Instant::now();
    tracing::info!("starting defragment");
    let took = started.elapsed();
    surface.metrics.defragment_seconds.observe(took.as_secs_f64());
    tracing::info!(took = duration::text(took), "finished defragment: free space is given back by itself");
    Ok(framed(&DefragmentResponse::default()))
}

/// Hashes the history aside, since it reads all of it.
async fn hash_history(surface: &ClientSurface, revision: i64, seconds: &Histogram) -> Result<HashKv, Status> {
    let reader = surface.backend.reader().clone();
    let started = Instant::now();
    let hashed = tokio::task::spawn_blocking(move || reader.hash_kv(revision)).await;
    seconds.observe(started.elapsed().as_secs_f64());
    match hashed {
        Ok(hash) => Ok(hash?),
        Err(error) => Err(Status::new(Code::Internal, format!("quorate: hashing failed: {error}"))),
    }
}

pub(super) async fn hash(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let HashRequest {} = surface.decode(Method::Hash, bytes)?;
    let hashed = hash_history(surface, 0, &surface.metrics.hash_seconds).await?;
    Ok(framed(&HashResponse { header: Some(surface.header(hashed.revision)), hash: hashed.hash }))
}

pub(super) async fn hash_kv(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let request: HashKvRequest = surface.decode(Method::HashKv, bytes)?;
    // What a compaction hashes answers for its revision, so one that is under way is waited for.
    if request.revision <= surface.backend.reader().compact_revision() {
        surface.backend.wait_compacted(request.revision).await?;
    }
    let hashed = hash_history(surface, request.revision, &surface.metrics.hash_revision_seconds).await?;
    Ok(framed(&HashKvResponse {
        header: Some(surface.header(hashed.revision)),
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.hash_revision,
    }))
}

pub(super) async fn move_leader(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let request: MoveLeaderRequest = surface.decode(Method::MoveLeader, bytes)?;
    let target = request.target_id;
    let own_id = surface.backend.identity().member_id;
    if surface.backend.status().leader != own_id {
        return Err(NOT_LEADER);
    }
    let members = surface.backend.reader().members();
    if !members.iter().any(|member| member.id == target && !member.is_learner) {
        return Err(BAD_TRANSFEREE);
    }
    if target != own_id {
        let mut changes = surface.backend.subscribe_status();
        surface.backend.transfer_leader(target);
        let patience = 2 * surface.election_timeout + TRANSFER_ALLOWANCE;
        let led = tokio::time::timeout(patience, changes.wait_for(|status| status.leader == target)).await;
        if !matches!(led, Ok(Ok(_))) {
            return Err(Status::new(Code::Unavailable, "etcdserver: request timed out, leader transfer took too long"));
        }
    }
    Ok(framed(&MoveLeaderResponse::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_printed_as_etcd_prints_them() {
        let alarm = AlarmMember { member_id: 7, alarm: AlarmType::Nospace as i32 };
        assert_eq!(alarm_text(&alarm), "memberID:7 alarm:NOSPACE");
    }
}
