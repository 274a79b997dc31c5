//! The command line of the v2 API: `etcdctl` with `ETCDCTL_API=2`, the same as etcd 3.4's to everyone who calls or reads
//! it, and `quorate ctl --v2`.
//!
//! Not here: the commands of v3 (`ctl`). The invariant: standard output carries results, standard error why there is
//! none, and the exit code is etcdctl's: 1 for wrong use, 2 for no connection, 4 for a refusal, 5 for a cluster that is
//! not healthy.

mod accounts;
mod copy;
mod endpoint;
mod flags;
mod health;
mod help;
mod http;
mod keys;
mod members;
mod run;
mod show;
mod tree;
mod watch;

pub use run::main;

/// How a command ends that does not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    /// What standard error is told, with its line's end; may be empty.
    pub(crate) text: String,
}

/// Wrong use, or a refusal of users, roles and members.
pub(crate) const USAGE: i32 = 1;
/// No server can be reached.
pub(crate) const CONNECTION: i32 = 2;
/// The server refuses.
pub(crate) const SERVER: i32 = 4;
/// A member is not healthy.
pub(crate) const UNHEALTHY: i32 = 5;

impl Exit {
    /// A line for standard error, and 1.
    pub(crate) fn usage(text: impl std::fmt::Display) -> Self {
        Self { code: USAGE, text: format!("{text}\n") }
    }

    /// A failure as etcdctl tells those about keys.
    pub(crate) fn error(code: i32, fault: &http::Fault) -> Self {
        let detail = fault.detail().map(|detail| detail + "\n").unwrap_or_default();
        Self { code, text: format!("Error:  {fault}\n{detail}") }
    }

    /// A failure as etcdctl tells those about keys.
    pub(crate) fn plain(code: i32, text: &str) -> Self {
        Self { code, text: format!("Error:  {text}\n") }
    }
}
