//! The published crate `etcd-client` against ours and real etcd: keys, transactions, watches, leases, locks, elections,
//! users, refusals, maintenance. What is asserted holds for both.

mod common;

use std::time::{Duration, Instant};

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, Permission, PermissionType, PutOptions, ResignOptions,
    RoleRevokePermissionOptions, SortOrder, SortTarget, Txn, TxnOp, WatchFilterType, WatchOptions,
};

use common::{CALL_LIMIT, Kind, Server, next, refusal};

on_both!(
    keys_and_ranges,
    transactions,
    watches,
    leases,
    locks_and_elections,
    refusals,
    users_and_roles,
    cluster_and_maintenance
);

async fn keys_and_ranges(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    let first = client.put("a", "1", None).await.unwrap().header().unwrap().revision();
    let put = client.put("a", "2", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(put.prev_key().unwrap().value(), b"1");
    for (key, value) in [("b", "3"), ("c", "1"), ("d", "2")] {
        client.put(key, value, None).await.unwrap();
    }
    let got = client.get("a", None).await.unwrap();
    let kv = &got.kvs()[0];
    assert_eq!((kv.value(), kv.version(), kv.create_revision(), kv.mod_revision()), (&b"2"[..], 2, first, first + 1));
    let old = client.get("a", Some(GetOptions::new().with_revision(first))).await.unwrap();
    assert_eq!(old.kvs()[0].value(), b"1");
    let options = GetOptions::new().with_all_keys().with_sort(SortTarget::Key, SortOrder::Descend).with_limit(2);
    let all = client.get("", Some(options)).await.unwrap();
    assert_eq!(all.kvs().iter().map(|kv| kv.key()).collect::<Vec<_>>(), [b"d", b"c"]);
    assert!(all.more());
    assert_eq!(all.count(), 4);
    let counted = client.get("b", Some(GetOptions::new().with_from_key().with_count_only())).await.unwrap();
    assert_eq!((counted.count(), counted.kvs().len()), (3, 0));
    let options = DeleteOptions::new().with_range("c").with_prev_key();
    let deleted = client.delete("a", Some(options)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (2, 2));
    assert_eq!(client.delete("a", None).await.unwrap().deleted(), 0);
}

async fn transactions(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    client.put("a", "1", None).await.unwrap();
    let inner = Txn::new()
        .when([Compare::version("a", CompareOp::Equal, 1)])
        .and_then([TxnOp::get("b", None)])
        .or_else([TxnOp::put("never", "", None)]);
    let txn = Txn::new()
        .when([Compare::value("a", CompareOp::Equal, "1"), Compare::version("b", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("b", "2", None), TxnOp::txn(inner), TxnOp::delete("a", None)])
        .or_else([TxnOp::get("a", None)]);
    let done = client.txn(txn.clone()).await.unwrap();
    assert!(done.succeeded());
    assert_eq!(done.op_responses().len(), 3);
    let again = client.txn(txn).await.unwrap();
    assert!(!again.succeeded());
    let keys = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    assert_eq!(keys.kvs().len(), 1);
    assert_eq!(keys.kvs()[0].key(), b"b");
}

async fn watches(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    let mut live = client.watch("w/", Some(WatchOptions::new().with_prefix().with_prev_key())).await.unwrap();
    assert!(next(&mut live).await.created());
    let start = client.put("w/a", "1", None).await.unwrap().header().unwrap().revision();
    client.put("other", "x", None).await.unwrap();
    client.put("w/a", "2", None).await.unwrap();
    client.delete("w/a", None).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(next(&mut live).await.events().to_vec());
    }
    assert_eq!(
        events.iter().map(|e| e.event_type()).collect::<Vec<_>>(),
        [EventType::Put, EventType::Put, EventType::Delete]
    );
    assert_eq!(events[1].prev_kv().unwrap().value(), b"1");

    let options = WatchOptions::new().with_start_revision(start).with_filters([WatchFilterType::NoPut]);
    let mut late = client.watch("w/a", Some(options)).await.unwrap();
    assert!(next(&mut late).await.created());
    let response = next(&mut late).await;
    assert_eq!(response.events().len(), 1);
    assert_eq!(response.events()[0].event_type(), EventType::Delete);
    late.request_progress().await.unwrap();
    let progress = next(&mut late).await;
    assert!(progress.events().is_empty());
    assert_eq!(progress.header().unwrap().revision(), start + 3);
    late.cancel(response.watch_id()).await.unwrap();
    assert!(next(&mut late).await.canceled());

    client.compact(start + 2, Some(CompactionOptions::new().with_physical())).await.unwrap();
    let mut lost = client.watch("w/a", Some(WatchOptions::new().with_start_revision(start))).await.unwrap();
    assert!(next(&mut lost).await.created());
    let refused = next(&mut lost).await;
    assert!(refused.canceled());
    assert_eq!(refused.compact_revision(), start + 2);
}

async fn leases(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    let granted = client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(77))).await.unwrap();
    assert_eq!((granted.id(), granted.ttl()), (77, 100));
    client.put("leased", "v", Some(PutOptions::new().with_lease(77))).await.unwrap();
    let (mut keeper, mut answers) = client.lease_keep_alive(77).await.unwrap();
    keeper.keep_alive().await.unwrap();
    let answer = tokio::time::timeout(CALL_LIMIT, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.id(), answer.ttl()), (77, 100));
    let rest = client.lease_time_to_live(77, Some(LeaseTimeToLiveOptions::new().with_keys())).await.unwrap();
    assert_eq!((rest.granted_ttl(), rest.keys()), (100, &[b"leased".to_vec()][..]));
    assert_eq!(client.leases().await.unwrap().leases().len(), 1);
    client.lease_revoke(77).await.unwrap();
    assert!(client.get("leased", None).await.unwrap().kvs().is_empty());

    client.lease_grant(2, Some(LeaseGrantOptions::new().with_id(78))).await.unwrap();
    let granted = Instant::now();
    client.put("short", "v", Some(PutOptions::new().with_lease(78))).await.unwrap();
    let mut watch = client.watch("short", None).await.unwrap();
    assert!(next(&mut watch).await.created());
    assert_eq!(next(&mut watch).await.events()[0].event_type(), EventType::Delete);
    let lived = granted.elapsed();
    assert!(lived > Duration::from_millis(1900) && lived < Duration::from_secs(6), "a lease of 2 s lived {lived:?}");
}

async fn locks_and_elections(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let held = client.lock("lock", Some(LockOptions::new().with_lease(lease))).await.unwrap();
    assert_eq!(held.key(), format!("lock/{lease:x}").as_bytes());
    client.unlock(held.key()).await.unwrap();
    client.lock("lock", None).await.unwrap();

    let elected = client.campaign("election", "me", lease).await.unwrap();
    let leader = client.leader("election").await.unwrap();
    assert_eq!(leader.kv().unwrap().value(), b"me");
    client.resign(Some(ResignOptions::new().with_leader(elected.leader().unwrap().clone()))).await.unwrap();
    assert_eq!(refusal(client.leader("election").await), (2, "election: no leader".to_owned()));
}

async fn refusals(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    let text = |code: i32, text: &str| (code, text.to_owned());
    assert_eq!(refusal(client.put("", "v", None).await), text(3, "etcdserver: key is not provided"));
    assert_eq!(
        refusal(client.put("k", "v", Some(PutOptions::new().with_lease(4711))).await),
        text(5, "etcdserver: requested lease not found")
    );
    assert_eq!(
        refusal(client.get("k", Some(GetOptions::new().with_revision(1000))).await),
        text(11, "etcdserver: mvcc: required revision is a future revision")
    );
    client.put("k", "v", None).await.unwrap();
    let head = client.put("k", "w", None).await.unwrap().header().unwrap().revision();
    client.compact(head, None).await.unwrap();
    let compacted = text(11, "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(refusal(client.compact(head, None).await), compacted);
    assert_eq!(refusal(client.get("k", Some(GetOptions::new().with_revision(head - 1))).await), compacted);
    let twice = Txn::new().and_then([TxnOp::put("k", "1", None), TxnOp::put("k", "2", None)]);
    assert_eq!(refusal(client.txn(twice).await), text(3, "etcdserver: duplicate key given in txn request"));
    assert_eq!(refusal(client.lease_revoke(4711).await), text(5, "etcdserver: requested lease not found"));
    assert_eq!(refusal(client.lease_grant(10_000_000_000, None).await), text(11, "etcdserver: too large lease TTL"));
    let large = vec![0; 1_600_000];
    assert_eq!(refusal(client.put("k", large, None).await), text(3, "etcdserver: request is too large"));
    assert_eq!(refusal(client.member_remove(4711).await), text(5, "etcdserver: member not found"));
    assert_eq!(refusal(client.auth_enable().await), text(9, "etcdserver: root user does not exist"));
}

async fn users_and_roles(kind: Kind) {
    let (server, mut client) = Server::start(kind).await;
    client.user_add("root", "rootpw", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("user", "pw", None).await.unwrap();
    client.role_add("role").await.unwrap();
    let permission = Permission::new(PermissionType::Readwrite, "mine/").with_prefix();
    client.role_grant_permission("role", permission).await.unwrap();
    client.user_grant_role("user", "role").await.unwrap();
    client.put("theirs", "v", None).await.unwrap();
    client.auth_enable().await.unwrap();

    let nobody = text_of(client.put("mine/a", "v", None).await);
    assert_eq!(nobody, "etcdserver: user name is empty");
    let mut user = server.client(Some(ConnectOptions::new().with_user("user", "pw"))).await;
    user.put("mine/a", "v", None).await.unwrap();
    assert_eq!(text_of(user.get("theirs", None).await), "etcdserver: permission denied");
    assert_eq!(text_of(user.role_list().await), "etcdserver: permission denied");
    let wrong = Client::connect([&server.endpoint], Some(ConnectOptions::new().with_user("user", "wrong"))).await;
    match wrong {
        Err(Error::GRpcStatus(status)) => {
            assert_eq!(status.message(), "etcdserver: authentication failed, invalid user ID or password");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a wrong password was taken"),
    }

    let mut root = server.client(Some(ConnectOptions::new().with_user("root", "rootpw"))).await;
    let revoke = RoleRevokePermissionOptions::new().with_prefix();
    root.role_revoke_permission("role", "mine/", Some(revoke)).await.unwrap();
    assert_eq!(text_of(user.put("mine/a", "v", None).await), "etcdserver: permission denied");
    root.auth_disable().await.unwrap();
    client.put("mine/a", "v", None).await.unwrap();
}

fn text_of<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    refusal(result).1
}

async fn cluster_and_maintenance(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    client.put("k", "v", None).await.unwrap();
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members().len(), 1);
    assert_eq!(members.members()[0].name(), "m0");
    let status = client.status().await.unwrap();
    assert_eq!(status.leader(), members.members()[0].id());
    assert!(status.version().starts_with("3."), "{}", status.version());
    let hash = client.hash_kv(0).await.unwrap().hash();
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), hash);
    client.defragment().await.unwrap();
    let mut snapshot = client.snapshot().await.unwrap();
    let mut bytes = 0;
    while let Some(part) = snapshot.message().await.unwrap() {
        bytes += part.blob().len();
    }
    assert_eq!(bytes % 512, 32, "whole pages and a checksum, not {bytes} bytes");
}
