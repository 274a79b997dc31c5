//! Every example runs, against both servers, and does what its page says.

mod common;

use std::process::Stdio;

use common::{Cluster, Kind, eventually, keys, soon, value};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

on_both!(
    elections_and_configuration,
    locks_and_permits,
    services_and_groups,
    keys_and_mirrors,
    barriers_and_queues,
    transactions_and_health,
);

/// An example, running.
struct Running {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(cluster: &Cluster, name: &str, arguments: &[&str]) -> Self {
        let mut path = std::env::current_exe().expect("this program");
        path.pop();
        path.set_file_name("examples");
        let mut process = Command::new(path.join(name))
            .args(["--endpoints", &cluster.members[0].address, "--namespace", "app", "--ttl", "5"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the example starts: `cargo build --examples` builds it");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self { process, lines }
    }

    async fn line(&mut self) -> String {
        soon("a line", self.lines.next_line()).await.expect("output").expect("it goes on")
    }

    /// The line that begins like this is the next one.
    async fn says(&mut self, expected: &str) -> String {
        let line = self.line().await;
        assert!(line.starts_with(expected), "{line:?} is not {expected:?}");
        line
    }

    fn interrupt(&self) {
        let id = self.process.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    }

    /// It ends well.
    async fn ends(mut self) {
        assert!(soon("its end", self.process.wait()).await.expect("a status").success());
    }
}

async fn elections_and_configuration(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let client = cluster.client().await;
    let mut first = Running::start(&cluster, "election", &["boss", "one"]);
    first.says("follower").await;
    first.says("leader, token ").await;
    let mut second = Running::start(&cluster, "election", &["boss", "two"]);
    second.says("follower").await;
    eventually("the second waits", || async { keys(&client, "app/boss/").await.len() == 2 }).await;
    first.interrupt();
    first.says("stopped").await;
    first.ends().await;
    second.says("leader, token ").await;
    drop(second);

    let mut reader = Running::start(&cluster, "leader_config", &["other", "config"]);
    let mut writer = Running::start(&cluster, "leader_config", &["other", "config", "v1"]);
    writer.says("published at revision ").await;
    writer.ends().await;
    reader.says("v1").await;
}

async fn locks_and_permits(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let client = cluster.client().await;
    let mut lock = Running::start(&cluster, "lock", &["lock"]);
    lock.says("held, token ").await;
    eventually("it writes", || async { value(&client, "app/lock-data").await.is_some() }).await;
    for (name, argument) in [("rw_lock", "write"), ("semaphore", "1")] {
        let mut first = Running::start(&cluster, name, &[name, argument]);
        first.says("held, token ").await;
        let second = Running::start(&cluster, name, &[name, argument]);
        let prefix = format!("app/{name}/");
        let claims =
            || async { keys(&client, &prefix).await.iter().filter(|key| !key.ends_with("/limit")).count() == 2 };
        eventually("the second waits", claims).await;
        first.interrupt();
        first.says("released").await;
        first.ends().await;
        let mut second = second;
        second.says("held, token ").await;
    }
}

async fn services_and_groups(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let mut found = Running::start(&cluster, "discover", &["web"]);
    found.says("[]").await;
    let mut web = Running::start(&cluster, "register", &["web", "one", "10.0.0.1:80"]);
    web.says("registered as app/web/one").await;
    found.says("[one=10.0.0.1:80]").await;
    web.interrupt();
    web.says("deregistered").await;
    web.ends().await;
    found.says("[]").await;
    found.interrupt();
    found.ends().await;

    let mut one = Running::start(&cluster, "membership", &["nodes", "one", "a"]);
    one.says("[one=a]").await;
    let mut two = Running::start(&cluster, "membership", &["nodes", "two", "b"]);
    two.says("[one=a two=b]").await;
    one.says("[one=a two=b]").await;
    two.interrupt();
    while two.line().await != "left" {}
    two.ends().await;
    one.says("[one=a]").await;
}

async fn keys_and_mirrors(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let mut client = cluster.client().await;
    let first = client.put("app/data/a", "1", None).await.unwrap().header().unwrap().revision();
    let mut state = Running::start(&cluster, "observe", &["data"]);
    state.says(&format!("observing after revision {first}")).await;
    state.says(&format!("{first} data/a=1")).await;
    let mut later = Running::start(&cluster, "observe", &["data", &(first + 1).to_string()]);
    later.says(&format!("observing after revision {first}")).await;
    let mut mirror = Running::start(&cluster, "mirror", &["data", "copy"]);
    mirror.says("equal at revision ").await;
    let mut key = Running::start(&cluster, "ephemeral", &["data/here", "2"]);
    key.says("present at revision ").await;
    for observer in [&mut state, &mut later] {
        assert!(observer.line().await.ends_with(" data/here=2"));
    }
    eventually("it is copied", || async { value(&client, "app/copy/here").await.as_deref() == Some("2") }).await;
    key.interrupt();
    key.says("gone").await;
    key.ends().await;
    assert!(later.line().await.ends_with(" -data/here"));
    eventually("it is copied", || async { value(&client, "app/copy/here").await.is_none() }).await;
    mirror.interrupt();
    mirror.ends().await;
}

async fn barriers_and_queues(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    let client = cluster.client().await;
    let run = async |argument: &'static str| {
        let mut example = Running::start(&cluster, "barrier", &["gate", argument]);
        example.says(argument).await;
        example.ends().await;
    };
    run("close").await;
    let mut waiting = Running::start(&cluster, "barrier", &["gate", "wait"]);
    run("open").await;
    waiting.says("wait: done").await;

    let mut first = Running::start(&cluster, "double_barrier", &["pair", "2"]);
    let mut second = Running::start(&cluster, "double_barrier", &["pair", "2"]);
    first.says("entered").await;
    second.says("entered").await;
    first.interrupt();
    eventually("the first left", || async { keys(&client, "app/pair/waiters/").await.len() == 1 }).await;
    second.interrupt();
    first.says("left").await;
    second.says("left").await;

    for (value, priority) in [("late", "7"), ("soon", "1")] {
        let mut pushed = Running::start(&cluster, "queue", &["jobs", "push", value, priority]);
        pushed.says("pushed at revision ").await;
        pushed.ends().await;
    }
    let mut taker = Running::start(&cluster, "queue", &["jobs", "take"]);
    taker.says("did soon").await;
    taker.says("did late").await;
    eventually("both are done", || async { keys(&client, "app/jobs/").await.is_empty() }).await;
    taker.interrupt();
    taker.ends().await;
}

async fn transactions_and_health(kind: Kind) {
    let cluster = Cluster::start(kind, 1).await;
    for (left, right) in [(-5, 5), (-10, 10)] {
        let mut moved = Running::start(&cluster, "transaction", &["a", "b", "5"]);
        moved.says(&format!("a={left} b={right}")).await;
        moved.ends().await;
    }
    let mut once = Running::start(&cluster, "health", &[]);
    once.says("Healthy").await;
    assert!(once.line().await.contains(" serves, 3."));
    once.ends().await;
    let mut repeated = Running::start(&cluster, "health", &["1"]);
    for _ in 0..2 {
        repeated.says("Healthy").await;
        repeated.line().await;
    }
    repeated.interrupt();
    repeated.ends().await;
}
