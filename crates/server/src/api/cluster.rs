//! The cluster service: who the members are, and changes of them.
//!
//! Owns the checks that need the asked member's view of the world (who is connected, who ever started), as in etcd with
//! `--strict-reconfig-check`. What depends on the table of members alone is decided in the log, on every member alike.

use crate::api::error::{MEMBER_BAD_URLS, UNHEALTHY};
use crate::api::kv::unexpected;
use crate::api::method::Method;
use crate::api::{Call, ClientSurface};
use crate::config::parse_url;
use crate::grpc::request::framed;
use crate::grpc::status::Status;
use crate::member_ids::added_member_id;
use bytes::Bytes;
use quorate_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
    ResponseHeader,
};
use quorate_proto::quoratepb::MemberChange;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::member_change::Action;
use quorate_store::error::Error;
use quorate_store::outcome::ReplyBody;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A connection counts when it stands for so long, as in etcd.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn member_list(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let request: MemberListRequest = surface.decode(Method::MemberList, bytes)?;
    if request.linearizable {
        surface.backend.read_barrier().await?;
    }
    Ok(framed(&MemberListResponse { header: header(surface), members: surface.backend.reader().members() }))
}

/// Answers about members have no revision in their header.
fn header(surface: &ClientSurface) -> Option<ResponseHeader> {
    Some(surface.header(0))
}

/// The caller was judged before: nobody is asked for in the log, as in etcd.
async fn change(surface: &ClientSurface, change: MemberChange) -> Result<Vec<Member>, Status> {
    match surface.backend.propose(None, Operation::MemberChange(change)).await?.body {
        ReplyBody::Members(members) => Ok(members),
        body => Err(unexpected(&body)),
    }
}

fn change_of(action: Action, member: Member) -> MemberChange {
    MemberChange { member: Some(member), action: action as i32, ..MemberChange::default() }
}

pub(super) async fn member_add(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let request: MemberAddRequest = surface.decode(Method::MemberAdd, bytes)?;
    let peer_urls = checked_urls(request.peer_ur_ls).ok_or(MEMBER_BAD_URLS)?;
    call.authorize_method().await?;
    let (member, members) =
        add(surface, peer_urls, request.is_learner || request.auto_promote, request.auto_promote).await?;
    Ok(framed(&MemberAddResponse { header: header(surface), member: Some(member), members }))
}

/// Adds a member with checked URLs for a caller who was judged: the member, and all members.
pub(crate) async fn add(
    surface: &ClientSurface,
    peer_urls: Vec<String>,
    is_learner: bool,
    auto_promote: bool,
) -> Result<(Member, Vec<Member>), Status> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let member = Member {
        id: added_member_id(&peer_urls, since_epoch.as_secs()),
        peer_ur_ls: peer_urls,
        is_learner,
        ..Member::default()
    };
    if surface.cluster.strict {
        surface.may_add(&member)?;
    }
    let members = change(
        surface,
        MemberChange {
            learners_max: surface.cluster.learners_max,
            auto_promote,
            ..change_of(Action::Add, member.clone())
        },
    )
    .await?;
    Ok((member, members))
}

pub(super) async fn member_remove(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let request: MemberRemoveRequest = surface.decode(Method::MemberRemove, bytes)?;
    let members = remove(surface, request.id).await?;
    Ok(framed(&MemberRemoveResponse { header: header(surface), members }))
}

/// Removes a member for a caller who was judged: those who are left.
pub(crate) async fn remove(surface: &ClientSurface, id: u64) -> Result<Vec<Member>, Status> {
    if surface.cluster.strict {
        surface.may_remove(id)?;
    }
    change(surface, change_of(Action::Remove, Member { id, ..Member::default() })).await
}

pub(super) async fn member_update(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let request: MemberUpdateRequest = surface.decode(Method::MemberUpdate, bytes)?;
    call.authorize_method().await?;
    let is_known = surface.backend.reader().members().iter().any(|member| member.id == request.id);
    // etcd takes anything, and ends when it then cannot connect to it.
    let peer_ur_ls = match checked_urls(request.peer_ur_ls) {
        Some(urls) => urls,
        None if is_known => return Err(MEMBER_BAD_URLS),
        None => Vec::new(),
    };
    let members = update(surface, request.id, peer_ur_ls).await?;
    Ok(framed(&MemberUpdateResponse { header: header(surface), members }))
}

/// Gives a member other URLs, which were checked, for a caller who was judged: all members.
pub(crate) async fn update(surface: &ClientSurface, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>, Status> {
    change(surface, change_of(Action::Update, Member { id, peer_ur_ls: peer_urls, ..Member::default() })).await
}

pub(super) async fn member_promote(surface: &Arc<ClientSurface>, bytes: Bytes) -> Result<Bytes, Status> {
    let request: MemberPromoteRequest = surface.decode(Method::MemberPromote, bytes)?;
    let promoted = promote(surface, request.id).await;
    match &promoted {
        Ok(_) => surface.metrics.learner_promotions.increment(),
        Err(refusal) => surface.metrics.refused_promotions.count(&refusal.message),
    }
    Ok(framed(&MemberPromoteResponse { header: header(surface), members: promoted? }))
}

async fn promote(surface: &ClientSurface, id: u64) -> Result<Vec<Member>, Status> {
    if surface.cluster.strict {
        surface.may_promote(id)?;
    }
    change(surface, change_of(Action::Promote, Member { id, ..Member::default() })).await
}

/// Sorted, each once; `None` when there is none, or one that etcd does not take.
fn checked_urls(urls: Vec<String>) -> Option<Vec<String>> {
    let mut checked = Vec::with_capacity(urls.len());
    for url in urls {
        let url = url.trim().to_owned();
        parse_url(&url).ok()?;
        checked.push(url);
    }
    checked.sort();
    (!checked.is_empty()).then_some(checked)
}

/// How many of `members` a quorum takes.
fn quorum(members: usize) -> usize {
    members / 2 + 1
}

/// A member that told its name has been started.
fn count_started<'a>(members: impl Iterator<Item = &'a Member>) -> usize {
    members.filter(|member| !member.name.is_empty()).count()
}

impl ClientSurface {
    fn voters(&self) -> Vec<Member> {
        self.backend.reader().members().into_iter().filter(|member| !member.is_learner).collect()
    }

    /// Voters that this member is connected to for long enough, itself among them.
    fn count_connected(&self, voters: &[Member]) -> usize {
        let own_id = self.backend.identity().member_id;
        let is_connected = |id: u64| {
            id == own_id || self.cluster.peers.active_since(id).is_some_and(|since| since.elapsed() > HEALTH_INTERVAL)
        };
        voters.iter().filter(|voter| is_connected(voter.id)).count()
    }

    /// The cluster with the new member, which counts as down, must not lose its quorum.
    fn may_add(&self, added: &Member) -> Result<(), Status> {
        let voters = self.voters();
        let started = count_started(voters.iter());
        let is_first_addition = started == 1 && voters.len() == 1;
        if !added.is_learner && !is_first_addition && started < quorum(voters.len() + 1) {
            self.log_refusal("member add", added.id, "not enough started members: start those that were added before");
            return Err(Error::NotEnoughStartedMembers.into());
        }
        if voters.len() > 1 && self.count_connected(&voters) < quorum(voters.len() + 1) {
            self.log_refusal("member add", added.id, self.connected_reason());
            return Err(UNHEALTHY);
        }
        Ok(())
    }

    /// The cluster without the member must not lose its quorum.
    fn may_remove(&self, id: u64) -> Result<(), Status> {
        let members = self.backend.reader().members();
        if members.iter().any(|member| member.id == id && member.is_learner) {
            return Ok(());
        }
        let voters = self.voters();
        let others = || voters.iter().filter(|voter| voter.id != id);
        if count_started(others()) < quorum(others().count()) {
            self.log_refusal("member remove", id, "too few of the other members have ever been started");
            return Err(Error::NotEnoughStartedMembers.into());
        }
        // Whoever is down is no part of the quorum that works.
        if id != self.backend.identity().member_id && self.cluster.peers.active_since(id).is_none() {
            return Ok(());
        }
        if self.count_connected(&voters) < 1 + quorum(voters.len() - 1) {
            self.log_refusal("member remove", id, self.connected_reason());
            return Err(UNHEALTHY);
        }
        Ok(())
    }

    /// The learner counts as started; whether it is ready only the leader knows.
    fn may_promote(&self, id: u64) -> Result<(), Status> {
        let voters = self.voters();
        let is_learner = self.backend.reader().members().iter().any(|member| member.id == id && member.is_learner);
        if is_learner && count_started(voters.iter()) + 1 < quorum(voters.len() + 1) {
            self.log_refusal("member promote", id, "too few of the voting members have ever been started");
            return Err(Error::NotEnoughStartedMembers.into());
        }
        Ok(())
    }

    fn connected_reason(&self) -> &'static str {
        "this member has not been connected to enough of the others for 5 s: the change could cost the quorum. Wait, or \
         start the members that are down, or add the new one as a learner once they are up"
    }

    fn log_refusal(&self, request: &str, id: u64, reason: &str) {
        tracing::warn!(
            "local-member-id" = format!("{:x}", self.backend.identity().member_id),
            "requested-member-id" = format!("{id:x}"),
            reason,
            "rejecting {request} request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_judged_as_in_etcd() {
        let checked = |urls: &[&str]| checked_urls(urls.iter().map(|&url| url.to_owned()).collect());
        assert_eq!(checked(&["http://b:2", "http://a:1"]), Some(vec!["http://a:1".into(), "http://b:2".into()]));
        for refused in [&[][..], &[""], &["nonsense"], &["127.0.0.1:1"], &["http://127.0.0.1"], &["http://a:1/path"]] {
            assert_eq!(checked(refused), None, "{refused:?}");
        }
    }
}
