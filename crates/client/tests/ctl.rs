//! The recipes of the command line beside those of the library, on both servers: each finds what the other wrote.

mod common;

use std::process::Stdio;

use common::{Cluster, Kind, keys, soon};
use quorate_client::{Instance, SessionOptions};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

on_both!(
    services_are_registered_and_discovered,
    members_come_and_go,
    keys_are_observed_over_a_compaction,
    health_is_said_and_watched,
);

/// `quorate ctl`, running.
struct Ctl {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Ctl {
    fn start(endpoints: &[String], arguments: &[&str]) -> Self {
        let program = std::env::var("QUORATE").expect("QUORATE names the program: run `cargo xtask test`");
        let mut process = Command::new(program)
            .args(["ctl", "--endpoints", &endpoints.join(",")])
            .args(arguments)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self { process, lines }
    }

    async fn says(&mut self, expected: &[&str]) {
        for expected in expected {
            let line = soon(expected, self.lines.next_line()).await.expect("output");
            assert_eq!(line.as_deref(), Some(*expected));
        }
    }

    /// Everything until its end, and whether that was a success.
    async fn ends(mut self) -> (String, bool) {
        let mut said = String::new();
        while let Some(line) = soon("its output", self.lines.next_line()).await.expect("output") {
            said.push_str(&line);
            said.push('\n');
        }
        (said, soon("its end", self.process.wait()).await.expect("a status").success())
    }

    fn interrupt(&self) {
        let id = self.process.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    }
}

async fn services_are_registered_and_discovered(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, mut client, endpoints) = (cluster.namespace().await, cluster.client().await, cluster.endpoints());
    let ours = namespace
        .register("web", "rust", &Instance::at("10.0.0.1:80"), SessionOptions::default())
        .await
        .expect("registered");
    let mut found = Ctl::start(&endpoints, &["discover", "app/web", "--watch"]);
    found.says(&["rust 10.0.0.1:80"]).await;
    let mut theirs = Ctl::start(&endpoints, &["register", "app/web", "ctl", "10.0.0.2:80", "--ttl", "5"]);
    theirs.says(&["registered app/web/ctl"]).await;
    found.says(&["+ ctl 10.0.0.2:80"]).await;
    let seen = namespace.discover("web").await.expect("discovered").instances();
    assert_eq!(seen.by_name["ctl"].address, "10.0.0.2:80");
    assert_eq!(Ctl::start(&endpoints, &["discover", "app/web"]).ends().await.0, "ctl 10.0.0.2:80\nrust 10.0.0.1:80\n");

    // A lease that is revoked: it registers again by itself.
    let lease = client.get("app/web/ctl", None).await.expect("the key").kvs()[0].lease();
    client.lease_revoke(lease).await.expect("revoked");
    found.says(&["- ctl", "+ ctl 10.0.0.2:80"]).await;
    theirs.interrupt();
    found.says(&["- ctl"]).await;
    // A command that ends takes its instance out.
    let run = ["register", "app/web", "child", "a:1", "--", "true"];
    assert_eq!(Ctl::start(&endpoints, &run).ends().await, ("registered app/web/child\n".to_owned(), true));
    found.says(&["+ child a:1", "- child"]).await;
    ours.deregister().await;
    found.says(&["- rust"]).await;
    assert!(keys(&client, "app/web/").await.is_empty());
    found.interrupt();
    assert!(found.ends().await.1);
    assert!(!Ctl::start(&endpoints, &["register", "app/web", "no/slash", "a:1"]).ends().await.1);
}

async fn members_come_and_go(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let (namespace, endpoints) = (cluster.namespace().await, cluster.endpoints());
    let first = namespace.join("workers", "w1", "idle", SessionOptions::default()).await.expect("joined");
    let mut shown = Ctl::start(&endpoints, &["members", "app/workers", "--watch"]);
    shown.says(&["w1 idle"]).await;
    let second = namespace.join("workers", "w2", "busy", SessionOptions::default()).await.expect("joined");
    shown.says(&["+ w2 busy"]).await;
    assert_eq!(Ctl::start(&endpoints, &["members", "app/workers"]).ends().await.0, "w1 idle\nw2 busy\n");
    first.leave().await;
    shown.says(&["- w1"]).await;
    second.leave().await;
    shown.says(&["- w2"]).await;
    shown.interrupt();
    assert!(shown.ends().await.1);
}

async fn keys_are_observed_over_a_compaction(kind: Kind) {
    let mut cluster = Cluster::start(kind, 1).await;
    let (mut client, endpoints) = (cluster.client().await, cluster.endpoints());
    for key in ["a", "b"] {
        client.put(format!("app/d/{key}"), "1", None).await.expect("put");
    }
    let mut all = Ctl::start(&endpoints, &["observe", "app/d/"]);
    all.says(&["PUT", "app/d/a", "1", "PUT", "app/d/b", "1"]).await;
    let mut changes = Ctl::start(&endpoints, &["observe", "app/d/", "--changes-only"]);
    // It watches when it shows the first change.
    let mut count = 1;
    let first = loop {
        count += 1;
        client.put("app/d/a", count.to_string(), None).await.expect("put");
        let line = tokio::time::timeout(std::time::Duration::from_millis(200), changes.lines.next_line()).await;
        if let Ok(line) = line {
            break line.expect("output");
        }
    };
    assert_eq!(first.as_deref(), Some("PUT"));
    for number in 2..=count {
        all.says(&["PUT", "app/d/a", &number.to_string()]).await;
    }
    // Paused while history goes by and is compacted, and the connection with it: the difference is left.
    let id = all.process.id().expect("it runs").to_string();
    let signal =
        |name: &str| assert!(std::process::Command::new("kill").args([name, &id]).status().expect("kill").success());
    signal("-STOP");
    cluster.members[0].kill();
    cluster.members[0].start();
    cluster.ready(0).await;
    let mut client = cluster.client().await;
    client.delete("app/d/b", None).await.expect("deleted");
    client.put("app/d/c", "1", None).await.expect("put");
    client.put("app/d/c", "2", None).await.expect("put");
    let newest = client.put("app/d/c", "3", None).await.expect("put").header().expect("a header").revision();
    client.compact(newest, None).await.expect("compacted");
    signal("-CONT");
    all.says(&["DELETE", "app/d/b", "", "PUT", "app/d/c", "3"]).await;
    client.put("app/d/e", "1", None).await.expect("put");
    all.says(&["PUT", "app/d/e", "1"]).await;
}

async fn health_is_said_and_watched(kind: Kind) {
    let mut cluster = Cluster::start(kind, 3).await;
    let endpoints = cluster.endpoints();
    let (said, is_well) = Ctl::start(&endpoints, &["health"]).ends().await;
    assert!(is_well && said.ends_with("cluster is healthy\n"), "{said}");
    let watching = ["health", "--watch", "--interval", "100ms", "--command-timeout", "3s"];
    let mut watch = Ctl::start(&endpoints, &watching);
    let mut until = async |expected: &str| {
        while soon(expected, watch.lines.next_line()).await.expect("output").as_deref() != Some(expected) {}
    };
    until("cluster is healthy").await;
    // A follower: without the leader nobody serves until there is another.
    let follower = (cluster.leader().await + 1) % 3;
    cluster.members[follower].kill();
    until("cluster is degraded").await;
    assert!(!Ctl::start(&endpoints, &["health", "--dial-timeout", "1s"]).ends().await.1);
    cluster.members[follower].start();
    until("cluster is healthy").await;
    let leader = cluster.leader().await;
    cluster.members[leader].kill();
    cluster.members[follower].kill();
    until("cluster is unhealthy").await;
}
