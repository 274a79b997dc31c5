//! Elections: one leader, learned before the next, through partition, kill of the store's leader, and another language.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::proxy::{Mode, Proxy};
use common::{Cluster, Kind, TTL, eventually, keys, namespace_at, session, soon, value};
use quorate_client::{Candidate, Error, SessionOptions, Status};
use tokio::io::{AsyncBufReadExt, BufReader};

on_both!(
    leaders_follow_each_other,
    candidates_take_over_and_come_back,
    a_partitioned_leader_is_a_follower_before_the_next_leads,
    one_leads_while_members_die,
    goes_elections_and_ours_are_one,
);

async fn leaders_follow_each_other(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let election = namespace.election("boss").unwrap();
    let mut seen = election.observe();
    assert_eq!(soon("nobody", seen.next()).await.unwrap(), None);
    let (first, second) = (session(&namespace).await, session(&namespace).await);

    let led = soon("the first leads", election.campaign(&first, "one")).await.unwrap();
    let leader = soon("the first is seen", seen.next()).await.unwrap().unwrap();
    assert_eq!((leader.value.as_slice(), leader.fence), (&b"one"[..], led.fence()));
    led.proclaim("uno").await.unwrap();
    assert_eq!(soon("its new value", seen.next()).await.unwrap().unwrap().value, b"uno");
    led.put("config", "1").await.unwrap();

    let (election2, second2) = (election.clone(), second.clone());
    let waiting = tokio::spawn(async move { election2.campaign(&second2, "two").await });
    eventually("the second waits", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    assert_eq!(election.leader().await.unwrap().unwrap().value, b"uno");
    led.resign().await.unwrap();
    assert!(!led.is_leader());
    assert!(matches!(led.proclaim("still").await, Err(Error::NotHeld { .. })));
    assert!(matches!(led.put("config", "still").await, Err(Error::NotHeld { .. })));

    let led2 = soon("the second leads", waiting).await.unwrap().unwrap();
    assert!(led2.token() > led.token());
    assert_eq!(soon("the second is seen", seen.next()).await.unwrap().unwrap().value, b"two");
    drop(led2);
    assert_eq!(soon("nobody again", seen.next()).await.unwrap(), None);
    assert_eq!(value(&client, "app/config").await.as_deref(), Some("1"));
}

async fn leads(candidate: &mut Candidate) -> i64 {
    loop {
        match soon("a status", candidate.changed()).await.unwrap() {
            Status::Leader(leadership) => return leadership.token(),
            Status::Follower => {}
        }
    }
}

async fn candidates_take_over_and_come_back(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, mut client) = (cluster.namespace().await, cluster.client().await);
    let election = namespace.election("boss").unwrap();
    let mut first = election.run("one", SessionOptions::ttl(TTL)).unwrap();
    let token = leads(&mut first).await;
    let mut second = election.run("two", SessionOptions::ttl(TTL)).unwrap();
    eventually("the second waits", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    assert!(!second.status().is_leader());

    first.resign().await.unwrap();
    assert!(!first.status().is_leader());
    let token2 = leads(&mut second).await;
    assert!(token2 > token);
    second.proclaim("zwei").await.unwrap();
    assert_eq!(election.leader().await.unwrap().unwrap().value, b"zwei");
    eventually("the first stands again", || async { keys(&client, "app/boss/").await.len() == 2 }).await;

    // An operator revokes the second's lease: the first leads, the second comes back behind it.
    let Status::Leader(leadership) = second.status() else { panic!("the second leads") };
    client.lease_revoke(leadership.session().lease()).await.unwrap();
    let token3 = leads(&mut first).await;
    assert!(token3 > token2);
    eventually("the second is back", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    // Whoever keeps the old leadership keeps nothing.
    assert!(!leadership.is_leader());
    // Its key is deleted, and the session lives: it stands again with the same session, at the end of the queue.
    let Status::Leader(leadership) = first.status() else { panic!("the first leads") };
    client.delete(leadership.fence().key, None).await.unwrap();
    let token4 = leads(&mut second).await;
    assert!(token4 > token3);
    eventually("the first is back", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    second.resign().await.unwrap();
    let token3 = leads(&mut first).await;
    assert!(token3 > token4 && !leadership.is_leader());
    eventually("the second is back again", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    first.stop().await;
    assert!(leads(&mut second).await > token3);
    second.stop().await;
    assert!(keys(&client, "app/boss/").await.is_empty());
}

async fn a_partitioned_leader_is_a_follower_before_the_next_leads(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let far = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let (near, client) = (cluster.namespace().await, cluster.client().await);
    let mut first = far.election("boss").unwrap().run("far", SessionOptions::ttl(TTL)).unwrap();
    let token = leads(&mut first).await;
    let mut second = near.election("boss").unwrap().run("near", SessionOptions::ttl(TTL)).unwrap();
    eventually("the second waits", || async { keys(&client, "app/boss/").await.len() == 2 }).await;

    proxy.set(Mode::Pause);
    let followed = tokio::spawn(async move {
        assert!(!soon("the loss", first.changed()).await.unwrap().is_leader());
        (Instant::now(), first)
    });
    let token2 = leads(&mut second).await;
    let led_at = Instant::now();
    let (followed_at, mut first) = followed.await.unwrap();
    assert!(followed_at < led_at, "two leaders for {:?}", followed_at - led_at);
    assert!(token2 > token);

    proxy.set(Mode::Pass);
    eventually("the first stands again", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    second.stop().await;
    assert!(leads(&mut first).await > token2);
}

async fn one_leads_while_members_die(kind: Kind) {
    let mut cluster = Cluster::start(kind, 3).await;
    let (namespace, other) = (cluster.namespace().await, cluster.namespace().await);
    let options = SessionOptions::ttl(Duration::from_secs(8));
    let mut first = namespace.election("boss").unwrap().run("one", options.clone()).unwrap();
    let token = leads(&mut first).await;
    let mut second = other.election("boss").unwrap().run("two", options).unwrap();
    let client = cluster.client().await;
    eventually("the second waits", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    let leader = cluster.leader().await;
    cluster.members[leader].kill();
    let Status::Leader(leadership) = first.status() else { panic!("the first leads") };
    soon("a write over the election", leadership.put("data", "1")).await.unwrap();
    assert!(!second.status().is_leader());
    drop(leadership);
    soon("the first ends", first.stop()).await;
    assert!(leads(&mut second).await > token);
    soon("the second ends", second.stop()).await;
}

async fn goes_elections_and_ours_are_one(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let program = std::env::var("PEER_CTL").expect("PEER_CTL names etcdctl: run `cargo xtask test`");
    let start = |arguments: &[&str]| {
        let mut process = tokio::process::Command::new(&program)
            .args(["--endpoints", &cluster.members[0].address, "elect"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("etcdctl starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        (process, lines)
    };
    let election = namespace.election("boss").unwrap();
    let (theirs, mut lines) = start(&["app/boss", "go"]);
    let key = soon("etcdctl leads", lines.next_line()).await.unwrap().unwrap();
    let leader = election.leader().await.unwrap().unwrap();
    assert_eq!((leader.value.as_slice(), leader.fence.key.as_str()), (&b"go"[..], key.as_str()));
    let session = session(&namespace).await;
    let (election2, session2) = (election.clone(), session.clone());
    let waiting = tokio::spawn(async move { election2.campaign(&session2, "rust").await });
    eventually("ours waits", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    assert!(!waiting.is_finished());
    let id = theirs.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    let led = soon("ours leads", waiting).await.unwrap().unwrap();

    let (_listener, mut heard) = start(&["-l", "app/boss"]);
    assert_eq!(soon("our key", heard.next_line()).await.unwrap().unwrap(), led.fence().key);
    assert_eq!(soon("our value", heard.next_line()).await.unwrap().unwrap(), "rust");
    let (_next, mut lines) = start(&["app/boss", "go again"]);
    eventually("theirs waits", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    led.resign().await.unwrap();
    let key = soon("theirs leads", lines.next_line()).await.unwrap().unwrap();
    assert_eq!(election.leader().await.unwrap().unwrap().fence.key, key);
}
