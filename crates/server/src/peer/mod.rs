//! How members talk: one connection to each peer for messages, one more for a snapshot, and a little HTTP for tools.
//!
//! Messages may get lost (consensus repeats them), but never arrive changed, from a stranger, or from another cluster.

mod accept;
mod dial;
mod fetch;
mod frame;
#[cfg(test)]
mod fuzz;
mod link;
mod snapshot;
mod transport;

#[cfg(test)]
mod tests;

pub(crate) use accept::serve;
pub(crate) use fetch::{Fetched, ask, fetch};
pub(crate) use transport::{PeerConfig, Transport};

/// What a connection for messages upgrades to.
pub(crate) const PROTOCOL: &str = "quorate-peer/1";
/// Path of the connection for messages.
pub(crate) const STREAM_PATH: &str = "/quorate/stream";
/// Path of the connection for a snapshot.
pub(crate) const SNAPSHOT_PATH: &str = "/quorate/snapshot";
/// Header: the cluster, in hex.
pub(crate) const CLUSTER_HEADER: &str = "x-cluster-id";
/// Header: who sends, in hex.
pub(crate) const FROM_HEADER: &str = "x-member-id";
/// Header: who is meant, in hex.
pub(crate) const TO_HEADER: &str = "x-to";
/// Header: where the sender is reached, comma separated.
pub(crate) const URLS_HEADER: &str = "x-peer-urls";
/// Header of answers, as etcd has it: the cluster, in hex.
pub(crate) const ETCD_CLUSTER_HEADER: &str = "x-etcd-cluster-id";
/// Header of answers: the release of Quorate that answers. Without it somebody else does.
pub(crate) const VERSION_HEADER: &str = "x-quorate-version";
