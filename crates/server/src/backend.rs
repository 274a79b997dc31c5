//! The one door from the network to the replicated store: what every service of the client port calls.
//!
//! Owns the waiting callers. Knows nothing of gRPC or HTTP.

use quorate_node::api::{NodeStatus, Refusal};
use quorate_proto::quoratepb::command::Operation;
use quorate_store::outcome::Reply;
use quorate_store::reader::StoreReader;
use std::sync::Arc;
use thiserror::Error;

/// Why a call has no answer. Each maps to one gRPC status and etcd's text (`api/error.rs`).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// The store's own outcome.
    #[error(transparent)]
    Store(#[from] quorate_store::error::Error),
    /// The node can't serve it; nothing was done.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// No answer in time; the command may still take effect.
    #[error("etcdserver: request timed out")]
    TimedOut,
}

/// Who this member is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// etcd's cluster id.
    pub cluster_id: u64,
    /// etcd's member id.
    pub member_id: u64,
    /// `--name`.
    pub name: String,
}

/// Bounds on what one client may ask.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`.
    pub txn_operations_max: usize,
    /// The smallest TTL that a lease gets, seconds: 1.5 election timeouts, rounded up.
    pub lease_ttl_s_min: i64,
    /// `--quota-backend-bytes`, resolved.
    pub quota_bytes: u64,
    /// `--watch-progress-notify-interval`.
    pub progress_interval: std::time::Duration,
}

/// Shared by all connections.
#[derive(Clone)]
pub struct Backend {
    inner: Arc<Inner>,
}

struct Inner {}

impl Backend {
    /// The store, for reading.
    pub fn reader(&self) -> &StoreReader {
        todo!()
    }
    /// Who this member is.
    pub fn identity(&self) -> &Identity {
        todo!()
    }
    /// The bounds.
    pub fn limits(&self) -> &Limits {
        todo!()
    }
    /// The node's newest status.
    pub fn status(&self) -> NodeStatus {
        todo!()
    }
    /// Replicates a command and answers when this member applied it.
    pub async fn propose(&self, _operation: Operation) -> Result<Reply, CallError> {
        todo!()
    }
    /// Returns when a read of [`Self::reader`] is linearizable.
    pub async fn read_barrier(&self) -> Result<(), CallError> {
        todo!()
    }
    /// What remains of a lease, ms, as this member knows it; `None`: no such lease.
    pub async fn lease_remaining(&self, _id: i64) -> Result<Option<u64>, CallError> {
        todo!()
    }
    /// Asks the leader (this member) to hand over to `to`.
    pub fn transfer_leader(&self, _to: u64) {
        todo!()
    }
    /// A new positive lease id.
    pub fn new_lease_id(&self) -> i64 {
        todo!()
    }
}
