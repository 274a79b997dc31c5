//! The JSON form: one line, with the names that etcd's Go types have.
//!
//! Not here: which replies there are. The invariant: fields come in the order of the protocol's message, and a field
//! with its zero value is left out, except where Go's type says otherwise.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_proto::authpb::Permission;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb::{Event, KeyValue};

use super::{Reply, header_of};
use crate::command_line::go_text::duration_text;

/// Renders a reply, with its line feed. `hex` counts for members and their IDs only, as in etcdctl.
pub(super) fn render(reply: Reply<'_>, hex: bool) -> String {
    let ids = if hex { Ids::Hexadecimal } else { Ids::Decimal };
    let mut text = match reply {
        Reply::Get(reply) => range(reply),
        Reply::Put(reply) => put(reply),
        Reply::Delete(reply) => delete(reply),
        Reply::Txn(reply) => txn(reply),
        Reply::Watch(reply) => watch(reply),
        Reply::LeaseGrant(reply) => header_fields(Object::default(), &reply.header, Ids::Decimal)
            .always("ID", reply.id)
            .always("TTL", reply.ttl)
            .always_text("Error", &reply.error)
            .finish(),
        Reply::LeaseKeepAlive(reply) => header_fields(Object::default(), &reply.header, Ids::Decimal)
            .always("ID", reply.id)
            .always("TTL", reply.ttl)
            .finish(),
        Reply::LeaseTimeToLive { reply, .. } => time_to_live(reply),
        Reply::LeaseList(reply) => {
            let leases = reply.leases.iter().map(|lease| Object::default().always("id", lease.id).finish());
            header_fields(Object::default(), &reply.header, Ids::Decimal)
                .value("leases", list(&leases.collect::<Vec<_>>()))
                .finish()
        }
        Reply::AlarmList(reply) => {
            let alarms = reply.alarms.iter().map(|alarm| {
                Object::default().unless_zero("memberID", alarm.member_id).unless_zero("alarm", alarm.alarm).finish()
            });
            with_header(&reply.header, Ids::Decimal).list("alarms", alarms).finish()
        }
        Reply::MemberAdd { reply, .. } => {
            let added = with_header(&reply.header, ids);
            let added = match &reply.member {
                Some(added_member) => added.value("member", member(added_member, ids)),
                None => added,
            };
            added.list("members", reply.members.iter().map(|each| member(each, ids))).finish()
        }
        Reply::MemberRemove { reply, .. } => members(&reply.header, &reply.members, ids),
        Reply::MemberUpdate { reply, .. } => members(&reply.header, &reply.members, ids),
        Reply::MemberPromote { reply, .. } => members(&reply.header, &reply.members, ids),
        Reply::MemberList(reply) => members(&reply.header, &reply.members, ids),
        Reply::EndpointHealth(endpoints) => list_or_null(
            endpoints
                .iter()
                .map(|each| {
                    let error = each.error.as_deref().unwrap_or_default();
                    Object::default()
                        .always_text("endpoint", &each.endpoint)
                        .always("health", each.error.is_none())
                        .always_text("took", &duration_text(each.took))
                        .text("error", error)
                        .finish()
                })
                .collect(),
        ),
        Reply::EndpointStatus(endpoints) => list_or_null(
            endpoints
                .iter()
                .map(|(endpoint, reply)| {
                    Object::default().always_text("Endpoint", endpoint).value("Status", status(reply)).finish()
                })
                .collect(),
        ),
        Reply::EndpointHashKv(endpoints) => list_or_null(
            endpoints
                .iter()
                .map(|(endpoint, reply)| {
                    let hash = with_header(&reply.header, Ids::Decimal)
                        .unless_zero("hash", reply.hash)
                        .unless_zero("compact_revision", reply.compact_revision)
                        .unless_zero("hash_revision", reply.hash_revision);
                    Object::default().always_text("Endpoint", endpoint).value("HashKV", hash.finish()).finish()
                })
                .collect(),
        ),
        Reply::Downgrade { reply, .. } => {
            with_header(&reply.header, Ids::Decimal).text("version", &reply.version).finish()
        }
        Reply::AuthStatus(reply) => with_header(&reply.header, Ids::Decimal)
            .unless_false("enabled", reply.enabled)
            .unless_zero("authRevision", reply.auth_revision)
            .finish(),
        Reply::UserGet { reply, .. } => texts(&reply.header, "roles", &reply.roles),
        Reply::UserList(reply) => texts(&reply.header, "users", &reply.users),
        Reply::RoleList(reply) => texts(&reply.header, "roles", &reply.roles),
        Reply::RoleGet { reply, .. } => {
            with_header(&reply.header, Ids::Decimal).list("perm", reply.perm.iter().map(permission)).finish()
        }
        other => with_header(header_of(other).expect("every other reply is a header"), Ids::Decimal).finish(),
    };
    text.push('\n');
    text
}

/// How the IDs of clusters and members are written.
#[derive(Clone, Copy)]
enum Ids {
    Decimal,
    Hexadecimal,
}

impl Ids {
    fn write(self, id: u64) -> String {
        match self {
            Self::Decimal => id.to_string(),
            Self::Hexadecimal => format!("\"{id:x}\""),
        }
    }
}

/// An object that is being written.
#[derive(Default)]
struct Object {
    text: String,
}

impl Object {
    fn value(mut self, name: &str, value: String) -> Self {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        self.text.push_str(&format!("\"{name}\":{value}"));
        self
    }

    fn always(self, name: &str, value: impl ToString) -> Self {
        self.value(name, value.to_string())
    }

    fn unless_zero(self, name: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        if value == "0" { self } else { self.value(name, value) }
    }

    fn unless_false(self, name: &str, value: bool) -> Self {
        if value { self.always(name, value) } else { self }
    }

    fn always_text(self, name: &str, value: &str) -> Self {
        self.value(name, text(value))
    }

    fn text(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.always_text(name, value) }
    }

    fn bytes(self, name: &str, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.value(name, base64_text(value)) }
    }

    fn list(self, name: &str, values: impl Iterator<Item = String>) -> Self {
        let values: Vec<String> = values.collect();
        if values.is_empty() { self } else { self.value(name, list(&values)) }
    }

    fn finish(mut self) -> String {
        if self.text.is_empty() {
            self.text.push('{');
        }
        self.text.push('}');
        self.text
    }
}

fn list(values: &[String]) -> String {
    format!("[{}]", values.join(","))
}

/// A list that Go never made is null.
fn list_or_null(values: Vec<String>) -> String {
    if values.is_empty() { "null".to_owned() } else { list(&values) }
}

fn base64_text(bytes: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(bytes))
}

/// A string; Go escapes what has a meaning in HTML as well.
fn text(value: &str) -> String {
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..' ' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn header_fields(object: Object, header: &Option<pb::ResponseHeader>, ids: Ids) -> Object {
    let header = header.unwrap_or_default();
    let id = |object: Object, name, id| if id == 0 { object } else { object.value(name, ids.write(id)) };
    let object = id(object, "cluster_id", header.cluster_id);
    id(object, "member_id", header.member_id)
        .unless_zero("revision", header.revision)
        .unless_zero("raft_term", header.raft_term)
}

fn with_header(header: &Option<pb::ResponseHeader>, ids: Ids) -> Object {
    match header {
        Some(_) => Object::default().value("header", header_fields(Object::default(), header, ids).finish()),
        None => Object::default(),
    }
}

fn key_value(kv: &KeyValue) -> String {
    Object::default()
        .bytes("key", &kv.key)
        .unless_zero("create_revision", kv.create_revision)
        .unless_zero("mod_revision", kv.mod_revision)
        .unless_zero("version", kv.version)
        .bytes("value", &kv.value)
        .unless_zero("lease", kv.lease)
        .finish()
}

fn range(reply: &pb::RangeResponse) -> String {
    with_header(&reply.header, Ids::Decimal)
        .list("kvs", reply.kvs.iter().map(key_value))
        .unless_false("more", reply.more)
        .unless_zero("count", reply.count)
        .finish()
}

fn put(reply: &pb::PutResponse) -> String {
    let object = with_header(&reply.header, Ids::Decimal);
    match &reply.prev_kv {
        Some(previous) => object.value("prev_kv", key_value(previous)).finish(),
        None => object.finish(),
    }
}

fn delete(reply: &pb::DeleteRangeResponse) -> String {
    with_header(&reply.header, Ids::Decimal)
        .unless_zero("deleted", reply.deleted)
        .list("prev_kvs", reply.prev_kvs.iter().map(key_value))
        .finish()
}

fn txn(reply: &pb::TxnResponse) -> String {
    use pb::response_op::Response;
    let response = |operation: &pb::ResponseOp| {
        let (name, value) = match &operation.response {
            Some(Response::ResponseRange(reply)) => ("response_range", range(reply)),
            Some(Response::ResponsePut(reply)) => ("response_put", put(reply)),
            Some(Response::ResponseDeleteRange(reply)) => ("response_delete_range", delete(reply)),
            Some(Response::ResponseTxn(reply)) => ("response_txn", txn(reply)),
            None => return Object::default().value("Response", "null".to_owned()).finish(),
        };
        Object::default().value("Response", Object::default().value(name, value).finish()).finish()
    };
    with_header(&reply.header, Ids::Decimal)
        .unless_false("succeeded", reply.succeeded)
        .list("responses", reply.responses.iter().map(response))
        .finish()
}

fn watch(reply: &super::WatchReply) -> String {
    let event = |event: &Event| {
        let object = Object::default().unless_zero("type", event.r#type);
        let object = event.kv.iter().fold(object, |object, kv| object.value("kv", key_value(kv)));
        event.prev_kv.iter().fold(object, |object, kv| object.value("prev_kv", key_value(kv))).finish()
    };
    Object::default()
        .value("Header", header_fields(Object::default(), &reply.header, Ids::Decimal).finish())
        .value("Events", list_or_null(reply.events.iter().map(event).collect()))
        .always("CompactRevision", reply.compact_revision)
        .always("Canceled", reply.ended.is_some())
        .always("Created", false)
        .always_text("CancelReason", "")
        .finish()
}

fn time_to_live(reply: &pb::LeaseTimeToLiveResponse) -> String {
    header_fields(Object::default(), &reply.header, Ids::Decimal)
        .always("id", reply.id)
        .always("ttl", reply.ttl)
        .always("granted-ttl", reply.granted_ttl)
        .value("keys", list_or_null(reply.keys.iter().map(|key| base64_text(key)).collect()))
        .finish()
}

fn member(member: &pb::Member, ids: Ids) -> String {
    let object = Object::default();
    let object = if member.id == 0 { object } else { object.value("ID", ids.write(member.id)) };
    object
        .text("name", &member.name)
        .list("peerURLs", member.peer_ur_ls.iter().map(|url| text(url)))
        .list("clientURLs", member.client_ur_ls.iter().map(|url| text(url)))
        .unless_false("isLearner", member.is_learner)
        .finish()
}

fn members(header: &Option<pb::ResponseHeader>, members: &[pb::Member], ids: Ids) -> String {
    with_header(header, ids).list("members", members.iter().map(|each| member(each, ids))).finish()
}

fn status(reply: &pb::StatusResponse) -> String {
    let object = with_header(&reply.header, Ids::Decimal)
        .text("version", &reply.version)
        .unless_zero("dbSize", reply.db_size)
        .unless_zero("leader", reply.leader)
        .unless_zero("raftIndex", reply.raft_index)
        .unless_zero("raftTerm", reply.raft_term)
        .unless_zero("raftAppliedIndex", reply.raft_applied_index)
        .list("errors", reply.errors.iter().map(|error| text(error)))
        .unless_zero("dbSizeInUse", reply.db_size_in_use)
        .unless_false("isLearner", reply.is_learner)
        .text("storageVersion", &reply.storage_version)
        .unless_zero("dbSizeQuota", reply.db_size_quota);
    let downgrade = |info: &pb::DowngradeInfo| {
        let object = Object::default().unless_false("enabled", info.enabled);
        object.text("targetVersion", &info.target_version).finish()
    };
    let info = reply.downgrade_info.iter();
    info.fold(object, |object, info| object.value("downgradeInfo", downgrade(info))).finish()
}

fn texts(header: &Option<pb::ResponseHeader>, name: &str, values: &[String]) -> String {
    with_header(header, Ids::Decimal).list(name, values.iter().map(|value| text(value))).finish()
}

fn permission(permission: &Permission) -> String {
    Object::default()
        .unless_zero("permType", permission.perm_type)
        .bytes("key", &permission.key)
        .bytes("range_end", &permission.range_end)
        .finish()
}
