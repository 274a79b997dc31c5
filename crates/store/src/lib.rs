//! The replicated state machine: commands in, replies and events out, the same on every member, byte for byte.
//!
//! Knows nothing of clocks, randomness, sockets, threads, tokio or raft. Disks come in as [`disk::Disk`].

pub mod disk;
pub mod error;
pub mod home;
pub mod key_index;
pub mod range;
pub mod revision;
pub mod revlog;
pub mod outcome;
pub mod reader;
pub mod watch;
