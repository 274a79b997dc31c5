//! Consensus: one member's side of it. Inputs in, effects out.
//!
//! Knows nothing of sockets, tokio, threads or clocks. The `raft` crate is used behind `consensus` only, so that it can
//! be changed.

mod alone;
pub mod api;
mod consensus;
pub mod held;
mod leases;
pub mod node;
mod proposals;
mod reads;
#[cfg(test)]
mod tests;
pub mod wal;

pub use alone::force_new_cluster;
pub use node::Node;
