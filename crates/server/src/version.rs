//! The versions that the server reports.

/// The etcd release that this server equals, on every surface that etcd has.
pub const ETCD: &str = "3.7.3";

/// The version of the stored data, as etcd numbers it.
pub const STORAGE: &str = "3.7.0";

/// Quorate's own.
pub const QUORATE: &str = env!("CARGO_PKG_VERSION");
