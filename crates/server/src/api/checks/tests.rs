//! Every way in which a request can be ill-formed, and which refusal wins where there are several.

use super::*;
use quorate_proto::etcdserverpb::Compare;

fn put(key: &'static str) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() })) }
}

fn get(key: &'static str) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(RangeRequest { key: key.into(), ..Default::default() })) }
}

fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
    let request = DeleteRangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
    RequestOp { request: Some(Request::RequestDeleteRange(request)) }
}

fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..Default::default() }
}

fn both(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, failure, ..Default::default() }
}

fn nested(txn: TxnRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestTxn(txn)) }
}

#[track_caller]
fn check(txn: TxnRequest, expected: Result<(), Status>) {
    assert_eq!(check_txn(&txn, 128), expected, "{txn:?}");
}

/// What etcd 3.7.3 says to each of these.
#[test]
fn keys_are_written_once() {
    let duplicate = || Err(DUPLICATE_KEY);
    check(then(vec![put("a"), put("a")]), duplicate());
    check(then(vec![put("a"), put("b")]), Ok(()));
    check(then(vec![put("a"), delete("a", "")]), duplicate());
    check(then(vec![delete("a", "c"), put("b")]), duplicate());
    check(then(vec![delete("a", "c"), put("c")]), Ok(()));
    check(then(vec![delete("a", ""), delete("a", "")]), Ok(()));
    check(both(vec![put("a")], vec![put("a")]), Ok(()));
    check(both(vec![], vec![put("a"), put("a")]), duplicate());
    check(then(vec![put("zz"), delete("a", "\0")]), Ok(()));
    check(then(vec![put("b"), delete("c", "a")]), Ok(()));
    check(then(vec![get("a"), put("a"), get("a")]), Ok(()));
}

#[test]
fn keys_are_written_once_with_everything_nested() {
    let duplicate = || Err(DUPLICATE_KEY);
    check(then(vec![put("a"), nested(then(vec![put("a")]))]), duplicate());
    check(then(vec![nested(both(vec![put("a")], vec![put("a")]))]), Ok(()));
    check(then(vec![nested(both(vec![put("a")], vec![put("a")])), put("a")]), duplicate());
    check(then(vec![nested(then(vec![put("a")])), nested(both(vec![], vec![put("a")]))]), duplicate());
    check(then(vec![delete("a", "c"), nested(then(vec![put("b")]))]), duplicate());
    check(then(vec![nested(then(vec![delete("a", "c")])), put("b")]), duplicate());
    check(then(vec![nested(then(vec![nested(then(vec![put("b")]))])), put("b")]), duplicate());
}

#[test]
fn operations_are_counted_with_everything_nested() {
    let too_many = || Err(TOO_MANY_OPERATIONS);
    check(then(vec![get("a"); 128]), Ok(()));
    check(then(vec![get("a"); 129]), too_many());
    check(both(vec![], vec![get("a"); 129]), too_many());
    let compare = Compare { key: "k".into(), ..Default::default() };
    check(TxnRequest { compare: vec![compare.clone(); 128], ..Default::default() }, Ok(()));
    check(TxnRequest { compare: vec![compare; 129], ..Default::default() }, too_many());
    let with_nested = |outer: usize, inner: usize| {
        let mut operations = vec![get("a"); outer];
        operations.push(nested(then(vec![get("a"); inner])));
        then(operations)
    };
    check(with_nested(64, 63), Ok(()));
    check(with_nested(64, 64), too_many());
    // Side by side, each nested transaction has what the list around them left over.
    check(then(vec![nested(then(vec![get("a"); 100])); 28]), Ok(()));
}

#[test]
fn each_operation_is_checked() {
    check(then(vec![RequestOp { request: None }]), Err(KEY_NOT_FOUND));
    check(then(vec![get("")]), Err(KEY_NOT_PROVIDED));
    check(then(vec![put("")]), Err(KEY_NOT_PROVIDED));
    check(then(vec![delete("", "")]), Err(KEY_NOT_PROVIDED));
    check(then(vec![nested(both(vec![], vec![put("")]))]), Err(KEY_NOT_PROVIDED));
    check(TxnRequest { compare: vec![Compare::default()], ..Default::default() }, Err(KEY_NOT_PROVIDED));
    check(TxnRequest::default(), Ok(()));
}

#[test]
fn simple_requests_are_checked_in_etcds_order() {
    let put = |key: &'static str, value: &'static str, lease, ignore_value, ignore_lease| {
        check_put(&PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
            prev_kv: false,
            ignore_value,
            ignore_lease,
        })
    };
    assert_eq!(put("", "v", 1, true, true), Err(KEY_NOT_PROVIDED));
    assert_eq!(put("k", "v", 1, true, true), Err(VALUE_PROVIDED));
    assert_eq!(put("k", "", 1, true, true), Err(LEASE_PROVIDED));
    assert_eq!(put("k", "", 0, true, true), Ok(()));
    let range = |key: &'static str, sort_order, sort_target| {
        check_range(&RangeRequest { key: key.into(), sort_order, sort_target, ..Default::default() })
    };
    assert_eq!(range("", 9, 9), Err(KEY_NOT_PROVIDED));
    assert_eq!(range("k", 3, 0), Err(INVALID_SORT_OPTION));
    assert_eq!(range("k", 0, 5), Err(INVALID_SORT_OPTION));
    assert_eq!(range("k", -1, 0), Err(INVALID_SORT_OPTION));
    assert_eq!(range("k", 2, 4), Ok(()));
}

#[test]
fn reads_are_told_from_writes() {
    assert!(writes_nothing(&TxnRequest::default()));
    assert!(writes_nothing(&both(vec![get("a")], vec![nested(then(vec![get("b")]))])));
    assert!(!writes_nothing(&both(vec![get("a")], vec![nested(both(vec![], vec![put("b")]))])));
    assert!(!writes_nothing(&then(vec![delete("a", "")])));
    assert!(!reads_own_copy(&then(vec![get("a")])));
    assert!(!reads_own_copy(&TxnRequest::default()), "comparisons alone are read linearizably");
    let mut own_copy = get("a");
    if let Some(Request::RequestRange(range)) = &mut own_copy.request {
        range.serializable = true;
    }
    assert!(reads_own_copy(&then(vec![own_copy.clone(), nested(then(vec![own_copy.clone()]))])));
    assert!(!reads_own_copy(&then(vec![own_copy, nested(then(vec![get("a")]))])));
}

#[test]
fn size_is_that_of_the_command() {
    let request = PutRequest { key: "k".into(), value: vec![0; 1000].into(), ..Default::default() };
    let encoded = request.encoded_len();
    let command = COMMAND_BYTES + 2 + encoded;
    assert_eq!(check_size(&request, encoded, command), Ok(()));
    assert_eq!(check_size(&request, encoded, command - 1), Err(REQUEST_TOO_LARGE));
    // Fields nobody knows arrived with it; they are not part of the command.
    assert_eq!(check_size(&request, encoded + 5_000, command), Ok(()));
}
