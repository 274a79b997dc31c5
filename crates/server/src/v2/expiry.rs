//! The leader's clock for the v2 tree: what is due is told to all members through the log.
//!
//! Invariant: a word that is late, or of a leader that is none any more, harms nothing: it names a time that had passed
//! when it was spoken, and each node's deadline at the moment it is applied decides; the term voids another clock's.

use super::{now_ns, stats};
use crate::backend::Backend;
use quorate_proto::quoratepb::V2Expire;
use quorate_proto::quoratepb::command::Operation;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often the leader looks (etcd's interval).
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs for ever.
pub(crate) async fn run(backend: Backend) {
    stats::start();
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let status = backend.status();
        let time_ns = now_ns();
        if status.leader != status.id || backend.reader().v2_next_deadline_ns().is_none_or(|due_ns| due_ns > time_ns) {
            continue;
        }
        let expire = Operation::V2Expire(V2Expire { time_ns, term: status.term });
        if let Err(error) = backend.propose(None, expire).await {
            tracing::debug!(error = error.to_string(), "cannot tell the v2 tree's time");
        }
    }
}
