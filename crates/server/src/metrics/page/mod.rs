//! Puts the page together: what was counted, and what the store, the node and the process say of themselves.

mod calls;
mod disk;
mod network;
mod node;
mod process;
mod store;

use crate::api::ClientSurface;
use crate::metrics::Histogram;
use crate::metrics::exposition::{Exposition, Kind};

/// The text of `/metrics`.
pub(crate) fn page(surface: &ClientSurface) -> String {
    let mut out = Exposition::default();
    calls::grpc(&mut out, surface);
    store::store(&mut out, surface);
    node::node(&mut out, surface);
    disk::disk(&mut out, surface);
    network::network(&mut out, surface);
    process::process(&mut out, surface);
    without_counterpart(&mut out);
    surface.metrics.scrapes.increment();
    out.finish()
}

/// What etcd measures of machinery that does not exist here, or that never runs: shown at zero, so that dashboards and
/// rules that name them find them.
fn without_counterpart(out: &mut Exposition) {
    const HELP: &str = "Of no meaning here; always zero.";
    for name in [
        "etcd_debugging_store_expires_total",
        "etcd_debugging_store_watch_requests_total",
        "etcd_grpc_proxy_events_coalescing_total",
    ] {
        out.single(Kind::Counter, name, HELP, 0u64);
    }
    for name in [
        "etcd_debugging_store_watchers",
        "etcd_disk_defrag_inflight",
        "etcd_grpc_proxy_cache_hits_total",
        "etcd_grpc_proxy_cache_keys_total",
        "etcd_grpc_proxy_cache_misses_total",
        "etcd_grpc_proxy_watchers_coalescing_total",
    ] {
        out.single(Kind::Gauge, name, HELP, 0u64);
    }
    for (name, start, count) in [
        ("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", 0.001, 14),
        ("etcd_debugging_disk_backend_commit_spill_duration_seconds", 0.001, 14),
        ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", 0.5, 14),
        ("etcd_debugging_snap_save_marshalling_duration_seconds", 0.001, 14),
        ("etcd_snap_fsync_duration_seconds", 0.001, 14),
    ] {
        out.histogram(name, HELP, [(String::new(), &Histogram::exponential(start, 2.0, count))]);
    }
}
