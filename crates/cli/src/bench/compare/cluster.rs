//! A fresh cluster of one server program on loopback.
//!
//! It owns the processes, their ports and their folder. The invariant: when a [`Cluster`] is dropped its processes are
//! killed and its folder is removed, on every way out.

use super::process::{cpu_seconds, disk_bytes, peak_memory_bytes};
use anyhow::{Context, bail};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long members may take until they are healthy.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long members may take to end after SIGTERM; then they are killed. Nothing of theirs is needed any more, and the
/// last members of a cluster may wait in vain for the others.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
const HEALTH_PERIOD: Duration = Duration::from_millis(20);
/// The longest answer of `/health` that is read.
const HEALTH_BYTES_MAX: u64 = 16 << 10;
/// How much of a log is shown when a member does not start.
const LOG_LINES_SHOWN: usize = 10;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) members: usize,
    pub(crate) server_arguments: &'a [String],
    pub(crate) folder: &'a Path,
    pub(crate) keep: bool,
}

/// Running members.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: PathBuf,
    keep: bool,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    process: Child,
    pid: u32,
    client_port: u16,
    data: PathBuf,
    log: PathBuf,
}

/// The ports of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    client: u16,
    peer: u16,
}

impl Cluster {
    /// Starts the members and waits until all are healthy.
    ///
    /// # Errors
    /// A program that cannot be started, that ends, or that is not healthy in time, with the end of its log.
    pub(crate) async fn start(recipe: &Recipe<'_>) -> anyhow::Result<Self> {
        /// Tells apart the clusters of one process.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = recipe.folder.join(format!("quorate-bench-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut cluster = Self { folder, keep: recipe.keep, members: Vec::new() };
        let ports = free_ports(recipe.members)?;
        for place in 0..ports.len() {
            let member = cluster.spawn(recipe, &ports, place)?;
            cluster.members.push(member);
        }
        let deadline = Instant::now() + START_DEADLINE;
        for member in &mut cluster.members {
            member.wait_until_healthy(recipe.binary, deadline).await?;
        }
        Ok(cluster)
    }

    fn spawn(&self, recipe: &Recipe<'_>, ports: &[Ports], place: usize) -> anyhow::Result<Member> {
        let data = self.folder.join(member_name(place));
        let log = self.folder.join(format!("{}.log", member_name(place)));
        let log_file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let error_file = log_file.try_clone().context("sharing the log file")?;
        let process = Command::new(recipe.binary)
            .args(member_arguments(recipe, ports, place, &data))
            .stdin(Stdio::null())
            .stdout(log_file)
            .stderr(error_file)
            // Ctrl-C is for this process, which then stops the members in its own way.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", recipe.binary.display()))?;
        let pid = process.id().context("the process that was just started has an id")?;
        Ok(Member { process, pid, client_port: ports[place].client, data, log })
    }

    /// The client URLs of all members.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://127.0.0.1:{}", member.client_port)).collect()
    }

    /// The CPU time of all members since they started.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        self.members.iter().map(|member| cpu_seconds(member.pid)).sum()
    }

    /// The peak memory of the member with the largest.
    pub(crate) fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        largest(self.members.iter().map(|member| peak_memory_bytes(member.pid)))
    }

    /// The disk space of the member with the largest.
    pub(crate) fn disk_bytes(&self) -> anyhow::Result<u64> {
        largest(self.members.iter().map(|member| disk_bytes(&member.data)))
    }

    /// Asks all members to end, waits for them and kills those that do not.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for member in &self.members {
            terminate(&member.process);
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        for member in &mut self.members {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, member.process.wait()).await {
                Ok(status) => drop(status.context("waiting for a member to end")?),
                Err(_) => member.process.kill().await.context("killing a member")?,
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("data and logs are in {}", self.folder.display());
            return;
        }
        for member in &mut self.members {
            // A process that ended already cannot be killed, and need not.
            let _ = member.process.start_kill();
        }
        // A member that is just being killed may still write, so a folder may not be empty at once.
        for _ in 0..REMOVE_TRIES {
            match std::fs::remove_dir_all(&self.folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ => return,
            }
        }
        eprintln!("could not remove {}", self.folder.display());
    }
}

/// How often the removal of a folder is tried, 20 ms apart.
const REMOVE_TRIES: usize = 50;

impl Member {
    async fn wait_until_healthy(&mut self, binary: &Path, deadline: Instant) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.process.try_wait().context("looking after a member")? {
                bail!("{} ended with {status}; its log ends:\n{}", binary.display(), self.end_of_log());
            }
            // A member that is not up yet refuses, resets or says no: all of that means wait.
            if let Ok(Ok(true)) = timeout(HEALTH_TIMEOUT, is_healthy(self.client_port)).await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let (binary, log) = (binary.display(), self.end_of_log());
                bail!("{binary} was not healthy within {START_DEADLINE:?}; its log ends:\n{log}");
            }
            sleep(HEALTH_PERIOD).await;
        }
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

fn largest(values: impl Iterator<Item = anyhow::Result<u64>>) -> anyhow::Result<u64> {
    let values: Vec<u64> = values.collect::<Result<_, _>>()?;
    values.into_iter().max().context("a cluster has members")
}

fn member_name(place: usize) -> String {
    format!("m{place}")
}

/// The command line of one member. A program that is called `quorate` is told to be a server first.
fn member_arguments(recipe: &Recipe<'_>, ports: &[Ports], place: usize, data: &Path) -> Vec<String> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let cluster: Vec<String> =
        ports.iter().enumerate().map(|(place, ports)| format!("{}={}", member_name(place), url(ports.peer))).collect();
    let flags = [
        ("--name", member_name(place)),
        ("--data-dir", data.display().to_string()),
        ("--listen-client-urls", url(ports[place].client)),
        ("--advertise-client-urls", url(ports[place].client)),
        ("--listen-peer-urls", url(ports[place].peer)),
        ("--initial-advertise-peer-urls", url(ports[place].peer)),
        ("--initial-cluster", cluster.join(",")),
    ];
    let server = recipe.binary.file_name().is_some_and(|name| name == "quorate").then(|| "server".to_owned());
    let flags = flags.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    server.into_iter().chain(flags).chain(recipe.server_arguments.iter().cloned()).collect()
}

/// Ports that are free at this moment, all different.
fn free_ports(members: usize) -> anyhow::Result<Vec<Ports>> {
    // All listeners are held until all ports are known, or the system might give one twice.
    let listeners: Vec<TcpListener> = (0..2 * members)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("looking for free ports on loopback")?;
    let ports: Vec<u16> = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()
        .context("looking for free ports on loopback")?;
    Ok(ports.chunks_exact(2).map(|pair| Ports { client: pair[0], peer: pair[1] }).collect())
}

async fn is_healthy(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(HEALTH_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(says_healthy(&answer))
}

fn says_healthy(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let status = head.split(' ').nth(1);
    let body: String = body.split_ascii_whitespace().collect();
    status == Some("200") && body.contains(r#""health":"true""#)
}

#[expect(unsafe_code, reason = "the standard library can kill a child, but not ask it to end")]
fn terminate(process: &Child) {
    // `id` is `None` once the child was waited for, so the number cannot belong to another process yet.
    if let Some(pid) = process.id() {
        // SAFETY: `kill` takes two numbers and touches no memory of ours.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
    }
}

#[cfg(test)]
mod tests;
