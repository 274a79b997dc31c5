//! The store's writer: one owner applies the log's entries in order and keeps the files.
//!
//! Invariant: a checkpoint names an applied index and exactly the records, leases, alarms and members that applying up to
//! it made, so that the index and its effects can't part. What lies beyond is cut off at the next start and made again
//! from the log.

use crate::apply::Applier;
use crate::auth::AuthView;
use crate::compaction::Compaction;
use crate::disk::Disk;
use crate::error::{DiskError, Error};
use crate::export::Moment;
use crate::hash::CompactionHashes;
use crate::home::{Home, Received, SnapshotSink, SnapshotSource};
use crate::integrity::Round;
use crate::key_index::{KeyIndex, Version};
use crate::lease::Leases;
use crate::members::{Membership, decode_change};
use crate::outcome::{Outcome, Reply, ReplyBody};
use crate::reader::StoreReader;
use crate::revlog::{RevLog, RevLogConfig, SegmentSet};
use crate::state::{Core, Counters, State, auth_mark};
use crate::v2;
use crate::watch::{EventRecord, WatchHub};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use quorate_proto::etcdserverpb::{AlarmMember, Member};
use quorate_proto::quoratepb::{Checkpoint, CommandBatch, ConfState, LeaseRecord, SegmentRef};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

/// Commands applied under one hold of the lock, so that readers wait some 100 us at the most.
const COMMANDS_PER_TURN: usize = 64;
/// The revision of an empty store, as in etcd.
pub(crate) const FIRST_REVISION: i64 = 1;

/// Sizes that a member may choose for itself.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// Of the revision log.
    pub revlog: RevLogConfig,
}

/// How a new store begins; the same on every member of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    /// The first members.
    pub members: Vec<Member>,
    /// Raft's view of them.
    pub conf_state: ConfState,
}

/// Where the store stands.
#[derive(Clone, Debug, Default)]
pub struct Position {
    /// The last applied index; 0: a new store.
    pub applied_index: u64,
    /// That entry's term.
    pub applied_term: u64,
    /// Voters and learners.
    pub conf_state: ConfState,
    /// The leases.
    pub leases: Vec<LeaseRecord>,
    /// The members.
    pub members: Membership,
}

/// What becomes of a store whose segments are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnBroken {
    Refuse,
    Quarantine,
}

/// A snapshot at hand: can be sent any number of times, while the store goes on.
#[derive(Clone)]
pub struct BuiltSnapshot {
    /// What it holds.
    pub checkpoint: Checkpoint,
    /// Its files, open.
    pub segments: Arc<SegmentSet>,
}

impl BuiltSnapshot {
    /// One sending of it.
    pub fn source(&self) -> Result<SnapshotSource, DiskError> {
        SnapshotSource::new(&self.checkpoint, &self.segments)
    }
}

/// The writer.
pub struct Store {
    disk: Arc<dyn Disk>,
    config: StoreConfig,
    home: Home,
    log: RevLog,
    core: Arc<Core>,
    hub: WatchHub,
    conf_state: ConfState,
    scratch: Vec<u8>,
    bytes_since_checkpoint: u64,
    compaction: Compaction,
}

impl Store {
    /// Opens the store below `root`, or makes a new one.
    pub fn open(disk: Arc<dyn Disk>, root: &str, config: StoreConfig, bootstrap: Bootstrap) -> Result<Self, DiskError> {
        Self::open_or(disk, root, config, bootstrap, OnBroken::Refuse)
    }

    /// Like [`Self::open`]; but with segments that are broken it opens without any records, quarantined, if there are other
    /// members that could give this one another store. Nothing may be done with it then but to receive and install one.
    /// The broken files stay as they are until then.
    pub fn open_to_repair(
        disk: Arc<dyn Disk>,
        root: &str,
        config: StoreConfig,
        bootstrap: Bootstrap,
    ) -> Result<Self, DiskError> {
        Self::open_or(disk, root, config, bootstrap, OnBroken::Quarantine)
    }

    fn open_or(
        disk: Arc<dyn Disk>,
        root: &str,
        config: StoreConfig,
        bootstrap: Bootstrap,
        on_broken: OnBroken,
    ) -> Result<Self, DiskError> {
        let (home, checkpoint) = Home::open(disk.clone(), root)?;
        let is_new = checkpoint.is_none();
        let checkpoint = checkpoint.unwrap_or_else(|| Checkpoint {
            revision: FIRST_REVISION,
            compact_revision: -1,
            v2: Some(v2::first_record(&bootstrap.members)),
            members: bootstrap.members,
            conf_state: Some(bootstrap.conf_state),
            ..Checkpoint::default()
        });
        let (log, state, broken) = match load(&disk, &home, config, &checkpoint) {
            Ok((log, state)) => (log, state, None),
            Err(error @ DiskError::Corrupt { .. })
                if on_broken == OnBroken::Quarantine && checkpoint.members.len() > 1 =>
            {
                let log = RevLog::without_records(disk.clone(), &home.folder(), config.revlog);
                let leases = Leases::load(&checkpoint.leases, checkpoint.lease_count);
                let state = state_of(&checkpoint, &log, KeyIndex::new(), leases);
                (log, state, Some(error))
            }
            Err(error) => return Err(error),
        };
        let revision = state.revision;
        let compact_revision = state.compact_revision;
        let core = Arc::new(Core {
            applied_index: AtomicU64::new(state.applied_index),
            revision: AtomicI64::new(revision),
            auth_mark: AtomicU64::new(auth_mark(&state.auth)),
            auth: RwLock::new(state.auth.clone()),
            state: RwLock::new(state),
            counters: Counters::default(),
            corrupt: AtomicBool::new(false),
            corrupt_reason: Mutex::new(None),
            quarantined: AtomicBool::new(false),
            installs: AtomicU64::new(0),
            compaction_hashes: Mutex::new(CompactionHashes::default()),
            compacted_revision: AtomicI64::new(compact_revision),
            v2_hub: v2::Hub::default(),
            v2_stats: v2::Stats::default(),
        });
        let hub = WatchHub::new(core.clone(), revision);
        let mut store = Self {
            disk,
            config,
            home,
            log,
            core,
            hub,
            conf_state: checkpoint.conf_state.unwrap_or_default(),
            scratch: Vec::new(),
            bytes_since_checkpoint: 0,
            compaction: Compaction::resume(compact_revision),
        };
        store.count_sizes();
        if let Some(error) = broken {
            store.quarantine(&error.to_string());
        }
        if is_new {
            // The cluster's first members must be known at the next start even before anything is applied.
            store.checkpoint()?;
        }
        Ok(store)
    }

    /// For reading, from any thread.
    pub fn reader(&self) -> StoreReader {
        StoreReader::new(self.core.clone(), self.hub.clone())
    }

    /// Where the store stands.
    pub fn position(&self) -> Position {
        let state = self.core.state.read();
        Position {
            applied_index: state.applied_index,
            applied_term: state.applied_term,
            conf_state: self.conf_state.clone(),
            leases: state.leases.records(),
            members: state.members.clone(),
        }
    }

    /// Applies an entry of commands; `wanted` says whose callers wait here.
    pub fn apply_commands(
        &mut self,
        index: u64,
        term: u64,
        batch: Bytes,
        wanted: &dyn Fn(u64) -> bool,
    ) -> Result<Outcome, DiskError> {
        self.bytes_since_checkpoint += batch.len() as u64;
        // The entry was encoded by a member of this release's format and checked by the log's checksum.
        let batch = CommandBatch::decode(batch)
            .map_err(|error| DiskError::corrupt("log", index, format!("entry {index} is no command batch: {error}")))?;
        let mut outcome = Outcome::default();
        let mut compacted = Vec::new();
        let watched = self.hub.is_watched();
        let mut events: Vec<EventRecord> = Vec::new();
        let mut turns = batch.commands.chunks(COMMANDS_PER_TURN).peekable();
        while let Some(commands) = turns.next() {
            let mut state = self.core.state.write();
            let mut applier = Applier {
                core: &self.core,
                state: &mut state,
                log: &mut self.log,
                events: watched.then_some(&mut events),
                scratch: &mut self.scratch,
                outcome: &mut outcome,
                index,
                term,
                compacted: &mut compacted,
            };
            for command in commands {
                applier.apply(command, command.id != 0 && wanted(command.id))?;
            }
            if turns.peek().is_none() {
                state.applied_index = index;
                state.applied_term = term;
            }
            self.core.revision.store(state.revision, Release);
        }
        for (previous, revision) in compacted {
            self.compaction.add(previous, revision);
        }
        self.applied(index, term, watched.then_some(&mut events));
        Ok(outcome)
    }

    /// Applies an entry that changes nothing.
    pub fn apply_empty(&mut self, index: u64, term: u64) {
        self.applied(index, term, Some(&mut Vec::new()));
    }

    /// Applies a change of members: `verdict` is the configuration behind it, or why it was refused; `change` is the
    /// encoded `Command` that asked for it (empty: raft changed by itself). `is_local` says whose callers wait here.
    pub fn apply_members(
        &mut self,
        index: u64,
        term: u64,
        verdict: Result<ConfState, Error>,
        change: &Bytes,
        is_local: &dyn Fn(u64) -> bool,
    ) -> Outcome {
        self.bytes_since_checkpoint += change.len() as u64;
        let (id, change) = decode_change(change.clone());
        let mut outcome = Outcome::default();
        {
            let mut state = self.core.state.write();
            if let Ok(conf_state) = &verdict {
                state.members.apply(change.as_ref(), conf_state);
                if let Some(id) = change.as_ref().and_then(|change| change.member.as_ref()).map(|member| member.id) {
                    // etcd deletes a removed member's record and makes another.
                    let records = if state.members.is_removed(id) { 2 } else { 1 };
                    (0..records).for_each(|_| state.v2.note_member(id));
                }
                let gone = |state: &State, id: u64| id != 0 && state.members.get(id).is_none();
                let over: Vec<_> = state.own_alarms.iter().copied().filter(|alarm| gone(&state, alarm.0)).collect();
                for alarm in over {
                    state.own_alarms.remove(&alarm);
                    state.alarms.remove(&alarm);
                    outcome.alarms_changed = true;
                }
                let members = state.members.to_vec();
                state.digest(&members.iter().flat_map(Message::encode_to_vec).collect::<Vec<u8>>());
            }
            outcome.members_changed = verdict.is_ok();
            if id != 0 && is_local(id) {
                let reply = verdict
                    .as_ref()
                    .map_err(Error::clone)
                    .map(|_| Reply { revision: state.revision, body: ReplyBody::Members(state.members.to_vec()) });
                outcome.replies.push((id, reply));
            }
        }
        if let Ok(conf_state) = verdict {
            self.conf_state = conf_state;
        }
        self.applied(index, term, Some(&mut Vec::new()));
        outcome
    }

    /// The end of every entry: watchers first, so that whoever is answered finds its event already handed out.
    fn applied(&mut self, index: u64, term: u64, events: Option<&mut Vec<EventRecord>>) {
        let revision = {
            let mut state = self.core.state.write();
            state.applied_index = index;
            state.applied_term = term;
            state.revision
        };
        self.hub.publish(revision, events);
        self.core.applied_index.store(index, Release);
        self.count_sizes();
    }

    fn count_sizes(&mut self) {
        self.core.counters.disk_bytes.store(self.log.disk_bytes(), Relaxed);
        self.core.counters.live_bytes.store(self.log.live_bytes(), Relaxed);
    }

    /// Bytes of entries applied since the latest checkpoint: what a start would have to apply again.
    pub fn bytes_since_checkpoint(&self) -> u64 {
        self.bytes_since_checkpoint
    }

    /// Makes the store as it is durable; answers the applied index that it covers.
    pub fn checkpoint(&mut self) -> Result<u64, DiskError> {
        Ok(self.write_checkpoint()?.applied_index)
    }

    fn write_checkpoint(&mut self) -> Result<Checkpoint, DiskError> {
        let segments = self.log.sync()?;
        let checkpoint = self.checkpoint_of(segments);
        self.home.write_checkpoint(&checkpoint)?;
        self.log.checkpointed()?;
        self.bytes_since_checkpoint = 0;
        Ok(checkpoint)
    }

    /// The store as it is, its records in `segments`.
    fn checkpoint_of(&self, segments: Vec<SegmentRef>) -> Checkpoint {
        let state = self.core.state.read();
        Checkpoint {
            applied_index: state.applied_index,
            applied_term: state.applied_term,
            conf_state: Some(self.conf_state.clone()),
            revision: state.revision,
            compact_revision: state.compact_revision,
            segments,
            leases: state.leases.records(),
            alarms: state.alarm_members(),
            own_alarms: state.own_alarm_members(),
            digest_round: state.digest_round.record(),
            members: state.members.to_vec(),
            removed_members: state.members.removed(),
            auto_promoted: state.members.auto_promoted(),
            cluster_version: state.cluster_version.clone(),
            downgrade_target: state.downgrade_target.clone(),
            digest: state.digest,
            live_bytes: self.log.live_bytes(),
            lease_count: state.leases.count(),
            auth: state.auth.record(),
            v2: Some(state.v2.record()),
        }
    }

    /// A snapshot of the store as it is; writes a checkpoint.
    pub fn snapshot(&mut self) -> Result<BuiltSnapshot, DiskError> {
        let checkpoint = self.write_checkpoint()?;
        Ok(BuiltSnapshot { checkpoint, segments: self.log.view() })
    }

    /// The store as it is, to be read while it goes on. Touches no disk: nothing of it needs to be durable.
    pub fn moment(&self) -> Moment {
        let snapshot =
            BuiltSnapshot { checkpoint: self.checkpoint_of(self.log.references()), segments: self.log.view() };
        Moment { snapshot, compacted_revision: self.core.compacted_revision.load(Acquire) }
    }

    /// Begins to receive a snapshot beside the store in use.
    pub fn receive(&self) -> Result<SnapshotSink, DiskError> {
        self.home.receive()
    }

    /// Replaces the store by a received snapshot, durably; readers and watchers go on with it.
    pub fn install(&mut self, received: Received) -> Result<(), DiskError> {
        let checkpoint = received.checkpoint.clone();
        self.home.promote(received)?;
        let (log, state) = load(&self.disk, &self.home, self.config, &checkpoint)?;
        let (revision, applied_index) = (state.revision, state.applied_index);
        self.compaction = Compaction::resume(state.compact_revision);
        self.core.compacted_revision.store(state.compact_revision, Release);
        *self.core.compaction_hashes.lock() = CompactionHashes::default();
        self.log = log;
        {
            let mut shared = self.core.state.write();
            self.core.set_auth(&state.auth);
            *shared = state;
        }
        self.core.installs.fetch_add(1, Release);
        self.core.corrupt.store(false, Release);
        self.core.quarantined.store(false, Release);
        *self.core.corrupt_reason.lock() = None;
        self.conf_state = checkpoint.conf_state.unwrap_or_default();
        self.bytes_since_checkpoint = 0;
        self.core.revision.store(revision, Release);
        self.hub.reset(revision);
        self.core.v2_hub.end_all();
        self.core.applied_index.store(applied_index, Release);
        self.count_sizes();
        Ok(())
    }

    /// From here on nothing of this state may be told to clients, until another one is installed. `reason`: for whoever
    /// asks why.
    pub fn quarantine(&self, reason: &str) {
        self.core.corrupt_reason.lock().get_or_insert_with(|| reason.to_owned());
        self.core.corrupt.store(true, Release);
        self.core.quarantined.store(true, Release);
    }

    /// One bounded step of compaction: forgets unreachable versions, then gives their space back. Answers whether there
    /// is more to do.
    pub fn maintain(&mut self, bytes_max: usize) -> Result<bool, DiskError> {
        let more = self.compaction.step(&self.core, &mut self.log, bytes_max)?;
        self.count_sizes();
        Ok(more)
    }

    /// The end of a graceful stop: what is applied need not be applied again.
    pub fn close(mut self) -> Result<(), DiskError> {
        self.checkpoint().map(|_| ())
    }
}

fn alarm_set(alarms: &[AlarmMember]) -> BTreeSet<(u64, i32)> {
    alarms.iter().map(|alarm| (alarm.member_id, alarm.alarm)).collect()
}

/// Reads what a checkpoint names.
fn load(
    disk: &Arc<dyn Disk>,
    home: &Home,
    config: StoreConfig,
    checkpoint: &Checkpoint,
) -> Result<(RevLog, State), DiskError> {
    let mut index = KeyIndex::new();
    let mut leases = Leases::load(&checkpoint.leases, checkpoint.lease_count);
    let log = RevLog::open(disk.clone(), &home.folder(), config.revlog, &checkpoint.segments, &mut |entry| {
        let before = index.append(
            entry.key,
            Version {
                main: entry.revision.main,
                sub: entry.revision.sub as u32,
                create_revision: entry.create_revision,
                version: entry.version,
                lease: entry.lease,
                location: entry.location,
            },
        );
        leases.move_key(entry.key, before.map_or(0, |version| version.lease), entry.lease);
    })?;
    let state = state_of(checkpoint, &log, index, leases);
    Ok((log, state))
}

/// The state of a checkpoint with these records.
fn state_of(checkpoint: &Checkpoint, log: &RevLog, index: KeyIndex, leases: Leases) -> State {
    State {
        index,
        view: log.view(),
        revision: checkpoint.revision.max(FIRST_REVISION),
        compact_revision: checkpoint.compact_revision,
        leases,
        alarms: alarm_set(&checkpoint.alarms),
        own_alarms: alarm_set(&checkpoint.own_alarms),
        digest_round: Round::load(checkpoint.digest_round.as_ref()),
        members: Membership::new(
            checkpoint.members.clone(),
            checkpoint.removed_members.clone(),
            checkpoint.auto_promoted.clone(),
        ),
        cluster_version: checkpoint.cluster_version.clone(),
        downgrade_target: checkpoint.downgrade_target.clone(),
        auth: Arc::new(AuthView::load(checkpoint.auth.as_ref())),
        v2: v2::Tree::load(checkpoint.v2.as_ref()),
        digest: checkpoint.digest,
        applied_index: checkpoint.applied_index,
        applied_term: checkpoint.applied_term,
    }
}
