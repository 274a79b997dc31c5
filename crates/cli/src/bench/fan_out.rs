//! Watchers of one prefix: every event goes to all of them.
//!
//! It owns the watch streams and what arrives on them; the writers are ordinary clients. The invariants: each event of
//! this run is counted once for each watcher that saw it; and a watcher that sees revisions out of order, or one
//! twice, is found out.

use super::caller::{Shared, answer_of, canceled_status, next_of, watch_client, watch_create};
use super::connect::Connection;
use super::payload::read_stamp;
use super::tally::Series;
use futures::channel::mpsc;
use quorate_proto::etcdserverpb::{WatchRequest, WatchResponse};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// What one watcher has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    events: u64,
    mod_revision_last: i64,
}

/// What the watchers of one stream have seen.
#[derive(Debug)]
struct Watched {
    by_watch: HashMap<i64, Seen>,
    events: Series,
    misordered: u64,
    last_event: Option<Instant>,
}

/// The sums over all watchers.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// Latencies from when a put was sent, or due, to the arrival of its event; failures are broken streams.
    pub(crate) events: Series,
    /// Events that should have come and did not.
    pub(crate) lost: u64,
    /// Events whose revision was not above that of the event before.
    pub(crate) misordered: u64,
    /// When the last event came.
    pub(crate) last_event: Option<Instant>,
}

/// One watch stream, which carries some of the watchers.
#[derive(Debug)]
pub(crate) struct WatchStream {
    shared: Arc<Shared>,
    watched: Arc<Mutex<Watched>>,
    /// The stream ends when this is dropped.
    _requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

/// All streams of a run, to be asked while they are read elsewhere.
#[derive(Debug)]
pub(crate) struct FanOut {
    streams: Vec<Arc<Mutex<Watched>>>,
    watchers: u64,
}

impl FanOut {
    /// Opens `watchers` watches of the prefix, spread over the channels, one stream on each.
    pub(crate) async fn open(
        shared: &Arc<Shared>,
        channels: &[Connection],
        watchers: usize,
    ) -> Result<(Self, Vec<WatchStream>), Status> {
        let mut streams = Vec::with_capacity(channels.len());
        for (place, channel) in channels.iter().enumerate() {
            let share = watchers / channels.len() + usize::from(place < watchers % channels.len());
            streams.push(WatchStream::open(shared.clone(), channel.clone(), share).await?);
        }
        let fan_out = Self { streams: streams.iter().map(|s| s.watched.clone()).collect(), watchers: watchers as u64 };
        Ok((fan_out, streams))
    }

    /// How many events came so far, and how many streams broke.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.streams.iter().map(|stream| lock(stream)).fold((0, 0), |sum, watched| {
            (sum.0 + watched.events.latency.count(), sum.1 + watched.events.failures.count())
        })
    }

    /// Waits until every watcher has seen `puts` events, or until for the length of the timeout nothing came.
    pub(crate) async fn wait_for(&self, puts: u64, timeout: Duration) {
        /// Short beside any run; the end of a run is taken from the last event, not from here.
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let (mut before, mut since) = (self.counts().0, Instant::now());
        while before < puts.saturating_mul(self.watchers) && since.elapsed() < timeout {
            tokio::time::sleep(LOOK_EVERY).await;
            let (events, broken) = self.counts();
            if broken as usize >= self.streams.len() {
                return;
            }
            if events > before {
                (before, since) = (events, Instant::now());
            }
        }
    }

    /// The sums, with each watcher held to have to see `puts` events.
    pub(crate) fn delivered(&self, puts: u64) -> Delivered {
        let mut sum = Delivered { events: Series::new("event"), lost: 0, misordered: 0, last_event: None };
        for stream in &self.streams {
            let watched = lock(stream);
            sum.events.merge(&watched.events);
            sum.misordered += watched.misordered;
            sum.lost += watched.by_watch.values().map(|seen| puts.saturating_sub(seen.events)).sum::<u64>();
            sum.last_event = sum.last_event.max(watched.last_event);
        }
        sum
    }
}

fn lock(watched: &Mutex<Watched>) -> std::sync::MutexGuard<'_, Watched> {
    watched.lock().expect("nothing panics while it counts")
}

impl WatchStream {
    async fn open(shared: Arc<Shared>, channel: Connection, watchers: usize) -> Result<Self, Status> {
        let timeout = shared.timeout;
        let (mut requests, stream) = mpsc::channel(watchers);
        let (key, range_end) = shared.payload.prefix_range();
        for _ in 0..watchers {
            let create = watch_create(key.clone(), range_end.clone());
            requests
                .try_send(create)
                .map_err(|_| Status::internal("the channel takes as many requests as watchers"))?;
        }
        let mut client = watch_client(channel);
        let mut responses = answer_of(timeout, client.watch(stream)).await?;
        let mut watched =
            Watched { by_watch: HashMap::new(), events: Series::new("event"), misordered: 0, last_event: None };
        while watched.by_watch.len() < watchers {
            let response = next_of(timeout, &mut responses).await?;
            if let Some(status) = canceled_status(&response) {
                return Err(status);
            }
            // The prefix may be in use already: what comes before all watches are up belongs to nobody's put.
            if response.created {
                watched.by_watch.insert(response.watch_id, Seen::default());
            }
        }
        Ok(Self { shared, watched: Arc::new(Mutex::new(watched)), _requests: requests, responses })
    }

    /// Counts what arrives until the stream breaks or the task is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let outcome = match self.responses.message().await {
                Ok(Some(response)) => match canceled_status(&response) {
                    None => {
                        lock(&self.watched).count(&response, self.shared.tag, self.shared.epoch);
                        continue;
                    }
                    Some(status) => status,
                },
                Ok(None) => Status::unavailable("the server ended the stream"),
                Err(status) => status,
            };
            lock(&self.watched).events.failures.record(&outcome);
            return;
        }
    }
}

impl Watched {
    fn count(&mut self, response: &WatchResponse, tag: u64, epoch: Instant) {
        let now = Instant::now();
        let now_ns = (now - epoch).as_nanos() as u64;
        let Some(seen) = self.by_watch.get_mut(&response.watch_id) else { return };
        for pair in response.events.iter().filter_map(|event| event.kv.as_ref()) {
            if pair.mod_revision <= seen.mod_revision_last {
                self.misordered += 1;
            }
            seen.mod_revision_last = pair.mod_revision;
            if let Some(sent_ns) = read_stamp(&pair.value, tag) {
                seen.events += 1;
                self.events.latency.record(now_ns.saturating_sub(sent_ns));
                self.last_event = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::mvccpb::{Event, KeyValue};

    fn event(mod_revision: i64, tag: u64, sent_ns: u64) -> Event {
        let mut value = tag.to_le_bytes().to_vec();
        value.extend(sent_ns.to_le_bytes());
        let kv = KeyValue { mod_revision, value: value.into(), ..Default::default() };
        Event { kv: Some(kv), ..Default::default() }
    }

    fn watched(watches: &[i64]) -> Watched {
        let by_watch = watches.iter().map(|id| (*id, Seen::default())).collect();
        Watched { by_watch, events: Series::new("event"), misordered: 0, last_event: None }
    }

    #[test]
    fn lost_repeated_and_foreign_events_are_told_apart() {
        let started = Instant::now();
        let mut stream = watched(&[0, 1]);
        let response = |watch_id, events| WatchResponse { watch_id, events, ..Default::default() };
        stream.count(&response(0, vec![event(2, 7, 0), event(3, 7, 0)]), 7, started);
        // Watcher 1 sees a stranger's event and one of two puts, and that one twice.
        stream.count(&response(1, vec![event(1, 8, 0), event(2, 7, 0)]), 7, started);
        stream.count(&response(1, vec![event(2, 7, 0)]), 7, started);
        stream.count(&response(9, vec![event(5, 7, 0)]), 7, started);
        let fan_out = FanOut { streams: vec![Arc::new(Mutex::new(stream))], watchers: 2 };
        assert_eq!(fan_out.counts(), (4, 0));
        let delivered = fan_out.delivered(3);
        assert_eq!((delivered.misordered, delivered.lost), (1, 2));
        assert!(delivered.last_event.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_nothing_comes() {
        let fan_out = FanOut { streams: vec![Arc::new(Mutex::new(watched(&[0])))], watchers: 1 };
        let start = Instant::now();
        fan_out.wait_for(1, Duration::from_secs(2)).await;
        let waited = start.elapsed();
        assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(3), "{waited:?}");
        fan_out.wait_for(0, Duration::from_secs(2)).await;
        assert_eq!(start.elapsed(), waited, "nothing to wait for");
    }
}
