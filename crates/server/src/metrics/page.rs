//! Puts the page together: what was counted, and what the store, the node and the process say of themselves.

use crate::api::method::Method;
use crate::api::{ClientSurface, auth};
use crate::grpc::status::Code;
use crate::http::process;
use crate::metrics::Histogram;
use crate::metrics::exposition::{Exposition, Kind, label};
use crate::version;
use quorate_proto::etcdserverpb::AlarmType;

/// What `--feature-gates` may name; none of it changes anything here.
const FEATURES: [(&str, &str); 11] = [
    ("AllAlpha", "ALPHA"),
    ("AllBeta", "BETA"),
    ("CompactHashCheck", "ALPHA"),
    ("FastLeaseKeepAlive", "BETA"),
    ("InitialCorruptCheck", "ALPHA"),
    ("LeaseCheckpoint", "ALPHA"),
    ("LeaseCheckpointPersist", "ALPHA"),
    ("PriorityRequest", "ALPHA"),
    ("SetMemberLocalAddr", "ALPHA"),
    ("StopGRPCServiceOnDefrag", "ALPHA"),
    ("TxnModeWriteWithSharedBuffer", "BETA"),
];

/// The text of `/metrics`.
pub(crate) fn page(surface: &ClientSurface) -> String {
    let mut out = Exposition::default();
    grpc(&mut out, surface);
    store(&mut out, surface);
    node(&mut out, surface);
    disk_and_network(&mut out, surface);
    process_figures(&mut out);
    without_counterpart(&mut out);
    out.finish()
}

fn grpc(out: &mut Exposition, surface: &ClientSurface) {
    let metrics = &surface.metrics;
    let labels = |method: Method| {
        [
            label("grpc_method", method.name()),
            label("grpc_service", method.service()),
            label("grpc_type", method.kind().name()),
        ]
        .join(",")
    };
    let all = || Method::ALL.iter().map(|&method| (labels(method), metrics.method(method)));
    out.labelled(
        Kind::Counter,
        "grpc_server_started_total",
        "Total number of RPCs started on the server.",
        all().map(|(labels, counters)| (labels, counters.started.get())),
    );
    out.labelled(
        Kind::Counter,
        "grpc_server_msg_received_total",
        "Total number of RPC stream messages received on the server.",
        all().map(|(labels, counters)| (labels, counters.messages_received.get())),
    );
    out.labelled(
        Kind::Counter,
        "grpc_server_msg_sent_total",
        "Total number of gRPC stream messages sent by the server.",
        all().map(|(labels, counters)| (labels, counters.messages_sent.get())),
    );
    let handled = all().flat_map(|(labels, counters)| {
        Code::ALL.into_iter().map(move |code| {
            (format!("{},{labels}", label("grpc_code", code.name())), counters.handled[code as usize].get())
        })
    });
    out.labelled(
        Kind::Counter,
        "grpc_server_handled_total",
        "Total number of RPCs completed on the server, regardless of success or failure.",
        handled.collect::<Vec<_>>(),
    );
    out.histogram(
        "etcd_server_range_duration_seconds",
        "Latency distribution in seconds of ranges, from the request to its answer or its first piece.",
        [
            (label("success", false), &metrics.method(Method::Range).failed_seconds),
            (label("success", true), &metrics.method(Method::Range).succeeded_seconds),
        ],
    );
    out.single(Kind::Gauge, "etcd_debugging_auth_revision", "The current revision of auth store.", auth::AUTH_REVISION);
    let checks = metrics.health_checks.lock().clone();
    let labels = |kind: &str, name: &str| [label("name", name), label("type", kind)].join(",");
    out.labelled(
        Kind::Gauge,
        "etcd_server_healthcheck",
        "The result of each kind of healthcheck.",
        checks.iter().map(|((kind, name), result)| (labels(kind, name), u64::from(result.healthy))),
    );
    out.labelled(
        Kind::Counter,
        "etcd_server_healthchecks_total",
        "The total number of each kind of healthcheck.",
        checks.iter().flat_map(|((kind, name), result)| {
            let labels = |status: &str| [label("name", name), label("status", status), label("type", kind)].join(",");
            [(labels("error"), result.failures), (labels("success"), result.successes)]
                .into_iter()
                .filter(|(_, count)| *count > 0)
        }),
    );
    let timed = [
        (Method::Range, "Range"),
        (Method::Put, "Put"),
        (Method::DeleteRange, "DeleteRange"),
        (Method::Txn, "Txn"),
        (Method::Compact, "Compaction"),
        (Method::LeaseGrant, "LeaseGrant"),
        (Method::LeaseRevoke, "LeaseRevoke"),
    ];
    let parts = timed.into_iter().flat_map(|(method, name)| {
        let counters = metrics.method(method);
        let labels = |success: bool| [label("success", success), label("type", name)].join(",");
        [(labels(false), &counters.failed_seconds), (labels(true), &counters.succeeded_seconds)]
    });
    out.histogram(
        "etcd_server_request_duration_seconds",
        "Response latency distribution in seconds for each type.",
        parts,
    );
    let calls = metrics.client_versions.all().into_iter().flat_map(|(version, [unary, stream])| {
        let labels = |kind: &str| [label("client_api_version", &version), label("type", kind)].join(",");
        [(labels("stream"), stream), (labels("unary"), unary)]
    });
    out.labelled(
        Kind::Counter,
        "etcd_server_client_requests_total",
        "The total number of client requests per client version.",
        calls.filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
    );
    out.single(
        Kind::Counter,
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.",
        metrics.client_received_bytes.get(),
    );
    out.single(
        Kind::Counter,
        "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to grpc clients.",
        metrics.client_sent_bytes.get(),
    );
    out.single(
        Kind::Gauge,
        "quorate_client_connections",
        "Client connections that are open.",
        metrics.client_connections.get(),
    );
}

fn store(out: &mut Exposition, surface: &ClientSurface) {
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
            surface.backend.limits().quota_bytes,
        ),
        ("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", hub.streams()),
        ("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", hub.watchers()),
        ("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", hub.slow_watchers()),
        ("quorate_leases", "Leases that exist.", stats.leases),
        (
            "quorate_state_digest",
            "Digest of the applied state, equal on all members at one applied index.",
            stats.digest,
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
}

fn node(out: &mut Exposition, surface: &ClientSurface) {
    let applied_index = surface.backend.reader().applied_index();
    let status = surface.backend.status();
    let metrics = &surface.metrics;
    let own_id = surface.backend.identity().member_id;
    let flag = |condition: bool| u64::from(condition);
    for (name, help, value) in [
        (
            "etcd_server_has_leader",
            "Whether or not a leader exists. 1 is existence, 0 is not.",
            flag(status.leader != 0),
        ),
        (
            "etcd_server_is_leader",
            "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            flag(status.leader == own_id),
        ),
        (
            "etcd_server_is_learner",
            "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            flag(status.is_learner),
        ),
        (
            "etcd_server_proposals_committed_total",
            "The total number of consensus proposals committed.",
            surface.backend.commit_index(),
        ),
        ("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.", applied_index),
        ("quorate_raft_term", "The current term.", status.term),
        ("quorate_raft_last_index", "The last index in the log.", status.last_index),
    ] {
        out.single(Kind::Gauge, name, help, value);
    }
    out.single(
        Kind::Gauge,
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.",
        surface.backend.proposals_pending(),
    );
    for (name, help, value) in [
        ("etcd_server_leader_changes_seen_total", "The number of leader changes seen.", status.leader_changes),
        (
            "etcd_server_proposals_failed_total",
            "The total number of failed proposals seen.",
            metrics.proposals_failed.get(),
        ),
        (
            "etcd_server_read_indexes_failed_total",
            "The total number of failed read indexes seen.",
            metrics.read_indexes_failed.get(),
        ),
        (
            "etcd_server_slow_read_indexes_total",
            "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
            metrics.slow_read_indexes.get(),
        ),
        (
            "etcd_server_slow_apply_total",
            "The total number of slow apply requests (likely overloaded from slow disk).",
            metrics.slow_applies.get(),
        ),
        (
            "etcd_server_heartbeat_send_failures_total",
            "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
            metrics.heartbeat_send_failures.get(),
        ),
        ("etcd_server_health_success", "The total number of successful health checks", metrics.health_successes.get()),
        ("etcd_server_health_failures", "The total number of failed health checks", metrics.health_failures.get()),
    ] {
        out.single(Kind::Counter, name, help, value);
    }
    out.histogram(
        "etcd_server_apply_duration_seconds",
        "The latency distributions of v2 apply called by backend. Here: of applying one entry, which holds many requests.",
        [(
            [label("op", "Entry"), label("success", true), label("version", "v3")].join(","),
            &metrics.apply_seconds,
        )],
    );
    out.labelled(
        Kind::Gauge,
        "etcd_server_id",
        "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
        [(label("server_id", format!("{own_id:x}")), 1u64)],
    );
    out.labelled(
        Kind::Gauge,
        "etcd_server_version",
        "Which version is running. 1 for 'server_version' label with current version.",
        [(label("server_version", version::ETCD), 1u64)],
    );
    out.labelled(
        Kind::Gauge,
        "etcd_server_go_version",
        "Which Go version server is running with. This server is not a Go program.",
        [(label("server_go_version", "none"), 1u64)],
    );
    out.labelled(
        Kind::Gauge,
        "etcd_server_feature_enabled",
        "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
        FEATURES.map(|(name, stage)| ([label("name", name), label("stage", stage)].join(","), 0u64)),
    );
    out.labelled(
        Kind::Gauge,
        "quorate_build_info",
        "Which version of Quorate is running.",
        [(label("version", version::QUORATE), 1u64)],
    );
    let cluster_version = surface.backend.reader().cluster_version();
    if let Some((major_minor, _)) = cluster_version.rsplit_once('.') {
        out.labelled(
            Kind::Gauge,
            "etcd_cluster_version",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            [(label("cluster_version", major_minor), 1u64)],
        );
    }
}

fn disk_and_network(out: &mut Exposition, surface: &ClientSurface) {
    let metrics = &surface.metrics;
    for (name, help, histogram) in [
        (
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL.",
            &metrics.wal_times.sync_seconds,
        ),
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
    ] {
        out.histogram(name, help, [(String::new(), histogram)]);
    }
    out.single(
        Kind::Gauge,
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.",
        metrics.wal_write_bytes.get(),
    );
    let own_id = surface.backend.identity().member_id;
    let peers: Vec<_> =
        metrics.peers.lock().iter().map(|(&id, counters)| (format!("{id:x}"), counters.clone())).collect();
    let pair = |id: &str| [label("Local", format!("{own_id:x}")), label("Remote", id)].join(",");
    out.labelled(
        Kind::Gauge,
        "etcd_network_active_peers",
        "The current number of active peer connections.",
        peers.iter().map(|(id, counters)| (pair(id), counters.active.get())),
    );
    let members = surface.backend.reader().members();
    out.labelled(
        Kind::Gauge,
        "etcd_network_known_peers",
        "The current number of known peers.",
        members.iter().map(|member| (pair(&format!("{:x}", member.id)), 1u64)),
    );
    out.labelled(
        Kind::Counter,
        "etcd_network_disconnected_peers_total",
        "The total number of disconnected peers.",
        peers.iter().map(|(id, counters)| (pair(id), counters.disconnections.get())),
    );
    for (name, help, direction, value) in [
        (
            "etcd_network_peer_sent_bytes_total",
            "The total number of bytes sent to peers.",
            "To",
            (|peer| &peer.sent_bytes) as fn(&super::PeerCounters) -> &super::Counter,
        ),
        ("etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.", "From", |peer| {
            &peer.received_bytes
        }),
        ("etcd_network_peer_sent_failures_total", "The total number of send failures from peers.", "To", |peer| {
            &peer.sent_failures
        }),
        (
            "etcd_network_peer_received_failures_total",
            "The total number of receive failures from peers.",
            "From",
            |peer| &peer.received_failures,
        ),
    ] {
        out.labelled(
            Kind::Counter,
            name,
            help,
            peers.iter().map(|(id, counters)| (label(direction, id), value(counters).get())),
        );
    }
}

fn process_figures(out: &mut Exposition) {
    let figures = process::figures();
    out.single(
        Kind::Counter,
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        figures.cpu_seconds,
    );
    out.single(
        Kind::Gauge,
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        figures.start_time_seconds,
    );
    for (name, help, value) in [
        ("process_open_fds", "Number of open file descriptors.", figures.open_files),
        ("process_max_fds", "Maximum number of open file descriptors.", figures.open_files_max),
        ("process_resident_memory_bytes", "Resident memory size in bytes.", figures.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", figures.virtual_bytes),
        ("os_fd_used", "The number of used file descriptors.", figures.open_files),
        ("os_fd_limit", "The file descriptor limit.", figures.open_files_max),
    ] {
        out.single(Kind::Gauge, name, help, value);
    }
}

/// What etcd measures of machinery that does not exist here, or that never runs: shown at zero, so that dashboards and
/// rules that name them find them.
fn without_counterpart(out: &mut Exposition) {
    const HELP: &str = "Of no meaning here; always zero.";
    for name in [
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "etcd_debugging_store_expires_total",
        "etcd_debugging_store_watch_requests_total",
        "etcd_grpc_proxy_events_coalescing_total",
        "etcd_server_learner_promote_successes",
    ] {
        out.single(Kind::Counter, name, HELP, 0u64);
    }
    for name in [
        "etcd_debugging_mvcc_db_compaction_last",
        "etcd_debugging_mvcc_pending_events_total",
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "etcd_debugging_store_watchers",
        "etcd_disk_defrag_inflight",
        "etcd_grpc_proxy_cache_hits_total",
        "etcd_grpc_proxy_cache_keys_total",
        "etcd_grpc_proxy_cache_misses_total",
        "etcd_grpc_proxy_watchers_coalescing_total",
        "etcd_mvcc_db_open_read_transactions",
        "etcd_server_snapshot_apply_in_progress_total",
    ] {
        out.single(Kind::Gauge, name, HELP, 0u64);
    }
    for (name, start, count) in [
        ("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", 0.001, 14),
        ("etcd_debugging_disk_backend_commit_spill_duration_seconds", 0.001, 14),
        ("etcd_debugging_disk_backend_commit_write_duration_seconds", 0.001, 14),
        ("etcd_debugging_lease_ttl_total", 1.0, 24),
        ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", 1.0, 13),
        ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", 100.0, 14),
        ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", 0.5, 14),
        ("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", 0.001, 14),
        ("etcd_debugging_server_watch_send_loop_progress_duration_seconds", 0.001, 14),
        ("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", 0.001, 14),
        ("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", 0.001, 14),
        ("etcd_debugging_snap_save_marshalling_duration_seconds", 0.001, 14),
        ("etcd_debugging_snap_save_total_duration_seconds", 0.001, 14),
        ("etcd_disk_backend_defrag_duration_seconds", 0.1, 13),
        ("etcd_disk_backend_snapshot_duration_seconds", 0.01, 17),
        ("etcd_snap_db_fsync_duration_seconds", 0.001, 14),
        ("etcd_snap_db_save_total_duration_seconds", 0.1, 10),
        ("etcd_snap_fsync_duration_seconds", 0.001, 14),
    ] {
        out.histogram(name, HELP, [(String::new(), &Histogram::exponential(start, 2.0, count))]);
    }
}
