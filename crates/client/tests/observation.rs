//! Observers, ephemeral keys and the registry: nothing missed over cuts, restarts and compactions; present while alive.

mod common;

use common::proxy::{Mode, Proxy};
use common::{Cluster, Kind, TTL, eventually, keys, namespace_at, session, soon, value};
use quorate_client::etcd_client::Client;
use quorate_client::{Change, Error, Instance, Observer, SessionOptions, Standing, Start};

on_both!(
    an_observer_reports_from_where_it_is_told,
    an_observer_goes_on_after_a_cut_and_a_restart,
    a_compaction_under_a_lagging_observer_leaves_the_difference,
    an_observer_from_a_compacted_revision_starts_with_the_state,
    an_ephemeral_key_lives_with_its_session,
    a_presence_comes_back,
    instances_are_discovered_and_come_back,
);

/// A change in short: `path=value` or `-path`.
fn short(change: &Change) -> String {
    match change {
        Change::Put(entry) => format!("{}={}", entry.path_text(), entry.value_text()),
        Change::Delete { path, .. } => format!("-{}", String::from_utf8_lossy(path)),
        Change::Compacted { .. } => "compacted".to_owned(),
    }
}

async fn next(observer: &mut Observer) -> String {
    short(&soon("a change", observer.next()).await.expect("it goes on").expect("no error"))
}

async fn put(client: &mut Client, key: &str, value: &str) -> i64 {
    client.put(key, value, None).await.unwrap().header().unwrap().revision()
}

async fn an_observer_reports_from_where_it_is_told(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, mut client) = (cluster.namespace().await, cluster.client().await);
    let first = put(&mut client, "app/d/a", "1").await;
    put(&mut client, "app/d/b", "1").await;
    put(&mut client, "app/d/a", "2").await;
    put(&mut client, "app/dd", "not under d").await;

    let mut now = namespace.observe_under("d", Start::Now).await.unwrap();
    let mut state = namespace.observe_under("d", Start::State).await.unwrap();
    let mut all = namespace.observe_under("d", Start::Revision(first)).await.unwrap();
    let mut one = namespace.observe("d/a", Start::Revision(first + 1)).await.unwrap();
    client.delete("app/d/b", None).await.unwrap();
    put(&mut client, "app/d/a/deep", "3").await;
    put(&mut client, "app/d/a", "4").await;

    for (observer, expected) in [
        (&mut now, &["-d/b", "d/a/deep=3", "d/a=4"][..]),
        (&mut state, &["d/b=1", "d/a=2", "-d/b", "d/a/deep=3", "d/a=4"]),
        (&mut all, &["d/a=1", "d/b=1", "d/a=2", "-d/b", "d/a/deep=3", "d/a=4"]),
        (&mut one, &["d/a=2", "d/a=4"]),
    ] {
        for expected in expected {
            assert_eq!(next(observer).await, *expected);
        }
        assert!(observer.is_connected());
    }
    assert!(namespace.observe("d//a", Start::Now).await.is_err());
    assert!(namespace.observe("d", Start::Revision(0)).await.is_err());
}

async fn an_observer_goes_on_after_a_cut_and_a_restart(kind: Kind) {
    let mut cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let namespace = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let mut client = cluster.client().await;
    let mut observer = namespace.observe_under("d", Start::Now).await.unwrap();
    put(&mut client, "app/d/a", "1").await;
    assert_eq!(next(&mut observer).await, "d/a=1");
    for (mode, number) in [(Mode::Cut, "2"), (Mode::Pause, "3")] {
        proxy.set(mode);
        let mut connection = observer.connection();
        soon("the loss", connection.wait_for(|connected| !*connected)).await.unwrap();
        put(&mut client, "app/d/a", number).await;
        client.delete("app/d/a", None).await.unwrap();
        put(&mut client, "app/d/a", number).await;
        proxy.set(Mode::Pass);
        for expected in [format!("d/a={number}"), "-d/a".to_owned(), format!("d/a={number}")] {
            assert_eq!(next(&mut observer).await, expected);
        }
    }
    cluster.members[0].kill();
    cluster.members[0].start();
    cluster.ready(0).await;
    let mut client = cluster.client().await;
    put(&mut client, "app/d/a", "4").await;
    assert_eq!(next(&mut observer).await, "d/a=4");
}

async fn a_compaction_under_a_lagging_observer_leaves_the_difference(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let namespace = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let mut client = cluster.client().await;
    for name in ["same", "changed", "gone", "reborn"] {
        put(&mut client, &format!("app/d/{name}"), "1").await;
    }
    let mut observer = namespace.observe_under("d", Start::Now).await.unwrap();
    let last = put(&mut client, "app/d/seen", "1").await;
    assert_eq!(next(&mut observer).await, "d/seen=1");

    proxy.set(Mode::Cut);
    put(&mut client, "app/d/changed", "2").await;
    put(&mut client, "app/d/changed", "3").await;
    client.delete("app/d/gone", None).await.unwrap();
    client.delete("app/d/reborn", None).await.unwrap();
    put(&mut client, "app/d/reborn", "2").await;
    put(&mut client, "app/d/brief", "1").await;
    client.delete("app/d/brief", None).await.unwrap();
    let newest = put(&mut client, "app/d/new", "1").await;
    client.compact(newest, None).await.unwrap();
    proxy.set(Mode::Pass);

    let compacted = soon("the gap", observer.next()).await.unwrap().unwrap();
    assert_eq!(compacted, Change::Compacted { after: last, until: newest });
    let gone = soon("a change", observer.next()).await.unwrap().unwrap();
    assert_eq!(gone, Change::Delete { path: b"d/gone".to_vec(), revision: newest });
    for expected in ["d/changed=3", "d/reborn=2", "d/new=1"] {
        assert_eq!(next(&mut observer).await, expected);
    }
    put(&mut client, "app/d/same", "2").await;
    assert_eq!(next(&mut observer).await, "d/same=2");
}

async fn an_observer_from_a_compacted_revision_starts_with_the_state(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, mut client) = (cluster.namespace().await, cluster.client().await);
    let first = put(&mut client, "app/d/a", "1").await;
    put(&mut client, "app/d/b", "1").await;
    let newest = put(&mut client, "app/d/a", "2").await;
    client.compact(newest, None).await.unwrap();
    let mut observer = namespace.observe_under("d", Start::Revision(first)).await.unwrap();
    for expected in ["compacted", "d/b=1", "d/a=2"] {
        assert_eq!(next(&mut observer).await, expected);
    }
    put(&mut client, "app/d/b", "2").await;
    assert_eq!(next(&mut observer).await, "d/b=2");
}

async fn an_ephemeral_key_lives_with_its_session(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, client) = (cluster.namespace().await, cluster.client().await);
    let (owner, other) = (session(&namespace).await, session(&namespace).await);
    let key = namespace.ephemeral(&owner, "nodes/a", "1").await.unwrap();
    assert_eq!(value(&client, "app/nodes/a").await.as_deref(), Some("1"));
    assert!(matches!(namespace.ephemeral(&other, "nodes/a", "2").await, Err(Error::Conflict { .. })));
    key.update("2").await.unwrap();
    assert_eq!(value(&client, "app/nodes/a").await.as_deref(), Some("2"));
    // Longer than its time to live, which only renewals allow.
    let before = owner.remaining();
    eventually("it was renewed", || async { owner.remaining() > before }).await;
    key.delete().await.unwrap();
    assert_eq!(value(&client, "app/nodes/a").await, None);

    let dropped = namespace.ephemeral(&other, "nodes/a", "3").await.unwrap();
    drop(dropped);
    eventually("the dropped key is gone", || async { value(&client, "app/nodes/a").await.is_none() }).await;
    let key = namespace.ephemeral(&owner, "nodes/a", "4").await.unwrap();
    owner.close().await.unwrap();
    assert_eq!(value(&client, "app/nodes/a").await, None);
    assert!(matches!(key.update("5").await, Err(Error::SessionLost { .. })));
}

async fn a_presence_comes_back(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let far = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let mut client = cluster.client().await;
    // Left over from an earlier run: taken over.
    put(&mut client, "app/nodes/a", "old").await;
    let mut presence = far.presence("nodes/a", "1", SessionOptions::ttl(TTL)).unwrap();
    let revision = soon("it is there", presence.present()).await.unwrap();
    assert_eq!(value(&client, "app/nodes/a").await.as_deref(), Some("1"));
    // Happened before the call, and not told yet.
    let told = soon("the standing", presence.changed()).await.unwrap();
    assert!(matches!(told, Standing::Present { revision: of_value, .. } if of_value == revision), "{told:?}");

    // A partition longer than its time to live, in which another value is wanted.
    proxy.set(Mode::Pause);
    assert_eq!(soon("the loss", presence.changed()).await.unwrap(), Standing::Absent);
    eventually("it is gone in the store", || async { value(&client, "app/nodes/a").await.is_none() }).await;
    let updated = presence.update("2");
    proxy.set(Mode::Pass);
    soon("it is back", updated).await.unwrap();
    assert_eq!(value(&client, "app/nodes/a").await.as_deref(), Some("2"));

    // Deleted by somebody: back at once. Taken by somebody: waited for.
    client.delete("app/nodes/a", None).await.unwrap();
    eventually("it is written again", || async { value(&client, "app/nodes/a").await.as_deref() == Some("2") }).await;
    put(&mut client, "app/nodes/a", "theirs").await;
    eventually("the other is seen", || async { presence.standing() == Standing::Taken { by_lease: 0 } }).await;
    assert_eq!(value(&client, "app/nodes/a").await.as_deref(), Some("theirs"));
    client.delete("app/nodes/a", None).await.unwrap();
    eventually("it is ours again", || async { value(&client, "app/nodes/a").await.as_deref() == Some("2") }).await;
    presence.stop().await;
    assert_eq!(value(&client, "app/nodes/a").await, None);
}

async fn instances_are_discovered_and_come_back(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let proxy = Proxy::to(&cluster.members[0].address).await;
    let far = namespace_at(std::slice::from_ref(&proxy.address)).await;
    let (near, mut client) = (cluster.namespace().await, cluster.client().await);
    let options = SessionOptions::ttl(TTL);
    let near_one = near.register("web", "near", &Instance::at("10.0.0.1:80"), options.clone()).await.unwrap();
    let far_one = far.register("web", "far", &Instance::at("10.0.0.2:80"), options).await.unwrap();
    let mut found = near.discover("web").await.unwrap();
    let mut found_far = far.discover("web").await.unwrap();
    assert_eq!(found.instances().by_name.keys().collect::<Vec<_>>(), ["far", "near"]);
    let mut turns: Vec<String> = (0..4).map(|_| found.next_in_turn().unwrap().address).collect();
    turns.sort();
    assert_eq!(turns, ["10.0.0.1:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.2:80"]);
    let (owner, any) = (found.for_key(b"k").unwrap(), found.any().unwrap());
    assert!(turns.contains(&owner.address) && turns.contains(&any.address));

    // What Go's package writes, and what nobody can read.
    put(&mut client, "app/web/go", r#"{"Op":0,"Addr":"10.0.0.3:80","Metadata":{"zone":"b"}}"#).await;
    put(&mut client, "app/web/junk", "not an instance").await;
    let seen =
        soon("three", found.wait_for(|seen| seen.by_name.len() == 3 && !seen.unreadable.is_empty())).await.unwrap();
    assert_eq!(seen.by_name["go"].metadata["zone"], "b");
    assert_eq!(seen.unreadable, ["junk"]);
    client.delete("app/web/junk", None).await.unwrap();

    // Partition: the far one disappears for the near; the far keeps what it knew, and says that it is old.
    proxy.set(Mode::Pause);
    let seen = soon("the far one is gone", found.wait_for(|seen| !seen.by_name.contains_key("far"))).await.unwrap();
    assert!(seen.is_connected);
    let old = soon("the far view is old", found_far.wait_for(|seen| !seen.is_connected)).await.unwrap();
    assert!(old.by_name.contains_key("near"));
    near_one.update(&Instance::at("10.0.0.9:80")).await.unwrap();
    proxy.set(Mode::Pass);
    soon("the far one is back", found.wait_for(|seen| seen.by_name.contains_key("far"))).await.unwrap();
    let wanted = |seen: &quorate_client::Instances| {
        seen.is_connected && seen.by_name.get("near").is_some_and(|near| near.address == "10.0.0.9:80")
    };
    soon("the far view is new", found_far.wait_for(wanted)).await.unwrap();

    far_one.deregister().await;
    assert_eq!(keys(&client, "app/web/").await, ["app/web/go", "app/web/near"]);
    drop(near_one);
    soon("the near one is gone", found.wait_for(|seen| seen.by_name.len() == 1)).await.unwrap();
    client.delete("app/web/go", None).await.unwrap();
    soon("nobody", found.wait_for(|seen| seen.by_name.is_empty())).await.unwrap();
    assert!(found.next_in_turn().is_none() && found.any().is_none() && found.for_key(b"k").is_none());
}
