//! What keeps state: transactions, mirrors, membership, a leader's configuration, the cluster's health.

mod common;

use std::time::Duration;

use common::proxy::{Mode, Proxy};
use common::{Cluster, Kind, TTL, eventually, keys, namespace_at, session, soon, value};
use quorate_client::etcd_client::Client;
use quorate_client::{
    Commit, Error, HealthMonitor, HealthState, MirrorOptions, Namespace, SessionOptions, Standing, connect_options,
};

on_both!(
    transactions_are_as_if_alone,
    a_transaction_reads_one_revision,
    a_mirror_is_kept_equal,
    members_survive_partition_expiry_and_rejoin,
    only_the_leader_configures,
    health_is_seen_as_it_changes,
);

async fn number(transaction: &quorate_client::Transaction, path: &str) -> Result<i64, Error> {
    let stored = transaction.get(path).await?;
    Ok(stored.map_or(0, |stored| String::from_utf8_lossy(&stored).parse().unwrap()))
}

async fn transfer(namespace: &Namespace, from: &str, to: &str) -> Result<(), Error> {
    namespace
        .transact(|transaction| async move {
            let (source, target) = (number(&transaction, from).await?, number(&transaction, to).await?);
            transaction.put(from, (source - 1).to_string())?;
            transaction.put(to, (target + 1).to_string())
        })
        .await
}

async fn transactions_are_as_if_alone(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let mut tasks = Vec::new();
    for start in 0..4 {
        let namespace = cluster.namespace().await;
        tasks.push(tokio::spawn(async move {
            let accounts = ["a", "b", "c"];
            for step in 0..5 {
                transfer(&namespace, accounts[(start + step) % 3], accounts[(start + step + 1) % 3]).await.unwrap();
            }
        }));
    }
    for task in tasks {
        soon("the transfers", task).await.unwrap();
    }
    let mut sum = 0;
    for account in ["a", "b", "c"] {
        sum += value(&client, &format!("app/{account}")).await.unwrap().parse::<i64>().unwrap();
    }
    assert_eq!(sum, 0);
    // The function's error ends it without a write.
    let failed = namespace
        .transact(|transaction| async move {
            transaction.put("a", "lost")?;
            Err::<(), _>(Error::InvalidSetting("no"))
        })
        .await;
    assert!(matches!(failed, Err(Error::InvalidSetting("no"))));
    assert_ne!(value(&client, "app/a").await.as_deref(), Some("lost"));
}

async fn a_transaction_reads_one_revision(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, mut client) = (cluster.namespace().await, cluster.client().await);
    client.put("app/a", "1", None).await.unwrap();
    client.put("app/b", "1", None).await.unwrap();
    let transaction = namespace.transaction();
    assert_eq!(transaction.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    client.put("app/b", "2", None).await.unwrap();
    assert_eq!(transaction.get("b").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(transaction.get("none").await.unwrap(), None);
    transaction.put("a", "own").unwrap();
    assert_eq!(transaction.get("a").await.unwrap().as_deref(), Some(&b"own"[..]));
    transaction.delete("a").unwrap();
    assert_eq!(transaction.get("a").await.unwrap(), None);
    assert_eq!(transaction.commit().await.unwrap(), Commit::Conflict);

    // A key that was not there is compared, too.
    let transaction = namespace.transaction();
    assert_eq!(transaction.get("none").await.unwrap(), None);
    client.put("app/none", "there", None).await.unwrap();
    transaction.put("a", "2").unwrap();
    assert_eq!(transaction.commit().await.unwrap(), Commit::Conflict);
    // What it reads from is compacted: the next attempt reads anew.
    let mut attempts = 0;
    namespace
        .transact(|transaction| {
            attempts += 1;
            let (attempt, mut client) = (attempts, client.clone());
            async move {
                transaction.get("a").await?;
                if attempt == 1 {
                    let newest = client.put("app/b", "3", None).await.unwrap().header().unwrap().revision();
                    client.compact(newest, None).await.unwrap();
                }
                transaction.get("b").await?;
                transaction.put("a", "3")
            }
        })
        .await
        .unwrap();
    assert_eq!(attempts, 2);
    assert_eq!(value(&client, "app/a").await.as_deref(), Some("3"));
}

async fn put(client: &mut Client, key: &str, value: &str) -> i64 {
    client.put(key, value, None).await.unwrap().header().unwrap().revision()
}

async fn a_mirror_is_kept_equal(kind: Kind) {
    let (source, target) = (Cluster::start(kind, 1).await, Cluster::start(kind, 1).await);
    let proxy = Proxy::to(&source.members[0].address).await;
    let far = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let (mut from, mut to) = (source.client().await, target.client().await);
    for number in 0..250 {
        put(&mut from, &format!("app/data/{number:03}"), "1").await;
    }
    put(&mut from, "app/database", "not under data").await;
    put(&mut to, "app/copy/000", "1").await;
    let extra = put(&mut to, "app/copy/extra", "1").await;
    let newest = put(&mut from, "app/data/x", "1").await;
    let mirror = far.mirror("data", &target.namespace().await, "copy", MirrorOptions::Exact).unwrap();
    soon("the first comparison", mirror.reached(newest)).await.unwrap();
    assert_eq!(keys(&to, "app/copy/").await.len(), 251);
    // 250 written, one deleted, one left as it was.
    assert_eq!(mirror.progress().changes, 251);
    assert_eq!(to.get("app/copy/000", None).await.unwrap().kvs()[0].mod_revision(), extra - 1);

    // A gap, with a compaction in it.
    proxy.set(Mode::Cut);
    from.delete("app/data/000", None).await.unwrap();
    put(&mut from, "app/data/001", "2").await;
    let newest = put(&mut from, "app/data/new", "1").await;
    from.compact(newest, None).await.unwrap();
    proxy.set(Mode::Pass);
    soon("the gap is bridged", mirror.reached(newest)).await.unwrap();
    assert_eq!(value(&to, "app/copy/000").await, None);
    assert_eq!(value(&to, "app/copy/001").await.as_deref(), Some("2"));
    assert_eq!(value(&to, "app/copy/new").await.as_deref(), Some("1"));
    drop(mirror);

    put(&mut to, "app/copy/other", "1").await;
    let newest = put(&mut from, "app/data/late", "1").await;
    let mirror = far.mirror("data", &target.namespace().await, "copy", MirrorOptions::KeepOthers).unwrap();
    soon("again", mirror.reached(newest)).await.unwrap();
    assert_eq!(mirror.progress().changes, 1);
    assert_eq!(value(&to, "app/copy/other").await.as_deref(), Some("1"));
}

async fn members_survive_partition_expiry_and_rejoin(kind: Kind) {
    let mut cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let far = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let (near, mut client) = (cluster.namespace().await, cluster.client().await);
    let options = SessionOptions::ttl(TTL);
    let mut one = near.join("nodes", "one", "10.0.0.1", options.clone()).await.unwrap();
    let mut two = far.join("nodes", "two", "10.0.0.2", options).await.unwrap();
    assert_eq!(two.members().by_name.len(), 2);
    let seen = soon("both", one.wait_for(|members| members.by_name.len() == 2)).await.unwrap();
    assert_eq!(seen.by_name["two"], b"10.0.0.2");

    // Partition longer than the time to live.
    proxy.set(Mode::Pause);
    soon("two is gone", one.wait_for(|members| members.by_name.len() == 1)).await.unwrap();
    let old = soon("two knows nothing new", two.wait_for(|members| !members.is_connected)).await.unwrap();
    assert_eq!(old.by_name.len(), 2);
    eventually("two knows that it is not seen", || async { two.standing() == Standing::Absent }).await;
    proxy.set(Mode::Pass);
    soon("two is back", one.wait_for(|members| members.by_name.len() == 2)).await.unwrap();
    soon("two is up to date", two.wait_for(|members| members.is_connected)).await.unwrap();

    // Expiry by an operator.
    let Standing::Present { lease, .. } = one.standing() else { panic!("one is there") };
    client.lease_revoke(lease).await.unwrap();
    let is_back = || async { matches!(one.standing(), Standing::Present { lease: newer, .. } if newer != lease) };
    eventually("one is back", is_back).await;
    soon("both", two.wait_for(|members| members.by_name.len() == 2)).await.unwrap();

    // The store restarts.
    cluster.members[0].kill();
    cluster.members[0].start();
    cluster.ready(0).await;
    soon("an update", two.update("10.0.0.9")).await.unwrap();
    let seen = |members: &quorate_client::Members| members.by_name.get("two").is_some_and(|two| two == b"10.0.0.9");
    soon("the update is seen", one.wait_for(seen)).await.unwrap();
    two.leave().await;
    soon("two left", one.wait_for(|members| members.by_name.len() == 1)).await.unwrap();
    assert_eq!(one.name(), "one");
}

async fn only_the_leader_configures(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let config = namespace.leader_config("boss", "config").unwrap();
    let mut seen = config.observe().await.unwrap();
    assert!(config.current().await.unwrap().is_none());
    let (one, two) = (session(&namespace).await, session(&namespace).await);
    let election = namespace.election("boss").unwrap();
    let first = soon("one leads", election.campaign(&one, "one")).await.unwrap();
    let revision = config.publish(&first, "v1").await.unwrap();
    let other = soon("another election", namespace.election("other").unwrap().campaign(&two, "two")).await.unwrap();
    assert!(matches!(config.publish(&other, "v2").await, Err(Error::Conflict { .. })));
    let fence = first.fence();
    first.resign().await.unwrap();
    assert!(config.publish(&first, "v3").await.is_err());
    let second = soon("two leads", election.campaign(&two, "two")).await.unwrap();
    config.publish(&second, "v4").await.unwrap();
    for expected in ["v1", "v4"] {
        let change = soon("a change", seen.next()).await.unwrap().unwrap();
        let quorate_client::Change::Put(entry) = change else { panic!("{change:?}") };
        assert_eq!(entry.value_text(), expected);
    }
    assert_eq!(config.current().await.unwrap().unwrap().mod_revision, revision + 4);
    assert_ne!(fence, second.fence());
    assert_eq!(value(&client, "app/config").await.as_deref(), Some("v4"));
}

async fn health_is_seen_as_it_changes(kind: Kind) {
    let mut cluster = Cluster::start(kind, 3).await;
    let client = cluster.client().await;
    let monitor = HealthMonitor::of_cluster(&client, connect_options()).await.unwrap();
    let monitor = monitor.with_timeout(Duration::from_secs(2));
    let health = monitor.check().await;
    assert_eq!((health.state, health.endpoints.len()), (HealthState::Healthy, 3), "{health:?}");
    let leaders: Vec<u64> = health.endpoints.values().map(|endpoint| endpoint.leader).collect();
    assert!(leaders[0] != 0 && leaders.iter().all(|leader| *leader == leaders[0]), "{health:?}");
    assert!(health.endpoints.values().all(|endpoint| endpoint.term > 0 && !endpoint.version.is_empty()), "{health:?}");

    let mut stream = monitor.every(Duration::from_millis(100));
    assert_eq!(soon("the first answer", stream.next()).await.unwrap().state, HealthState::Healthy);
    // A follower first: without the leader nobody serves until there is another.
    let first = (cluster.leader().await + 1) % 3;
    cluster.members[first].kill();
    let degraded = soon("one is down", stream.changed_from(HealthState::Healthy)).await.unwrap();
    assert_eq!(degraded.state, HealthState::Degraded);
    cluster.members[(first + 1) % 3].kill();
    let unhealthy = async { while stream.next().await.unwrap().state != HealthState::Unhealthy {} };
    soon("no quorum", unhealthy).await;
    cluster.members[first].start();
    cluster.members[(first + 1) % 3].start();
    let healthy = async { while stream.next().await.unwrap().state != HealthState::Healthy {} };
    soon("all is well", healthy).await;
    assert!(HealthMonitor::new(&[], connect_options()).is_err());
}
