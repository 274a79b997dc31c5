//! What the store says of itself.

use crate::api::ClientSurface;
use crate::metrics::exposition::{Exposition, Kind, label};
use quorate_proto::etcdserverpb::AlarmType;

pub(super) fn store(out: &mut Exposition, surface: &ClientSurface) {
    let stats = surface.backend.reader().stats();
    let hub = surface.backend.reader().watch_hub();
    let metrics = &surface.metrics;
    for (name, help, value) in [
        ("etcd_mvcc_put_total", "Total number of puts seen by this member.", stats.puts),
        ("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", stats.deletes),
        ("etcd_mvcc_txn_total", "Total number of txns seen by this member.", stats.txns),
        ("etcd_mvcc_range_total", "Total number of ranges seen by this member.", stats.ranges),
        ("etcd_debugging_lease_granted_total", "The total number of granted leases.", stats.leases_granted),
        (
            "etcd_debugging_lease_renewed_total",
            "The number of renewed leases seen by the leader.",
            stats.leases_renewed,
        ),
        ("etcd_debugging_lease_revoked_total", "The total number of revoked leases.", stats.leases_revoked),
        ("etcd_debugging_server_lease_expired_total", "The total number of expired leases.", stats.leases_expired),
        ("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.", metrics.events_sent.get()),
    ] {
        out.single(Kind::Counter, name, help, value);
    }
    for (name, help, value) in [
        ("etcd_debugging_mvcc_current_revision", "The current revision of store.", stats.revision),
        (
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction in store.",
            stats.compact_revision,
        ),
    ] {
        out.single(Kind::Gauge, name, help, value);
    }
    for (name, help, value) in [
        ("etcd_debugging_mvcc_keys_total", "Total number of keys.", stats.keys),
        (
            "etcd_mvcc_db_total_size_in_bytes",
            "Total size of the underlying database physically allocated in bytes.",
            stats.disk_bytes,
        ),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Total size of the underlying database logically in use in bytes.",
            stats.live_bytes,
        ),
        (
            "etcd_server_quota_backend_bytes",
            "Current backend storage quota size in bytes.",
            surface.backend.limits().quota.bytes,
        ),
        ("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", hub.streams()),
        ("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", hub.watchers()),
        ("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", hub.slow_watchers()),
        (
            "etcd_debugging_mvcc_pending_events_total",
            "Total number of pending events to be sent.",
            hub.pending_events(),
        ),
        (
            "etcd_debugging_mvcc_total_put_size_in_bytes",
            "The total size of put kv pairs seen by this member.",
            stats.put_bytes,
        ),
        ("quorate_leases", "Leases that exist.", stats.leases),
        (
            "quorate_state_digest",
            "Digest of the applied state, equal on all members at one applied index.",
            stats.digest,
        ),
    ] {
        out.single(Kind::Gauge, name, help, value);
    }
    for (name, help, value) in [
        (
            "quorate_scrub_bytes_total",
            "Bytes of stored records that the background read and found whole.",
            metrics.scrub.bytes.get(),
        ),
        (
            "quorate_scrub_passes_total",
            "Passes over all stored records that found nothing.",
            metrics.scrub.passes.get(),
        ),
        ("quorate_scrub_broken_total", "Passes that ended at a broken record.", metrics.scrub.broken.get()),
        (
            "quorate_repairs_begun_total",
            "How often this member's data turned out not to be trusted.",
            metrics.repairs_begun.get(),
        ),
        (
            "quorate_repairs_done_total",
            "How often this member's data was replaced by another member's.",
            metrics.repairs_done.get(),
        ),
    ] {
        out.single(Kind::Counter, name, help, value);
    }
    let reader = surface.backend.reader();
    for (name, help, value) in [
        (
            "quorate_quarantined",
            "1 while this member serves nobody because its data is not to be trusted.",
            u64::from(reader.is_quarantined()),
        ),
        (
            "quorate_quota_warning",
            "1 while live data is beyond 80 percent of the quota.",
            u64::from(surface.backend.limits().quota.is_warned(stats.live_bytes)),
        ),
    ] {
        out.single(Kind::Gauge, name, help, value);
    }
    let alarms = surface.backend.reader().alarms().into_iter().map(|alarm| {
        let name = AlarmType::try_from(alarm.alarm).map_or("NONE", |kind| kind.as_str_name());
        ([label("alarm_type", name), label("server_id", format!("{:x}", alarm.member_id))].join(","), 1u64)
    });
    out.labelled(
        Kind::Gauge,
        "etcd_debugging_server_alarms",
        "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
        alarms.collect::<Vec<_>>(),
    );
    out.single(
        Kind::Gauge,
        "quorate_compaction_pending",
        "1 while the space of a compaction is still being won back in the background.",
        u64::from(reader.compacted_revision() < reader.compact_revision()),
    );
    out.single(
        Kind::Counter,
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Total number of db keys compacted.",
        stats.versions_compacted,
    );
    out.single(
        Kind::Gauge,
        "etcd_debugging_mvcc_db_compaction_last",
        "The unix time of the last db compaction. Resets to 0 on start.",
        metrics.compaction_last_seconds.get(),
    );
    for (name, help, histogram) in [
        (
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
            "Bucketed histogram of db compaction total duration.",
            &metrics.compaction_milliseconds,
        ),
        (
            "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
            "Bucketed histogram of db compaction pause duration.",
            &metrics.compaction_pause_milliseconds,
        ),
        ("etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.", &metrics.lease_ttl_seconds),
        (
            "etcd_mvcc_hash_duration_seconds",
            "The latency distribution of storage hash operation.",
            &metrics.hash_seconds,
        ),
        (
            "etcd_mvcc_hash_rev_duration_seconds",
            "The latency distribution of storage hash by revision operation.",
            &metrics.hash_revision_seconds,
        ),
    ] {
        out.histogram(name, help, [(String::new(), histogram)]);
    }
}
