//! How a look is shown: lines for people, an object for programs.

use std::collections::HashMap;
use std::fmt::Write as _;

use quorate_proto::etcdserverpb as pb;
use serde_json::{Value, json};

use super::look::{Look, MemberLook};
use super::metrics::Metrics;
use crate::command_line::go_text::size_text;

const REQUESTS: &str = "etcd_server_request_duration_seconds";
const SYNCS: &str = "etcd_disk_wal_fsync_duration_seconds";

/// What happened at a member between two looks.
struct Rates {
    requests: f64,
    failed: f64,
    request_p99_s: Option<f64>,
    sync_p99_s: Option<f64>,
}

impl Rates {
    /// `None`: without two pages of metrics, or when the member was started anew between them.
    fn between(before: Option<&Metrics>, after: Option<&Metrics>, seconds: f64) -> Option<Self> {
        let (before, after) = (before?, after?);
        let grown = |name: &str| after.sum(name) - before.sum(name);
        let requests = grown("grpc_server_handled_total");
        (requests >= 0.0 && seconds > 0.0).then(|| Self {
            requests: requests / seconds,
            failed: (after.failed - before.failed) / seconds,
            request_p99_s: after.percentile_99_s(before, REQUESTS),
            sync_p99_s: after.percentile_99_s(before, SYNCS),
        })
    }
}

/// A member's figures in a look, as far as they are known.
struct Line<'a> {
    look: &'a MemberLook,
    role: String,
    lag: u64,
    rates: Option<Rates>,
}

fn lines<'a>(look: &'a Look, before: Option<&Look>) -> Vec<Line<'a>> {
    let earlier: HashMap<u64, &MemberLook> =
        before.iter().flat_map(|before| &before.members).map(|member| (member.member.id, member)).collect();
    let seconds = before.map_or(0.0, |before| look.at.duration_since(before.at).as_secs_f64());
    let (leader, last_index) = (look.leader(), look.last_index());
    let line = |member: &'a MemberLook| {
        let role = match &member.status {
            Err(reason) => reason.clone(),
            Ok(status) if !status.errors.is_empty() => status.errors.join("; "),
            Ok(status) if status.is_learner => "learner".to_owned(),
            Ok(_) if leader == Some(member.member.id) => "leader".to_owned(),
            Ok(_) => "follower".to_owned(),
        };
        let lag = member.status.as_ref().map_or(0, |status| last_index.saturating_sub(status.raft_applied_index));
        let known = earlier.get(&member.member.id).and_then(|before| before.metrics.as_ref());
        Line { look: member, role, lag, rates: Rates::between(known, member.metrics.as_ref(), seconds) }
    };
    look.members.iter().map(line).collect()
}

/// In one word, how the cluster is.
fn state(look: &Look) -> String {
    let away = look.members.iter().filter(|member| member.status.is_err()).count();
    if look.leader().is_none() {
        "no leader".to_owned()
    } else if look.alarms.as_ref().is_some_and(|alarms| !alarms.is_empty()) {
        "alarm".to_owned()
    } else if away > 0 {
        format!("{away} of {} members do not answer", look.members.len())
    } else {
        "healthy".to_owned()
    }
}

fn alarm_texts(look: &Look) -> Vec<String> {
    let name = |id: u64| {
        let found = look.members.iter().find(|member| member.member.id == id).map(|member| member.member.name.clone());
        found.unwrap_or_else(|| format!("{id:x}"))
    };
    let alarms = look.alarms.iter().flatten();
    alarms
        .map(|alarm: &pb::AlarmMember| format!("{} at {}", alarm.alarm().as_str_name(), name(alarm.member_id)))
        .collect()
}

/// Writes happen since the look before, a second.
fn revisions_per_second(look: &Look, before: Option<&Look>) -> Option<f64> {
    let before = before?;
    let seconds = look.at.duration_since(before.at).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let grown = (look.revision() - before.revision()) as f64;
    (seconds > 0.0).then(|| grown / seconds)
}

fn span_text(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds >= 1.0 => format!("{seconds:.2}s"),
        Some(seconds) if seconds >= 1e-3 => format!("{:.1}ms", seconds * 1e3),
        Some(seconds) => format!("{:.0}us", seconds * 1e6),
    }
}

/// Lines for people, columns under each other.
pub(super) fn text(look: &Look, before: Option<&Look>) -> String {
    let mut text = String::new();
    let rate = revisions_per_second(look, before).map_or(String::new(), |rate| format!(" (+{rate:.1}/s)"));
    let leases = look.leases.map_or("-".to_owned(), |leases| leases.to_string());
    let _ = writeln!(
        text,
        "cluster {:x}   {}   revision {}{rate}   leases {leases}",
        look.cluster_id,
        state(look),
        look.revision()
    );
    for alarm in alarm_texts(look) {
        let _ = writeln!(text, "ALARM {alarm}");
    }
    text.push('\n');
    let head = [
        "MEMBER", "ROLE", "TERM", "APPLIED", "LAG", "DISK", "IN USE", "REQ/S", "FAILED/S", "P99", "SYNC P99",
        "WATCHERS", "KEYS", "ENDPOINT",
    ];
    let mut rows: Vec<Vec<String>> = vec![head.iter().map(|&cell| cell.to_owned()).collect()];
    for line in lines(look, before) {
        let member = &line.look.member;
        let status = line.look.status.as_ref().ok();
        let of_status = |show: &dyn Fn(&pb::StatusResponse) -> String| status.map_or("-".to_owned(), show);
        let of_metrics = |name: &str| {
            line.look.metrics.as_ref().map_or("-".to_owned(), |metrics| format!("{:.0}", metrics.sum(name)))
        };
        let of_rates = |show: &dyn Fn(&Rates) -> String| line.rates.as_ref().map_or("-".to_owned(), show);
        let bytes = |bytes: i64| size_text(u64::try_from(bytes).unwrap_or(0));
        rows.push(vec![
            if member.name.is_empty() { format!("{:x}", member.id) } else { member.name.clone() },
            line.role.clone(),
            of_status(&|status| status.raft_term.to_string()),
            of_status(&|status| status.raft_applied_index.to_string()),
            of_status(&|_| line.lag.to_string()),
            of_status(&|status| bytes(status.db_size)),
            of_status(&|status| bytes(status.db_size_in_use)),
            of_rates(&|rates| format!("{:.1}", rates.requests)),
            of_rates(&|rates| format!("{:.1}", rates.failed)),
            of_rates(&|rates| span_text(rates.request_p99_s)),
            of_rates(&|rates| span_text(rates.sync_p99_s)),
            of_metrics("etcd_debugging_mvcc_watcher_total"),
            of_metrics("etcd_debugging_mvcc_keys_total"),
            member.client_ur_ls.join(","),
        ]);
    }
    let widths: Vec<usize> =
        (0..head.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let mut out = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let is_text = column < 2 || column == head.len() - 1;
            let _ = if is_text { write!(out, "{cell:<width$}  ") } else { write!(out, "{cell:>width$}  ") };
        }
        let _ = writeln!(text, "{}", out.trim_end());
    }
    text
}

/// One line with an object; ids in hexadecimal, as in the tables of the other commands.
pub(super) fn json(look: &Look, before: Option<&Look>) -> String {
    let members: Vec<Value> = lines(look, before)
        .iter()
        .map(|line| {
            let member = &line.look.member;
            let mut shown = json!({
                "id": format!("{:x}", member.id),
                "name": member.name,
                "client_urls": member.client_ur_ls,
                "role": if line.look.status.is_ok() { line.role.as_str() } else { "unknown" },
            });
            match &line.look.status {
                Ok(status) => {
                    shown["term"] = json!(status.raft_term);
                    shown["applied_index"] = json!(status.raft_applied_index);
                    shown["lag"] = json!(line.lag);
                    shown["disk_bytes"] = json!(status.db_size);
                    shown["in_use_bytes"] = json!(status.db_size_in_use);
                    shown["version"] = json!(status.version);
                }
                Err(reason) => shown["error"] = json!(reason),
            }
            if let Some(metrics) = &line.look.metrics {
                shown["watchers"] = json!(metrics.sum("etcd_debugging_mvcc_watcher_total"));
                shown["keys"] = json!(metrics.sum("etcd_debugging_mvcc_keys_total"));
            }
            if let Some(rates) = &line.rates {
                shown["requests_per_s"] = json!(rates.requests);
                shown["failed_per_s"] = json!(rates.failed);
                shown["request_p99_s"] = json!(rates.request_p99_s);
                shown["sync_p99_s"] = json!(rates.sync_p99_s);
            }
            shown
        })
        .collect();
    let object = json!({
        "cluster_id": format!("{:x}", look.cluster_id),
        "state": state(look),
        "revision": look.revision(),
        "revisions_per_s": revisions_per_second(look, before),
        "leases": look.leases,
        "alarms": alarm_texts(look),
        "members": members,
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;

    fn member(id: u64, name: &str) -> pb::Member {
        pb::Member {
            id,
            name: name.to_owned(),
            client_ur_ls: vec![format!("http://{name}:2379")],
            ..Default::default()
        }
    }

    fn look(at: Instant, revision: i64, requests: u32) -> Look {
        let status = |id: u64, applied: u64| pb::StatusResponse {
            header: Some(pb::ResponseHeader { member_id: id, revision, ..Default::default() }),
            leader: 1,
            raft_term: 3,
            raft_index: 110,
            raft_applied_index: applied,
            db_size: 4096,
            ..Default::default()
        };
        let page =
            format!("grpc_server_handled_total{{grpc_code=\"OK\"}} {requests}\netcd_debugging_mvcc_watcher_total 4\n");
        let members = vec![
            MemberLook { member: member(1, "a"), status: Ok(status(1, 110)), metrics: Some(Metrics::parse(&page)) },
            MemberLook { member: member(2, "b"), status: Ok(status(2, 100)), metrics: None },
            MemberLook { member: member(3, "c"), status: Err("no answer".to_owned()), metrics: None },
        ];
        let alarm = pb::AlarmMember { member_id: 2, alarm: pb::AlarmType::Nospace as i32 };
        Look { at, cluster_id: 0xc1, members, alarms: Some(vec![alarm]), leases: Some(5) }
    }

    #[test]
    fn members_rates_and_alarms_stand_in_columns() {
        let start = Instant::now();
        let (before, after) = (look(start, 10, 100), look(start + Duration::from_secs(2), 30, 150));
        let expected = "\
cluster c1   alarm   revision 30 (+10.0/s)   leases 5
ALARM NOSPACE at b

MEMBER  ROLE       TERM  APPLIED  LAG    DISK  IN USE  REQ/S  FAILED/S  P99  SYNC P99  WATCHERS  KEYS  ENDPOINT
a       leader        3      110    0  4.1 kB     0 B   25.0       0.0    -         -         4     0  http://a:2379
b       follower      3      100   10  4.1 kB     0 B      -         -    -         -         -     -  http://b:2379
c       no answer     -        -    -       -       -      -         -    -         -         -     -  http://c:2379
";
        assert_eq!(text(&after, Some(&before)), expected);
    }

    #[test]
    fn programs_get_numbers() {
        let start = Instant::now();
        let (before, after) = (look(start, 10, 100), look(start + Duration::from_secs(2), 30, 150));
        let shown: Value = serde_json::from_str(&json(&after, Some(&before))).expect("JSON");
        assert_eq!((&shown["revisions_per_s"], &shown["members"][0]["requests_per_s"]), (&json!(10.0), &json!(25.0)));
        assert_eq!((&shown["members"][1]["lag"], &shown["members"][2]["error"]), (&json!(10), &json!("no answer")));
        assert_eq!(shown["members"][2]["role"], "unknown");
        // A member that was started anew counts from 0.
        let restarted = look(start + Duration::from_secs(4), 30, 1);
        let shown: Value = serde_json::from_str(&json(&restarted, Some(&after))).expect("JSON");
        assert_eq!(shown["members"][0].get("requests_per_s"), None);
    }
}
