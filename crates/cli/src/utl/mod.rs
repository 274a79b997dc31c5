//! `utl`: the command line for the files of a stopped member, the same as etcdutl 3.7.3 to everyone who calls or reads
//! it, and what etcdutl has no command for.
//!
//! Not here: anything that speaks to a running member (`ctl`), and the work on files (`quorate_folder`,
//! `quorate_backend`). The invariant: a command that is listed works, and one that changes something says what.

mod check;
mod entry;
mod etcd_only;
mod failure;
mod hash;
mod import;
mod log;
mod output;
mod place;
mod progress;
mod recover;
mod snapshot;
mod tree;

pub use entry::main;
