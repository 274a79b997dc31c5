//! What the operating system and the runtime say of the process.

use crate::api::ClientSurface;
use crate::http::process as system;
use crate::logging;
use crate::metrics::exposition::{Exposition, Kind, label};

pub(super) fn process(out: &mut Exposition, surface: &ClientSurface) {
    let figures = system::figures();
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
        (
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.",
            figures.virtual_bytes_max,
        ),
        ("process_resident_memory_bytes", "Resident memory size in bytes.", figures.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", figures.virtual_bytes),
        ("go_threads", "Number of OS threads created. Here: threads that run.", figures.threads),
        ("go_goroutines", "Number of goroutines that currently exist. Here: tasks of the network thread.", tasks()),
        (
            "go_memstats_alloc_bytes",
            "Number of bytes allocated and still in use. Here: resident memory.",
            figures.resident_bytes,
        ),
        (
            "go_memstats_heap_inuse_bytes",
            "Number of heap bytes that are in use. Here: resident memory.",
            figures.resident_bytes,
        ),
        (
            "go_memstats_sys_bytes",
            "Number of bytes obtained from system. Here: resident memory.",
            figures.resident_bytes,
        ),
        ("os_fd_used", "The number of used file descriptors.", figures.open_files),
        ("os_fd_limit", "The file descriptor limit.", figures.open_files_max),
    ] {
        out.single(Kind::Gauge, name, help, value);
    }
    for (name, help, value) in [
        (
            "process_network_receive_bytes_total",
            "Number of bytes received by the process over the network.",
            figures.network_received_bytes,
        ),
        (
            "process_network_transmit_bytes_total",
            "Number of bytes sent by the process over the network.",
            figures.network_sent_bytes,
        ),
    ] {
        out.single(Kind::Counter, name, help, value);
    }
    out.labelled(
        Kind::Gauge,
        "go_info",
        "Information about the Go environment. This server is not a Go program.",
        [(label("version", "none"), 1u64)],
    );
    out.labelled(
        Kind::Counter,
        "quorate_log_lines_total",
        "Lines of the log by level. An error or a fatal line is worth a look.",
        logging::line_counts().map(|(level, lines)| (label("level", level), lines)),
    );
    let metrics = &surface.metrics;
    // Answers are whole or not at all: whoever reads this sees its own request among those under way.
    out.single(
        Kind::Gauge,
        "promhttp_metric_handler_requests_in_flight",
        "Current number of scrapes being served.",
        1u64,
    );
    out.labelled(
        Kind::Counter,
        "promhttp_metric_handler_requests_total",
        "Total number of scrapes by HTTP status code.",
        [(label("code", 200), metrics.scrapes.get()), (label("code", 500), 0), (label("code", 503), 0)],
    );
    out.single(
        Kind::Counter,
        "quorate_trace_spans_sent_total",
        "Spans that the collector of --distributed-tracing-address took.",
        metrics.spans.sent.get(),
    );
    out.single(
        Kind::Counter,
        "quorate_trace_spans_dropped_total",
        "Spans lost because their queue was full or the collector did not take them.",
        metrics.spans.dropped.get(),
    );
}

/// Tasks that the network thread looks after; the page is made there.
fn tasks() -> u64 {
    tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks() as u64)
}
