//! The buckets of etcd's backend, and the forms of keys and values in them.
//!
//! Owns one pair at a time. Does not own which pairs there are (`content`). Invariant: what is written here is what etcd
//! 3.7 reads; what is read may be etcd's of 3.4 and later. docs/formats.md has the table.

use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::ConfState;
use quorate_store::revision::Revision;
use serde::{Deserialize, Serialize};

/// Alarms.
pub const ALARM: &str = "alarm";
/// Whether there is authentication, and its revision.
pub const AUTH: &str = "auth";
/// Roles.
pub const AUTH_ROLES: &str = "authRoles";
/// Users.
pub const AUTH_USERS: &str = "authUsers";
/// The cluster's version.
pub const CLUSTER: &str = "cluster";
/// All revisions of all keys.
pub const KEY: &str = "key";
/// Leases.
pub const LEASE: &str = "lease";
/// Members.
pub const MEMBERS: &str = "members";
/// Ids of members that were removed.
pub const MEMBERS_REMOVED: &str = "members_removed";
/// Where the log and compaction stand.
pub const META: &str = "meta";

/// Index of the last applied entry.
pub const CONSISTENT_INDEX: &str = "consistent_index";
/// Its term.
pub const TERM: &str = "term";
/// Voters and learners.
pub const CONF_STATE: &str = "confState";
/// Which release's form the file has.
pub const STORAGE_VERSION: &str = "storageVersion";
/// The compaction that was asked for last.
pub const SCHEDULED_COMPACT: &str = "scheduledCompactRev";
/// The compaction that was done last.
pub const FINISHED_COMPACT: &str = "finishedCompactRev";
/// In the bucket of the cluster.
pub const CLUSTER_VERSION: &str = "clusterVersion";
/// In the bucket of the cluster.
pub const DOWNGRADE: &str = "downgrade";
/// In the bucket of authentication.
pub const AUTH_ENABLED: &str = "authEnabled";
/// In the bucket of authentication.
pub const AUTH_REVISION: &str = "authRevision";
/// A value of [`AUTH_ENABLED`].
pub const AUTH_IS_ENABLED: &[u8] = &[1];
/// A value of [`AUTH_ENABLED`].
pub const AUTH_IS_DISABLED: &[u8] = &[0];
/// The value of a removed member.
pub const REMOVED: &str = "removed";

/// The form that is written.
pub const STORAGE_VERSION_WRITTEN: &str = "3.7.0";

/// Length of a revision's key; a deletion's is one longer, bytes.
const REVISION_BYTES: usize = 17;

/// The revision that a key of the `key` bucket (or a value of `meta`) is, and whether it marks a deletion.
pub fn parse_revision(key: &[u8]) -> Option<(Revision, bool)> {
    let deletion = match key.len() {
        REVISION_BYTES => false,
        18 if key[REVISION_BYTES] == b't' => true,
        _ => return None,
    };
    let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    let revision = Revision { main: number(&key[..8]), sub: number(&key[9..REVISION_BYTES]) };
    (key[8] == b'_' && revision.main >= 0 && revision.sub >= 0).then_some((revision, deletion))
}

/// The value of a compaction's revision.
pub fn compact_revision(main: i64) -> Vec<u8> {
    let (key, length) = Revision { main, sub: 0 }.bucket_key(false);
    key[..length].to_vec()
}

#[derive(Serialize, Deserialize)]
struct ConfStateJson {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voters_outgoing: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners_next: Vec<u64>,
    #[serde(default)]
    auto_leave: bool,
}

/// The value of [`CONF_STATE`].
pub fn conf_state_json(conf_state: &ConfState) -> Vec<u8> {
    let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave } = conf_state.clone();
    let json = ConfStateJson { voters, learners, voters_outgoing, learners_next, auto_leave };
    serde_json::to_vec(&json).expect("numbers have a form in JSON")
}

/// Reads the value of [`CONF_STATE`].
pub fn parse_conf_state(json: &[u8]) -> Option<ConfState> {
    let ConfStateJson { voters, learners, voters_outgoing, learners_next, auto_leave } =
        serde_json::from_slice(json).ok()?;
    Some(ConfState { voters, learners, voters_outgoing, learners_next, auto_leave })
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemberJson {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

/// The key of a member.
pub fn member_key(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

/// Reads the key of a member.
pub fn parse_member_key(key: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()
}

/// The value of a member.
pub fn member_json(member: &Member) -> Vec<u8> {
    let json = MemberJson {
        id: member.id,
        peer_urls: Some(member.peer_ur_ls.clone()),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: member.client_ur_ls.clone(),
    };
    serde_json::to_vec(&json).expect("texts have a form in JSON")
}

/// Reads the value of a member.
pub fn parse_member(json: &[u8]) -> Option<Member> {
    let MemberJson { id, peer_urls, is_learner, name, client_urls } = serde_json::from_slice(json).ok()?;
    Some(Member { id, name, peer_ur_ls: peer_urls.unwrap_or_default(), client_ur_ls: client_urls, is_learner })
}

#[derive(Serialize, Deserialize)]
struct DowngradeJson {
    #[serde(rename = "target-version", default)]
    target_version: String,
    #[serde(default)]
    enabled: bool,
}

/// A downgrade that is under way, as etcd writes it.
pub fn downgrade_json(target_version: &str) -> Vec<u8> {
    let downgrade = DowngradeJson { target_version: target_version.to_owned(), enabled: true };
    serde_json::to_vec(&downgrade).expect("a map with names as keys")
}

/// The version that a cluster goes down to; `None`: it does not, or the value cannot be read.
pub fn parse_downgrade(json: &[u8]) -> Option<String> {
    let downgrade: DowngradeJson = serde_json::from_slice(json).ok()?;
    downgrade.enabled.then_some(downgrade.target_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_come_back_and_other_keys_do_not() {
        for (revision, deletion) in [((1, 0), false), ((i64::MAX, 7), true)] {
            let revision = Revision { main: revision.0, sub: revision.1 };
            let (key, length) = revision.bucket_key(deletion);
            assert_eq!(parse_revision(&key[..length]), Some((revision, deletion)));
            assert_eq!(parse_revision(&key[..length - 1]).is_some(), deletion, "a shorter key");
        }
        assert_eq!(parse_revision(b""), None);
        assert_eq!(parse_revision(&[0xff; 17]), None);
        assert_eq!(parse_revision(&[b'_'; 18]), None);
        assert_eq!(compact_revision(258), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn members_and_voters_are_written_as_etcd_writes_them() {
        let member = Member {
            id: 0x8e9e_05c5_2164_694d,
            name: "default".to_owned(),
            peer_ur_ls: vec!["http://localhost:2380".to_owned()],
            client_ur_ls: vec!["http://localhost:2379".to_owned()],
            is_learner: false,
        };
        let json = member_json(&member);
        assert_eq!(
            String::from_utf8_lossy(&json),
            r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default","clientURLs":["http://localhost:2379"]}"#
        );
        assert_eq!(parse_member(&json), Some(member));
        assert_eq!(member_key(0x8e9), b"8e9");
        assert_eq!(parse_member_key(b"8e9"), Some(0x8e9));
        assert_eq!(parse_member(br#"{"id":7,"peerURLs":null}"#).map(|member| member.id), Some(7));
        assert_eq!(parse_member(b"{}"), None);
        let conf_state = ConfState { voters: vec![3, u64::MAX], ..ConfState::default() };
        let json = conf_state_json(&conf_state);
        assert_eq!(String::from_utf8_lossy(&json), r#"{"voters":[3,18446744073709551615],"auto_leave":false}"#);
        assert_eq!(parse_conf_state(&json), Some(conf_state));
        assert_eq!(parse_conf_state(b"7"), None);
        let json = downgrade_json("3.6.0");
        assert_eq!(String::from_utf8_lossy(&json), r#"{"target-version":"3.6.0","enabled":true}"#);
        assert_eq!(parse_downgrade(&json).as_deref(), Some("3.6.0"));
        assert_eq!(parse_downgrade(br#"{"target-version":"","enabled":false}"#), None);
    }
}
