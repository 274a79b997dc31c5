//! Real servers for the tests of the published client: one member each, of ours or of real etcd.
//!
//! QUORATE_BIN and PEER_BIN name the programs. A server has a folder and an address of its own, keeps both over kill and
//! start, and is gone at the test's end. Nothing here waits for a fixed time.

#![allow(dead_code, reason = "each test file uses a part")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, Error, WatchResponse, WatchStream};

/// Bounds a start, an expiry or a reconnection on a busy machine.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(30);

/// Bounds one answer.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Which program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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

/// Makes tests of functions that take a [`Kind`]: each is run on both.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod quorate {
            $(#[tokio::test]
            async fn $name() { super::$name($crate::common::Kind::Quorate).await })*
        }
        mod etcd {
            $(#[tokio::test]
            async fn $name() { super::$name($crate::common::Kind::Etcd).await })*
        }
    };
}

/// A member; dropping it ends the process and removes its folder.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    kind: Kind,
    peer: String,
    folder: PathBuf,
    process: Option<Child>,
}

static ADDRESSES: AtomicU32 = AtomicU32::new(1);

/// host:port that nobody else uses: a loopback address of this process alone, so that no outgoing connection takes the port
/// while the member is down, and a port that the kernel chose.
fn free_address() -> String {
    let (process, number) = (std::process::id(), ADDRESSES.fetch_add(1, Ordering::Relaxed));
    let host = format!("127.{}.{}.{}", 1 + (process >> 8) % 200, process % 256, 1 + number % 250);
    let listener = TcpListener::bind((host.as_str(), 0)).expect("a free port");
    listener.local_addr().expect("a bound port").to_string()
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> (Self, Client) {
        let (endpoint, peer) = (free_address(), format!("http://{}", free_address()));
        let folder = std::env::temp_dir().join(format!("quorate-rust-client-{endpoint}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut server = Self { endpoint, kind, peer, folder, process: None };
        server.run();
        let client = server.client(None).await;
        (server, client)
    }

    /// Starts the process on its folder.
    pub(crate) fn run(&mut self) {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.folder.join("log"));
        let log = log.expect("a log file");
        let (url, peer) = (format!("http://{}", self.endpoint), &self.peer);
        // The kernel ends the server with this program, however that ends.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", &self.kind.binary(), "--name", "m0", "--data-dir"])
            .arg(self.folder.join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", peer])
            .args(["--initial-advertise-peer-urls", peer, "--initial-cluster", &format!("m0={peer}")])
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn();
        self.process = Some(process.expect("the server starts"));
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// A client that has been answered once.
    pub(crate) async fn client(&self, options: Option<ConnectOptions>) -> Client {
        let started = Instant::now();
        loop {
            let error = match Client::connect([&self.endpoint], options.clone()).await {
                Ok(mut client) => match client.get("ready", None).await {
                    Ok(_) => return client,
                    // Only a serving member can refuse.
                    Err(Error::GRpcStatus(status)) if status.message().contains("permission denied") => return client,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            assert!(started.elapsed() < READY_LIMIT, "the server is not ready: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("end of the log of {:?}:", self.kind);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The code and text of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (i32, String) {
    match result {
        Err(Error::GRpcStatus(status)) => (status.code() as i32, status.message().to_owned()),
        other => panic!("not refused by the server: {other:?}"),
    }
}

/// The next response of a watch that goes on.
pub(crate) async fn next(stream: &mut WatchStream) -> WatchResponse {
    let message = tokio::time::timeout(CALL_LIMIT, stream.message()).await.expect("a watch response in time");
    message.expect("no error").expect("the stream goes on")
}

/// Asks until the condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < READY_LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
