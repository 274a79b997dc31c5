//! The other locks, barriers and queues: who gets in, and what happens to those who go without a word.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use common::proxy::{Mode, Proxy};
use common::{Cluster, Kind, eventually, keys, namespace_at, session, soon, value};
use quorate_client::etcd_client::TxnOp;
use quorate_client::{Error, Namespace, Session, SessionOptions};

on_both!(
    readers_share_and_writers_do_not,
    so_many_hold_a_semaphore,
    a_barrier_holds_until_it_is_opened,
    a_double_barrier_lets_in_and_out_together,
    a_round_ends_with_its_members_sessions,
    jobs_are_taken_in_order_and_done_once,
    a_job_of_a_partitioned_taker_is_anothers,
    takers_share_the_work_while_the_leader_dies,
);

async fn waiters(client: &quorate_client::etcd_client::Client, prefix: &str, count: usize) {
    eventually("they wait", || async { keys(client, prefix).await.len() == count }).await;
}

async fn readers_share_and_writers_do_not(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let lock = namespace.rw_lock("rw").unwrap();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(session(&namespace).await);
    }
    let first = soon("the first reads", lock.read(&sessions[0])).await.unwrap();
    let second = soon("the second reads", lock.read(&sessions[1])).await.unwrap();
    let (lock3, session3) = (lock.clone(), sessions[2].clone());
    let writer = tokio::spawn(async move { lock3.write(&session3).await });
    waiters(&client, "app/rw/", 3).await;
    let (lock4, session4) = (lock.clone(), sessions[3].clone());
    let late_reader = tokio::spawn(async move { lock4.read(&session4).await });
    waiters(&client, "app/rw/", 4).await;

    first.put("data", "1").await.unwrap();
    first.release().await.unwrap();
    assert!(second.is_held() && !writer.is_finished());
    // A session that ends is a reader less.
    sessions[1].clone().close().await.unwrap();
    let writing = soon("the writer's turn", writer).await.unwrap().unwrap();
    assert!(!second.is_held() && !late_reader.is_finished());
    writing.put("data", "2").await.unwrap();
    drop(writing);
    let reading = soon("the late reader's turn", late_reader).await.unwrap().unwrap();
    assert!(reading.is_held());
    assert_eq!(value(&client, "app/data").await.as_deref(), Some("2"));
}

async fn so_many_hold_a_semaphore(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let semaphore = namespace.semaphore("sem", 2).await.unwrap();
    assert!(matches!(namespace.semaphore("sem", 3).await, Err(Error::Conflict { .. })));
    assert!(namespace.semaphore("sem", 0).await.is_err());
    let (inside, most) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicI32::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let (semaphore, session) = (semaphore.clone(), session(&namespace).await);
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        tasks.push(tokio::spawn(async move {
            let permit = semaphore.acquire(&session).await.unwrap();
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            permit.put("data", "1").await.unwrap();
            inside.fetch_sub(1, Ordering::SeqCst);
            permit.release().await.unwrap();
        }));
    }
    for task in tasks {
        soon("a turn", task).await.unwrap();
    }
    assert!(most.load(Ordering::SeqCst) <= 2);
    assert!(keys(&client, "app/sem/holders/").await.is_empty());

    let (one, two, three) = (session(&namespace).await, session(&namespace).await, session(&namespace).await);
    let first = soon("one", semaphore.acquire(&one)).await.unwrap();
    let _second = soon("two", semaphore.acquire(&two)).await.unwrap();
    let (again, three2) = (semaphore.clone(), three.clone());
    let third = tokio::spawn(async move { again.acquire(&three2).await });
    waiters(&client, "app/sem/holders/", 3).await;
    assert!(!third.is_finished());
    drop(first);
    soon("three", third).await.unwrap().unwrap();
}

async fn a_barrier_holds_until_it_is_opened(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let far = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let (namespace, mut client) = (cluster.namespace().await, cluster.client().await);
    let barrier = namespace.barrier("gate").unwrap();
    soon("an open barrier", barrier.wait()).await.unwrap();
    barrier.close().await.unwrap();
    barrier.close().await.unwrap();
    let (near_gate, far_gate) = (barrier.clone(), far.barrier("gate").unwrap());
    let near_waits = tokio::spawn(async move { near_gate.wait().await });
    let far_waits = tokio::spawn(async move { far_gate.wait().await });
    let closed = client.put("app/other", "", None).await.unwrap().header().unwrap().revision();
    assert!(!near_waits.is_finished() && !far_waits.is_finished());
    // The far one misses the opening and its history.
    proxy.set(Mode::Cut);
    barrier.open().await.unwrap();
    soon("the near one goes on", near_waits).await.unwrap().unwrap();
    client.compact(closed + 1, None).await.unwrap();
    assert!(!far_waits.is_finished());
    proxy.set(Mode::Pass);
    soon("the far one goes on", far_waits).await.unwrap().unwrap();

    let owner = session(&namespace).await;
    let _closed = namespace.ephemeral(&owner, "gate", "").await.unwrap();
    let waits = tokio::spawn(async move { barrier.wait().await });
    owner.close().await.unwrap();
    soon("it ends with its owner", waits).await.unwrap().unwrap();
}

async fn a_double_barrier_lets_in_and_out_together(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let barrier = namespace.double_barrier("pair", 2).unwrap();
    let sessions = [session(&namespace).await, session(&namespace).await, session(&namespace).await];
    let enter = |number: usize| {
        let (barrier, session) = (barrier.clone(), sessions[number].clone());
        tokio::spawn(async move { barrier.enter(&session).await })
    };
    let first = enter(0);
    waiters(&client, "app/pair/waiters/", 1).await;
    assert!(!first.is_finished());
    let second = enter(1);
    let first = soon("the first is in", first).await.unwrap().unwrap();
    let second = soon("the second is in", second).await.unwrap().unwrap();
    // One too many waits for the next round.
    let third = enter(2);
    waiters(&client, "app/pair/waiters/", 3).await;
    assert!(!third.is_finished());

    let leaving = tokio::spawn(first.leave());
    waiters(&client, "app/pair/waiters/", 2).await;
    assert!(!leaving.is_finished());
    soon("the second is out", second.leave()).await.unwrap();
    soon("the first is out", leaving).await.unwrap().unwrap();
    assert!(!third.is_finished());
    let again = enter(0);
    let third = soon("the third is in", third).await.unwrap().unwrap();
    let again = soon("the first is in again", again).await.unwrap().unwrap();
    let leaving = tokio::spawn(third.leave());
    soon("the first is out again", again.leave()).await.unwrap();
    soon("the third is out", leaving).await.unwrap().unwrap();
    assert!(keys(&client, "app/pair/").await.is_empty());
}

async fn a_round_ends_with_its_members_sessions(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, mut client) = (cluster.namespace().await, cluster.client().await);
    let barrier = namespace.double_barrier("pair", 2).unwrap();
    let (one, two) = (session(&namespace).await, session(&namespace).await);
    let entered = tokio::join!(barrier.enter(&one), barrier.enter(&two));
    let (first, second) = (entered.0.unwrap(), entered.1.unwrap());
    // Gone without a word, both.
    client.lease_revoke(one.lease()).await.unwrap();
    client.lease_revoke(two.lease()).await.unwrap();
    assert_eq!(keys(&client, "app/pair/").await, ["app/pair/round"]);
    let (three, four) = (session(&namespace).await, session(&namespace).await);
    let next = soon("the next round", async { tokio::join!(barrier.enter(&three), barrier.enter(&four)) }).await;
    let (third, fourth) = (next.0.unwrap(), next.1.unwrap());
    // One is left of the next round; the other's end lets it out.
    let leaving = tokio::spawn(third.leave());
    four.close().await.unwrap();
    soon("out", leaving).await.unwrap().unwrap();
    drop((first, second, fourth));
}

async fn jobs_are_taken_in_order_and_done_once(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let queue = namespace.queue("jobs").unwrap();
    let (one, two) = (session(&namespace).await, session(&namespace).await);
    assert!(queue.try_take(&one).await.unwrap().is_none());
    for (priority, value) in [(5, "late 1"), (5, "late 2"), (1, "soon 1"), (1, "soon 2"), (0, "now")] {
        queue.push_with_priority(priority, value).await.unwrap();
    }
    assert_eq!(queue.len().await.unwrap(), 5);
    let now = soon("a job", queue.take(&one)).await.unwrap();
    let soon1 = soon("a job", queue.take(&one)).await.unwrap();
    let soon2 = soon("a job", queue.take(&two)).await.unwrap();
    assert_eq!((now.value(), soon1.value(), soon2.value()), (&b"now"[..], &b"soon 1"[..], &b"soon 2"[..]));
    assert_eq!((now.priority(), soon1.priority()), (0, 1));
    now.done_with(vec![TxnOp::put(namespace.key("result").unwrap(), "done", None)]).await.unwrap();
    assert_eq!(value(&client, "app/result").await.as_deref(), Some("done"));
    // Back to its place, before the late ones.
    soon1.give_back().await.unwrap();
    let again = soon("the same job", queue.take(&two)).await.unwrap();
    assert_eq!(again.value(), b"soon 1");
    again.done().await.unwrap();
    drop(soon2);
    eventually("the dropped one is free", || async { keys(&client, "app/jobs/taken/").await.is_empty() }).await;
    for expected in ["soon 2", "late 1", "late 2"] {
        let job = soon("a job", queue.take(&one)).await.unwrap();
        assert_eq!(job.value(), expected.as_bytes());
        job.done().await.unwrap();
    }
    assert!(queue.is_empty().await.unwrap());
    // A taker that waits gets what is pushed.
    let (queue2, one2) = (queue.clone(), one.clone());
    let waiting = tokio::spawn(async move { queue2.take(&one2).await });
    queue.push("pushed").await.unwrap();
    let job = soon("what was pushed", waiting).await.unwrap().unwrap();
    assert_eq!(job.value(), b"pushed");
    // And one whose taker ends.
    let (queue2, two2) = (queue.clone(), two.clone());
    let waiting = tokio::spawn(async move { queue2.take(&two2).await });
    one.close().await.unwrap();
    let taken = soon("what was dropped", waiting).await.unwrap().unwrap();
    assert!(matches!(job.done().await, Err(Error::SessionLost { .. })));
    taken.done().await.unwrap();
    assert!(keys(&client, "app/jobs/").await.is_empty());
}

async fn a_job_of_a_partitioned_taker_is_anothers(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let far = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let (near, client) = (cluster.namespace().await, cluster.client().await);
    near.queue("jobs").unwrap().push("job").await.unwrap();
    let (far_session, near_session) = (session(&far).await, session(&near).await);
    let job = soon("the job", far.queue("jobs").unwrap().take(&far_session)).await.unwrap();
    proxy.set(Mode::Pause);
    let done = tokio::spawn(job.done_with(vec![TxnOp::put("app/result", "far", None)]));
    let again = soon("the job again", near.queue("jobs").unwrap().take(&near_session)).await.unwrap();
    assert!(matches!(soon("the first is told", done).await.unwrap(), Err(Error::SessionLost { .. })));
    again.done_with(vec![TxnOp::put("app/result", "near", None)]).await.unwrap();
    proxy.set(Mode::Pass);
    session(&far).await.close().await.unwrap();
    assert_eq!(value(&client, "app/result").await.as_deref(), Some("near"));
}

async fn takers_share_the_work_while_the_leader_dies(kind: Kind) {
    let mut cluster = Cluster::start(kind, 3).await;
    let namespace = cluster.namespace().await;
    let queue = namespace.queue("jobs").unwrap();
    for number in 0..30 {
        queue.push(number.to_string()).await.unwrap();
    }
    // Each job counts in its transaction: done twice would count twice.
    let work = |namespace: Namespace| async move {
        let session = Session::open(&namespace, SessionOptions::ttl(Duration::from_secs(8))).await.unwrap();
        let queue = namespace.queue("jobs").unwrap();
        while let Some(job) = queue.try_take(&session).await.unwrap() {
            let result = namespace.key(&format!("results/{}", String::from_utf8_lossy(job.value()))).unwrap();
            job.done_with(vec![TxnOp::put(result, "done", None)]).await.unwrap();
        }
        session.close().await.unwrap();
    };
    let (one, two) = (cluster.namespace().await, cluster.namespace().await);
    let workers = [tokio::spawn(work(one)), tokio::spawn(work(two))];
    let client = cluster.client().await;
    eventually("half is done", || async { keys(&client, "app/results/").await.len() >= 10 }).await;
    let leader = cluster.leader().await;
    cluster.members[leader].kill();
    for worker in workers {
        soon("a worker ends", worker).await.unwrap();
    }
    soon("the rest", work(namespace.clone())).await;
    let survivor = cluster.members.iter().enumerate().find(|(number, _)| *number != leader).unwrap().1;
    let mut client = quorate_client::etcd_client::Client::connect([&survivor.address], None).await.expect("a client");
    let options = quorate_client::etcd_client::GetOptions::new().with_prefix();
    let got = client.get("app/results/", Some(options)).await.unwrap();
    assert_eq!(got.kvs().len(), 30);
    assert!(got.kvs().iter().all(|kv| kv.version() == 1), "a job was done twice");
    assert!(queue.is_empty().await.unwrap());
}
