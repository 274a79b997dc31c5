//! `/v2/stats`: what a member counts. A follower's latency is that of the probes that members send each other.

use super::{check_method, json, json_content, message, now_ns};
use crate::api::ClientSurface;
use crate::config::duration;
use crate::grpc::body::ReplyBody;
use http::{Method, Response, StatusCode};
use serde_json::json;
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Own,
    Leader,
    Store,
}

/// 2^63, which no latency reaches.
const NO_MINIMUM: f64 = 9_223_372_036_854_775_808.0;

/// When the member started, ns since 1970.
static STARTED_NS: LazyLock<i64> = LazyLock::new(now_ns);

/// The member starts.
pub(super) fn start() {
    LazyLock::force(&STARTED_NS);
}

/// Answers a page.
pub(super) fn answer(surface: &ClientSurface, method: &Method, page: Page) -> Response<ReplyBody> {
    if let Some(response) = check_method(method, "GET") {
        return response;
    }
    let text = match page {
        Page::Own => own(surface),
        Page::Store => store(surface),
        Page::Leader => {
            let status = surface.backend.status();
            if status.leader != status.id {
                return message(surface, StatusCode::FORBIDDEN, "not current leader");
            }
            leader(surface)
        }
    };
    json_content(surface, StatusCode::OK, text)
}

fn own(surface: &ClientSurface) -> String {
    let (identity, status) = (surface.backend.identity(), surface.backend.status());
    let state = if status.leader == status.id { "StateLeader" } else { "StateFollower" };
    let started = json::time(*STARTED_NS);
    let uptime = Duration::from_nanos(now_ns().saturating_sub(*STARTED_NS).unsigned_abs());
    format!(
        "{{\"name\":{},\"id\":\"{:x}\",\"state\":\"{state}\",\"startTime\":\"{started}\",\"leaderInfo\":{{\"leader\":\
         \"{:x}\",\"uptime\":\"{}\",\"startTime\":\"{started}\"}},\"recvAppendRequestCnt\":0,\
         \"sendAppendRequestCnt\":0}}",
        json!(identity.name),
        identity.member_id,
        status.leader,
        duration::text(uptime),
    )
}

fn leader(surface: &ClientSurface) -> String {
    let own = surface.backend.identity().member_id;
    let mut text = format!("{{\"leader\":\"{own:x}\",\"followers\":{{");
    let followers = surface.backend.reader().members().into_iter().filter(|member| member.id != own);
    for (position, member) in followers.enumerate() {
        let comma = if position > 0 { "," } else { "" };
        let counters = surface.metrics.peer(member.id);
        let trips = *counters.round_trips.lock();
        // What etcd shows before the first.
        let minimum = if trips.count == 0 { NO_MINIMUM } else { trips.minimum_ms };
        let _ = write!(
            text,
            "{comma}\"{:x}\":{{\"latency\":{{\"current\":{},\"average\":{},\"standardDeviation\":{},\"minimum\":{minimum},\
             \"maximum\":{}}},\"counts\":{{\"fail\":{},\"success\":{}}}}}",
            member.id,
            trips.current_ms,
            trips.average_ms,
            trips.standard_deviation_ms(),
            trips.maximum_ms,
            counters.sent_failures.get(),
            trips.count,
        );
    }
    text + "}}"
}

fn store(surface: &ClientSurface) -> String {
    let counts = surface.backend.reader().v2_stats();
    let fields = [
        ("getsSuccess", counts.gets_success),
        ("getsFail", counts.gets_fail),
        ("setsSuccess", counts.sets_success),
        ("setsFail", counts.sets_fail),
        ("deleteSuccess", counts.delete_success),
        ("deleteFail", counts.delete_fail),
        ("updateSuccess", counts.update_success),
        ("updateFail", counts.update_fail),
        ("createSuccess", counts.create_success),
        ("createFail", counts.create_fail),
        ("compareAndSwapSuccess", counts.compare_and_swap_success),
        ("compareAndSwapFail", counts.compare_and_swap_fail),
        ("compareAndDeleteSuccess", counts.compare_and_delete_success),
        ("compareAndDeleteFail", counts.compare_and_delete_fail),
        ("expireCount", counts.expire_count),
        ("watchers", counts.watchers),
    ];
    let fields: Vec<String> = fields.iter().map(|(name, count)| format!("\"{name}\":{count}")).collect();
    format!("{{{}}}", fields.join(","))
}
