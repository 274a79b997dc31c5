//! What the commands do: one file per kind of thing they act on.
//!
//! Not here: flags, help and the forms of output. The invariant: an action first checks its words, then makes a client,
//! then acts; so a wrong word is found even when no server can be reached.

pub(crate) mod about;
pub(crate) mod alarm;
pub(crate) mod auth;
pub(crate) mod check;
pub(crate) mod child;
pub(crate) mod comparison;
pub(crate) mod downgrade;
pub(crate) mod elect;
pub(crate) mod endpoint;
pub(crate) mod interrupt;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod line;
pub(crate) mod live;
pub(crate) mod lock;
pub(crate) mod maintenance;
pub(crate) mod make_mirror;
pub(crate) mod member;
pub(crate) mod password;
pub(crate) mod queue;
pub(crate) mod replace;
pub(crate) mod role;
pub(crate) mod service;
pub(crate) mod shell;
pub(crate) mod snapshot;
pub(crate) mod top;
pub(crate) mod txn;
pub(crate) mod user;
pub(crate) mod watch;
