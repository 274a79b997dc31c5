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
use crate::cluster_version::major_minor;
use crate::config::duration;
use crate::mailbox::Mailbox;
use crate::membership::log_changes;
use crate::metrics::Metrics;
use crate::peer::Transport;
use crate::shutdown::die;
use crate::threads::queue::{Receiver, TakeError};
use crate::threads::snapshots::SnapshotRoom;
use crate::waiting::Waiting;
use quorate_node::api::{CommittedEntry, Input, Payload, SnapshotPoint};
use quorate_node::held::HeldEntries;
use quorate_proto::etcdserverpb::Member;
use quorate_store::error::DiskError;
use quorate_store::export::Moment;
use quorate_store::home::SnapshotSink;
use quorate_store::outcome::{LeaseChange, Outcome, Reply};
use quorate_store::store::Store;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
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
    /// Say what there is at this moment, for a backup.
    Moment(oneshot::Sender<Moment>),
    /// A reader found a broken record, for this reason.
    Distrust(String),
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
    /// `--warning-apply-duration`.
    pub(crate) slow_apply: Duration,
    /// Entries applied since the last checkpoint.
    pub(crate) entries_since_checkpoint: u64,
    /// The compaction under way, if its command was applied in this life of the process.
    pub(crate) compaction: Option<CompactionRun>,
    /// What is not applied because the store is not to be trusted; see `distrust`.
    pub(crate) held: Option<HeldEntries>,
}

/// A compaction from its command to its end.
pub(crate) struct CompactionRun {
    started: Instant,
    /// Versions that were forgotten before it.
    versions_before: u64,
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
        self.look_at_own_alarm();
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
                // The node, which hears of it, builds no snapshots of a store that is not to be trusted, and asks again later.
                Ok(ApplyTask::BuildSnapshot | ApplyTask::Moment(_)) if self.held.is_some() => {}
                Ok(ApplyTask::Distrust(reason)) => self.reader_found(&reason),
                Ok(ApplyTask::BuildSnapshot) => self.build_snapshot(),
                Ok(ApplyTask::Install(point)) => self.install(point),
                Ok(ApplyTask::Moment(answer)) => {
                    // The caller may have gone.
                    let _ = answer.send(self.store.moment());
                }
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
        // What is not to be trusted is not made durable: the next start finds what the alarm or the checksum says.
        if self.held.is_none()
            && let Err(error) = self.store.close()
        {
            die("cannot write the last checkpoint", &error);
        }
    }

    fn maintain(&mut self) -> Upkeep {
        if self.held.is_some() {
            return Upkeep::Nothing;
        }
        let started = Instant::now();
        let upkeep = match self.store.maintain(MAINTAIN_BYTES) {
            Ok(true) => Upkeep::More,
            Ok(false) => Upkeep::Nothing,
            Err(error @ DiskError::Corrupt { .. }) if self.has_others() => {
                self.distrust(&error.to_string(), Vec::new());
                Upkeep::Nothing
            }
            Err(error) => die("cannot compact the store", &error),
        };
        if self.compaction.is_some() {
            self.metrics.compaction_pause_milliseconds.observe(milliseconds(started.elapsed()));
            self.tell_compacted();
        }
        upkeep
    }

    /// Tells of a compaction that is done.
    fn tell_compacted(&mut self) {
        let reader = self.store.reader();
        let revision = reader.compacted_revision();
        if revision < reader.compact_revision() {
            return;
        }
        let Some(run) = self.compaction.take() else { return };
        let took = run.started.elapsed();
        self.metrics.compaction_milliseconds.observe(milliseconds(took));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.compaction_last_seconds.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let stats = reader.stats();
        tracing::info!(
            "compact-revision" = revision,
            took = duration::text(took),
            "number-of-keys-compacted" = stats.versions_compacted - run.versions_before,
            "current-db-size-bytes" = stats.disk_bytes,
            "current-db-size-in-use-bytes" = stats.live_bytes,
            "finished scheduled compaction"
        );
    }

    pub(super) fn apply(&mut self, mut entries: Vec<CommittedEntry>) {
        if self.held.is_some() {
            return self.hold(entries);
        }
        let Some(last) = entries.last() else { return };
        let mut index = last.index;
        // A store that was installed may hold more than was handed out until then.
        let applied = self.store.reader().applied_index();
        entries.retain(|entry| entry.index > applied);
        self.entries_since_checkpoint += entries.len() as u64;
        let mut leases: Vec<LeaseChange> = Vec::new();
        let mut answers: Vec<(u64, Result<Reply, CallError>)> = Vec::new();
        let mut broken: Option<String> = None;
        let mut entries = entries.into_iter();
        while let Some(entry) = entries.next() {
            let entry_index = entry.index;
            let started = Instant::now();
            let before = matches!(entry.payload, Payload::Members { .. }).then(|| self.store.reader().members());
            let mut outcome = match self.apply_one(entry.clone()) {
                Ok(outcome) => outcome,
                Err(error @ DiskError::Corrupt { .. }) if self.has_others() => {
                    index = entry_index - 1;
                    entries = std::iter::once(entry).chain(entries).collect::<Vec<_>>().into_iter();
                    broken = Some(error.to_string());
                    break;
                }
                Err(error) => die("cannot apply an entry: this member stops", &error),
            };
            self.measure(entry_index, &outcome, started);
            self.waiting.followed().applied(outcome.replies.iter().map(|(id, _)| *id), started.elapsed());
            let distrusted = self.heed(&outcome);
            leases.append(&mut outcome.leases);
            answers.extend(outcome.replies.into_iter().map(|(id, reply)| (id, reply.map_err(CallError::Store))));
            if outcome.members_changed {
                self.follow_members(before.as_deref());
            }
            if answers.len() >= ANSWERS_MAX {
                self.tell(entry_index, std::mem::take(&mut leases), &mut answers);
            }
            if let Some(reason) = distrusted.filter(|_| self.has_others()) {
                index = entry_index;
                broken = Some(reason.to_owned());
                break;
            }
        }
        self.tell(index, leases, &mut answers);
        if let Some(reason) = broken {
            return self.distrust(&reason, entries.collect());
        }
        let entries_max = self.snapshot_count.max(CHECKPOINT_ENTRIES_MIN);
        if self.entries_since_checkpoint >= entries_max || self.store.bytes_since_checkpoint() >= CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    /// Tells what was applied: the node first, so that whoever is answered finds that it knows the lease just granted.
    fn tell(&self, index: u64, leases: Vec<LeaseChange>, answers: &mut Vec<(u64, Result<Reply, CallError>)>) {
        self.mailbox.post_quietly(Input::Applied { index, leases });
        if !answers.is_empty() {
            self.waiting.answer_commands(answers.drain(..));
        }
    }

    /// Counts an entry that was applied, and tells of it if it was slow.
    fn measure(&mut self, index: u64, outcome: &Outcome, started: Instant) {
        let took = started.elapsed();
        let operations = &outcome.operations;
        self.metrics.applied(operations, took);
        for lease in &outcome.leases {
            if let LeaseChange::Granted { ttl_s, .. } = lease {
                self.metrics.lease_ttl_seconds.observe(*ttl_s as f64);
            }
        }
        if operations.compactions() > 0 && self.compaction.is_none() {
            let versions_before = self.store.reader().stats().versions_compacted;
            self.compaction = Some(CompactionRun { started, versions_before });
        }
        if took > self.slow_apply {
            self.metrics.slow_applies.increment();
            let kinds =
                operations.occurring().map(|(_, name, succeeded, failed)| format!("{name}:{}", succeeded + failed));
            tracing::warn!(
                took = duration::text(took),
                "expected-duration" = duration::text(self.slow_apply),
                prefix = "",
                request = format!("entry {index} <{}>", kinds.collect::<Vec<_>>().join(" ")),
                response = "",
                "apply request took too long"
            );
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
            Payload::Members { verdict, change } => {
                let waiting = &self.waiting;
                Ok(self.store.apply_members(index, term, verdict, &change, &|id| waiting.is_local(id)))
            }
        }
    }

    /// The connections follow the table of members. A member that finds itself removed goes on until another one tells it
    /// so (`peer`): by then somebody who stays has applied the removal. `before`: the table before a change, for the log.
    fn follow_members(&self, before: Option<&[Member]>) {
        let reader = self.store.reader();
        let members = reader.members();
        let config = self.peers.config();
        if let Some(before) = before {
            log_changes(config.cluster_id, config.member_id, before, &members);
        }
        self.peers.refresh(&members, |id| reader.is_removed(id));
        let cluster_version = reader.cluster_version();
        if !cluster_version.is_empty() {
            self.metrics.cluster_versions.see(&major_minor(&cluster_version));
        }
    }

    fn checkpoint(&mut self) {
        let started = Instant::now();
        match self.store.checkpoint() {
            Ok(index) => {
                self.metrics.backend_commit_seconds.observe(started.elapsed().as_secs_f64());
                self.entries_since_checkpoint = 0;
                tracing::info!("snapshot-index" = index, "saved snapshot to disk");
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
        let before = self.store.position().applied_index;
        tracing::info!(
            "current-applied-index" = before,
            "incoming-leader-snapshot-index" = point.index,
            "incoming-leader-snapshot-term" = point.term,
            "applying snapshot"
        );
        self.metrics.snapshots_installing.set(1);
        if let Err(error) = self.store.install(received) {
            die("cannot install the snapshot that arrived", &error);
        }
        self.metrics.snapshots_installing.set(0);
        self.compaction = None;
        self.entries_since_checkpoint = 0;
        self.follow_members(None);
        let position = self.store.position();
        tracing::info!(
            "current-applied-index" = before,
            "incoming-leader-snapshot-index" = point.index,
            "incoming-leader-snapshot-term" = point.term,
            "applied snapshot"
        );
        let (leases, members) = (position.leases, position.members);
        let index = point.index;
        self.mailbox.post(Input::SnapshotInstalled { point, leases, members });
        self.trust_again(index);
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
