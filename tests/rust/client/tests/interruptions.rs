//! What goes on behind the published crate `etcd-client` while something ends: a server that is killed, a lease that nobody
//! keeps, a holder or leader that gives up. Each on ours and on real etcd.

mod common;

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error, EventType, GetOptions, LeaseTimeToLiveOptions, LockOptions, ProclaimOptions,
    PutOptions, ResignOptions, Txn, TxnOp, WatchOptions,
};

use common::{CALL_LIMIT, Kind, Server, eventually, next, refusal};

on_both!(
    a_watch_is_taken_up_after_a_restart,
    leases_end_when_nobody_keeps_them,
    a_lease_and_its_keeper_outlive_a_restart,
    locks_are_given_on,
    elections_are_given_on,
);

/// Makes the key, once however often it is asked.
async fn make(client: &mut Client, key: &str) -> bool {
    let none = Compare::create_revision(key, CompareOp::Equal, 0);
    let txn = Txn::new().when([none]).and_then([TxnOp::put(key, "1", None)]);
    matches!(tokio::time::timeout(CALL_LIMIT, client.txn(txn)).await, Ok(Ok(_)))
}

async fn count(client: &mut Client, prefix: &str) -> i64 {
    client.get(prefix, Some(GetOptions::new().with_prefix().with_count_only())).await.unwrap().count()
}

async fn a_watch_is_taken_up_after_a_restart(kind: Kind) {
    let (mut server, mut client) = Server::start(kind).await;
    let mut stream = client.watch("w/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    assert!(next(&mut stream).await.created());
    assert!(make(&mut client, "w/a").await);
    let last = next(&mut stream).await.events()[0].kv().unwrap().mod_revision();
    server.kill();
    let end = tokio::time::timeout(CALL_LIMIT, stream.message()).await.expect("the stream ends with the server");
    assert!(matches!(end, Err(Error::GRpcStatus(_)) | Ok(None)), "{end:?}");
    server.run();
    eventually("a put by the same client", async || make(&mut client, "w/b").await).await;
    assert!(make(&mut client, "w/c").await);
    let options = WatchOptions::new().with_prefix().with_start_revision(last + 1);
    let mut stream = client.watch("w/", Some(options)).await.unwrap();
    assert!(next(&mut stream).await.created());
    let mut keys = Vec::new();
    while keys.len() < 2 {
        keys.extend(next(&mut stream).await.events().iter().map(|event| event.kv().unwrap().key().to_vec()));
    }
    assert_eq!(keys, [b"w/b", b"w/c"]);
    client.delete("w/a", None).await.unwrap();
    assert_eq!(next(&mut stream).await.events()[0].event_type(), EventType::Delete);
}

async fn leases_end_when_nobody_keeps_them(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    let mut leases = Vec::new();
    for key in ["kept", "left"] {
        let lease = client.lease_grant(2, None).await.unwrap().id();
        client.put(key, "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
        leases.push(lease);
    }
    let (mut keeper, mut answers) = client.lease_keep_alive(leases[0]).await.unwrap();
    eventually("the end of the lease that nobody keeps", async || {
        keeper.keep_alive().await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 2);
        count(&mut client, "left").await == 0
    })
    .await;
    assert_eq!(count(&mut client, "kept").await, 1);
    eventually("the end of the other", async || count(&mut client, "kept").await == 0).await;
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 0);
    for lease in leases {
        assert_eq!(client.lease_time_to_live(lease, None).await.unwrap().ttl(), -1);
        assert_eq!(refusal(client.lease_revoke(lease).await), (5, "etcdserver: requested lease not found".to_owned()));
    }
}

async fn a_lease_and_its_keeper_outlive_a_restart(kind: Kind) {
    let (mut server, mut client) = Server::start(kind).await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    client.put("leased", "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    server.kill();
    server.run();
    let client = &mut server.client(None).await;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    let answer = tokio::time::timeout(CALL_LIMIT, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.id(), answer.ttl()), (lease, 60));
    let rest = client.lease_time_to_live(lease, Some(LeaseTimeToLiveOptions::new().with_keys())).await.unwrap();
    assert_eq!((rest.granted_ttl(), rest.keys()), (60, &[b"leased".to_vec()][..]));
}

async fn locks_are_given_on(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let short = client.lease_grant(2, None).await.unwrap().id();
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    let held = client.lock("lock", with(lease)).await.unwrap();
    assert_eq!(client.lock("lock", with(lease)).await.unwrap().key(), held.key(), "the holder's again");
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("lock", with(short)).await });
    eventually("two in line", async || count(&mut client, "lock/").await == 2).await;
    assert!(!waiting.is_finished());
    client.unlock(held.key()).await.unwrap();
    let given = tokio::time::timeout(CALL_LIMIT, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(given.key(), format!("lock/{short:x}").as_bytes());
    // The second never unlocks: its lease ends.
    let third = tokio::time::timeout(Duration::from_secs(20), client.lock("lock", with(lease))).await.unwrap().unwrap();
    assert_eq!(third.key(), format!("lock/{lease:x}").as_bytes());
    assert_eq!(
        refusal(client.lock("lock", with(short)).await),
        (2, "etcdserver: requested lease not found".to_owned())
    );
}

async fn elections_are_given_on(kind: Kind) {
    let (_server, mut client) = Server::start(kind).await;
    let (one, two) =
        (client.lease_grant(60, None).await.unwrap().id(), client.lease_grant(60, None).await.unwrap().id());
    let first = client.campaign("vote", "one", one).await.unwrap().leader().unwrap().clone();
    let mut observed = tokio::time::timeout(CALL_LIMIT, client.observe("vote")).await.unwrap().unwrap();
    let mut heard = async || {
        let answer = tokio::time::timeout(CALL_LIMIT, observed.message()).await.unwrap().unwrap().unwrap();
        String::from_utf8(answer.kv().unwrap().value().to_vec()).unwrap()
    };
    assert_eq!(heard().await, "one");
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.campaign("vote", "two", two).await });
    eventually("two candidates", async || count(&mut client, "vote/").await == 2).await;
    client.proclaim("again", Some(ProclaimOptions::new().with_leader(first.clone()))).await.unwrap();
    assert_eq!(heard().await, "again");
    client.resign(Some(ResignOptions::new().with_leader(first.clone()))).await.unwrap();
    let second = tokio::time::timeout(CALL_LIMIT, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(second.leader().unwrap().lease(), two);
    assert_eq!(heard().await, "two");
    let late = client.proclaim("late", Some(ProclaimOptions::new().with_leader(first))).await;
    assert_eq!(refusal(late), (2, "election: not leader".to_owned()));
}
