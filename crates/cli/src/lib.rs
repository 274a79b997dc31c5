//! The tools of the command line: `ctl` talks to a running cluster, `utl` works on files, `bench` measures.
//!
//! Not here: which of the three a process is (the binary crate decides), and everything of the server. The invariant:
//! a tool called by etcd's name prints what etcd's tool prints, byte for byte, and ends with its exit code.

pub mod bench;
mod command_line;
pub mod ctl;
pub mod utl;
pub mod v2;

pub use command_line::Called;
pub use command_line::word::argument;
