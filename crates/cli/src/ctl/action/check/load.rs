//! Many clients that put keys, and what is known of their calls.
//!
//! Not here: when a check passes. The invariant: every request that was handed out is counted once, as answered or as
//! failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_proto::etcdserverpb as pb;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ctl::client::Client;

/// Hands requests to clients as they are free.
pub(super) struct Load {
    requests: mpsc::Sender<pb::PutRequest>,
    clients: JoinSet<Tally>,
    started: Instant,
}

/// What a client saw.
#[derive(Debug, Default)]
struct Tally {
    latencies_s: Vec<f64>,
    errors: BTreeMap<String, u64>,
}

/// What all clients saw.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) answered_per_s: f64,
    /// Zero if nothing was answered.
    pub(super) slowest_s: f64,
    /// The standard deviation of the times to an answer; not a number if nothing was answered.
    pub(super) deviation_s: f64,
    /// How often each error came.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Load {
    /// Starts the clients. As many requests as there are clients may wait for one.
    pub(super) fn start(clients: &[Client]) -> Self {
        let (requests, waiting) = mpsc::channel(clients.len());
        let waiting = Arc::new(Mutex::new(waiting));
        let mut running = JoinSet::new();
        for client in clients {
            running.spawn(call(client.clone(), Arc::clone(&waiting)));
        }
        Self { requests, clients: running, started: Instant::now() }
    }

    /// Waits until a request can be taken.
    pub(super) async fn put(&self, key: bytes::Bytes, value: bytes::Bytes) {
        let request = pb::PutRequest { key, value, ..Default::default() };
        // The clients end only behind the last request.
        let _ = self.requests.send(request).await;
    }

    /// Waits for the answers to all requests.
    pub(super) async fn finish(self) -> Stats {
        drop(self.requests);
        let tallies = self.clients.join_all().await;
        let elapsed_s = self.started.elapsed().as_secs_f64();
        let mut errors = BTreeMap::new();
        let mut latencies_s = Vec::new();
        for tally in tallies {
            latencies_s.extend(tally.latencies_s);
            for (error, count) in tally.errors {
                *errors.entry(error).or_default() += count;
            }
        }
        Stats { errors, ..stats(&latencies_s, elapsed_s) }
    }
}

async fn call(mut client: Client, waiting: Arc<Mutex<mpsc::Receiver<pb::PutRequest>>>) -> Tally {
    let mut tally = Tally::default();
    loop {
        let request = waiting.lock().await.recv().await;
        let Some(request) = request else { return tally };
        let started = Instant::now();
        match client.call(request, None).await {
            Ok(_) => tally.latencies_s.push(started.elapsed().as_secs_f64()),
            Err(error) => *tally.errors.entry(error.to_string()).or_default() += 1,
        }
    }
}

fn stats(latencies_s: &[f64], elapsed_s: f64) -> Stats {
    let count = latencies_s.len() as f64;
    let average = latencies_s.iter().sum::<f64>() / count;
    let variance = latencies_s.iter().map(|latency| (latency - average).powi(2)).sum::<f64>() / count;
    Stats {
        answered_per_s: count / elapsed_s,
        slowest_s: latencies_s.iter().copied().fold(0.0, f64::max),
        deviation_s: variance.sqrt(),
        errors: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let stats = stats(&[0.1, 0.3], 0.5);
        assert_eq!((stats.answered_per_s, stats.slowest_s), (4.0, 0.3));
        assert!((stats.deviation_s - 0.1).abs() < 1e-9);
        assert!(super::stats(&[], 1.0).deviation_s.is_nan());
    }
}
