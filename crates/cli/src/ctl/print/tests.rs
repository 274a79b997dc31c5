//! What each form looks like, held against lines that etcdctl 3.7.3 printed of the same replies.

use quorate_proto::authpb::{Permission, permission::Type};
use quorate_proto::mvccpb::{Event, KeyValue};

use super::*;

const HEADER: pb::ResponseHeader =
    pb::ResponseHeader { cluster_id: 238453183653593855, member_id: 14578408409545168728, revision: 4, raft_term: 2 };
const JSON_HEADER: &str =
    r#""header":{"cluster_id":238453183653593855,"member_id":14578408409545168728,"revision":4,"raft_term":2}"#;
const LIST_HEADER: &str =
    r#""cluster_id":238453183653593855,"member_id":14578408409545168728,"revision":4,"raft_term":2"#;

fn render(format: Format, hex: bool, reply: Reply<'_>) -> String {
    let bytes = Printer { format, hex, values_only: false }.render(reply).expect("a form that exists");
    String::from_utf8(bytes).expect("utf-8")
}

fn check(format: Format, reply: Reply<'_>, expected: &str) {
    assert_eq!(render(format, false, reply), expected);
}

fn foo() -> KeyValue {
    KeyValue { key: "foo".into(), value: "bar3".into(), create_revision: 2, mod_revision: 4, version: 3, lease: 0 }
}

fn header() -> Option<pb::ResponseHeader> {
    Some(HEADER)
}

#[test]
fn a_range_in_every_form() {
    let reply = pb::RangeResponse { header: header(), kvs: vec![foo()], more: false, count: 1 };
    check(Format::Simple, Reply::Get(&reply), "foo\nbar3\n");
    assert_eq!(render(Format::Simple, true, Reply::Get(&reply)), "\\x66\\x6f\\x6f\n\\x62\\x61\\x72\\x33\n");
    let kv = r#"{"key":"Zm9v","create_revision":2,"mod_revision":4,"version":3,"value":"YmFyMw=="}"#;
    check(Format::Json, Reply::Get(&reply), &format!("{{{JSON_HEADER},\"kvs\":[{kv}],\"count\":1}}\n"));
    check(
        Format::Fields,
        Reply::Get(&reply),
        "\"ClusterID\" : 238453183653593855\n\"MemberID\" : 14578408409545168728\n\"Revision\" : 4\n\"RaftTerm\" : \
         2\n\"Key\" : \"foo\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 4\n\"Version\" : 3\n\"Value\" : \
         \"bar3\"\n\"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n",
    );
    let printer = Printer { format: Format::Protobuf, hex: false, values_only: false };
    assert_eq!(printer.render(Reply::Get(&reply)), Ok(reply.encode_to_vec()));
    let table = Printer { format: Format::Table, ..printer }.render(Reply::Get(&reply));
    assert_eq!(table, Err(Failure::new(4, "table not supported as output format")));
    let values = Printer { format: Format::Simple, values_only: true, ..printer }.render(Reply::Get(&reply));
    assert_eq!(values, Ok(b"bar3\n".to_vec()));
}

#[test]
fn hexadecimal_ids_in_fields() {
    let kv = KeyValue { lease: 0x5758_a1fd_fc4a_6e15, value: "a\n\"".into(), ..foo() };
    let reply = pb::PutResponse { header: header(), prev_kv: Some(kv) };
    assert_eq!(
        render(Format::Fields, true, Reply::Put(&reply)),
        "\"ClusterID\" : 34f27e83b3bc2ff\n\"MemberID\" : ca50e9357181d758\n\"Revision\" : 4\n\"RaftTerm\" : \
         2\n\"PrevKey\" : \"foo\"\n\"PrevCreateRevision\" : 2\n\"PrevModRevision\" : 4\n\"PrevVersion\" : \
         3\n\"PrevValue\" : \"a\\n\\\"\"\n\"PrevLease\" : 5758a1fdfc4a6e15\n"
    );
}

#[test]
fn a_transaction() {
    use pb::response_op::Response;
    let inner = Some(pb::ResponseHeader { revision: 7, ..Default::default() });
    let put = pb::PutResponse { header: inner, prev_kv: None };
    let range = pb::RangeResponse { header: inner, kvs: vec![foo()], more: false, count: 1 };
    let delete = pb::DeleteRangeResponse { header: inner, deleted: 0, prev_kvs: Vec::new() };
    let responses = [Response::ResponsePut(put), Response::ResponseRange(range), Response::ResponseDeleteRange(delete)];
    let responses = responses.map(|response| pb::ResponseOp { response: Some(response) }).to_vec();
    let reply = pb::TxnResponse { header: header(), succeeded: true, responses };
    check(Format::Simple, Reply::Txn(&reply), "SUCCESS\n\nOK\n\nfoo\nbar3\n\n0\n");
    let kv = r#"{"key":"Zm9v","create_revision":2,"mod_revision":4,"version":3,"value":"YmFyMw=="}"#;
    let seven = r#""header":{"revision":7}"#;
    check(
        Format::Json,
        Reply::Txn(&reply),
        &format!(
            "{{{JSON_HEADER},\"succeeded\":true,\"responses\":[{{\"Response\":{{\"response_put\":{{{seven}}}}}}},\
             {{\"Response\":{{\"response_range\":{{{seven},\"kvs\":[{kv}],\"count\":1}}}}}},\
             {{\"Response\":{{\"response_delete_range\":{{{seven}}}}}}}]}}\n"
        ),
    );
}

#[test]
fn watched_events() {
    let put = Event { r#type: 0, kv: Some(foo()), prev_kv: None };
    let gone = KeyValue { key: "foo".into(), mod_revision: 5, ..Default::default() };
    let delete = Event { r#type: 1, kv: Some(gone), prev_kv: Some(foo()) };
    let reply = WatchReply { header: header(), events: vec![put, delete], compact_revision: 0, ended: None };
    check(Format::Simple, Reply::Watch(&reply), "PUT\nfoo\nbar3\nDELETE\nfoo\nbar3\nfoo\n\n");
    let kv = r#"{"key":"Zm9v","create_revision":2,"mod_revision":4,"version":3,"value":"YmFyMw=="}"#;
    let rest = r#""CompactRevision":0,"Canceled":false,"Created":false,"CancelReason":"""#;
    check(
        Format::Json,
        Reply::Watch(&reply),
        &format!(
            "{{\"Header\":{{{LIST_HEADER}}},\"Events\":[{{\"kv\":{kv}}},{{\"type\":1,\"kv\":{{\"key\":\"Zm9v\",\
             \"mod_revision\":5}},\"prev_kv\":{kv}}}],{rest}}}\n"
        ),
    );
    let ended = WatchReply { ended: Some("gone".to_owned()), ..WatchReply::default() };
    check(
        Format::Json,
        Reply::Watch(&ended),
        "{\"Header\":{},\"Events\":null,\"CompactRevision\":0,\"Canceled\":true,\"Created\":false,\
         \"CancelReason\":\"\"}\n",
    );
}

#[test]
fn leases() {
    let id = 6293958591464611348;
    let granted = pb::LeaseGrantResponse { header: header(), id, ttl: 100, error: String::new() };
    check(Format::Simple, Reply::LeaseGrant(&granted), "lease 5758a1fdfb441e14 granted with TTL(100s)\n");
    let expected = format!("{{{LIST_HEADER},\"ID\":6293958591464611348,\"TTL\":100,\"Error\":\"\"}}\n");
    check(Format::Json, Reply::LeaseGrant(&granted), &expected);
    let protobuf = Printer { format: Format::Protobuf, hex: false, values_only: false };
    assert_eq!(protobuf.render(Reply::LeaseGrant(&granted)), Ok(HEADER.encode_to_vec()));

    let keys = vec!["la".into(), "lb".into()];
    let alive = pb::LeaseTimeToLiveResponse { header: header(), id, ttl: 99, granted_ttl: 100, keys };
    let simple = "lease 5758a1fdfb441e14 granted with TTL(100s), remaining(99s)";
    check(Format::Simple, Reply::LeaseTimeToLive { with_keys: false, reply: &alive }, &format!("{simple}\n"));
    let with_keys = format!("{simple}, attached keys([la lb])\n");
    check(Format::Simple, Reply::LeaseTimeToLive { with_keys: true, reply: &alive }, &with_keys);
    let gone = pb::LeaseTimeToLiveResponse { header: header(), id: 0x123, ttl: -1, ..Default::default() };
    let gone = Reply::LeaseTimeToLive { with_keys: true, reply: &gone };
    check(Format::Simple, gone, "lease 0000000000000123 already expired\n");
    let expected = format!("{{{LIST_HEADER},\"id\":291,\"ttl\":-1,\"granted-ttl\":0,\"keys\":null}}\n");
    check(Format::Json, gone, &expected);
}

fn members() -> pb::MemberListResponse {
    let started = pb::Member {
        id: 14578408409545168728,
        name: "m0".to_owned(),
        peer_ur_ls: vec!["http://localhost:20001".to_owned()],
        client_ur_ls: vec!["http://localhost:20000".to_owned()],
        is_learner: false,
    };
    let waiting = pb::Member {
        id: 11280754996670559507,
        peer_ur_ls: vec!["http://localhost:20021".to_owned()],
        is_learner: true,
        ..Default::default()
    };
    let header = Some(pb::ResponseHeader { revision: 0, ..HEADER });
    pb::MemberListResponse { header, members: vec![waiting, started] }
}

#[test]
fn a_member_list_in_every_form() {
    let reply = members();
    check(
        Format::Simple,
        Reply::MemberList(&reply),
        "9c8d4ae6c6c2f513, unstarted, , http://localhost:20021, , true\nca50e9357181d758, started, m0, \
         http://localhost:20001, http://localhost:20000, false\n",
    );
    assert_eq!(
        render(Format::Json, true, Reply::MemberList(&reply)),
        "{\"header\":{\"cluster_id\":\"34f27e83b3bc2ff\",\"member_id\":\"ca50e9357181d758\",\"raft_term\":2},\
         \"members\":[{\"ID\":\"9c8d4ae6c6c2f513\",\"peerURLs\":[\"http://localhost:20021\"],\"isLearner\":true},\
         {\"ID\":\"ca50e9357181d758\",\"name\":\"m0\",\"peerURLs\":[\"http://localhost:20001\"],\
         \"clientURLs\":[\"http://localhost:20000\"]}]}\n"
    );
    check(
        Format::Table,
        Reply::MemberList(&reply),
        "\
┌──────────────────┬───────────┬──────┬────────────────────────┬────────────────────────┬────────────┐
│        ID        │  STATUS   │ NAME │       PEER ADDRS       │      CLIENT ADDRS      │ IS LEARNER │
├──────────────────┼───────────┼──────┼────────────────────────┼────────────────────────┼────────────┤
│ 9c8d4ae6c6c2f513 │ unstarted │      │ http://localhost:20021 │                        │       true │
│ ca50e9357181d758 │   started │   m0 │ http://localhost:20001 │ http://localhost:20000 │      false │
└──────────────────┴───────────┴──────┴────────────────────────┴────────────────────────┴────────────┘
",
    );
}

#[test]
fn a_new_member_comes_with_what_it_must_be_started_with() {
    let members = members();
    let reply = pb::MemberAddResponse {
        header: members.header,
        member: Some(members.members[0].clone()),
        members: members.members,
    };
    check(
        Format::Simple,
        Reply::MemberAdd { name: "n3", reply: &reply },
        "Member 9c8d4ae6c6c2f513 added as learner to cluster  34f27e83b3bc2ff\n\nETCD_NAME=\"n3\"\n\
         ETCD_INITIAL_CLUSTER=\"n3=http://localhost:20021,m0=http://localhost:20001\"\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://localhost:20021\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
    );
    let fields = Printer { format: Format::Fields, hex: false, values_only: false };
    assert!(fields.render(Reply::MemberAdd { name: "n3", reply: &reply }).is_err());
}

#[test]
fn an_endpoints_status() {
    let status = pb::StatusResponse {
        header: header(),
        version: "3.7.3".to_owned(),
        db_size: 20480,
        leader: HEADER.member_id,
        raft_index: 13,
        raft_term: 2,
        raft_applied_index: 13,
        errors: vec!["memberID:1  alarm:NOSPACE".to_owned()],
        db_size_in_use: 16384,
        is_learner: false,
        storage_version: "3.7.0".to_owned(),
        db_size_quota: 2147483648,
        downgrade_info: Some(pb::DowngradeInfo::default()),
    };
    let endpoints = [("http://localhost:20000".to_owned(), status)];
    check(
        Format::Simple,
        Reply::EndpointStatus(&endpoints),
        "http://localhost:20000, ca50e9357181d758, 3.7.3, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, 2, 13, 13, \
         memberID:1  alarm:NOSPACE, , false\n",
    );
    let json = render(Format::Json, false, Reply::EndpointStatus(&endpoints));
    let start = "[{\"Endpoint\":\"http://localhost:20000\",\"Status\":{\"header\":{\"cluster_id\":238453183653593855";
    assert!(json.starts_with(start), "{json}");
    let end = "\"raftAppliedIndex\":13,\"errors\":[\"memberID:1  alarm:NOSPACE\"],\"dbSizeInUse\":16384,\
               \"storageVersion\":\"3.7.0\",\"dbSizeQuota\":2147483648,\"downgradeInfo\":{}}}]\n";
    assert!(json.ends_with(end), "{json}");
}

#[test]
fn no_endpoint_at_all() {
    check(Format::Json, Reply::EndpointHashKv(&[]), "null\n");
    let table = "┌──────────┬──────┬───────────────┐\n│ ENDPOINT │ HASH │ HASH REVISION \
                 │\n└──────────┴──────┴───────────────┘\n";
    check(Format::Table, Reply::EndpointHashKv(&[]), table);
    check(Format::Simple, Reply::EndpointHashKv(&[]), "");
}

#[test]
fn health() {
    let took = Duration::from_nanos(2_902_706);
    let well = EndpointHealth { endpoint: "http://a:1".to_owned(), took, error: None };
    let ill = EndpointHealth { error: Some("Active Alarm(s): NOSPACE ".to_owned()), ..well.clone() };
    let both = [well, ill];
    check(
        Format::Simple,
        Reply::EndpointHealth(&both),
        "http://a:1 is healthy: successfully committed proposal: took = 2.902706ms\nhttp://a:1 is unhealthy: failed \
         to commit proposal: Active Alarm(s): NOSPACE \n",
    );
    check(
        Format::Json,
        Reply::EndpointHealth(&both),
        "[{\"endpoint\":\"http://a:1\",\"health\":true,\"took\":\"2.902706ms\"},{\"endpoint\":\"http://a:1\",\
         \"health\":false,\"took\":\"2.902706ms\",\"error\":\"Active Alarm(s): NOSPACE \"}]\n",
    );
}

#[test]
fn alarms() {
    let alarms = vec![pb::AlarmMember { member_id: 7, alarm: pb::AlarmType::Nospace.into() }];
    let reply = pb::AlarmResponse { header: None, alarms };
    check(Format::Simple, Reply::AlarmList(&reply), "memberID:7 alarm:NOSPACE\n");
    check(Format::Json, Reply::AlarmList(&reply), "{\"alarms\":[{\"memberID\":7,\"alarm\":1}]}\n");
    let fields = "\"ClusterID\" : 0\n\"MemberID\" : 0\n\"RaftTerm\" : 0\n\"MemberID\" : 7\n\"AlarmType\" : NOSPACE\n\n";
    check(Format::Fields, Reply::AlarmList(&reply), fields);
    check(Format::Json, Reply::AlarmList(&pb::AlarmResponse::default()), "{}\n");
}

#[test]
fn a_roles_permissions() {
    let permission = |kind: Type, key: &'static str, range_end: &'static str| Permission {
        perm_type: kind.into(),
        key: key.into(),
        range_end: range_end.into(),
    };
    let perm = vec![
        permission(Type::Readwrite, "", "\0"),
        permission(Type::Read, "k", ""),
        permission(Type::Write, "k", "z"),
        permission(Type::Readwrite, "pre", "prf"),
    ];
    let reply = pb::AuthRoleGetResponse { header: header(), perm };
    let reply = Reply::RoleGet { role: "r", reply: &reply };
    check(
        Format::Simple,
        reply,
        "Role r\nKV Read:\n\t[, <open ended>\n\tk\n\t[pre, prf) (prefix pre)\nKV Write:\n\t[, <open ended>\n\t[k, \
         z)\n\t[pre, prf) (prefix pre)\n",
    );
    let permissions = "{\"permType\":2,\"range_end\":\"AA==\"},{\"key\":\"aw==\"},{\"permType\":1,\"key\":\"aw==\",\
                       \"range_end\":\"eg==\"},{\"permType\":2,\"key\":\"cHJl\",\"range_end\":\"cHJm\"}";
    check(Format::Json, reply, &format!("{{{JSON_HEADER},\"perm\":[{permissions}]}}\n"));
    let fields = render(Format::Fields, false, reply);
    assert!(fields.contains("\"PermType\" :  READWRITE\n\"Key\" : \"\"\n\"RangeEnd\" : \"\\x00\"\n"), "{fields}");
}

#[test]
fn json_strings_are_safe_in_html() {
    let reply = pb::AuthUserListResponse { header: None, users: vec!["<a>&\"\\\n\u{2028}é".to_owned()] };
    let expected = "{\"users\":[\"\\u003ca\\u003e\\u0026\\\"\\\\\\n\\u2028é\"]}\n";
    check(Format::Json, Reply::UserList(&reply), expected);
}

#[test]
fn forms_that_some_replies_do_not_have() {
    let render = |format, reply| Printer { format, hex: false, values_only: false }.render(reply);
    let users = pb::AuthUserListResponse::default();
    let refused = Err(Failure::new(4, "fields not supported as output format"));
    assert_eq!(render(Format::Fields, Reply::UserList(&users)), refused);
    let status = pb::AuthStatusResponse::default();
    assert_eq!(render(Format::Fields, Reply::AuthStatus(&status)), refused);
    let refused = Err(Failure::new(4, "protobuf not supported as output format"));
    assert_eq!(render(Format::Protobuf, Reply::EndpointStatus(&[])), refused);
    assert_eq!(Format::read("bogus"), Err(Failure::new(4, "unsupported output format")));
}
