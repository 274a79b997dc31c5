//! When each call begins and when a run ends.
//!
//! It owns the numbering of calls and their due times; it makes no call. The invariants: each call number is handed out
//! once, in order; and with a rate, a call that begins late because all clients were still waiting for answers counts
//! from the time it was due, so that a server which stalls cannot hide the calls that it held up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// This many calls have begun.
    Calls(u64),
    /// This much time has passed; calls under way are still waited for.
    Time(Duration),
}

/// How fast calls begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Each client makes its next call as soon as it has the answer to the last.
    Unpaced,
    /// This many calls begin each second, over all clients; more than 0.
    PerSecond(f64),
}

/// One call to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The number of the call, from 0; what the call does follows from it.
    pub(crate) number: u64,
    /// Where its latency is counted from.
    pub(crate) begin: Instant,
}

/// Hands out the calls of a run to its clients.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    limit: Limit,
    pace: Pace,
    next: AtomicU64,
}

impl Schedule {
    /// A schedule that starts at this moment.
    pub(crate) fn start(limit: Limit, pace: Pace) -> Self {
        Self { start: Instant::now(), limit, pace, next: AtomicU64::new(0) }
    }

    /// When the run started.
    pub(crate) fn started(&self) -> Instant {
        self.start
    }

    /// The next call, at its time; `None` once the run is over. A caller that gives up waiting loses its call number.
    pub(crate) async fn next(&self) -> Option<Slot> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let due = match self.pace {
            Pace::Unpaced => now,
            Pace::PerSecond(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
        };
        let over = match self.limit {
            Limit::Calls(total) => number >= total,
            Limit::Time(time) => now.max(due) >= self.start + time,
        };
        if over {
            return None;
        }
        if due <= now {
            return Some(Slot { number, begin: due });
        }
        // The timer may wake this client up to a millisecond late. That is the generator's doing, so the latency
        // counts from the moment of waking.
        tokio::time::sleep_until(due).await;
        Some(Slot { number, begin: Instant::now() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_pace_spreads_the_calls_evenly() {
        let schedule = Schedule::start(Limit::Calls(5), Pace::PerSecond(100.0));
        let mut begins = Vec::new();
        while let Some(slot) = schedule.next().await {
            begins.push((slot.number, slot.begin - schedule.started()));
        }
        assert_eq!(begins, (0..5).map(|number| (number, 10 * MS * number as u32)).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_call_counts_from_when_it_was_due() {
        let schedule = Schedule::start(Limit::Calls(4), Pace::PerSecond(100.0));
        schedule.next().await.unwrap();
        tokio::time::advance(25 * MS).await;
        assert_eq!(schedule.next().await.unwrap().begin, schedule.started() + 10 * MS);
        assert_eq!(schedule.next().await.unwrap().begin, schedule.started() + 20 * MS);
        // The backlog is worked off: this one waits again.
        assert_eq!(schedule.next().await.unwrap().begin, schedule.started() + 30 * MS);
        assert_eq!(Instant::now(), schedule.started() + 30 * MS);
        assert_eq!(schedule.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_limit_makes_exactly_the_calls_due_within_it() {
        let schedule = Schedule::start(Limit::Time(Duration::from_secs(2)), Pace::PerSecond(3.0));
        let mut calls = 0;
        while schedule.next().await.is_some() {
            calls += 1;
        }
        assert_eq!(calls, 6);
        assert!(
            Instant::now() < schedule.started() + Duration::from_secs(2),
            "nobody waits for a call that is not made"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pace_calls_begin_at_once_until_the_limit() {
        let schedule = Schedule::start(Limit::Time(10 * MS), Pace::Unpaced);
        for number in 0..1000 {
            assert_eq!(schedule.next().await, Some(Slot { number, begin: schedule.started() }));
        }
        tokio::time::advance(10 * MS).await;
        assert_eq!(schedule.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_clients_share_one_pace() {
        let schedule = std::sync::Arc::new(Schedule::start(Limit::Calls(300), Pace::PerSecond(1000.0)));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..7 {
            let schedule = schedule.clone();
            clients.spawn(async move {
                let mut numbers = Vec::new();
                while let Some(slot) = schedule.next().await {
                    numbers.push(slot.number);
                    tokio::time::sleep(3 * MS).await;
                }
                numbers
            });
        }
        let mut numbers: Vec<u64> = clients.join_all().await.into_iter().flatten().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>());
        let took = schedule.started().elapsed();
        assert!(took >= 299 * MS && took <= 310 * MS, "took {took:?}");
    }
}
