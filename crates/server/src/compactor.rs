//! Compaction by itself (`--auto-compaction-mode`, `--auto-compaction-retention`).
//!
//! Owns the choice of the revision and the time; the compaction is a proposal like a client's. As in etcd every member
//! keeps the time and only the leader compacts, so that a new leader goes on where the old one was. The invariant: no
//! revision younger than what is to be kept is ever chosen.

use crate::backend::{Backend, CallError};
use crate::config::{AutoCompaction, duration};
use quorate_proto::etcdserverpb::CompactionRequest;
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::cluster_caller;
use quorate_store::error::Error;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Looks at the revision between two compactions by age.
const LOOKS_PER_PERIOD: u32 = 10;
/// Compactions by age are at most this far apart.
const COMPACTION_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Looks are at least this far apart.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Looks of compaction by number of revisions are this far apart.
const REVISION_LOOK_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Compacts for as long as the member runs.
pub(crate) async fn run(backend: Backend, wanted: AutoCompaction) {
    let interval = look_interval(wanted);
    let mut choice = match wanted {
        AutoCompaction::Periodic(period) => Choice::Periodic(Periodic::new(period, interval, Instant::now())),
        AutoCompaction::Revision(kept) => Choice::Revision { kept, last: 0 },
    };
    loop {
        choice.look(backend.reader().revision());
        tokio::time::sleep(interval).await;
        if backend.status().leader != backend.identity().member_id {
            continue;
        }
        let Some(revision) = choice.choose(Instant::now(), backend.reader().revision()) else { continue };
        let told = Told { wanted, revision };
        told.starting();
        let started = Instant::now();
        let request = CompactionRequest { revision, physical: false };
        match backend.propose(Some(cluster_caller()), Operation::Compact(request)).await {
            Ok(_) | Err(CallError::Store(Error::Compacted)) => {
                choice.done(revision, Instant::now());
                told.completed(started.elapsed());
            }
            Err(error) => told.failed(interval, &error),
        }
    }
}

/// The lines about one compaction, with etcd's words and fields.
struct Told {
    wanted: AutoCompaction,
    revision: i64,
}

impl Told {
    fn starting(&self) {
        let revision = self.revision;
        match self.wanted {
            AutoCompaction::Periodic(period) => {
                tracing::info!(
                    revision,
                    "compact-period" = duration::text(period),
                    "starting auto periodic compaction"
                );
            }
            AutoCompaction::Revision(kept) => {
                tracing::info!(revision, "revision-compaction-retention" = kept, "starting auto revision compaction");
            }
        }
    }

    fn completed(&self, took: Duration) {
        let (revision, took) = (self.revision, duration::text(took));
        match self.wanted {
            AutoCompaction::Periodic(period) => tracing::info!(
                revision,
                "compact-period" = duration::text(period),
                took,
                "completed auto periodic compaction"
            ),
            AutoCompaction::Revision(kept) => tracing::info!(
                revision,
                "revision-compaction-retention" = kept,
                took,
                "completed auto revision compaction"
            ),
        }
    }

    fn failed(&self, interval: Duration, error: &CallError) {
        let (revision, retry_interval, error) = (self.revision, duration::text(interval), error.to_string());
        match self.wanted {
            AutoCompaction::Periodic(period) => tracing::warn!(
                revision,
                "compact-period" = duration::text(period),
                "retry-interval" = retry_interval,
                error,
                "failed auto periodic compaction"
            ),
            AutoCompaction::Revision(kept) => tracing::warn!(
                revision,
                "revision-compaction-retention" = kept,
                "retry-interval" = retry_interval,
                error,
                "failed auto revision compaction"
            ),
        }
    }
}

fn look_interval(wanted: AutoCompaction) -> Duration {
    match wanted {
        AutoCompaction::Periodic(period) => {
            (period.min(COMPACTION_INTERVAL_MAX) / LOOKS_PER_PERIOD).max(LOOK_INTERVAL_MIN)
        }
        AutoCompaction::Revision(_) => REVISION_LOOK_INTERVAL,
    }
}

enum Choice {
    Periodic(Periodic),
    Revision {
        /// Revisions to keep.
        kept: i64,
        /// Compacted last.
        last: i64,
    },
}

impl Choice {
    /// Tells the newest revision, once per interval.
    fn look(&mut self, revision: i64) {
        if let Self::Periodic(periodic) = self {
            periodic.look(revision);
        }
    }

    /// What to compact, if it is time.
    fn choose(&self, now: Instant, revision: i64) -> Option<i64> {
        match self {
            Self::Periodic(periodic) => periodic.choose(now),
            Self::Revision { kept, last } => {
                let oldest = revision - kept;
                (oldest > 0 && oldest != *last).then_some(oldest)
            }
        }
    }

    fn done(&mut self, revision: i64, now: Instant) {
        match self {
            Self::Periodic(periodic) => periodic.done(revision, now),
            Self::Revision { last, .. } => *last = revision,
        }
    }
}

/// The revisions seen during the last period, one per look.
struct Periodic {
    revisions: VecDeque<i64>,
    /// As many as make a period.
    revisions_max: usize,
    last: i64,
    last_at: Instant,
    /// A whole period at first, then as often as compactions are due.
    wait: Duration,
    wait_later: Duration,
}

impl Periodic {
    fn new(period: Duration, look_interval: Duration, now: Instant) -> Self {
        let looks = period.as_nanos() / look_interval.as_nanos();
        Self {
            revisions: VecDeque::new(),
            revisions_max: usize::try_from(looks).unwrap_or(usize::MAX).saturating_add(1),
            last: 0,
            last_at: now,
            wait: period,
            wait_later: period.min(COMPACTION_INTERVAL_MAX),
        }
    }

    fn look(&mut self, revision: i64) {
        self.revisions.push_back(revision);
        if self.revisions.len() > self.revisions_max {
            self.revisions.pop_front();
        }
    }

    fn choose(&self, now: Instant) -> Option<i64> {
        let oldest = *self.revisions.front()?;
        let due = now.saturating_duration_since(self.last_at) >= self.wait;
        (due && oldest != self.last).then_some(oldest)
    }

    fn done(&mut self, revision: i64, now: Instant) {
        self.last = revision;
        self.last_at = now;
        self.wait = self.wait_later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Runs through looks; revisions grow by ten between two. What was compacted, by look.
    fn compacted(period: Duration, looks: u32) -> Vec<(u32, i64)> {
        let begin = Instant::now();
        let interval = look_interval(AutoCompaction::Periodic(period));
        let mut periodic = Periodic::new(period, interval, begin);
        let mut compacted = Vec::new();
        for look in 0..looks {
            periodic.look(1 + i64::from(look) * 10);
            let now = begin + interval * (look + 1);
            if let Some(revision) = periodic.choose(now) {
                compacted.push((look, revision));
                periodic.done(revision, now);
            }
        }
        compacted
    }

    #[test]
    fn an_hour_is_kept_and_compacted_by_the_hour() {
        assert_eq!(look_interval(AutoCompaction::Periodic(HOUR)), HOUR / 10);
        // After the tenth interval what was seen an hour before it goes.
        assert_eq!(compacted(HOUR, 40), [(9, 1), (19, 91), (29, 191), (39, 291)]);
    }

    #[test]
    fn a_day_is_kept_and_then_compacted_by_the_hour() {
        let looks = compacted(24 * HOUR, 261);
        assert_eq!(looks, [(239, 1), (249, 91), (259, 191)]);
    }

    #[test]
    fn seconds_are_kept_as_well() {
        assert_eq!(look_interval(AutoCompaction::Periodic(Duration::from_secs(5))), Duration::from_millis(500));
        assert_eq!(look_interval(AutoCompaction::Periodic(Duration::from_nanos(1))), LOOK_INTERVAL_MIN);
        assert_eq!(compacted(Duration::from_secs(5), 20), [(9, 1), (19, 91)]);
    }

    #[test]
    fn a_store_that_rests_is_left_alone() {
        let begin = Instant::now();
        let mut periodic = Periodic::new(HOUR, HOUR / 10, begin);
        for _ in 0..12 {
            periodic.look(7);
        }
        assert_eq!(periodic.choose(begin + HOUR), Some(7));
        periodic.done(7, begin + HOUR);
        assert_eq!(periodic.choose(begin + 3 * HOUR), None);
        periodic.look(8);
        assert_eq!(periodic.revisions.len(), 11);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        let mut choice = Choice::Revision { kept: 100, last: 0 };
        let now = Instant::now();
        assert_eq!([1, 100, 101, 350].map(|revision| choice.choose(now, revision)), [None, None, Some(1), Some(250)]);
        choice.done(250, now);
        assert_eq!((choice.choose(now, 350), choice.choose(now, 351)), (None, Some(251)));
    }
}
