//! `utl`: the command line for the files of a stopped member, the same as etcdutl 3.7.3 to everyone who calls or reads
//! it.
//!
//! Not here: anything that speaks to a running member (`ctl`). The invariant: a command that is listed works.

mod entry;

pub use entry::main;
