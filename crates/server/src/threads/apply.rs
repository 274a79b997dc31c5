//! The apply thread: owns the store. Committed entries go in, callers get their outcomes, and between entries the store
//! is checkpointed and compacted.
//!
//! The invariant: callers are answered only after the whole entry is applied, so that a caller who then reads at this
//! member sees its own write.
//!
//! When a checkpoint is taken: after [`CHECKPOINT_BYTES`] of changes, or after `--snapshot-count` entries but at least
//! [`CHECKPOINT_ENTRIES_MIN`] (etcd's tests set the flag to 1; a sync for every entry would serve nobody). So start-up
//! replays at most that much.

use crate::backend::CallError;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::peer::Transport;
use crate::shutdown::die;
use crate::threads::queue::{Receiver, TakeError};
use crate::threads::snapshots::SnapshotRoom;
use crate::waiting::Waiting;
use quorate_node::api::{CommittedEntry, Input, Payload, SnapshotPoint};
use quorate_store::error::DiskError;
use quorate_store::home::SnapshotSink;
use quorate_store::outcome::{LeaseChange, Outcome, Reply};
use quorate_store::store::Store;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Changed bytes after which a checkpoint is taken.
const CHECKPOINT_BYTES: u64 = 32 << 20;
/// Entries between two checkpoints at the least, unless bytes ask for one.
const CHECKPOINT_ENTRIES_MIN: u64 = 1_000;
/// Bytes that one step of compaction works on: well under a millisecond.
const MAINTAIN_BYTES: usize = 256 << 10;
/// Tasks between two steps of compaction while there is no pause.
const TASKS_PER_MAINTAIN: u32 = 64;
/// Silence after which the store is asked whether there is something to compact.
const QUIET: Duration = Duration::from_millis(20);
/// An entry that takes longer counts as slow (etcd's limit).
const SLOW_APPLY: Duration = Duration::from_millis(100);
/// Outcomes collected before their callers are answered.
const ANSWERS_MAX: usize = 512;

/// What is asked of the store.
pub(crate) enum ApplyTask {
    /// Committed entries, in order.
    Entries(Vec<CommittedEntry>),
    /// Make a snapshot to send.
    BuildSnapshot,
    /// Become the snapshot that arrived.
    Install(SnapshotPoint),
    /// Begin to receive a snapshot.
    Receive(oneshot::Sender<Result<SnapshotSink, DiskError>>),
    /// Write a last checkpoint, and end.
    Stop,
}

/// The thread's state.
pub(crate) struct ApplyThread {
    pub(crate) store: Store,
    pub(crate) tasks: Receiver<ApplyTask>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) snapshots: Arc<SnapshotRoom>,
    pub(crate) peers: Transport,
    pub(crate) metrics: Arc<Metrics>,
    /// `--snapshot-count`.
    pub(crate) snapshot_count: u64,
    /// Entries applied since the last checkpoint.
    pub(crate) entries_since_checkpoint: u64,
}

/// Whether there may be something to compact.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upkeep {
    Nothing,
    Unknown,
    More,
}

impl ApplyThread {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let mut upkeep = Upkeep::Unknown;
        let mut tasks_since_upkeep = 0;
        loop {
            let task = match upkeep {
                Upkeep::Nothing => self.tasks.recv(),
                Upkeep::Unknown => self.tasks.recv_timeout(QUIET),
                Upkeep::More => self.tasks.try_recv(),
            };
            match task {
                Ok(ApplyTask::Stop) | Err(TakeError::Ended) => break,
                Err(TakeError::Empty) => {
                    upkeep = self.maintain();
                    tasks_since_upkeep = 0;
                    continue;
                }
                Ok(ApplyTask::Entries(entries)) => self.apply(entries),
                Ok(ApplyTask::BuildSnapshot) => self.build_snapshot(),
                Ok(ApplyTask::Install(point)) => self.install(point),
                Ok(ApplyTask::Receive(answer)) => {
                    // The receiver's connection may have gone.
                    let _ = answer.send(self.store.receive());
                }
            }
            tasks_since_upkeep += 1;
            if upkeep == Upkeep::Nothing {
                upkeep = Upkeep::Unknown;
            }
            if tasks_since_upkeep >= TASKS_PER_MAINTAIN {
                upkeep = self.maintain();
                tasks_since_upkeep = 0;
            }
        }
        if let Err(error) = self.store.close() {
            die("cannot write the last checkpoint", &error);
        }
    }

    fn maintain(&mut self) -> Upkeep {
        match self.store.maintain(MAINTAIN_BYTES) {
            Ok(true) => Upkeep::More,
            Ok(false) => Upkeep::Nothing,
            Err(error) => die("cannot compact the store", &error),
        }
    }

    fn apply(&mut self, entries: Vec<CommittedEntry>) {
        let Some(last) = entries.last() else { return };
        let index = last.index;
        self.entries_since_checkpoint += entries.len() as u64;
        let mut leases: Vec<LeaseChange> = Vec::new();
        let mut answers: Vec<(u64, Result<Reply, CallError>)> = Vec::new();
        for entry in entries {
            let started = Instant::now();
            let mut outcome = match self.apply_one(entry) {
                Ok(outcome) => outcome,
                Err(error) => die("cannot apply an entry: this member stops", &error),
            };
            let took = started.elapsed();
            self.metrics.apply_seconds.observe(took.as_secs_f64());
            if took > SLOW_APPLY {
                self.metrics.slow_applies.increment();
            }
            leases.append(&mut outcome.leases);
            answers.extend(outcome.replies.into_iter().map(|(id, reply)| (id, reply.map_err(CallError::Store))));
            if outcome.members_changed {
                self.peers.refresh(&self.store.reader().members());
            }
            if answers.len() >= ANSWERS_MAX {
                self.waiting.answer_commands(answers.drain(..));
            }
        }
        if !answers.is_empty() {
            self.waiting.answer_commands(answers);
        }
        self.mailbox.post_quietly(Input::Applied { index, leases });
        let entries_max = self.snapshot_count.max(CHECKPOINT_ENTRIES_MIN);
        if self.entries_since_checkpoint >= entries_max || self.store.bytes_since_checkpoint() >= CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    fn apply_one(&mut self, entry: CommittedEntry) -> Result<Outcome, DiskError> {
        let CommittedEntry { index, term, payload } = entry;
        match payload {
            Payload::Empty => {
                self.store.apply_empty(index, term);
                Ok(Outcome::default())
            }
            Payload::Commands(batch) => {
                let waiting = &self.waiting;
                self.store.apply_commands(index, term, batch, &|id| waiting.is_local(id))
            }
            Payload::Members { conf_state, change } => self.store.apply_members(index, term, conf_state, change),
        }
    }

    fn checkpoint(&mut self) {
        let started = Instant::now();
        match self.store.checkpoint() {
            Ok(index) => {
                self.metrics.backend_commit_seconds.observe(started.elapsed().as_secs_f64());
                self.entries_since_checkpoint = 0;
                tracing::debug!("applied-index" = index, "wrote a checkpoint");
                self.mailbox.post(Input::Checkpointed { index });
            }
            Err(error) => die("cannot write a checkpoint", &error),
        }
    }

    fn build_snapshot(&mut self) {
        match self.store.snapshot() {
            Ok(built) => {
                let checkpoint = &built.checkpoint;
                let point = SnapshotPoint {
                    index: checkpoint.applied_index,
                    term: checkpoint.applied_term,
                    conf_state: checkpoint.conf_state.clone().unwrap_or_default(),
                };
                self.snapshots.keep_built(built);
                self.mailbox.post(Input::SnapshotBuilt(point));
            }
            Err(error) => die("cannot make a snapshot", &error),
        }
    }

    fn install(&mut self, point: SnapshotPoint) {
        let received =
            self.snapshots.take_arrived(point.index).expect("a snapshot is installed only after it arrived whole");
        if let Err(error) = self.store.install(received) {
            die("cannot install the snapshot that arrived", &error);
        }
        self.entries_since_checkpoint = 0;
        self.peers.refresh(&self.store.reader().members());
        let leases = self.store.position().leases;
        tracing::info!("applied-index" = point.index, "installed a snapshot from the leader");
        self.mailbox.post(Input::SnapshotInstalled { point, leases });
    }
}
