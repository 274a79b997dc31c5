//! Leases that are kept alive: one renewal at a time, or for as long as a session lives.
//!
//! Not here: what hangs on the lease. The invariant: a session counts as over as soon as its lease may have ended, not
//! when the server says so; whoever holds a lock on it must stop by then.

use std::time::Duration;

use futures::SinkExt;
use futures::channel::mpsc;
use quorate_proto::etcdserverpb::{self as pb, lease_client::LeaseClient};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Streaming;

use super::{Client, Deadline, before};
use crate::ctl::failure::CallError;

/// How many renewals may be on their way to the server at once.
const RENEWALS_IN_FLIGHT_MAX: usize = 1;
/// How long to wait after a renewal that failed.
const FAILED_PAUSE: Duration = Duration::from_millis(200);

/// Renews one lease over one stream, which is made again when it breaks.
pub(crate) struct KeepAlive {
    client: Client,
    lease: i64,
    stream: Option<(mpsc::Sender<pb::LeaseKeepAliveRequest>, Streaming<pb::LeaseKeepAliveResponse>)>,
}

impl KeepAlive {
    /// Will renew this lease.
    pub(crate) fn new(client: Client, lease: i64) -> Self {
        Self { client, lease, stream: None }
    }

    /// Renews the lease once; a reply with a TTL of zero says that there is no such lease.
    ///
    /// # Errors
    /// What the server said, or that the deadline passed.
    pub(crate) async fn renew(&mut self, deadline: Deadline) -> Result<pb::LeaseKeepAliveResponse, CallError> {
        let renewed = before(deadline, self.renew_over_stream()).await.and_then(|renewed| renewed);
        if renewed.is_err() {
            self.stream = None;
        }
        renewed
    }

    async fn renew_over_stream(&mut self) -> Result<pb::LeaseKeepAliveResponse, CallError> {
        let request = pb::LeaseKeepAliveRequest { id: self.lease };
        let (requests, replies) = match &mut self.stream {
            Some(stream) => {
                let ended = stream.0.send(request).await.is_err();
                if ended {
                    return Err(ended_error());
                }
                stream
            }
            None => {
                let (mut requests, outgoing) = mpsc::channel(RENEWALS_IN_FLIGHT_MAX);
                requests.send(request).await.expect("the receiver is held here");
                let channel = self.client.connection(None).await?;
                let outgoing = self.client.stream_request(outgoing);
                let replies = LeaseClient::new(channel).lease_keep_alive(outgoing).await;
                let replies = replies.map_err(|status| self.client.judge(&status))?.into_inner();
                self.stream.insert((requests, replies))
            }
        };
        debug_assert!(!requests.is_closed());
        match replies.message().await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(ended_error()),
            Err(status) => Err(self.client.judge(&status)),
        }
    }
}

fn ended_error() -> CallError {
    CallError { code: tonic::Code::Unavailable, message: "the stream of renewals ended".to_owned() }
}

/// A lease that lives as long as this process, and no longer than this value.
pub(crate) struct Session {
    client: Client,
    /// The lease's ID.
    pub(crate) lease: i64,
    ttl: Duration,
    renewing: JoinHandle<()>,
}

impl Session {
    /// Grants a lease of `ttl_seconds` and begins to renew it.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn start(mut client: Client, ttl_seconds: i64) -> Result<Self, CallError> {
        let granted = client.call(pb::LeaseGrantRequest { ttl: ttl_seconds, id: 0 }, None).await?;
        let ttl = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(0));
        let renewing = tokio::spawn(renew_until_lost(KeepAlive::new(client.clone(), granted.id), ttl));
        Ok(Self { client, lease: granted.id, ttl, renewing })
    }

    /// Waits until the lease may have ended.
    pub(crate) async fn lost(&mut self) {
        // The task neither panics nor is aborted before `close`.
        let _ = (&mut self.renewing).await;
    }

    /// Ends the lease, and with it everything that hangs on it.
    ///
    /// # Errors
    /// What the server said; the lease then ends by itself.
    pub(crate) async fn close(mut self) -> Result<(), CallError> {
        self.renewing.abort();
        let deadline = Some(Instant::now() + self.ttl);
        self.client.call(pb::LeaseRevokeRequest { id: self.lease }, deadline).await.map(drop)
    }
}

/// Renews three times per TTL; ends when the lease is gone or a whole TTL has passed without a renewal.
async fn renew_until_lost(mut keep_alive: KeepAlive, ttl: Duration) {
    let mut ends = Instant::now() + ttl;
    loop {
        let asked = Instant::now();
        match keep_alive.renew(Some(ends)).await {
            Ok(reply) if reply.ttl <= 0 => return,
            Ok(reply) => {
                let ttl = Duration::from_secs(reply.ttl.unsigned_abs());
                ends = asked + ttl;
                tokio::time::sleep(ttl / 3).await;
            }
            Err(_) if Instant::now() >= ends => return,
            Err(_) => tokio::time::sleep(FAILED_PAUSE).await,
        }
    }
}
