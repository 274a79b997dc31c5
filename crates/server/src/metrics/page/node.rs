//! What consensus says of itself, and what this member is.

use crate::api::ClientSurface;
use crate::cluster_version::major_minor;
use crate::metrics::exposition::{Exposition, Kind, label};
use crate::version;
use quorate_store::operation_counts::OperationCounts;

pub(super) fn node(out: &mut Exposition, surface: &ClientSurface) {
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
        (
            "etcd_server_learner_promote_successes",
            "The total number of successful learner promotions while this member is leader.",
            metrics.learner_promotions.get(),
        ),
        ("etcd_server_health_success", "The total number of successful health checks", metrics.health_successes.get()),
        ("etcd_server_health_failures", "The total number of failed health checks", metrics.health_failures.get()),
    ] {
        out.single(Kind::Counter, name, help, value);
    }
    out.labelled(
        Kind::Counter,
        "etcd_server_learner_promote_failures",
        "The total number of failed learner promotions (likely learner not ready). Here: of those asked of this member.",
        metrics.refused_promotions.occurring().map(|(reason, count)| (label("Reason", reason), count)),
    );
    apply(out, surface, applied_index);
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
        metrics.features.all().map(|(gate, enabled)| {
            ([label("name", gate.name), label("stage", gate.stage.name())].join(","), u64::from(enabled))
        }),
    );
    out.labelled(
        Kind::Gauge,
        "quorate_build_info",
        "Which version of Quorate is running.",
        [(label("version", version::QUORATE), 1u64)],
    );
    let cluster_version = surface.backend.reader().cluster_version();
    if !cluster_version.is_empty() {
        let seen = metrics.cluster_versions.see(&major_minor(&cluster_version));
        out.labelled(
            Kind::Gauge,
            "etcd_cluster_version",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            seen.iter().map(|(version, is_current)| (label("cluster_version", version), u64::from(*is_current))),
        );
    }
}

fn apply(out: &mut Exposition, surface: &ClientSurface, applied_index: u64) {
    let metrics = &surface.metrics;
    let labels =
        |op: &str, success: bool| [label("op", op), label("success", success), label("version", "v3")].join(",");
    let parts = metrics.apply_times.iter().enumerate().flat_map(|(kind, times)| {
        let name = OperationCounts::name(kind);
        [(labels(name, false), &times.failed_seconds), (labels(name, true), &times.succeeded_seconds)]
    });
    out.histogram(
        "etcd_server_apply_duration_seconds",
        "The latency distributions of v2 apply called by backend. Here: each command's share of its entry's time.",
        parts.filter(|(_, histogram)| histogram.count() > 0),
    );
    out.histogram(
        "quorate_apply_entry_duration_seconds",
        "Times of applying one committed entry, which holds many commands. While it is applied, everything behind it waits.",
        [(String::new(), &metrics.entry_seconds)],
    );
    for (name, help, value) in [
        (
            "quorate_apply_lag_entries",
            "Committed entries that this member has not applied yet; what grows here is what callers wait for.",
            surface.backend.commit_index().saturating_sub(applied_index),
        ),
        (
            "etcd_server_snapshot_apply_in_progress_total",
            "1 if the server is applying the incoming snapshot. 0 if none.",
            u64::try_from(metrics.snapshots_installing.get()).unwrap_or(0),
        ),
    ] {
        out.single(Kind::Gauge, name, help, value);
    }
}
