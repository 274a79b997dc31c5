//! The gateway: each connection goes to one endpoint, byte by byte.
//!
//! Owns which endpoint is next and which one is left out because nobody answers there. Knows nothing of what is said.
//! Invariant: a connection that comes in is closed only when no endpoint is left, or one of its ends is done.

use parking_lot::Mutex;
use quorate_dns::Srv;
use rand::Rng as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once at the most; more wait.
const CONNECTIONS_MAX: usize = 16_384;
/// How long an endpoint may take to accept.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause when the process has no file left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// One in so many goes to an endpoint of weight 0 beside others that have one, as in etcd.
const UNWEIGHTED_ONE_IN: u32 = 100;

/// An endpoint.
pub(super) struct Remote {
    record: Srv,
    is_active: AtomicBool,
}

impl Remote {
    pub(super) fn new(record: Srv) -> Self {
        Self { record, is_active: AtomicBool::new(true) }
    }

    fn address(&self) -> String {
        let Srv { target, port, .. } = &self.record;
        if target.contains(':') { format!("[{target}]:{port}") } else { format!("{target}:{port}") }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let Srv { target, port, .. } = &self.record;
        match tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect((target.as_str(), *port))).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// See the module.
pub(super) struct Gateway {
    remotes: Vec<Remote>,
    retry_delay: Duration,
    picks: AtomicUsize,
    /// One chooses at a time, so that a dead endpoint is tried by one connection only.
    random: Mutex<rand::rngs::StdRng>,
}

impl Gateway {
    pub(super) fn new(remotes: Vec<Remote>, retry_delay: Duration) -> Self {
        let random = Mutex::new(rand::SeedableRng::from_os_rng());
        Self { remotes, retry_delay, picks: AtomicUsize::new(0), random }
    }

    /// Serves for ever.
    pub(super) async fn run(self, listener: TcpListener) {
        let endpoints = self.remotes.iter().map(Remote::address).collect::<Vec<_>>().join(",");
        tracing::info!(endpoints, "ready to proxy client requests");
        let gateway = Arc::new(self);
        tokio::spawn(gateway.clone().look_again());
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let permit = room.clone().acquire_owned().await.expect("never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let gateway = gateway.clone();
                    tokio::spawn(async move {
                        gateway.serve(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = error.to_string(), "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(&self, mut inner: TcpStream) {
        while let Some(remote) = self.pick() {
            match remote.connect().await {
                Ok(mut outer) => {
                    // What is said in small pieces goes on in small pieces; without it, only later.
                    let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
                    // Either end may break off.
                    let _ = copy_bidirectional(&mut inner, &mut outer).await;
                    return;
                }
                Err(error) => {
                    remote.is_active.store(false, Relaxed);
                    tracing::warn!(
                        address = remote.address(),
                        interval = crate::config::duration::text(self.retry_delay),
                        error = error.to_string(),
                        "deactivated endpoint"
                    );
                }
            }
        }
    }

    /// Of those with the best priority that are not left out: by weight where there are weights, else in turn.
    fn pick(&self) -> Option<&Remote> {
        let active = || self.remotes.iter().filter(|remote| remote.is_active.load(Relaxed));
        let priority = active().map(|remote| remote.record.priority).min()?;
        let best = || active().filter(|remote| remote.record.priority == priority);
        let weights: u32 = best().map(|remote| u32::from(remote.record.weight)).sum();
        let unweighted: Vec<&Remote> = best().filter(|remote| remote.record.weight == 0).collect();
        let mut random = self.random.lock();
        if weights == 0 || (!unweighted.is_empty() && random.random_range(0..UNWEIGHTED_ONE_IN) == 0) {
            return unweighted.get(self.picks.fetch_add(1, Relaxed) % unweighted.len()).copied();
        }
        let mut chosen = random.random_range(0..weights);
        best().find(|remote| {
            let weight = u32::from(remote.record.weight);
            let is_it = chosen < weight;
            chosen = chosen.saturating_sub(weight);
            is_it
        })
    }

    async fn look_again(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.retry_delay).await;
            for remote in self.remotes.iter().filter(|remote| !remote.is_active.load(Relaxed)) {
                let address = remote.address();
                match remote.connect().await {
                    Ok(_) => {
                        remote.is_active.store(true, Relaxed);
                        tracing::info!(address, "activated");
                    }
                    Err(error) => tracing::warn!(
                        address,
                        error = error.to_string(),
                        "failed to activate endpoint (stay inactive for another interval)"
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn gateway(records: &[(u16, u16)]) -> Gateway {
        let remote = |(number, &(priority, weight)): (usize, &(u16, u16))| {
            Remote::new(Srv { priority, weight, port: number as u16, target: "h".to_owned() })
        };
        Gateway::new(records.iter().enumerate().map(remote).collect(), Duration::from_secs(1))
    }

    fn picked(gateway: &Gateway, times: usize) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(gateway.pick().expect("one is active").record.port).or_default() += 1;
        }
        counts
    }

    #[test]
    fn equal_endpoints_take_turns_and_dead_ones_are_left_out() {
        let gateway = gateway(&[(0, 0), (0, 0), (0, 0), (9, 0)]);
        assert_eq!(picked(&gateway, 30), BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
        gateway.remotes[1].is_active.store(false, Relaxed);
        assert_eq!(picked(&gateway, 30), BTreeMap::from([(0, 15), (2, 15)]));
        for remote in &gateway.remotes[..3] {
            remote.is_active.store(false, Relaxed);
        }
        assert_eq!(picked(&gateway, 3), BTreeMap::from([(3, 3)]), "the next priority");
        gateway.remotes[3].is_active.store(false, Relaxed);
        assert!(gateway.pick().is_none());
    }

    #[test]
    fn weights_are_shares() {
        let counts = picked(&gateway(&[(0, 30), (0, 10), (0, 0)]), 4_000);
        let share = |number: u16| counts.get(&number).copied().unwrap_or(0);
        assert!((2_500..3_400).contains(&share(0)) && (700..1_300).contains(&share(1)) && share(2) < 200, "{counts:?}");
    }
}
