//! The simple form: what a person at a terminal wants to see, and many scripts read.
//!
//! Not here: which replies there are. The invariant: keys and values are written as the bytes they are, unless
//! hexadecimal was asked for.

use quorate_proto::authpb::{Permission, permission};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb::{KeyValue, event::EventType};

use super::{EndpointHealth, Reply, table};
use crate::command_line::go_text::duration_text;

/// Renders a reply.
pub(super) fn render(reply: Reply<'_>, hex: bool, values_only: bool) -> Vec<u8> {
    let mut output = Output { bytes: Vec::new(), hex };
    match reply {
        Reply::Get(reply) if values_only => reply.kvs.iter().for_each(|kv| output.bytes_line(&kv.value)),
        Reply::Get(reply) => reply.kvs.iter().for_each(|kv| output.key_value(kv)),
        Reply::Put(reply) => output.put(reply),
        Reply::Delete(reply) => output.delete(reply),
        Reply::Txn(reply) => output.txn(reply),
        Reply::Watch(reply) => output.watch(reply),
        Reply::LeaseGrant(reply) => output.line(&format!("lease {:016x} granted with TTL({}s)", reply.id, reply.ttl)),
        Reply::LeaseRevoke { lease, .. } => output.line(&format!("lease {lease:016x} revoked")),
        Reply::LeaseKeepAlive(reply) => {
            output.line(&format!("lease {:016x} keepalived with TTL({})", reply.id, reply.ttl));
        }
        Reply::LeaseTimeToLive { with_keys, reply } => output.time_to_live(reply, with_keys),
        Reply::LeaseList(reply) => {
            output.line(&format!("found {} leases", reply.leases.len()));
            reply.leases.iter().for_each(|lease| output.line(&format!("{:016x}", lease.id)));
        }
        Reply::AlarmList(reply) => {
            for alarm in &reply.alarms {
                output.line(&format!("memberID:{} alarm:{}", alarm.member_id, alarm.alarm().as_str_name()));
            }
        }
        Reply::MemberAdd { name, reply } => output.member_add(name, reply),
        Reply::MemberRemove { member, reply } => output.member_changed(member, "removed from", &reply.header),
        Reply::MemberUpdate { member, reply } => output.member_changed(member, "updated in", &reply.header),
        Reply::MemberPromote { member, reply } => output.member_changed(member, "promoted in", &reply.header),
        Reply::MemberList(reply) => reply.members.iter().for_each(|each| output.cells(&table::member_row(each))),
        Reply::MoveLeader { leader, target, .. } => {
            output.line(&format!("Leadership transferred from {leader:x} to {target:x}"));
        }
        Reply::EndpointHealth(endpoints) => endpoints.iter().for_each(|each| output.line(&health(each))),
        Reply::EndpointStatus(endpoints) => {
            endpoints.iter().for_each(|(endpoint, reply)| output.cells(&table::status_row(endpoint, reply)));
        }
        Reply::EndpointHashKv(endpoints) => {
            endpoints.iter().for_each(|(endpoint, reply)| output.cells(&table::hash_row(endpoint, reply)));
        }
        Reply::Downgrade { action, reply } => {
            output.line(&format!("Downgrade {action} success, cluster version {}", reply.version));
        }
        Reply::AuthStatus(reply) => {
            output.line(&format!("Authentication Status: {}", reply.enabled));
            output.line(&format!("AuthRevision: {}", reply.auth_revision));
        }
        Reply::UserAdd { user, .. } => output.line(&format!("User {user} created")),
        Reply::UserGet { user, reply } => {
            output.line(&format!("User: {user}"));
            let roles: String = reply.roles.iter().map(|role| format!(" {role}")).collect();
            output.line(&format!("Roles:{roles}"));
        }
        Reply::UserList(reply) => reply.users.iter().for_each(|user| output.line(user)),
        Reply::UserDelete { user, .. } => output.line(&format!("User {user} deleted")),
        Reply::UserChangePassword(_) => output.line("Password updated"),
        Reply::UserGrantRole { user, role, .. } => output.line(&format!("Role {role} is granted to user {user}")),
        Reply::UserRevokeRole { user, role, .. } => output.line(&format!("Role {role} is revoked from user {user}")),
        Reply::RoleAdd { role, .. } => output.line(&format!("Role {role} created")),
        Reply::RoleGet { role, reply } => output.role(role, reply),
        Reply::RoleList(reply) => reply.roles.iter().for_each(|role| output.line(role)),
        Reply::RoleDelete { role, .. } => output.line(&format!("Role {role} deleted")),
        Reply::RoleGrant { role, .. } => output.line(&format!("Role {role} updated")),
        Reply::RoleRevoke { role, key, range_end, .. } => output.role_revoked(role, key, range_end),
    }
    output.bytes
}

/// One endpoint's health, as a line without its line feed.
pub(super) fn health(health: &EndpointHealth) -> String {
    let endpoint = &health.endpoint;
    match &health.error {
        None => {
            let took = duration_text(health.took);
            format!("{endpoint} is healthy: successfully committed proposal: took = {took}")
        }
        Some(error) => format!("{endpoint} is unhealthy: failed to commit proposal: {error}"),
    }
}

struct Output {
    bytes: Vec<u8>,
    hex: bool,
}

impl Output {
    fn line(&mut self, text: &str) {
        self.raw_line(text.as_bytes());
    }

    fn raw_line(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(b'\n');
    }

    /// A line with bytes of the user's.
    fn bytes_line(&mut self, bytes: &[u8]) {
        if self.hex {
            let text: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            self.line(&text);
        } else {
            self.raw_line(bytes);
        }
    }

    fn cells(&mut self, cells: &[String]) {
        self.line(&cells.join(", "));
    }

    fn key_value(&mut self, kv: &KeyValue) {
        self.bytes_line(&kv.key);
        self.bytes_line(&kv.value);
    }

    fn put(&mut self, reply: &pb::PutResponse) {
        self.line("OK");
        reply.prev_kv.iter().for_each(|kv| self.key_value(kv));
    }

    fn delete(&mut self, reply: &pb::DeleteRangeResponse) {
        self.line(&reply.deleted.to_string());
        reply.prev_kvs.iter().for_each(|kv| self.key_value(kv));
    }

    fn txn(&mut self, reply: &pb::TxnResponse) {
        use pb::response_op::Response;
        self.line(if reply.succeeded { "SUCCESS" } else { "FAILURE" });
        for operation in &reply.responses {
            self.line("");
            match &operation.response {
                Some(Response::ResponseRange(reply)) => reply.kvs.iter().for_each(|kv| self.key_value(kv)),
                Some(Response::ResponsePut(reply)) => self.put(reply),
                Some(Response::ResponseDeleteRange(reply)) => self.delete(reply),
                Some(Response::ResponseTxn(reply)) => self.txn(reply),
                None => {}
            }
        }
    }

    fn watch(&mut self, reply: &super::WatchReply) {
        for event in &reply.events {
            self.line(if event.r#type() == EventType::Put { "PUT" } else { "DELETE" });
            event.prev_kv.iter().chain(&event.kv).for_each(|kv| self.key_value(kv));
        }
    }

    fn time_to_live(&mut self, reply: &pb::LeaseTimeToLiveResponse, with_keys: bool) {
        if reply.granted_ttl == 0 && reply.ttl == -1 {
            self.line(&format!("lease {:016x} already expired", reply.id));
            return;
        }
        let (id, granted, ttl) = (reply.id, reply.granted_ttl, reply.ttl);
        let text = format!("lease {id:016x} granted with TTL({granted}s), remaining({ttl}s)");
        self.bytes.extend_from_slice(text.as_bytes());
        if with_keys {
            self.bytes.extend_from_slice(b", attached keys([");
            self.bytes.extend_from_slice(&reply.keys.join(&b' '));
            self.bytes.extend_from_slice(b"])");
        }
        self.line("");
    }

    /// What the new member must be started with is part of the answer.
    fn member_add(&mut self, name: &str, reply: &pb::MemberAddResponse) {
        let added = reply.member.clone().unwrap_or_default();
        let role = if added.is_learner { "added as learner" } else { "added" };
        let cluster = reply.header.unwrap_or_default().cluster_id;
        self.line(&format!("Member {:16x} {role} to cluster {cluster:16x}", added.id));
        let urls_of = |member: &pb::Member| -> Vec<String> {
            let name = if member.id == added.id { name } else { &member.name };
            member.peer_ur_ls.iter().map(|url| format!("{name}={url}")).collect()
        };
        let cluster: Vec<String> = reply.members.iter().flat_map(urls_of).collect();
        self.line(&format!("\nETCD_NAME=\"{name}\""));
        self.line(&format!("ETCD_INITIAL_CLUSTER=\"{}\"", cluster.join(",")));
        self.line(&format!("ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{}\"", added.peer_ur_ls.join(",")));
        self.line("ETCD_INITIAL_CLUSTER_STATE=\"existing\"");
    }

    fn member_changed(&mut self, member: u64, change: &str, header: &Option<pb::ResponseHeader>) {
        let cluster = header.unwrap_or_default().cluster_id;
        self.line(&format!("Member {member:16x} {change} cluster {cluster:16x}"));
    }

    fn role(&mut self, role: &str, reply: &pb::AuthRoleGetResponse) {
        self.line(&format!("Role {role}"));
        for (title, kind) in [("KV Read:", permission::Type::Read), ("KV Write:", permission::Type::Write)] {
            self.line(title);
            for each in &reply.perm {
                let allowed = permission::Type::try_from(each.perm_type).unwrap_or_default();
                if allowed == kind || allowed == permission::Type::Readwrite {
                    self.permission(each);
                }
            }
        }
    }

    fn permission(&mut self, permission: &Permission) {
        let (key, range_end) = (permission.key.as_ref(), permission.range_end.as_ref());
        self.bytes.push(b'\t');
        if range_end.is_empty() {
            self.raw_line(key);
            return;
        }
        self.bytes.extend_from_slice(&range(key, range_end));
        if range_end != b"\0" && prefix_end(key) == range_end {
            self.bytes.extend_from_slice(&[b" (prefix ", key, b")"].concat());
        }
        self.line("");
    }

    fn role_revoked(&mut self, role: &str, key: &[u8], range_end: &[u8]) {
        let what = match range_end {
            b"" => [b"key ", key].concat(),
            range_end => [b"range ".to_vec(), range(key, range_end)].concat(),
        };
        let end = format!(" is revoked from role {role}");
        self.raw_line(&[b"Permission of ".as_slice(), &what, end.as_bytes()].concat());
    }
}

/// A range of keys, with its end unless it has none.
fn range(key: &[u8], range_end: &[u8]) -> Vec<u8> {
    if range_end == b"\0" {
        [b"[", key, b", <open ended>"].concat()
    } else {
        [b"[", key, b", ", range_end, b")"].concat()
    }
}

/// The end of the range of all keys with a prefix: the first key behind them, or none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    b"\0".to_vec()
}
