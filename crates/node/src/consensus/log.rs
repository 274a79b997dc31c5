//! The newest part of the log, in memory: what raft reads and what is sent to followers that lag.
//!
//! Owns entries from just behind `start` to the last one, durable or not. Nothing is ever read back from the disk: a
//! follower that needs older entries gets a snapshot. Invariant: every entry that is not applied is here, and the term of
//! the entry before the first one is known.

use crate::api::{HardState, SnapshotPoint};
use crate::consensus::convert::{conf_state_from_raft, conf_state_to_raft};
use quorate_proto::quoratepb::ConfState;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::Cell;
use std::collections::VecDeque;

/// What an entry costs in memory beside its data, bytes.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// The log's part in memory.
pub(crate) struct MemoryLog {
    /// Raft's state at start; read once.
    initial: (HardState, ConfState),
    /// Index and term of the entry before the first one here.
    start: (u64, u64),
    entries: VecDeque<Entry>,
    /// The last applied index; entries up to it may be dropped.
    applied: u64,
    /// Cost of the entries up to `applied`.
    applied_bytes: usize,
    /// The newest snapshot that can be sent.
    snapshot: Option<SnapshotPoint>,
    /// Somebody needs a snapshot newer than the one here.
    snapshot_wanted: Cell<bool>,
}

impl MemoryLog {
    /// A log that begins behind `start` (index and term).
    pub(crate) fn new(
        hard_state: HardState,
        conf_state: ConfState,
        start: (u64, u64),
        entries: VecDeque<Entry>,
        applied: u64,
    ) -> Self {
        let mut log = Self {
            initial: (hard_state, conf_state),
            start,
            entries,
            applied: start.0,
            applied_bytes: 0,
            snapshot: None,
            snapshot_wanted: Cell::new(false),
        };
        log.set_applied(applied);
        log
    }

    /// The first index that can be read.
    pub(crate) fn first(&self) -> u64 {
        self.start.0 + 1
    }

    /// The last index.
    pub(crate) fn last(&self) -> u64 {
        self.start.0 + self.entries.len() as u64
    }

    /// Adds entries behind those here; the first one's index cuts off what is there from it on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.applied, "entry {} would replace an applied one", first.index);
        assert!(first.index <= self.last() + 1, "entry {} leaves a gap behind {}", first.index, self.last());
        self.entries.truncate((first.index - self.first()) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets everything: the store holds all up to the snapshot's position.
    pub(crate) fn reset(&mut self, index: u64, term: u64) {
        self.entries.clear();
        self.start = (index, term);
        self.applied = index;
        self.applied_bytes = 0;
    }

    /// The store applied everything up to `index`.
    pub(crate) fn set_applied(&mut self, index: u64) {
        while self.applied < index {
            self.applied += 1;
            let position = (self.applied - self.first()) as usize;
            self.applied_bytes += self.entries.get(position).map_or(0, entry_bytes);
        }
    }

    /// Drops the oldest applied entries until those that stay cost at most `bytes_max`, but none behind `keep_behind`.
    pub(crate) fn trim(&mut self, bytes_max: usize, keep_behind: u64) {
        while self.applied_bytes > bytes_max && self.start.0 < self.applied && self.start.0 < keep_behind {
            let Some(entry) = self.entries.pop_front() else { break };
            self.applied_bytes -= entry_bytes(&entry);
            self.start = (entry.index, entry.term);
        }
    }

    /// Offers a snapshot to followers.
    pub(crate) fn offer_snapshot(&mut self, point: SnapshotPoint) {
        self.snapshot_wanted.set(false);
        self.snapshot = Some(point);
    }

    /// Whether a follower waits for a snapshot newer than the offered one. Asking forgets it.
    pub(crate) fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.take()
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let (hard_state, conf_state) = &self.initial;
        let mut raft_hard_state = raft::eraftpb::HardState::default();
        raft_hard_state.term = hard_state.term;
        raft_hard_state.vote = hard_state.vote;
        raft_hard_state.commit = hard_state.commit;
        Ok(RaftState::new(raft_hard_state, conf_state_to_raft(conf_state)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} asked for, the last one is {}", self.last());
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let mut found = Vec::new();
        let mut bytes = 0u64;
        for index in low..high {
            let entry = &self.entries[(index - self.first()) as usize];
            bytes += (entry.data.len() + entry.context.len()) as u64;
            if !found.is_empty() && bytes > bytes_max {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.start.0 {
            return Ok(self.start.1);
        }
        if index < self.start.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        match self.entries.get((index - self.first()) as usize) {
            Some(entry) => Ok(entry.term),
            None => Err(raft::Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // A member that came after the snapshot was made would not find itself in it, and refuse it.
        let names_receiver = |point: &SnapshotPoint| {
            let ConfState { voters, learners, voters_outgoing, .. } = &point.conf_state;
            [voters, learners, voters_outgoing].iter().any(|list| list.contains(&to))
        };
        match &self.snapshot {
            Some(point) if point.index >= request_index && point.index >= self.start.0 && names_receiver(point) => {
                let mut snapshot = Snapshot::default();
                let metadata = snapshot.mut_metadata();
                metadata.index = point.index;
                metadata.term = point.term;
                metadata.set_conf_state(conf_state_to_raft(&point.conf_state));
                Ok(snapshot)
            }
            _ => {
                self.snapshot_wanted.set(true);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

/// The position of raft's snapshot.
pub(crate) fn snapshot_point(snapshot: &Snapshot) -> SnapshotPoint {
    let metadata = snapshot.get_metadata();
    SnapshotPoint {
        index: metadata.index,
        term: metadata.term,
        conf_state: conf_state_from_raft(metadata.get_conf_state()),
    }
}
