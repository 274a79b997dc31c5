//! JSON to bytes: what is taken, and the texts of what is not.

use super::*;
use crate::gateway::scan::{Scanner, Step};
use prost::Message;
use quorate_proto::descriptor;
use quorate_proto::etcdserverpb::{
    AlarmRequest, AuthRoleGrantPermissionRequest, Compare, HashKvRequest, MemberAddRequest, MemberRemoveRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest, compare::TargetUnion,
    request_op::Request, watch_request::RequestUnion,
};

const RANGE: &MessageDescriptor = &descriptor::ETCDSERVERPB_RANGEREQUEST;

/// What the scanner lets through, decoded; what it does not is none of these tests' business.
fn run(json: &str, message: &'static MessageDescriptor) -> Result<Vec<u8>, String> {
    let mut scanner = Scanner::default();
    let ends = json.bytes().map(|byte| scanner.step(byte)).position(|step| step != Step::More);
    assert!(ends.is_none_or(|at| at + 1 == json.len()), "no JSON: {json}");
    decode(json.as_bytes(), message)
}

fn check<M: Message + Default + PartialEq + std::fmt::Debug>(
    json: &str,
    message: &'static MessageDescriptor,
    expected: M,
) {
    let bytes = run(json, message).unwrap_or_else(|reason| panic!("{json}: {reason}"));
    assert_eq!(M::decode(&bytes[..]).unwrap(), expected, "{json}");
    assert_eq!(bytes.len(), expected.encoded_len(), "{json}: lengths are minimal and empty fields left out");
}

#[test]
fn names_and_values_come_in_all_their_forms() {
    let full = RangeRequest {
        key: "foo".into(),
        range_end: vec![0xfb, 0xff, 0xbf].into(),
        limit: -5,
        revision: i64::MAX,
        sort_order: 2,
        sort_target: 77,
        serializable: true,
        ..Default::default()
    };
    for json in [
        r#"{"key":"Zm9v","range_end":"-_-_","limit":-5,"revision":"9223372036854775807","sort_order":"DESCEND","sort_target":77,"serializable":true}"#,
        r#" { "key" : "Zm9v" , "rangeEnd":"+/+/","limit":"-5","revision":9223372036854775807,"sortOrder":2,"sortTarget":77,"serializable":true, "keysOnly": false, "countOnly":null} "#,
        r#"{"\u006bey":"Z\u006d9v","range_end":"-_-_","limit":-0.5e1,"revision":"9223372036854775807","sort_order":2.0,"sort_target":7.7e1,"serializable":true,"unknown":{"a":[1,"\ud83d\ude00",null,{}],"b":{}},"sort":[]}"#,
    ] {
        check(json.trim(), RANGE, full.clone());
    }
    check(r#"{"sort_order":"NONSENSE","limit":"0","key":""}"#, RANGE, RangeRequest::default());
    check("{}", RANGE, RangeRequest::default());
    let text = MemberAddRequest {
        peer_ur_ls: vec!["\u{e4}\"\\/\u{1f600}\n".into(), String::new()],
        is_learner: true,
        auto_promote: false,
    };
    check(
        r#"{"peerURLs":["ä\"\\\/\ud83d\ude00\n",""],"isLearner":true}"#,
        &descriptor::ETCDSERVERPB_MEMBERADDREQUEST,
        text,
    );
    let removal = MemberRemoveRequest { id: u64::MAX };
    check(r#"{"ID":18446744073709551615}"#, &descriptor::ETCDSERVERPB_MEMBERREMOVEREQUEST, removal);
    let alarm = AlarmRequest { action: 1, member_id: 5, alarm: 1 };
    check(r#"{"action":"ACTIVATE","memberID":"5","alarm":"NOSPACE"}"#, &descriptor::ETCDSERVERPB_ALARMREQUEST, alarm);
    check("{\"revision\":\"12 34\"}", &descriptor::ETCDSERVERPB_HASHKVREQUEST, HashKvRequest { revision: 12 });
}

#[test]
fn messages_nest_and_alternatives_are_present_though_empty() {
    let range = Request::RequestRange(RangeRequest { key: "a".into(), ..Default::default() });
    let put = Request::RequestPut(PutRequest::default());
    let operation = |request| RequestOp { request: Some(request) };
    let inner = TxnRequest { failure: vec![operation(range.clone())], ..Default::default() };
    let txn = TxnRequest {
        compare: vec![Compare {
            target: 1,
            key: "a".into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Default::default()
        }],
        success: vec![operation(put), RequestOp::default(), operation(Request::RequestTxn(inner))],
        failure: Vec::new(),
    };
    check(
        r#"{"compare":[{"target":"CREATE","key":"YQ==","create_revision":"0"}],
            "success":[{"request_put":{}},{},{"requestTxn":{"failure":[{"request_range":{"key":"YQ=="}}]}}],"failure":[]}"#,
        &descriptor::ETCDSERVERPB_TXNREQUEST,
        txn,
    );
    let create = WatchCreateRequest { key: "a".into(), filters: vec![0, 1], ..Default::default() };
    let json = r#"{"create_request":{"key":"YQ","filters":["NOPUT",1,"NONSENSE"]}}"#;
    let bytes = run(json, &descriptor::ETCDSERVERPB_WATCHREQUEST).unwrap();
    let watch = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    assert_eq!(WatchRequest::decode(&bytes[..]).unwrap(), watch);
    check(
        r#"{"name":"r","perm":{"permType":"READWRITE"}}"#,
        &descriptor::ETCDSERVERPB_AUTHROLEGRANTPERMISSIONREQUEST,
        AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: Some(quorate_proto::authpb::Permission { perm_type: 2, ..Default::default() }),
        },
    );
}

#[test]
fn lengths_of_long_inner_messages_are_put_in_right() {
    for bytes in [100, 127, 128, 16_383, 16_384, 70_000] {
        let text = "A".repeat(bytes / 3 * 4);
        let put = PutRequest { value: vec![0; bytes / 3 * 3].into(), ..Default::default() };
        let mut txn = TxnRequest::default();
        let mut json = format!(r#"{{"request_put":{{"value":"{text}"}}}}"#);
        let mut request = Request::RequestPut(put);
        for _ in 0..3 {
            txn = TxnRequest { success: vec![RequestOp { request: Some(request) }], ..Default::default() };
            request = Request::RequestTxn(txn.clone());
            json = format!(r#"{{"request_txn":{{"success":[{json}]}}}}"#);
        }
        let json = json.strip_prefix(r#"{"request_txn":"#).unwrap().strip_suffix('}').unwrap();
        check(json, &descriptor::ETCDSERVERPB_TXNREQUEST, txn);
    }
}

#[test]
fn depth_does_not_reach_the_threads_stack() {
    let levels = 3_300;
    let json = r#"{"success":[{"request_txn":"#.repeat(levels) + "{}" + &"}]}".repeat(levels);
    let bytes = run(&json, &descriptor::ETCDSERVERPB_TXNREQUEST).unwrap();
    assert!(bytes.len() > 4 * levels);
}

#[test]
fn what_is_wrong_is_told_in_protojsons_words() {
    for (json, reason) in [
        ("[]", "proto: syntax error (line 1:1): unexpected token ["),
        ("null", "proto: syntax error (line 1:1): unexpected token null"),
        ("\"text\"", "proto: syntax error (line 1:1): unexpected token \"text\""),
        ("12", "proto: syntax error (line 1:1): unexpected token 12"),
        (r#"{"key":1}"#, "proto: (line 1:8): invalid value for bytes field key: 1"),
        (r#"{"key":"!"}"#, "proto: (line 1:8): invalid value for bytes field key: \"!\""),
        ("{\n \"ä\":1,\"range_end\": {}}", "proto: (line 2:21): invalid value for bytes field rangeEnd: {"),
        (r#"{"limit":"x"}"#, "proto: (line 1:10): invalid value for int64 field limit: \"x\""),
        (r#"{"limit":1.5}"#, "proto: (line 1:10): invalid value for int64 field limit: 1.5"),
        (
            r#"{"limit":9223372036854775808}"#,
            "proto: (line 1:10): invalid value for int64 field limit: 9223372036854775808",
        ),
        (r#"{"limit":true}"#, "proto: (line 1:10): invalid value for int64 field limit: true"),
        (r#"{"serializable":"yes"}"#, "proto: (line 1:17): invalid value for bool field serializable: \"yes\""),
        (r#"{"sort_order":2147483648}"#, "proto: (line 1:15): invalid value for enum field sortOrder: 2147483648"),
        (r#"{"key":"YQ","key":null}"#, "proto: (line 1:13): duplicate field \"key\""),
        (r#"{"range_end":"YQ","rangeEnd":"YQ"}"#, "proto: (line 1:19): duplicate field \"rangeEnd\""),
        (r#"{"key":"\ud800"}"#, "proto: unexpected EOF"),
        (r#"{"key":"\ud800abcdef"}"#, "proto: syntax error (line 1:8): invalid escape code \"abcdef\" in string"),
        (r#"{"\ud800\u0041xxx":1}"#, "proto: syntax error (line 1:2): invalid escape code \"\\\\u0041\" in string"),
    ] {
        assert_eq!(run(json, RANGE), Err(reason.to_owned()), "{json}");
    }
    for (json, reason) in [
        (r#"{"compare":{}}"#, "proto: syntax error (line 1:12): unexpected token {"),
        (r#"{"compare":[null]}"#, "proto: syntax error (line 1:13): unexpected token null"),
        (
            r#"{"compare":[{"version":1,"value":"YQ"}]}"#,
            "proto: (line 1:26): error parsing \"value\", oneof etcdserverpb.Compare.target_union is already set",
        ),
    ] {
        assert_eq!(run(json, &descriptor::ETCDSERVERPB_TXNREQUEST), Err(reason.to_owned()), "{json}");
    }
    let learners = run(r#"{"peerURLs":[null]}"#, &descriptor::ETCDSERVERPB_MEMBERADDREQUEST);
    assert_eq!(learners, Err("proto: (line 1:14): invalid value for string field peerURLs: null".to_owned()));
    assert_eq!(
        decode(b"{\"key\":\"\xff\"}", RANGE),
        Err("proto: syntax error (line 1:8): invalid UTF-8 in string".to_owned())
    );
}
