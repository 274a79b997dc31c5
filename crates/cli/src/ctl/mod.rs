//! `ctl`: the command line of a running cluster, the same as etcdctl 3.7.3 to everyone who calls or reads it.
//!
//! Not here: anything that works on files of a stopped member (`utl`). The invariant: standard output carries results
//! and nothing else, every failure is one line `Error: …` on standard error, and the exit code says whose fault it was
//! (`failure`).

mod action;
pub(crate) mod client;
mod entry;
mod failure;
pub(crate) mod print;
mod settings;
mod tree;

pub(crate) use action::{interrupt, password};
pub use entry::main;
