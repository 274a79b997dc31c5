//! The table form of members and endpoints.
//!
//! Not here: other replies, of which etcdctl draws no table. The invariant: every row has as many cells as the heading.

use quorate_proto::etcdserverpb as pb;

use super::{EndpointHealth, Reply};
use crate::command_line::go_text::{duration_text, size_text};

/// Draws a reply; None where etcdctl has no table of it.
pub(super) fn render(reply: Reply<'_>) -> Option<String> {
    let (heading, rows): (&[&str], Vec<Vec<String>>) = match reply {
        Reply::MemberList(reply) => (
            &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"],
            reply.members.iter().map(member_row).collect(),
        ),
        Reply::EndpointHealth(endpoints) => {
            (&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], endpoints.iter().map(health_row).collect())
        }
        Reply::EndpointStatus(endpoints) => (
            &[
                "ENDPOINT",
                "ID",
                "VERSION",
                "STORAGE VERSION",
                "DB SIZE",
                "IN USE",
                "PERCENTAGE NOT IN USE",
                "QUOTA",
                "IS LEADER",
                "IS LEARNER",
                "RAFT TERM",
                "RAFT INDEX",
                "RAFT APPLIED INDEX",
                "ERRORS",
                "DOWNGRADE TARGET VERSION",
                "DOWNGRADE ENABLED",
            ],
            endpoints.iter().map(|(endpoint, reply)| status_row(endpoint, reply)).collect(),
        ),
        Reply::EndpointHashKv(endpoints) => (
            &["ENDPOINT", "HASH", "HASH REVISION"],
            endpoints.iter().map(|(endpoint, reply)| hash_row(endpoint, reply)).collect(),
        ),
        _ => return None,
    };
    Some(draw(heading, &rows))
}

/// The cells of a member; the simple form joins them by commas.
pub(super) fn member_row(member: &pb::Member) -> Vec<String> {
    vec![
        format!("{:x}", member.id),
        if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

fn health_row(health: &EndpointHealth) -> Vec<String> {
    vec![
        health.endpoint.clone(),
        health.error.is_none().to_string(),
        duration_text(health.took),
        health.error.clone().unwrap_or_default(),
    ]
}

/// The cells of an endpoint's status; the simple form joins them by commas.
pub(super) fn status_row(endpoint: &str, reply: &pb::StatusResponse) -> Vec<String> {
    let size = |bytes: i64| size_text(u64::try_from(bytes).unwrap_or(0));
    let member_id = reply.header.unwrap_or_default().member_id;
    let used_percent = if reply.db_size > 0 { reply.db_size_in_use * 100 / reply.db_size } else { 100 };
    let downgrade = reply.downgrade_info.clone().unwrap_or_default();
    vec![
        endpoint.to_owned(),
        format!("{member_id:x}"),
        reply.version.clone(),
        reply.storage_version.clone(),
        size(reply.db_size),
        size(reply.db_size_in_use),
        format!("{}%", 100 - used_percent),
        size(reply.db_size_quota),
        (reply.leader == member_id).to_string(),
        reply.is_learner.to_string(),
        reply.raft_term.to_string(),
        reply.raft_index.to_string(),
        reply.raft_applied_index.to_string(),
        reply.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

/// The cells of an endpoint's hash; the simple form joins them by commas.
pub(super) fn hash_row(endpoint: &str, reply: &pb::HashKvResponse) -> Vec<String> {
    vec![endpoint.to_owned(), reply.hash.to_string(), reply.hash_revision.to_string()]
}

/// Draws a table whose cells stand at the right.
pub(crate) fn draw(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.trim_end().chars().count();
    let widths: Vec<usize> = heading
        .iter()
        .enumerate()
        .map(|(column, title)| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0).max(width(title)))
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", bars.join(middle))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let titles = heading.iter().zip(&widths).map(|(title, width)| format!("{title:^width$}")).collect();
    let mut table = rule("┌", "┬", "┐") + &line(titles);
    if !rows.is_empty() {
        table.push_str(&rule("├", "┼", "┤"));
    }
    for row in rows {
        debug_assert_eq!(row.len(), heading.len());
        table.push_str(&line(
            row.iter().zip(&widths).map(|(cell, width)| format!("{:>width$}", cell.trim_end())).collect(),
        ));
    }
    table + &rule("└", "┴", "┘")
}
