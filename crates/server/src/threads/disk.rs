//! The disk thread: owns the log's files and makes what the node wants kept durable, everything that waits with one
//! sync.
//!
//! The invariant: [`Input::Persisted`] is told only behind a successful sync, in order; the first failure ends the
//! process, and nothing is written after it.

use crate::config::duration;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::shutdown::die;
use crate::threads::queue::Receiver;
use quorate_node::api::{Input, Persist};
use quorate_node::wal::Wal;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Writes joined into one sync at the most.
const BATCH_MAX: usize = 256;
/// A write and its sync that take longer are told (etcd's limit).
const SYNC_EXPECTED_MAX: Duration = Duration::from_secs(1);

/// What the node thread asks for.
pub(crate) enum DiskTask {
    /// Make it durable.
    Persist(Persist),
    /// What lies at or before this index may be recycled.
    Truncate {
        /// The last index not needed.
        up_to: u64,
    },
    /// Mark the log as cleanly ended, and end.
    Stop,
}

/// Runs until told to stop.
pub(crate) fn run(mut wal: Wal, tasks: &Receiver<DiskTask>, mailbox: &Arc<Mailbox>, metrics: &Metrics) {
    let mut counted_bytes = wal.written_bytes();
    let mut batch: Vec<Persist> = Vec::new();
    while let Ok(first) = tasks.recv() {
        let mut truncate = None;
        let mut is_stopping = false;
        for task in std::iter::once(first).chain(tasks.try_iter()) {
            match task {
                DiskTask::Persist(persist) => batch.push(persist),
                DiskTask::Truncate { up_to } => truncate = Some(up_to),
                DiskTask::Stop => is_stopping = true,
            }
            if is_stopping || batch.len() == BATCH_MAX {
                break;
            }
        }
        if let Some(last) = batch.last() {
            let number = last.number;
            let started = Instant::now();
            if let Err(error) = wal.append(&batch) {
                die("cannot write the log: this member stops, since a failed write leaves nothing certain", &error);
            }
            let took = started.elapsed();
            metrics.wal_latest_microseconds.set(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
            if took > SYNC_EXPECTED_MAX {
                tracing::warn!(
                    took = duration::text(took),
                    "expected-duration" = duration::text(SYNC_EXPECTED_MAX),
                    "slow fdatasync"
                );
            }
            batch.clear();
            metrics.wal_write_bytes.add(wal.written_bytes() - counted_bytes);
            counted_bytes = wal.written_bytes();
            mailbox.post(Input::Persisted { number });
        }
        if let Some(up_to) = truncate
            && let Err(error) = wal.truncate(up_to)
        {
            die("cannot remove old parts of the log", &error);
        }
        if is_stopping {
            if let Err(error) = wal.mark_clean() {
                die("cannot mark the log as cleanly ended", &error);
            }
            return;
        }
    }
}
