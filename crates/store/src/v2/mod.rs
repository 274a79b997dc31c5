//! etcd's v2 tree: directories and files with an index of its own, and whoever waits for its changes.
//!
//! Owns the tree, the newest events and the watchers. Does not own the HTTP API (`server`), nor time: every change brings
//! the times that it needs along, and what dies of old age is told by the leader ([`Tree::expire`]). Invariant: each
//! change that takes place raises the index by one and leaves exactly one event in the history.
//!
//! Paths are as etcd's own: "/1/…" for the keys of clients, "/2/…" for users and roles. Members' records ("/0/…") are kept
//! elsewhere, but count in the index.

mod event;
mod fault;
mod history;
mod hub;
mod node;
mod path;
mod record;
mod stats;
mod tree;

pub use event::{Action, Event, Image};
pub use fault::{Code, Fault};
pub use hub::{STREAM_BYTES_MAX, STREAM_EVENTS_MAX, Taken, WATCHERS_MAX, Wake, WatchSpec, Watcher};
pub use path::clean;
pub use stats::StatsCounts;

pub(crate) use hub::Hub;
pub(crate) use record::first_record;
pub(crate) use stats::Stats;
pub(crate) use tree::Tree;

use std::sync::Arc;

/// Below it lie the keys of clients.
pub const KEYS: &[u8] = b"/1";
/// Below it lie users and roles; made, as in etcd, with the first of them.
pub const SECURITY: &[u8] = b"/2";

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The tree's index behind it.
    pub index: u64,
    /// The event, or why there is none.
    pub outcome: Result<Arc<Event>, Fault>,
}
