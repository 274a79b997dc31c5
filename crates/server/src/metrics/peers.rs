//! What is counted of the traffic with one member.

use super::{Counter, Gauge, Histogram};
use parking_lot::Mutex;
use std::time::Duration;

/// Transfers of snapshots in one direction.
#[derive(Debug)]
pub struct Transfers {
    /// Those that arrived whole.
    pub successes: Counter,
    /// Those that did not.
    pub failures: Counter,
    /// Under way.
    pub inflight: Gauge,
    /// Seconds that the successful ones took.
    pub seconds: Histogram,
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            successes: Counter::default(),
            failures: Counter::default(),
            inflight: Gauge::default(),
            seconds: Histogram::exponential(0.1, 2.0, 10),
        }
    }
}

impl Transfers {
    /// Counts one that is under way until the answer is ended or dropped, which is a failure.
    pub(crate) fn begin(&self) -> Transfer<'_> {
        self.inflight.add(1);
        Transfer { transfers: self, started: std::time::Instant::now(), ended: false }
    }
}

/// One transfer under way.
pub(crate) struct Transfer<'a> {
    transfers: &'a Transfers,
    started: std::time::Instant,
    ended: bool,
}

impl Transfer<'_> {
    /// It arrived whole.
    pub(crate) fn succeeded(mut self) -> Duration {
        self.ended = true;
        let took = self.started.elapsed();
        self.transfers.successes.increment();
        self.transfers.seconds.observe(took.as_secs_f64());
        took
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.transfers.inflight.add(-1);
        if !self.ended {
            self.transfers.failures.increment();
        }
    }
}

/// Round trips in figures that do not forget: for `/v2/stats/leader`. Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoundTrips {
    /// How many were measured.
    pub count: u64,
    /// The newest.
    pub current_ms: f64,
    /// Of all.
    pub average_ms: f64,
    /// The shortest; 0 before the first.
    pub minimum_ms: f64,
    /// The longest.
    pub maximum_ms: f64,
    average_square: f64,
}

impl RoundTrips {
    /// Counts one.
    pub(crate) fn observe(&mut self, took: Duration) {
        let took_ms = took.as_secs_f64() * 1e3;
        self.minimum_ms = if self.count == 0 { took_ms } else { self.minimum_ms.min(took_ms) };
        self.maximum_ms = self.maximum_ms.max(took_ms);
        self.current_ms = took_ms;
        self.count += 1;
        let share = 1.0 / self.count as f64;
        self.average_ms += (took_ms - self.average_ms) * share;
        self.average_square += (took_ms * took_ms - self.average_square) * share;
    }

    /// How far they lie apart.
    pub fn standard_deviation_ms(&self) -> f64 {
        (self.average_square - self.average_ms * self.average_ms).max(0.0).sqrt()
    }
}

/// Traffic with one member.
#[derive(Debug)]
pub struct PeerCounters {
    /// Bytes sent to it.
    pub sent_bytes: Counter,
    /// Bytes received from it.
    pub received_bytes: Counter,
    /// Messages that could not be sent.
    pub sent_failures: Counter,
    /// Messages that could not be read.
    pub received_failures: Counter,
    /// Connections lost.
    pub disconnections: Counter,
    /// 1 while a connection is up.
    pub active: Gauge,
    /// Seconds from a probe to its answer.
    pub round_trip_seconds: Histogram,
    /// The same in figures.
    pub round_trips: Mutex<RoundTrips>,
    /// Snapshots to it.
    pub snapshots_sent: Transfers,
    /// Snapshots from it.
    pub snapshots_received: Transfers,
}

impl Default for PeerCounters {
    fn default() -> Self {
        Self {
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            sent_failures: Counter::default(),
            received_failures: Counter::default(),
            disconnections: Counter::default(),
            active: Gauge::default(),
            round_trip_seconds: Histogram::exponential(0.0001, 2.0, 16),
            round_trips: Mutex::default(),
            snapshots_sent: Transfers::default(),
            snapshots_received: Transfers::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_summed_up() {
        let mut trips = RoundTrips::default();
        for took_ms in [4, 2, 6] {
            trips.observe(Duration::from_millis(took_ms));
        }
        let figures = [trips.current_ms, trips.average_ms, trips.minimum_ms, trips.maximum_ms];
        for (figure, want) in figures.into_iter().zip([6.0, 4.0, 2.0, 6.0]) {
            assert!((figure - want).abs() < 1e-9, "{trips:?}");
        }
        assert!((trips.standard_deviation_ms() - (8.0_f64 / 3.0).sqrt()).abs() < 1e-9 && trips.count == 3);
    }

    #[test]
    fn a_transfer_that_is_dropped_failed() {
        let transfers = Transfers::default();
        let first = transfers.begin();
        let second = transfers.begin();
        assert_eq!(transfers.inflight.get(), 2);
        drop(first);
        second.succeeded();
        assert_eq!((transfers.inflight.get(), transfers.failures.get(), transfers.successes.get()), (0, 1, 1));
        assert_eq!(transfers.seconds.count(), 1);
    }
}
