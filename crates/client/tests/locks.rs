//! Sessions and locks: order, fences, and what a holder learns when, under partition, pause, expiry and another language.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::proxy::{Mode, Proxy};
use common::{Cluster, Kind, TTL, eventually, keys, namespace_at, session, soon, value};
use quorate_client::etcd_client::{Txn, TxnOp};
use quorate_client::{Error, Loss, Session, SessionOptions};
use tokio::io::{AsyncBufReadExt, BufReader};

on_both!(
    one_holds_in_the_order_of_asking,
    a_partitioned_holder_learns_it_before_the_next_gets_in,
    a_short_cut_ends_no_session,
    a_revoked_lease_is_seen_at_once,
    a_deleted_key_ends_the_hold,
    a_waiter_that_gives_up_leaves_no_key,
    a_paused_process_writes_nothing_after_its_time,
    goes_locks_and_ours_wait_for_each_other,
    a_lock_outlives_the_leader,
);

async fn one_holds_in_the_order_of_asking(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let mutex = namespace.mutex("locks/a").unwrap();
    let (first, second, third) = (session(&namespace).await, session(&namespace).await, session(&namespace).await);

    let held = soon("the lock", mutex.lock(&first)).await.unwrap();
    assert!(held.is_held());
    assert_eq!(keys(&client, "app/locks/a/").await, [format!("app/locks/a/{:x}", first.lease())]);
    assert!(mutex.try_lock(&second).await.unwrap().is_none());
    assert!(mutex.lock_within(&second, Duration::from_millis(50)).await.unwrap().is_none());
    eventually("the second gave up", || async { keys(&client, "app/locks/a/").await.len() == 1 }).await;
    assert!(matches!(mutex.lock(&first).await, Err(Error::InUse { .. })));

    let (mutex2, second2) = (mutex.clone(), second.clone());
    let waiting2 = tokio::spawn(async move { mutex2.lock(&second2).await });
    eventually("the second waits", || async { keys(&client, "app/locks/a/").await.len() == 2 }).await;
    let (mutex3, third3) = (mutex.clone(), third.clone());
    let waiting3 = tokio::spawn(async move { mutex3.lock(&third3).await });
    eventually("the third waits", || async { keys(&client, "app/locks/a/").await.len() == 3 }).await;

    held.put("data", "first").await.unwrap();
    assert_eq!(value(&client, "app/data").await.as_deref(), Some("first"));
    let (fence, token) = (held.fence(), held.token());
    assert!(!waiting2.is_finished() && !waiting3.is_finished());
    held.release().await.unwrap();

    let held2 = soon("the second's turn", waiting2).await.unwrap().unwrap();
    assert!(held2.token() > token);
    assert!(!waiting3.is_finished());
    // The first one's fence is down in the store.
    let stale = Txn::new().when([fence.compare()]).and_then([TxnOp::put("app/data", "stale", None)]);
    assert!(!client.clone().txn(stale).await.unwrap().succeeded());
    let inner = Txn::new().and_then([TxnOp::put(namespace.key("data").unwrap(), "second", None)]);
    assert!(held2.txn(inner).await.unwrap().succeeded());
    assert_eq!(value(&client, "app/data").await.as_deref(), Some("second"));

    drop(held2);
    let held3 = soon("the third's turn", waiting3).await.unwrap().unwrap();
    // The second's session can lock again, after its deletion is through.
    let (mutex2, second2) = (mutex.clone(), second.clone());
    let again = tokio::spawn(async move { mutex2.lock(&second2).await });
    eventually("the second waits again", || async { keys(&client, "app/locks/a/").await.len() == 2 }).await;
    third.close().await.unwrap();
    assert!(!held3.is_held());
    assert!(matches!(held3.put("data", "third").await, Err(Error::SessionLost { loss: Loss::Closed, .. })));
    soon("the second again", again).await.unwrap().unwrap();
    assert_eq!(value(&client, "app/data").await.as_deref(), Some("second"));
}

async fn a_partitioned_holder_learns_it_before_the_next_gets_in(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let far = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let (near, client) = (cluster.namespace().await, cluster.client().await);
    let far_session = session(&far).await;
    let held = soon("the lock", far.mutex("lock").unwrap().lock(&far_session)).await.unwrap();
    held.put("data", "far").await.unwrap();

    let near_session = session(&near).await;
    let next = near.mutex("lock").unwrap();
    let waiting = tokio::spawn(async move {
        let next = next.lock(&near_session).await.unwrap();
        (Instant::now(), next)
    });
    eventually("the next waits", || async { keys(&client, "app/lock/").await.len() == 2 }).await;

    proxy.set(Mode::Pause);
    // A write on its way meets the partition, and must not arrive after it.
    let error = soon("the end of a write", held.put("data", "late")).await.unwrap_err();
    assert!(matches!(error, Error::SessionLost { loss: Loss::NotRenewed, .. }), "{error}");
    let lost_at = Instant::now();
    let (acquired_at, next) = soon("the next one's turn", waiting).await.unwrap();
    assert!(lost_at < acquired_at, "the next was let in {:?} before the holder knew", lost_at - acquired_at);
    next.put("data", "near").await.unwrap();

    proxy.set(Mode::Pass);
    assert!(matches!(held.put("data", "late").await, Err(Error::SessionLost { .. })));
    // What stood in the pipe has arrived when a later call over the same connection is answered.
    let again = session(&far).await;
    assert!(far.mutex("lock").unwrap().try_lock(&again).await.unwrap().is_none());
    assert_eq!(value(&client, "app/data").await.as_deref(), Some("near"));
}

async fn a_short_cut_ends_no_session(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let namespace = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let session = session(&namespace).await;
    let held = soon("the lock", namespace.mutex("lock").unwrap().lock(&session)).await.unwrap();
    for mode in [Mode::Cut, Mode::Pause] {
        proxy.set(mode);
        // A renewal was due and failed.
        let due = TTL - TTL / 5 - TTL / 3 - Duration::from_millis(50);
        eventually("a renewal is late", || async { session.remaining() < due }).await;
        proxy.set(Mode::Pass);
        eventually("it is renewed", || async { session.remaining() > due + Duration::from_millis(200) }).await;
    }
    assert!(held.is_held());
    held.put("data", "1").await.unwrap();
}

async fn a_revoked_lease_is_seen_at_once(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, mut client) = (cluster.namespace().await, cluster.client().await);
    // So long that no renewal is due: the news comes by the watch on the key.
    let session = Session::open(&namespace, SessionOptions::ttl(Duration::from_secs(120))).await.unwrap();
    let held = soon("the lock", namespace.mutex("lock").unwrap().lock(&session)).await.unwrap();
    client.lease_revoke(session.lease()).await.unwrap();
    let error = soon("the loss", held.lost()).await;
    assert!(matches!(error, Error::NotHeld { .. } | Error::SessionLost { loss: Loss::Expired, .. }), "{error}");
    assert!(!held.is_held());
    assert!(held.put("data", "1").await.is_err());

    let short = common::session(&namespace).await;
    client.lease_revoke(short.lease()).await.unwrap();
    assert_eq!(soon("the session's end", short.lost()).await, Loss::Expired);
}

async fn a_deleted_key_ends_the_hold(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, mut client) = (cluster.namespace().await, cluster.client().await);
    let session = session(&namespace).await;
    let held = soon("the lock", namespace.mutex("lock").unwrap().lock(&session)).await.unwrap();
    let work = held.run(std::future::pending::<()>());
    client.delete(held.fence().key, None).await.unwrap();
    assert!(matches!(soon("the end of the work", work).await, Err(Error::NotHeld { .. })));
    assert!(matches!(held.put("data", "1").await, Err(Error::NotHeld { .. })));
    assert!(session.is_alive());
    drop(held);
    soon("another lock", namespace.mutex("lock").unwrap().lock(&session)).await.unwrap();
}

async fn a_waiter_that_gives_up_leaves_no_key(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let (holder, other) = (session(&namespace).await, session(&namespace).await);
    let mutex = namespace.mutex("lock").unwrap();
    let held = soon("the lock", mutex.lock(&holder)).await.unwrap();
    for milliseconds in [0, 1, 2, 5, 20, 100] {
        assert!(mutex.lock_within(&other, Duration::from_millis(milliseconds)).await.unwrap().is_none());
    }
    eventually("only the holder's key", || async { keys(&client, "app/lock/").await.len() == 1 }).await;
    assert!(held.is_held());
    held.release().await.unwrap();
    soon("the lock is free", mutex.lock(&other)).await.unwrap();
}

/// The example `lock`, running.
fn example(name: &str, arguments: &[&str]) -> tokio::process::Child {
    let mut path = std::env::current_exe().expect("this program");
    path.pop();
    path.set_file_name("examples");
    tokio::process::Command::new(path.join(name))
        .args(arguments)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the example starts: `cargo build --examples` builds it")
}

fn signal(process: &tokio::process::Child, name: &str) {
    let id = process.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args([name, &id]).status().expect("kill").success());
}

async fn a_paused_process_writes_nothing_after_its_time(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let endpoint = cluster.members[0].address.as_str();
    let mut process = example("lock", &["--endpoints", endpoint, "--namespace", "app", "--ttl", "2", "lock"]);
    let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
    let first = soon("the first line", lines.next_line()).await.unwrap().unwrap();
    assert!(first.starts_with("held, token "), "{first}");
    eventually("it writes", || async { value(&client, "app/lock-data").await.is_some() }).await;

    signal(&process, "-STOP");
    let session = session(&namespace).await;
    let held = soon("the lock of the paused", namespace.mutex("lock").unwrap().lock(&session)).await.unwrap();
    held.put("lock-data", "mine").await.unwrap();
    signal(&process, "-CONT");
    let mut last = String::new();
    while let Some(line) = soon("the end of its output", lines.next_line()).await.unwrap() {
        last = line;
    }
    assert!(last.starts_with("lost: "), "{last}");
    assert!(!soon("its end", process.wait()).await.unwrap().success());
    assert_eq!(value(&client, "app/lock-data").await.as_deref(), Some("mine"));
    assert!(held.is_held());
}

async fn goes_locks_and_ours_wait_for_each_other(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let session = session(&namespace).await;
    let mutex = namespace.mutex("lock").unwrap();
    let program = std::env::var("PEER_CTL").expect("PEER_CTL names etcdctl: run `cargo xtask test`");
    let start = || {
        let mut process = tokio::process::Command::new(&program)
            .args(["--endpoints", &cluster.members[0].address, "lock", "app/lock"])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("etcdctl starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        (process, lines)
    };
    // Theirs, then ours.
    let (process, mut lines) = start();
    let key = soon("etcdctl's key", lines.next_line()).await.unwrap().unwrap();
    assert!(key.starts_with("app/lock/"), "{key}");
    assert!(mutex.try_lock(&session).await.unwrap().is_none());
    let (mutex2, session2) = (mutex.clone(), session.clone());
    let waiting = tokio::spawn(async move { mutex2.lock(&session2).await });
    eventually("ours waits", || async { keys(&client, "app/lock/").await.len() == 2 }).await;
    assert!(!waiting.is_finished());
    signal(&process, "-INT");
    let held = soon("our turn", waiting).await.unwrap().unwrap();
    // Ours, then theirs.
    let (_process, mut lines) = start();
    eventually("theirs waits", || async { keys(&client, "app/lock/").await.len() == 2 }).await;
    held.put("data", "1").await.unwrap();
    held.release().await.unwrap();
    let key = soon("etcdctl's turn", lines.next_line()).await.unwrap().unwrap();
    assert_eq!(keys(&client, "app/lock/").await, [key]);
}

async fn a_lock_outlives_the_leader(kind: Kind) {
    let mut cluster = Cluster::start(kind, 3).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    // Long enough for an election.
    let long = SessionOptions::ttl(Duration::from_secs(8));
    let (holder, other) =
        (Session::open(&namespace, long.clone()).await.unwrap(), Session::open(&namespace, long).await.unwrap());
    let mutex = namespace.mutex("lock").unwrap();
    let held = soon("the lock", mutex.lock(&holder)).await.unwrap();
    let mutex2 = mutex.clone();
    let waiting = tokio::spawn(async move { mutex2.lock(&other).await });
    eventually("the other waits", || async { keys(&client, "app/lock/").await.len() == 2 }).await;

    let leader = cluster.leader().await;
    cluster.members[leader].kill();
    soon("a write over the election", held.put("data", "1")).await.unwrap();
    let due = Duration::from_secs(5);
    eventually("it is renewed", || async { holder.remaining() > due }).await;
    assert!(held.is_held() && !waiting.is_finished());
    let token = held.token();
    soon("the release", held.release()).await.unwrap();
    let next = soon("the other's turn", waiting).await.unwrap().unwrap();
    assert!(next.token() > token);
    soon("the next one's write", next.put("data", "2")).await.unwrap();
}
