//! `quorate bench`: a load generator over the v3 API, for Quorate and for etcd alike, and a comparison of two servers.
//!
//! It owns how load is made, measured and printed. It owns no server code: whatever it learns of a server it learns
//! through the v3 API, `/health` and `/proc`. The invariants: every call that was made is counted once, as a success
//! with its latency or as a failure with its status; and the same options make the same requests (the key and the kind
//! of call number `n` depend on the seed and `n` alone), so two servers are compared on the same work.
//!
//! - [`arguments`]: the options and their checks, which end in types that cannot be wrong
//! - [`schedule`]: when each call begins and when the run ends
//! - [`payload`]: keys and values
//! - [`caller`]: one client's calls; [`fan_out`]: watchers of one prefix
//! - [`run`]: one measured run; [`tally`] and [`histogram`]: what it counts; [`report`]: how that is printed
//! - [`compare`]: the same work on two servers in turn

mod arguments;
mod caller;
mod compare;
mod connect;
mod entry;
mod fan_out;
mod figures;
mod histogram;
mod interrupt;
mod payload;
mod progress;
mod report;
mod run;
mod schedule;
mod table;
mod tally;

pub use entry::main;
