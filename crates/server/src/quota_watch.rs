//! The quota over time: warns before the store is full, and takes the NOSPACE alarm back once there is room again.
//!
//! Owns when to look. The stages are [`quorate_store::quota`]'s; raising is `api/quota`'s, where the growing write comes
//! by. Invariant: only alarms that the quota raised are taken back; what somebody raised by hand stays until somebody
//! disarms it. Of a member that is gone the leader takes it back, by its own store: nobody else could.

use crate::backend::Backend;
use crate::peer::Transport;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::cluster_caller;
use std::time::Duration;

/// How often the store's size is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Looks for as long as the member runs.
pub(crate) async fn run(backend: Backend, peers: Transport) {
    let mut is_warned = false;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let quota = backend.limits().quota;
        let live_bytes = backend.reader().live_bytes();
        if quota.is_warned(live_bytes) != is_warned {
            is_warned = !is_warned;
            tell(is_warned, live_bytes, quota.bytes);
        }
        if backend.limits().sticky_nospace || !quota.has_room(live_bytes) || backend.reader().is_quarantined() {
            continue;
        }
        for AlarmMember { member_id, alarm } in over(&backend, &peers) {
            let request = AlarmRequest { action: AlarmAction::Deactivate as i32, member_id, alarm };
            // If it could not be taken back, the next look tries again.
            if backend.propose(Some(cluster_caller()), Operation::Alarm(request)).await.is_ok() {
                tracing::info!(
                    "alarmed-member-id" = format!("{member_id:x}"),
                    "current-db-size-in-use-bytes" = live_bytes,
                    "quota-size-bytes" = quota.bytes,
                    "there is room again; took the NOSPACE alarm back"
                );
            }
        }
    }
}

/// The alarms that this member may take back when its own store has room.
fn over(backend: &Backend, peers: &Transport) -> Vec<AlarmMember> {
    let own_id = backend.identity().member_id;
    let leads = backend.status().leader == own_id;
    let mut alarms = backend.reader().own_alarms();
    alarms.retain(|alarm| {
        let is_mine = alarm.member_id == own_id || (leads && peers.active_since(alarm.member_id).is_none());
        alarm.alarm == AlarmType::Nospace as i32 && is_mine
    });
    alarms
}

fn tell(is_warned: bool, live_bytes: u64, quota_bytes: u64) {
    if is_warned {
        tracing::warn!(
            "current-db-size-in-use-bytes" = live_bytes,
            "quota-size-bytes" = quota_bytes,
            "the store is filling up: compact, delete keys, or raise --quota-backend-bytes before writes are refused"
        );
    } else {
        tracing::info!(
            "current-db-size-in-use-bytes" = live_bytes,
            "quota-size-bytes" = quota_bytes,
            "the store is well below its quota again"
        );
    }
}
