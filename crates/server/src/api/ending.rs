//! What ends an answer that has no end of its own: the server stops, or a leader that the caller insists on is gone.

use crate::api::error::{NO_LEADER, STOPPED};
use crate::api::{Call, ClientSurface};
use crate::grpc::body::{Chunk, ChunkStream};
use crate::grpc::status::Status;
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// Looks, an election timeout apart, that must find no leader before a caller is told (as in etcd).
const LOOKS_WITHOUT_LEADER_MAX: u32 = 3;

/// Watches for the end.
pub(super) struct Ending {
    surface: Arc<ClientSurface>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    leader_looks: Option<Interval>,
    looks_without_leader: u32,
}

/// Returns when the server stops.
pub(super) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}

impl Ending {
    /// Of a call.
    pub(super) fn new(call: &Call) -> Self {
        let leader_looks = call.require_leader.then(|| {
            let period = call.surface.election_timeout;
            let mut looks = interval_at(tokio::time::Instant::now() + period, period);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            looks
        });
        Self {
            surface: call.surface.clone(),
            stopped: Box::pin(stopped(call.stopping.clone())),
            leader_looks,
            looks_without_leader: 0,
        }
    }

    /// Ready when the answer must end, with what its caller is told.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(STOPPED);
        }
        if let Some(looks) = &mut self.leader_looks {
            while looks.poll_tick(cx).is_ready() {
                let leaderless = self.surface.backend.status().leader == 0;
                self.looks_without_leader = if leaderless { self.looks_without_leader + 1 } else { 0 };
                if self.looks_without_leader >= LOOKS_WITHOUT_LEADER_MAX {
                    return Poll::Ready(NO_LEADER);
                }
            }
        }
        Poll::Pending
    }
}

/// An answer that ends when it must.
pub(super) struct UntilEnding {
    pub(super) stream: ChunkStream,
    pub(super) ending: Ending,
}

impl Stream for UntilEnding {
    type Item = Result<Chunk, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(status) = self.ending.poll(cx) {
            return Poll::Ready(Some(Err(status)));
        }
        self.stream.as_mut().poll_next(cx)
    }
}
