//! How long the log's disk takes, as metrics. The disk itself is `quorate_folder`'s.

use crate::metrics::Histogram;
use quorate_folder::disk::DiskTimer;
pub use quorate_folder::disk::{Durability, RealDisk};
use std::time::Duration;

/// How long writes and syncs take, seconds.
#[derive(Debug)]
pub struct DiskTimes {
    /// Of each write.
    pub write_seconds: Histogram,
    /// Of each sync.
    pub sync_seconds: Histogram,
}

impl DiskTimer for DiskTimes {
    fn wrote(&self, took: Duration) {
        self.write_seconds.observe(took.as_secs_f64());
    }

    fn synced(&self, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
    }
}
