//! How long the disk takes.

use crate::api::ClientSurface;
use crate::metrics::exposition::{Exposition, Kind};

pub(super) fn disk(out: &mut Exposition, surface: &ClientSurface) {
    let metrics = &surface.metrics;
    for (name, help, histogram) in [
        (
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL.",
            &metrics.wal_times.sync_seconds,
        ),
        (
            "etcd_disk_wal_write_duration_seconds",
            "The latency distributions of write called by WAL.",
            &metrics.wal_times.write_seconds,
        ),
        (
            "etcd_disk_backend_commit_duration_seconds",
            "The latency distributions of commit called by backend.",
            &metrics.backend_commit_seconds,
        ),
        (
            "etcd_debugging_disk_backend_commit_write_duration_seconds",
            "The latency distributions of commit.write called by bboltdb backend. Here: the same as the commit.",
            &metrics.backend_commit_seconds,
        ),
        (
            "etcd_debugging_snap_save_total_duration_seconds",
            "The total latency distributions of save called by snapshot. Here: the same as the commit.",
            &metrics.backend_commit_seconds,
        ),
        (
            "etcd_disk_backend_defrag_duration_seconds",
            "The latency distribution of backend defragmentation. There is nothing to do for it here.",
            &metrics.defragment_seconds,
        ),
        (
            "etcd_disk_backend_snapshot_duration_seconds",
            "The latency distribution of backend snapshots.",
            &metrics.snapshot_seconds,
        ),
        (
            "etcd_snap_db_save_total_duration_seconds",
            "The total latency distributions of v3 snapshot save.",
            &metrics.snapshot_saved_seconds,
        ),
        (
            "etcd_snap_db_fsync_duration_seconds",
            "The latency distributions of fsyncing .snap.db file. Here: of making a snapshot that arrived durable.",
            &metrics.snapshot_synced_seconds,
        ),
    ] {
        out.histogram(name, help, [(String::new(), histogram)]);
    }
    out.single(
        Kind::Gauge,
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.",
        metrics.wal_write_bytes.get(),
    );
}
