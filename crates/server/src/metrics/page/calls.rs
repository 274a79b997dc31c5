//! What clients' calls came to.

use crate::api::ClientSurface;
use crate::api::method::Method;
use crate::grpc::status::Code;
use crate::metrics::StreamFailure;
use crate::metrics::exposition::{Exposition, Kind, label};

pub(super) fn grpc(out: &mut Exposition, surface: &ClientSurface) {
    let metrics = &surface.metrics;
    let labels = |method: Method| {
        [
            label("grpc_method", method.name()),
            label("grpc_service", method.service()),
            label("grpc_type", method.kind().name()),
        ]
        .join(",")
    };
    // As in etcd, which registers these services late, their methods appear with their first call.
    let is_shown = |method: Method| {
        !matches!(method.service(), "v3lockpb.Lock" | "v3electionpb.Election")
            || metrics.method(method).started.get() > 0
    };
    let all = || {
        Method::ALL.iter().filter(|&&method| is_shown(method)).map(|&method| (labels(method), metrics.method(method)))
    };
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
        "grpc_server_handling_seconds",
        "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
        all().filter_map(|(labels, counters)| Some((labels, counters.handling_seconds.as_ref()?))),
    );
    out.histogram(
        "etcd_server_range_duration_seconds",
        "Latency distribution in seconds of ranges, from the request to its answer or its first piece.",
        [
            (label("success", false), &metrics.range_times.failed_seconds),
            (label("success", true), &metrics.range_times.succeeded_seconds),
        ]
        .into_iter()
        .filter(|(_, histogram)| histogram.count() > 0),
    );
    out.single(
        Kind::Gauge,
        "etcd_debugging_auth_revision",
        "The current revision of auth store.",
        surface.backend.reader().auth_revision(),
    );
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
        parts.filter(|(_, histogram)| histogram.count() > 0),
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
    let unread = |method: Method| {
        let counters = metrics.method(method);
        let handled: u64 = counters.handled.iter().map(|counter| counter.get()).sum();
        counters.started.get().saturating_sub(handled)
    };
    out.single(
        Kind::Gauge,
        "etcd_mvcc_db_open_read_transactions",
        "The number of currently open read transactions. Here: ranges that are being answered.",
        unread(Method::Range) + unread(Method::RangeStream),
    );
    out.single(
        Kind::Counter,
        "quorate_slow_requests_total",
        "Unary requests that took longer than --warning-unary-request-duration; each has a line `request stats` in the log.",
        metrics.slow_requests.get(),
    );
    out.labelled(
        Kind::Counter,
        "etcd_network_server_stream_failures_total",
        "The total number of stream failures from the local server.",
        StreamFailure::ALL.into_iter().filter_map(|failure| {
            let (kind, api) = failure.labels();
            let count = metrics.stream_failures[failure as usize].get();
            (count > 0).then(|| ([label("API", api), label("Type", kind)].join(","), count))
        }),
    );
    for (name, help, histogram) in [
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
            "The total duration in seconds of running through the send loop watch stream response all events.",
            &metrics.watch_send_seconds,
        ),
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
            "The average duration in seconds of running through the send loop watch stream response, per event.",
            &metrics.watch_send_event_seconds,
        ),
        (
            "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
            "The total duration in seconds of running through the send loop control stream response.",
            &metrics.watch_control_seconds,
        ),
        (
            "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
            "The total duration in seconds of running through the progress loop control stream response.",
            &metrics.watch_progress_seconds,
        ),
    ] {
        out.histogram(name, help, [(String::new(), histogram)]);
    }
}
