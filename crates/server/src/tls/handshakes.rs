//! The handshakes that are in progress: so many at the most, and for a newcomer the oldest makes room.
//!
//! So whoever opens connections and says nothing takes the place of others that say nothing, not of a client that is quick.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Handshakes in progress at the most; fewer where few files may be open.
const HANDSHAKES_MAX: usize = 1024;
/// A handshake takes no longer than this, as in etcd.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a handshake did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It took too long.
    TooSlow,
    /// Too many began after it.
    Crowded,
}

/// All that are in progress.
#[derive(Debug)]
pub(crate) struct Handshakes {
    max: usize,
    timeout: Duration,
    state: Mutex<InProgress>,
}

#[derive(Debug, Default)]
struct InProgress {
    next: u64,
    /// By age; dropping a sender cuts its handshake.
    cutters: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Handshakes {
    /// At the most [`HANDSHAKES_MAX`], and a quarter of the files that may be open.
    pub(crate) fn new() -> Self {
        let files_max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files_max = files_max.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
        Self::with_bounds(HANDSHAKES_MAX.min(files_max / 4).max(16), HANDSHAKE_TIMEOUT)
    }

    fn with_bounds(max: usize, timeout: Duration) -> Self {
        Self { max, timeout, state: Mutex::default() }
    }

    /// Runs a handshake within the bounds.
    pub(crate) async fn run<T>(&self, handshake: impl Future<Output = T>) -> Result<T, Cut> {
        let (cutter, cut) = oneshot::channel();
        let number = {
            let mut state = self.state.lock();
            if state.cutters.len() >= self.max {
                state.cutters.pop_first();
            }
            let number = state.next;
            state.next += 1;
            state.cutters.insert(number, cutter);
            number
        };
        let place = Place { handshakes: self, number };
        let outcome = tokio::select! {
            biased;
            _ = cut => Err(Cut::Crowded),
            outcome = timeout(self.timeout, handshake) => outcome.map_err(|_| Cut::TooSlow),
        };
        drop(place);
        outcome
    }
}

/// Given back when the handshake ends, also when its task is dropped.
struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.handshakes.state.lock().cutters.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::Arc;

    #[tokio::test]
    async fn the_oldest_makes_room_and_the_slow_are_cut() {
        let handshakes = Arc::new(Handshakes::with_bounds(2, Duration::from_millis(50)));
        let silent = || {
            let handshakes = handshakes.clone();
            tokio::spawn(async move { handshakes.run(pending::<()>()).await })
        };
        let (first, second) = (silent(), silent());
        tokio::task::yield_now().await;
        assert_eq!(handshakes.run(async { 7 }).await, Ok(7), "a newcomer is served at once");
        assert_eq!(first.await.expect("joined"), Err(Cut::Crowded));
        assert_eq!(handshakes.run(async { 8 }).await, Ok(8), "its place is free again");
        assert_eq!(second.await.expect("joined"), Err(Cut::TooSlow));
        assert!(handshakes.state.lock().cutters.is_empty());
    }
}
