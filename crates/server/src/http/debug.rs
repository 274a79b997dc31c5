//! Pages for whoever looks into a running server: `/debug/vars` always, `/debug/pprof` with `--enable-pprof`,
//! `/debug/requests` with `--log-level=debug`, as in etcd.
//!
//! The invariant: no page shows a key, a value, a password or the command line.

use crate::api::ClientSurface;
use crate::api::method::Method;
use crate::grpc::body::ReplyBody;
use crate::grpc::status::Code;
use crate::http::{content, process, refusal};
use http::header::HeaderValue;
use http::{Response, StatusCode};
use serde_json::json;
use std::fmt::Write;
use std::fs;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What `/debug/pprof/` lists.
const PROFILES: [&str; 9] =
    ["allocs", "block", "cmdline", "goroutine", "heap", "mutex", "profile", "threadcreate", "trace"];

/// Which of these pages are served beside `/debug/vars`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DebugPages {
    /// `/debug/pprof`.
    pub(crate) profiling: bool,
    /// `/debug/requests` and `/debug/events`.
    pub(crate) requests: bool,
}

/// Answers a path below `/debug`; `None`: there is no such page.
pub(super) fn answer(surface: &ClientSurface, path: &str) -> Option<Response<ReplyBody>> {
    let pages = surface.debug_pages;
    match path {
        "/debug/vars" => Some(content(JSON, variables(surface))),
        "/debug/requests" if pages.requests => Some(content(HTML, requests(surface))),
        "/debug/events" if pages.requests => Some(content(HTML, "<html><body>No events are kept.</body></html>\n")),
        _ if pages.profiling => Some(profile(path.strip_prefix("/debug/pprof/")?)),
        _ => None,
    }
}

/// The text of `/debug/vars`, one variable a line. The command line is left out: it may hold secrets.
fn variables(surface: &ClientSurface) -> String {
    let figures = process::figures();
    let status = surface.backend.status();
    let state = match status.leader {
        leader if leader == status.id => "StateLeader",
        _ => "StateFollower",
    };
    let raft = json!({
        "id": format!("{:x}", status.id),
        "term": status.term,
        "commit": surface.backend.commit_index(),
        "lead": format!("{:x}", status.leader),
        "raftState": state,
        "applied": surface.backend.reader().applied_index(),
    });
    let memory = json!({ "Sys": figures.virtual_bytes, "HeapSys": figures.resident_bytes });
    format!(
        "{{\n\"file_descriptor_limit\": {},\n\"memstats\": {memory},\n\"raft.status\": {raft}\n}}\n",
        figures.open_files_max
    )
}

/// Calls under way and done, by method.
fn requests(surface: &ClientSurface) -> String {
    let mut page = "<html><head><title>/debug/requests</title></head><body>\n<table>\n<tr><th>Method</th><th>Under \
                    way</th><th>OK</th><th>Failed</th></tr>\n"
        .to_owned();
    for &method in Method::ALL {
        let counters = surface.metrics.method(method);
        let handled: u64 = counters.handled.iter().map(|counter| counter.get()).sum();
        let succeeded = counters.handled[Code::Ok as usize].get();
        let under_way = counters.started.get().saturating_sub(handled);
        // Writing into a String cannot fail.
        let _ = writeln!(
            page,
            "<tr><td>{}.{}</td><td>{under_way}</td><td>{succeeded}</td><td>{}</td></tr>",
            method.service(),
            method.name(),
            handled - succeeded
        );
    }
    page.push_str("</table>\n</body></html>\n");
    page
}

fn profile(name: &str) -> Response<ReplyBody> {
    match name {
        "" => content(HTML, index()),
        "goroutine" | "threadcreate" => content(TEXT, threads()),
        "cmdline" => content(TEXT, std::env::args().next().unwrap_or_default()),
        "symbol" => content(TEXT, "num_symbols: 0\n"),
        known if PROFILES.contains(&known) => refusal(
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "Quorate makes no {known} profile in pprof's format. Where its time goes: perf record -g -p {0}; its \
                 threads: /debug/pprof/goroutine; its memory: /proc/{0}/smaps_rollup\n",
                std::process::id()
            ),
        ),
        _ => refusal(StatusCode::NOT_FOUND, "Unknown profile\n"),
    }
}

fn index() -> String {
    let mut page = "<html><head><title>/debug/pprof/</title></head><body>\n/debug/pprof/\n<ul>\n".to_owned();
    for name in PROFILES {
        let _ = writeln!(page, "<li><a href='{name}'>{name}</a></li>");
    }
    page.push_str("</ul>\n</body></html>\n");
    page
}

/// Every thread: what it is called, whether it runs, and the time it took.
fn threads() -> String {
    let mut lines = Vec::new();
    for entry in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        // A thread that ended meanwhile has no line.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, fields)) = stat.rsplit_once(')') else { continue };
        let name = head.split_once('(').map_or("", |(_, name)| name);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let seconds = (ticks(11) + ticks(12)) as f64 / process::TICKS_PER_SECOND;
        lines.push(format!("{name}: state {}, {seconds} s of CPU\n", fields.first().unwrap_or(&"?")));
    }
    lines.sort();
    format!("threads: total {}\n{}", lines.len(), lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_names() {
        let run = || threads();
        let text = std::thread::Builder::new().name("looked-for".to_owned()).spawn(run).expect("thread").join();
        let text = text.expect("text");
        assert!(text.starts_with("threads: total "), "{text}");
        assert!(text.contains("looked-for: state R, "), "{text}");
    }

    #[test]
    fn a_profile_that_is_not_made_says_so() {
        assert_eq!(profile("heap").status(), StatusCode::NOT_IMPLEMENTED);
        assert_eq!(profile("nonsense").status(), StatusCode::NOT_FOUND);
        assert_eq!(profile("").status(), StatusCode::OK);
    }
}
