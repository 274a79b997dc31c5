//! Traffic with the other members.

use crate::api::ClientSurface;
use crate::metrics::exposition::{Exposition, Kind, label};
use crate::metrics::{Counter, PeerCounters, Transfers};
use std::sync::Arc;

pub(super) fn network(out: &mut Exposition, surface: &ClientSurface) {
    let metrics = &surface.metrics;
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
            (|peer| &peer.sent_bytes) as fn(&PeerCounters) -> &Counter,
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
    out.histogram(
        "etcd_network_peer_round_trip_time_seconds",
        "Round-Trip-Time histogram between peers.",
        peers.iter().map(|(id, counters)| (label("To", id), &counters.round_trip_seconds)),
    );
    snapshots(out, &peers, "send", "To", "sends", |peer| &peer.snapshots_sent);
    snapshots(out, &peers, "receive", "From", "receives", |peer| &peer.snapshots_received);
}

/// Snapshots in one direction. As in etcd a member appears with its first one.
fn snapshots(
    out: &mut Exposition,
    peers: &[(String, Arc<PeerCounters>)],
    verb: &str,
    direction: &str,
    noun: &str,
    transfers: impl Fn(&PeerCounters) -> &Transfers,
) {
    let name = |suffix: &str| format!("etcd_network_snapshot_{verb}_{suffix}");
    let known: Vec<(String, &Transfers)> = peers
        .iter()
        .map(|(id, counters)| (label(direction, id), transfers(counters)))
        .filter(|(_, it)| it.successes.get() + it.failures.get() > 0 || it.inflight.get() > 0)
        .collect();
    let lines =
        |value: fn(&Transfers) -> u64| known.iter().map(|(labels, it)| (labels.clone(), value(it))).collect::<Vec<_>>();
    out.labelled(
        Kind::Counter,
        &name("success"),
        &format!("Total number of successful snapshot {noun}"),
        lines(|it| it.successes.get()),
    );
    out.labelled(
        Kind::Counter,
        &name("failures"),
        &format!("Total number of snapshot {verb} failures"),
        lines(|it| it.failures.get()),
    );
    out.labelled(
        Kind::Gauge,
        &name("inflights_total"),
        &format!("Total number of inflight snapshot {noun}"),
        lines(|it| u64::try_from(it.inflight.get()).unwrap_or(0)),
    );
    out.histogram(
        &name("total_duration_seconds"),
        &format!("Total latency distributions of v3 snapshot {noun}"),
        known.iter().map(|(labels, it)| (labels.clone(), &it.seconds)),
    );
}
