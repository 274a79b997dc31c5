//! Acts against roles, one table; transactions against their parts; tokens against the changes since.

use super::{Act, AuthError, AuthView, ROOT, cluster_caller};
use crate::lease::Leases;
use crate::memory_disk::SeededRandom;
use bytes::Bytes;
use quorate_proto::authpb::permission::Type;
use quorate_proto::authpb::{Permission, UserAddOptions};
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use quorate_proto::quoratepb::Caller;
use quorate_proto::quoratepb::command::Operation;

fn change(view: &mut AuthView, operation: Operation) {
    view.change(&operation).unwrap();
}

fn add_user(view: &mut AuthView, name: &str, roles: &[&str]) {
    let options = Some(UserAddOptions { no_password: false });
    let request = AuthUserAddRequest { name: name.to_owned(), options, ..AuthUserAddRequest::default() };
    change(view, Operation::AuthUserAdd(request));
    for role in roles {
        grant_role(view, name, role);
    }
}

fn grant_role(view: &mut AuthView, user: &str, role: &str) {
    let request = AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() };
    change(view, Operation::AuthUserGrantRole(request));
}

fn grant(view: &mut AuthView, role: &str, perm_type: Type, key: &str, range_end: &str) {
    let perm = Some(Permission {
        perm_type: perm_type as i32,
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    });
    let request = AuthRoleGrantPermissionRequest { name: role.to_owned(), perm };
    change(view, Operation::AuthRoleGrantPermission(request));
}

/// Auth is on. `reader` reads and `writer` writes [b, f); `owner` does both, and reads and writes the key q/1 alone;
/// `nobody` holds no role.
fn view() -> AuthView {
    let mut view = AuthView::default();
    for role in ["read", "write", "queue"] {
        change(&mut view, Operation::AuthRoleAdd(AuthRoleAddRequest { name: role.to_owned() }));
    }
    grant(&mut view, "read", Type::Read, "b", "d");
    grant(&mut view, "read", Type::Read, "d", "f");
    grant(&mut view, "write", Type::Write, "b", "f");
    grant(&mut view, "queue", Type::Readwrite, "q/1", "");
    add_user(&mut view, ROOT, &[ROOT]);
    add_user(&mut view, "nobody", &[]);
    add_user(&mut view, "reader", &["read"]);
    add_user(&mut view, "writer", &["write"]);
    add_user(&mut view, "owner", &["read", "write", "queue"]);
    change(&mut view, Operation::AuthEnable(AuthEnableRequest {}));
    view
}

fn caller(view: &AuthView, user: &str) -> Caller {
    Caller { user: user.to_owned(), auth_revision: view.revision(), cluster: false }
}

/// Lease 1 has the key c; lease 2 the keys d and z; lease 3 none.
fn leases() -> Leases {
    let mut leases = Leases::default();
    for id in 1..=3 {
        leases.grant(id, 10).unwrap();
    }
    leases.move_key(b"c", 0, 1);
    leases.move_key(b"d", 0, 2);
    leases.move_key(b"z", 0, 2);
    leases
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() }
}

fn put(key: &'static str, lease: i64, prev_kv: bool) -> PutRequest {
    PutRequest { key: key.into(), lease, prev_kv, ..PutRequest::default() }
}

fn delete(key: &'static str, range_end: &'static str, prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn branches(success: Vec<Request>, failure: Vec<Request>) -> TxnRequest {
    let operations = |requests: Vec<Request>| requests.into_iter().map(operation).collect();
    TxnRequest { compare: Vec::new(), success: operations(success), failure: operations(failure) }
}

fn comparing(key: &'static str, range_end: &'static str) -> TxnRequest {
    let compare = Compare { key: key.into(), range_end: range_end.into(), ..Compare::default() };
    TxnRequest { compare: vec![compare], ..TxnRequest::default() }
}

/// What each of these callers is told: nobody at all, an unknown name, then the users. `+` yes, `-` permission denied,
/// `e` user name is empty, `n` user name not found.
const CALLERS: [&str; 7] = ["", "unknown", "nobody", "reader", "writer", "owner", ROOT];

fn told(view: &AuthView, act: Act<'_>) -> String {
    CALLERS
        .map(|user| {
            let caller = Some(caller(view, user)).filter(|_| !user.is_empty());
            match view.authorize(caller.as_ref(), act, &leases()) {
                Ok(()) => '+',
                Err(AuthError::PermissionDenied) => '-',
                Err(AuthError::UserEmpty) => 'e',
                Err(AuthError::UserNotFound) => 'n',
                Err(other) => panic!("{act:?} of {user}: {other}"),
            }
        })
        .iter()
        .collect()
}

#[track_caller]
fn check(act: Act<'_>, expected: &str) {
    assert_eq!(told(&view(), act), expected, "{act:?} of {CALLERS:?}");
}

#[test]
fn keys() {
    check(Act::Range(&range("c", "")), "e--+-++");
    check(Act::Range(&range("b", "f")), "e--+-++");
    check(Act::Range(&range("c", "\0")), "e-----+");
    check(Act::Range(&range("a", "c")), "e-----+");
    check(Act::Range(&range("q/1", "")), "e----++");
    check(Act::Range(&range("q/", "q0")), "e-----+");
    check(Act::Watch { key: b"c", range_end: b"" }, "e--+-++");
    check(Act::Watch { key: b"c", range_end: b"e" }, "e--+-++");
    check(Act::Watch { key: b"c", range_end: b"\0" }, "e-----+");
    check(Act::Watch { key: b"q/1", range_end: b"\0" }, "e-----+");
    check(Act::Watch { key: b"", range_end: b"\0" }, "e-----+");
    check(Act::Watch { key: b"", range_end: b"" }, "e-----+");
    check(Act::Put(&put("c", 0, false)), "e---+++");
    check(Act::Put(&put("c", 0, true)), "e----++");
    check(Act::Put(&put("f", 0, false)), "e-----+");
    check(Act::Put(&put("c", 1, false)), "e---+++");
    check(Act::Put(&put("c", 2, false)), "e-----+");
    check(Act::Put(&put("c", 3, false)), "e---+++");
    check(Act::Put(&put("c", 4, false)), "e---+++");
    check(Act::DeleteRange(&delete("b", "f", false)), "e---+++");
    check(Act::DeleteRange(&delete("b", "f", true)), "e----++");
    check(Act::DeleteRange(&delete("b", "\0", false)), "e-----+");
}

#[test]
fn transactions() {
    check(Act::Txn(&TxnRequest::default()), "e-+++++");
    check(Act::Txn(&comparing("c", "")), "e--+-++");
    check(Act::Txn(&comparing("c", "g")), "e-----+");
    let puts = || Request::RequestPut(put("c", 0, false));
    check(Act::Txn(&branches(vec![puts()], vec![])), "e---+++");
    check(Act::Txn(&branches(vec![], vec![puts()])), "e---+++");
    check(Act::Txn(&branches(vec![Request::RequestRange(range("c", ""))], vec![puts()])), "e----++");
    check(Act::Txn(&branches(vec![Request::RequestPut(put("c", 2, false))], vec![])), "e-----+");
    check(Act::Txn(&branches(vec![Request::RequestPut(put("c", 0, true))], vec![])), "e----++");
    check(Act::Txn(&branches(vec![Request::RequestDeleteRange(delete("c", "", true))], vec![])), "e----++");
    let nested = |inner: Request| branches(vec![], vec![Request::RequestTxn(branches(vec![inner], vec![]))]);
    check(Act::Txn(&nested(puts())), "e---+++");
    check(Act::Txn(&nested(Request::RequestPut(put("x", 0, false)))), "e-----+");
    check(Act::Txn(&nested(Request::RequestPut(put("c", 2, false)))), "e-----+");
    check(Act::Txn(&nested(Request::RequestPut(put("c", 0, true)))), "e----++");
    check(Act::Txn(&nested(Request::RequestRange(range("a", "")))), "e-----+");
    check(Act::Txn(&nested(Request::RequestTxn(comparing("a", "")))), "e-----+");
    check(Act::Txn(&nested(Request::RequestDeleteRange(delete("c", "\0", false)))), "e-----+");
    let unknown = TxnRequest { success: vec![RequestOp { request: None }], ..TxnRequest::default() };
    check(Act::Txn(&unknown), "e-----+");
}

#[test]
fn leases_and_their_keys() {
    check(Act::LeaseGrant, "e-+++++");
    check(Act::LeaseRevoke(1), "e---+++");
    check(Act::LeaseRevoke(2), "e-----+");
    check(Act::LeaseRevoke(3), "e-+++++");
    check(Act::LeaseRevoke(4), "e-+++++");
    check(Act::LeaseRenew(1), "e---+++");
    check(Act::LeaseRenew(2), "e-----+");
    check(Act::LeaseRenew(3), "e-+++++");
    check(Act::LeaseTimeToLive { id: 2, keys: false }, "e-+++++");
    check(Act::LeaseTimeToLive { id: 1, keys: true }, "e--+-++");
    check(Act::LeaseTimeToLive { id: 2, keys: true }, "e-----+");
    check(Act::LeaseTimeToLive { id: 3, keys: true }, "e-+++++");
    check(Act::LeaseLeases, "e-----+");
}

#[test]
fn locks_and_elections() {
    check(Act::Contend { prefix: b"c/", key: b"c/1", lease: 3 }, "e----++");
    check(Act::Contend { prefix: b"c/", key: b"c/1", lease: 2 }, "e-----+");
    check(Act::Contend { prefix: b"q/", key: b"q/1", lease: 3 }, "e-----+");
    check(Act::Contend { prefix: b"\xff", key: b"c", lease: 3 }, "e-----+");
    check(Act::Unlock(b"c/1"), "e---+++");
    check(Act::Unlock(b"x/1"), "e-----+");
    check(Act::Proclaim { key: b"c/1", lease: 3 }, "e----++");
    check(Act::Proclaim { key: b"c/1", lease: 2 }, "e-----+");
    check(Act::Resign(b"c/1"), "e----++");
    check(Act::Resign(b"x"), "e-----+");
    check(Act::Observe(b"c/"), "e--+-++");
    check(Act::Observe(b"q/"), "e-----+");
}

#[test]
fn what_needs_root() {
    check(Act::Compact, "en----+");
    check(Act::AuthChange, "en----+");
    check(Act::Alarm(0), "e-+++++");
    for action in [1, 2, 3, -1] {
        check(Act::Alarm(action), "en----+");
    }
    for method in ["Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader", "Downgrade"] {
        check(Act::Call(&format!("/etcdserverpb.Maintenance/{method}")), "en----+");
    }
    for method in ["MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"] {
        check(Act::Call(&format!("/etcdserverpb.Cluster/{method}")), "en----+");
    }
    for method in ["UserList", "RoleList"] {
        check(Act::Call(&format!("/etcdserverpb.Auth/{method}")), "en----+");
    }
    check(Act::UserGet("reader"), "en-+--+");
    check(Act::UserGet(ROOT), "en----+");
    check(Act::RoleGet("read"), "en-+-++");
    check(Act::RoleGet("unknown"), "en----+");
}

#[test]
fn what_every_user_may() {
    check(Act::Call("/etcdserverpb.Maintenance/Status"), "e-+++++");
    check(Act::Call("/etcdserverpb.Cluster/MemberList"), "e-+++++");
    check(Act::Call("/etcdserverpb.Auth/Authenticate"), "+++++++");
    check(Act::Call("/etcdserverpb.Auth/AuthStatus"), "+++++++");
}

#[test]
fn what_nobody_knows_is_denied_even_to_root() {
    check(Act::Unknown, "-------");
    for method in ["", "/etcdserverpb.KV/Range", "/etcdserverpb.Maintenance/Alarm", "/etcdserverpb.Maintenance/Status2"]
    {
        check(Act::Call(method), "-------");
    }
    assert_eq!(told(&view(), Act::of(None)), "-------");
}

#[test]
fn members_and_the_cluster_are_not_asked_for_a_name() {
    check(Act::Members, "+++++++");
    assert_eq!(view().authorize(Some(&cluster_caller()), Act::Compact, &leases()), Ok(()));
}

#[test]
fn while_auth_is_off_everything_is_permitted() {
    let mut view = view();
    change(&mut view, Operation::AuthDisable(AuthDisableRequest {}));
    for act in [Act::Compact, Act::Unknown, Act::AuthChange, Act::LeaseRevoke(2), Act::Range(&range("a", "\0"))] {
        assert_eq!(told(&view, act), "+++++++");
    }
}

#[test]
fn a_caller_is_old_only_when_its_own_user_changed() {
    let mut view = view();
    let (reader, owner, root) = (caller(&view, "reader"), caller(&view, "owner"), caller(&view, ROOT));
    let reads = range("c", "");
    let read = |view: &AuthView, caller: &Caller| view.authorize(Some(caller), Act::Range(&reads), &leases());
    let granted = |view: &AuthView, caller: &Caller| view.authorize(Some(caller), Act::LeaseGrant, &leases());
    let old = Err(AuthError::AuthOldRevision);

    // Others come, go and change.
    add_user(&mut view, "late", &["write"]);
    let password =
        AuthUserChangePasswordRequest { name: "writer".to_owned(), ..AuthUserChangePasswordRequest::default() };
    change(&mut view, Operation::AuthUserChangePassword(password));
    change(&mut view, Operation::AuthUserDelete(AuthUserDeleteRequest { name: "late".to_owned() }));
    assert_eq!((read(&view, &reader), read(&view, &owner), read(&view, &root)), (Ok(()), Ok(()), Ok(())));

    // What a role permits changes: its holders must say anew who they are before they touch keys, and need not otherwise.
    grant(&mut view, "queue", Type::Read, "x", "");
    assert_eq!((read(&view, &reader), read(&view, &owner), granted(&view, &owner)), (Ok(()), old, Ok(())));
    let revoke = AuthUserRevokeRoleRequest { name: "reader".to_owned(), role: "read".to_owned() };
    change(&mut view, Operation::AuthUserRevokeRole(revoke));
    assert_eq!((read(&view, &reader), granted(&view, &reader)), (old, Ok(())));
    assert_eq!(
        view.authorize(Some(&caller(&view, "reader")), Act::Range(&reads), &leases()),
        Err(AuthError::PermissionDenied)
    );
    let owner = caller(&view, "owner");
    change(&mut view, Operation::AuthRoleDelete(AuthRoleDeleteRequest { role: "queue".to_owned() }));
    assert_eq!(read(&view, &owner), old);

    // Another password, and a user of the same name, end everything that went before.
    let password = AuthUserChangePasswordRequest { name: ROOT.to_owned(), ..AuthUserChangePasswordRequest::default() };
    change(&mut view, Operation::AuthUserChangePassword(password));
    assert_eq!(view.authorize(Some(&root), Act::AuthChange, &leases()), old);
    assert_eq!(view.authorize(Some(&caller(&view, ROOT)), Act::AuthChange, &leases()), Ok(()));
    let owner = caller(&view, "owner");
    change(&mut view, Operation::AuthUserDelete(AuthUserDeleteRequest { name: "owner".to_owned() }));
    assert_eq!((read(&view, &owner), granted(&view, &owner)), (old, old));
    add_user(&mut view, "owner", &["read"]);
    assert_eq!((read(&view, &owner), granted(&view, &owner)), (old, old));
    assert_eq!(read(&view, &caller(&view, "owner")), Ok(()));

    // So does turning auth off and on.
    let owner = caller(&view, "owner");
    change(&mut view, Operation::AuthDisable(AuthDisableRequest {}));
    change(&mut view, Operation::AuthEnable(AuthEnableRequest {}));
    assert_eq!(read(&view, &owner), old);
}

#[test]
fn a_caller_without_a_revision_is_none() {
    let view = view();
    let caller = Caller { auth_revision: 0, ..caller(&view, ROOT) };
    for act in [Act::Compact, Act::LeaseGrant, Act::Put(&put("c", 0, false))] {
        assert_eq!(view.authorize(Some(&caller), act, &leases()), Err(AuthError::UserEmpty));
    }
}

/// A key of one letter, now and then a range.
fn draw_keys(random: &mut SeededRandom) -> (Bytes, Bytes) {
    let letter = |random: &mut SeededRandom| Bytes::from(vec![b'a' + random.below(8) as u8]);
    let key = letter(random);
    let end = match random.below(8) {
        0 => Bytes::from_static(b"\0"),
        1 | 2 => letter(random),
        _ => Bytes::new(),
    };
    (key, end)
}

/// A transaction; what it consists of goes into `leaves` as well.
fn draw_txn(random: &mut SeededRandom, depth: u64, leaves: &mut Vec<Request>) -> TxnRequest {
    let mut request = TxnRequest::default();
    for _ in 0..random.below(2) {
        let (key, range_end) = draw_keys(random);
        leaves.push(Request::RequestRange(RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            ..RangeRequest::default()
        }));
        request.compare.push(Compare { key, range_end, ..Compare::default() });
    }
    for _ in 0..1 + random.below(2) {
        let (key, range_end) = draw_keys(random);
        let drawn = match random.below(if depth > 0 { 5 } else { 3 }) {
            0 => Request::RequestRange(RangeRequest { key, range_end, ..RangeRequest::default() }),
            1 => {
                let (lease, prev_kv) = (random.below(4) as i64, random.one_in(4));
                Request::RequestPut(PutRequest { key, lease, prev_kv, ..PutRequest::default() })
            }
            2 => Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: random.one_in(4) }),
            _ => Request::RequestTxn(draw_txn(random, depth - 1, leaves)),
        };
        if !matches!(drawn, Request::RequestTxn(_)) {
            leaves.push(drawn.clone());
        }
        if random.one_in(2) { &mut request.success } else { &mut request.failure }.push(operation(drawn));
    }
    request
}

#[test]
fn a_transaction_is_let_through_when_each_of_its_parts_would_be() {
    let (mut through, mut refused) = (0, 0);
    for seed in 0..4_000 {
        let mut random = SeededRandom::new(seed);
        let mut view = view();
        for _ in 0..random.below(3) {
            let (key, range_end) = draw_keys(&mut random);
            if range_end.is_empty() || range_end[..] == [0] || key < range_end {
                let perm_type = random.below(3) as i32;
                let perm = Some(Permission { perm_type, key, range_end });
                let request = AuthRoleGrantPermissionRequest { name: "queue".to_owned(), perm };
                change(&mut view, Operation::AuthRoleGrantPermission(request));
            }
        }
        let leases = leases();
        let owner = caller(&view, "owner");
        let mut leaves = Vec::new();
        let request = draw_txn(&mut random, 3, &mut leaves);
        let alone = |leaf: &Request| {
            let act = match leaf {
                Request::RequestRange(range) => Act::Range(range),
                Request::RequestPut(put) => Act::Put(put),
                Request::RequestDeleteRange(delete) => Act::DeleteRange(delete),
                Request::RequestTxn(_) => unreachable!("leaves only"),
            };
            view.authorize(Some(&owner), act, &leases).is_ok()
        };
        let expected = leaves.iter().all(alone);
        let answered = view.authorize(Some(&owner), Act::Txn(&request), &leases).is_ok();
        assert_eq!(answered, expected, "seed {seed}: {request:?}");
        *if answered { &mut through } else { &mut refused } += 1;
    }
    assert!(through > 200 && refused > 200, "both happen: {through} and {refused}");
}

#[test]
fn no_depth_of_nesting_is_too_deep() {
    let mut request = branches(vec![Request::RequestPut(put("x", 0, false))], vec![]);
    for _ in 0..20_000 {
        request = branches(vec![Request::RequestTxn(request)], vec![]);
    }
    let view = view();
    let owner = caller(&view, "owner");
    assert_eq!(view.authorize(Some(&owner), Act::Txn(&request), &leases()), Err(AuthError::PermissionDenied));
    // Its own drop would recurse.
    std::mem::forget(request);
}
