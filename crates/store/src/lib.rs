//! The replicated state machine: commands in, replies and events out, the same on every member, byte for byte.
//!
//! Knows nothing of clocks, randomness, sockets, threads, tokio or raft. Disks come in as [`disk::Disk`].

mod apply;
pub mod auth;
mod change;
mod compaction;
pub mod disk;
pub mod downgrade;
mod encode;
pub mod error;
pub mod export;
mod hash;
pub mod home;
mod integrity;
pub mod key_index;
pub mod lease;
pub mod members;
pub mod memory_disk;
pub mod operation_counts;
pub mod outcome;
pub mod quota;
pub mod range;
pub mod reader;
pub mod revision;
pub mod revlog;
pub mod scrub;
pub mod seed;
mod state;
pub mod store;
mod tie_order;
mod txn;
pub mod v2;
pub mod watch;
