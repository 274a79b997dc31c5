//! The server: everything that touches the world.

pub mod api;
pub mod auth;
pub mod backend;
pub mod boot;
mod cluster_version;
mod compactor;
pub mod config;
pub mod connection;
mod discovery;
pub mod disk;
pub mod entry;
#[cfg(test)]
#[path = "../../../fuzz/mutate.rs"]
mod fuzz_mutate;
mod gateway;
mod grpc;
mod http;
mod integrity;
mod join;
mod listen;
pub mod logging;
mod mailbox;
mod membership;
pub use quorate_folder::member_ids;
pub mod metrics;
mod peer;
mod proxy;
mod quota_watch;
mod shutdown;
mod socket;
mod spans;
mod threads;
pub mod tls;
mod v2;
pub mod version;
mod waiting;
