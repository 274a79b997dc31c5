//! The `fields` form: lines of `"Name" : value`, for scripts that pick lines.
//!
//! Not here: which replies there are. The invariant: keys and values are quoted as Go quotes them, so that one line
//! stays one line.

use quorate_proto::authpb::permission;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb::{KeyValue, event::EventType};

use super::{Reply, header_of};
use crate::command_line::go_text::{duration_text, quote};

/// Renders a reply; None where etcdctl has no such form of it.
pub(super) fn render(reply: Reply<'_>, hex: bool) -> Option<String> {
    let mut lines = Lines { text: String::new(), hex };
    match reply {
        Reply::Get(reply) => lines.range(reply),
        Reply::Put(reply) => lines.put(reply),
        Reply::Delete(reply) => lines.delete(reply),
        Reply::Txn(reply) => lines.txn(reply),
        Reply::Watch(reply) => lines.watch(reply),
        Reply::LeaseGrant(reply) => {
            lines.header(&reply.header);
            lines.lease("ID", reply.id);
            lines.line("TTL", reply.ttl);
        }
        Reply::LeaseKeepAlive(reply) => {
            lines.header(&reply.header);
            lines.lease("ID", reply.id);
            lines.line("TTL", reply.ttl);
        }
        Reply::LeaseTimeToLive { reply, .. } => {
            lines.header(&reply.header);
            lines.lease("ID", reply.id);
            lines.line("TTL", reply.ttl);
            lines.line("GrantedTTL", reply.granted_ttl);
            reply.keys.iter().for_each(|key| lines.line("Key", quote(key)));
        }
        Reply::LeaseList(reply) => {
            lines.header(&reply.header);
            reply.leases.iter().for_each(|lease| lines.lease("ID", lease.id));
        }
        Reply::AlarmList(reply) => {
            lines.header(&reply.header);
            for alarm in &reply.alarms {
                lines.id("MemberID", alarm.member_id);
                lines.line("AlarmType", alarm.alarm().as_str_name());
                lines.empty();
            }
        }
        Reply::MemberList(reply) => lines.members(reply),
        Reply::EndpointHealth(endpoints) => {
            for each in endpoints {
                lines.line("Endpoint", quote(each.endpoint.as_bytes()));
                lines.line("Health", each.error.is_none());
                lines.line("Took", duration_text(each.took));
                lines.line("Error", each.error.as_deref().unwrap_or_default());
                lines.empty();
            }
        }
        Reply::EndpointStatus(endpoints) => {
            endpoints.iter().for_each(|(endpoint, reply)| lines.status(endpoint, reply));
        }
        Reply::EndpointHashKv(endpoints) => {
            for (endpoint, reply) in endpoints {
                lines.header(&reply.header);
                lines.line("Endpoint", quote(endpoint.as_bytes()));
                lines.line("Hash", reply.hash);
                lines.line("HashRevision", reply.hash_revision);
                lines.empty();
            }
        }
        Reply::RoleGet { reply, .. } => lines.role(reply),
        Reply::RoleList(reply) => {
            lines.header(&reply.header);
            let roles: String = reply.roles.iter().map(|role| format!(" {}", quote(role.as_bytes()))).collect();
            lines.text.push_str(&format!("\"Roles\" :{roles}\n"));
        }
        other => lines.header(header_of(other).filter(|_| !matches!(reply, Reply::MoveLeader { .. }))?),
    }
    Some(lines.text)
}

struct Lines {
    text: String,
    hex: bool,
}

impl Lines {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        self.text.push_str(&format!("\"{name}\" : {value}\n"));
    }

    fn empty(&mut self) {
        self.text.push('\n');
    }

    fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.line(name, format_args!("{id:x}")) } else { self.line(name, id) }
    }

    fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.line(name, format_args!("{id:016x}")) } else { self.line(name, id) }
    }

    fn header(&mut self, header: &Option<pb::ResponseHeader>) {
        let header = header.unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.line("Revision", header.revision);
        }
        self.line("RaftTerm", header.raft_term);
    }

    fn key_value(&mut self, prefix: &str, kv: &KeyValue) {
        self.line(&format!("{prefix}Key"), quote(&kv.key));
        self.line(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.line(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.line(&format!("{prefix}Version"), kv.version);
        self.line(&format!("{prefix}Value"), quote(&kv.value));
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }

    fn range(&mut self, reply: &pb::RangeResponse) {
        self.header(&reply.header);
        reply.kvs.iter().for_each(|kv| self.key_value("", kv));
        self.line("More", reply.more);
        self.line("Count", reply.count);
    }

    fn put(&mut self, reply: &pb::PutResponse) {
        self.header(&reply.header);
        reply.prev_kv.iter().for_each(|kv| self.key_value("Prev", kv));
    }

    fn delete(&mut self, reply: &pb::DeleteRangeResponse) {
        self.header(&reply.header);
        self.line("Deleted", reply.deleted);
        reply.prev_kvs.iter().for_each(|kv| self.key_value("Prev", kv));
    }

    fn txn(&mut self, reply: &pb::TxnResponse) {
        use pb::response_op::Response;
        self.header(&reply.header);
        self.line("Succeeded", reply.succeeded);
        for operation in &reply.responses {
            match &operation.response {
                Some(Response::ResponseRange(reply)) => self.range(reply),
                Some(Response::ResponsePut(reply)) => self.put(reply),
                Some(Response::ResponseDeleteRange(reply)) => self.delete(reply),
                Some(Response::ResponseTxn(reply)) => self.txn(reply),
                None => {}
            }
        }
    }

    fn watch(&mut self, reply: &super::WatchReply) {
        self.header(&reply.header);
        for event in &reply.events {
            self.line("Type", if event.r#type() == EventType::Put { "PUT" } else { "DELETE" });
            event.prev_kv.iter().for_each(|kv| self.key_value("Prev", kv));
            event.kv.iter().for_each(|kv| self.key_value("", kv));
        }
    }

    fn members(&mut self, reply: &pb::MemberListResponse) {
        self.header(&reply.header);
        for member in &reply.members {
            self.id("ID", member.id);
            self.line("Name", quote(member.name.as_bytes()));
            member.peer_ur_ls.iter().for_each(|url| self.line("PeerURL", quote(url.as_bytes())));
            member.client_ur_ls.iter().for_each(|url| self.line("ClientURL", quote(url.as_bytes())));
            self.line("IsLearner", member.is_learner);
            self.empty();
        }
    }

    fn status(&mut self, endpoint: &str, reply: &pb::StatusResponse) {
        self.header(&reply.header);
        self.line("Version", quote(reply.version.as_bytes()));
        self.line("StorageVersion", quote(reply.storage_version.as_bytes()));
        self.line("DBSize", reply.db_size);
        self.line("DBSizeInUse", reply.db_size_in_use);
        self.line("DBSizeQuota", reply.db_size_quota);
        self.line("Leader", reply.leader);
        self.line("IsLearner", reply.is_learner);
        self.line("RaftIndex", reply.raft_index);
        self.line("RaftAppliedIndex", reply.raft_applied_index);
        self.line("Errors", format_args!("[{}]", reply.errors.join(" ")));
        self.line("Endpoint", quote(endpoint.as_bytes()));
        let downgrade = reply.downgrade_info.clone().unwrap_or_default();
        self.line("DowngradeTargetVersion", quote(downgrade.target_version.as_bytes()));
        self.line("DowngradeEnabled", downgrade.enabled);
        self.empty();
    }

    fn role(&mut self, reply: &pb::AuthRoleGetResponse) {
        self.header(&reply.header);
        for each in &reply.perm {
            let kind = permission::Type::try_from(each.perm_type).unwrap_or_default();
            self.line("PermType", format_args!(" {}", kind.as_str_name()));
            self.line("Key", quote(&each.key));
            self.line("RangeEnd", quote(&each.range_end));
        }
    }
}
