//! One look at the cluster: what each member says of itself.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http_body_util::BodyExt;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http::{Request, StatusCode};

use super::metrics::Metrics;
use crate::ctl::action::alarm;
use crate::ctl::client::Client;
use crate::ctl::failure::{CallError, Failure, SERVER};
use crate::ctl::settings::Settings;

/// Bytes of a page of metrics at the most.
const METRICS_BYTES_MAX: usize = 4 << 20;

/// The cluster at a moment.
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) cluster_id: u64,
    /// By name.
    pub(super) members: Vec<MemberLook>,
    /// What is wrong, by member; `None`: the caller may not see it.
    pub(super) alarms: Option<Vec<pb::AlarmMember>>,
    /// How many leases there are; `None`: the caller may not see it.
    pub(super) leases: Option<usize>,
}

/// A member, and what it answered.
pub(super) struct MemberLook {
    pub(super) member: pb::Member,
    pub(super) status: Result<pb::StatusResponse, String>,
    /// `None`: the member does not serve them on this connection.
    pub(super) metrics: Option<Metrics>,
}

impl Look {
    /// Asks everybody; whoever has not answered within `limit` is shown without figures.
    ///
    /// # Errors
    /// No endpoint says who the members are.
    pub(super) async fn take(client: &mut Client, limit: Duration) -> Result<Self, Failure> {
        let deadline = client.command_deadline();
        let list = client.call(pb::MemberListRequest { linearizable: false }, deadline).await;
        let list = list.map_err(|error| Failure::new(SERVER, error.to_string()))?;
        let alarms = client.call(alarm::request(AlarmAction::Get, pb::AlarmMember::default()), deadline).await;
        let leases = client.call(pb::LeaseLeasesRequest {}, deadline).await;
        let settings = client.settings().clone();
        let limit = limit.max(Duration::from_secs(1));
        let mut members =
            join_all(list.members.into_iter().map(|member| MemberLook::take(&settings, member, limit))).await;
        members.sort_by(|one, other| one.member.name.cmp(&other.member.name));
        Ok(Self {
            at: Instant::now(),
            cluster_id: list.header.unwrap_or_default().cluster_id,
            members,
            alarms: alarms.ok().map(|reply| reply.alarms),
            leases: leases.ok().map(|reply| reply.leases.len()),
        })
    }

    /// The member that the newest term names as leader.
    pub(super) fn leader(&self) -> Option<u64> {
        let known = self.members.iter().filter_map(|look| look.status.as_ref().ok());
        let newest = known.filter(|status| status.leader != 0).max_by_key(|status| status.raft_term)?;
        Some(newest.leader)
    }

    /// The highest index that anybody's log has.
    pub(super) fn last_index(&self) -> u64 {
        self.members
            .iter()
            .filter_map(|look| look.status.as_ref().ok())
            .map(|status| status.raft_index)
            .max()
            .unwrap_or(0)
    }

    /// The newest revision that anybody has.
    pub(super) fn revision(&self) -> i64 {
        let known = self.members.iter().filter_map(|look| look.status.as_ref().ok());
        known.filter_map(|status| status.header.as_ref()).map(|header| header.revision).max().unwrap_or(0)
    }
}

impl MemberLook {
    async fn take(settings: &Arc<Settings>, member: pb::Member, limit: Duration) -> Self {
        if member.client_ur_ls.is_empty() {
            return Self { member, status: Err("not started".to_owned()), metrics: None };
        }
        let asked = tokio::time::timeout(limit, ask(settings, member.client_ur_ls.clone())).await;
        match asked {
            Ok(Ok((status, metrics))) => Self { member, status: Ok(status), metrics },
            Ok(Err(reason)) => Self { member, status: Err(reason), metrics: None },
            Err(_) => Self { member, status: Err("no answer".to_owned()), metrics: None },
        }
    }
}

async fn ask(
    settings: &Arc<Settings>,
    endpoints: Vec<String>,
) -> Result<(pb::StatusResponse, Option<Metrics>), String> {
    let mut client = Client::of_endpoints(settings, endpoints).await.map_err(|failure| failure.message)?;
    let deadline = client.command_deadline();
    let status = client.call(pb::StatusRequest {}, deadline).await.map_err(|error| error.message)?;
    let metrics = metrics(&mut client).await.unwrap_or_default();
    Ok((status, metrics))
}

/// The metrics over the connection that the calls use; etcd serves them on another one only.
async fn metrics(client: &mut Client) -> Result<Option<Metrics>, CallError> {
    let mut channel = client.connection(client.command_deadline()).await?;
    let request = Request::get("/metrics").body(Body::empty()).expect("a valid request");
    if std::future::poll_fn(|cx| GrpcService::<Body>::poll_ready(&mut channel, cx)).await.is_err() {
        return Ok(None);
    }
    let Ok(response) = GrpcService::<Body>::call(&mut channel, request).await else { return Ok(None) };
    if response.status() != StatusCode::OK {
        return Ok(None);
    }
    let Ok(body) = http_body_util::Limited::new(response.into_body(), METRICS_BYTES_MAX).collect().await else {
        return Ok(None);
    };
    Ok(std::str::from_utf8(&body.to_bytes()).ok().map(Metrics::parse))
}
