//! Real servers for the recipes' tests: one member or three, ours or real etcd, gone at the test's end.
//!
//! QUORATE_BIN and PEER_BIN name the programs. Nothing here waits for a fixed time: `eventually` asks until a deadline.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod proxy;

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use quorate_client::etcd_client::{Client, GetOptions};
use quorate_client::{Namespace, Options, Session, SessionOptions, connect_options};

/// Longer than anything here takes on a slow machine.
pub const LIMIT: Duration = Duration::from_secs(40);

/// The shortest time to live that etcd gives with its default election timeout.
pub const TTL: Duration = Duration::from_secs(2);

/// Which program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Quorate,
    Etcd,
}

impl Kind {
    fn binary(self) -> String {
        let variable = match self {
            Self::Quorate => "QUORATE_BIN",
            Self::Etcd => "PEER_BIN",
        };
        std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names the server: run `cargo xtask test`"))
    }
}

/// Runs each named function against both programs.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod quorate {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::common::Kind::Quorate).await })*
        }
        mod etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::common::Kind::Etcd).await })*
        }
    };
}

/// One member.
pub struct Member {
    pub address: String,
    process: Option<Child>,
    arguments: Vec<String>,
    kind: Kind,
    folder: PathBuf,
}

impl Member {
    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.folder.join("log"));
        let log = log.expect("a log file");
        let process = Command::new(self.kind.binary())
            .args(&self.arguments)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn();
        self.process = Some(process.expect("the server starts"));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("end of the log of {}:", self.address);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A cluster of members.
pub struct Cluster {
    pub members: Vec<Member>,
}

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// Ports that nothing else had at this moment, all different.
fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("a bound port").to_string()).collect()
}

impl Cluster {
    /// Starts so many members and waits until they serve.
    pub async fn start(kind: Kind, size: usize) -> Self {
        let addresses = free_addresses(size * 2);
        let (clients, peers) = addresses.split_at(size);
        let initial: Vec<String> =
            peers.iter().enumerate().map(|(number, peer)| format!("m{number}=http://{peer}")).collect();
        let mut members = Vec::new();
        for number in 0..size {
            let unique = FOLDERS.fetch_add(1, Ordering::Relaxed);
            let folder = std::env::temp_dir().join(format!("quorate-recipes-{}-{unique}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder");
            let (client, peer) = (format!("http://{}", clients[number]), format!("http://{}", peers[number]));
            let data = folder.join("data").display().to_string();
            let name = format!("m{number}");
            let arguments = [
                ("--name", name.as_str()),
                ("--data-dir", &data),
                ("--listen-client-urls", &client),
                ("--advertise-client-urls", &client),
                ("--listen-peer-urls", &peer),
                ("--initial-advertise-peer-urls", &peer),
                ("--initial-cluster", &initial.join(",")),
            ];
            let arguments = arguments.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]);
            let (address, arguments) = (clients[number].clone(), arguments.collect());
            members.push(Member { address, process: None, arguments, kind, folder });
        }
        members.iter_mut().for_each(Member::start);
        let cluster = Self { members };
        for number in 0..size {
            cluster.ready(number).await;
        }
        cluster
    }

    /// Waits until a member answers.
    pub async fn ready(&self, number: usize) {
        let address = &self.members[number].address;
        eventually("the server is ready", || async {
            let client = Client::connect([address], Some(connect_options())).await;
            match client {
                Ok(mut client) => client.get("ready", None).await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    /// A namespace over connections of its own to all members.
    pub async fn namespace(&self) -> Namespace {
        namespace_at(&self.endpoints()).await
    }

    /// A client to all members.
    pub async fn client(&self) -> Client {
        Client::connect(self.endpoints(), Some(connect_options())).await.expect("a client")
    }

    /// The number of the member that leads.
    pub async fn leader(&self) -> usize {
        let mut found = None;
        let started = Instant::now();
        while found.is_none() {
            assert!(started.elapsed() < LIMIT, "no leader");
            for (number, member) in self.members.iter().enumerate() {
                let Ok(mut client) = Client::connect([&member.address], None).await else { continue };
                if let Ok(status) = client.status().await {
                    let id = status.header().map_or(0, |header| header.member_id());
                    if id != 0 && id == status.leader() {
                        found = Some(number);
                    }
                }
            }
        }
        found.expect("found")
    }
}

/// A namespace for tests: it looks for lost connections often.
pub async fn namespace_at(endpoints: &[String]) -> Namespace {
    let client = Client::connect(endpoints, Some(connect_options())).await.expect("a client");
    let options = Options {
        call_timeout: Duration::from_secs(1),
        retry_for: LIMIT,
        watch_probe_interval: Duration::from_millis(400),
    };
    Namespace::with_options(client, "app", options).expect("a name")
}

pub async fn session(namespace: &Namespace) -> Session {
    Session::open(namespace, SessionOptions::ttl(TTL)).await.expect("a session")
}

/// Asks until the answer is yes.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let started = Instant::now();
    while !ask().await {
        assert!(started.elapsed() < LIMIT, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What must come in time.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(done) => done,
        Err(_) => panic!("never came: {what}"),
    }
}

/// The keys under a prefix.
pub async fn keys(client: &Client, prefix: &str) -> Vec<String> {
    let got = client.clone().get(prefix, Some(GetOptions::new().with_prefix())).await.expect("keys");
    got.kvs().iter().map(|kv| kv.key_str().expect("text").to_owned()).collect()
}

/// The value of a key; none if it is not there.
pub async fn value(client: &Client, key: &str) -> Option<String> {
    let got = client.clone().get(key, None).await.expect("a value");
    got.kvs().first().map(|kv| kv.value_str().expect("text").to_owned())
}
