//! HashKV: etcd's own number over the history, so that two servers that lived through the same can be proven equal.
//!
//! CRC-32C over the bytes `key`, then, in revision order, each record's revision in etcd's 17- or 18-byte form and its
//! encoded key-value. Records above the asked revision are left out; of those at or below the compact revision only what
//! a compaction at the asked revision would keep counts (when that would keep anything at all), and a deletion exactly
//! at the compact revision never does.
//!
//! Like etcd, every compaction hashes the history up to its revision before it forgets anything, and the newest ten of
//! these hashes are what HashKV answers at those revisions: members compare them while they compact at different times.

use crate::encode::key_of;
use crate::error::Error;
use crate::range::KeyRange;
use crate::reader::HashKv;
use crate::revlog::{Record, Scan};
use crate::state::{Core, State, visible};
use std::ops::ControlFlow;

/// Records at or below the compact revision that are judged under one hold of the lock.
const RECORDS_PER_TURN: usize = 1_024;
/// Bytes between two looks at whether compaction overtook the run.
const BYTES_PER_TURN: usize = 1 << 20;
/// How often HashKV begins again when compaction overtakes it.
const RUNS_MAX: usize = 8;
/// Hashes of compactions that are kept, the newest revisions (etcd's number).
const KEPT_MAX: usize = 10;

/// One hashing of the history, in pieces.
pub(crate) struct HashRun {
    scan: Scan,
    sum: u32,
    /// The revision hashed.
    revision: i64,
    /// The compact revision that counts.
    compact_revision: i64,
    /// Of records at or below the compact revision those count that are visible here.
    reference: i64,
    old: Vec<Record>,
}

impl HashRun {
    /// Hashes up to `revision` as if the history were compacted at `compact_revision` last. `keeps_any`: whether a
    /// compaction at `revision` would keep anything.
    pub(crate) fn new(state: &State, revision: i64, compact_revision: i64, keeps_any: bool) -> Self {
        Self {
            scan: state.view.scan(0),
            sum: crc32c::crc32c(b"key"),
            revision,
            compact_revision,
            reference: if keeps_any { revision } else { compact_revision },
            old: Vec::new(),
        }
    }

    /// Hashes on for about `bytes_max`; the sum at the end.
    pub(crate) fn step(&mut self, core: &Core, bytes_max: usize) -> Result<Option<u32>, Error> {
        let mut budget = bytes_max.max(1);
        while budget > 0 {
            let Some(record) = self.scan.next() else {
                return self.finish(core);
            };
            let record = record.map_err(|error| core.broken(&error))?;
            if record.revision.main > self.revision {
                return self.finish(core);
            }
            budget = budget.saturating_sub(record.key_value.len() + 64);
            if record.revision.main <= self.compact_revision {
                self.old.push(record);
                if self.old.len() == RECORDS_PER_TURN {
                    self.add_kept(core);
                }
            } else {
                self.add_kept(core);
                self.add(&record);
            }
        }
        Ok(None)
    }

    fn finish(&mut self, core: &Core) -> Result<Option<u32>, Error> {
        self.add_kept(core);
        Ok(Some(self.sum))
    }

    fn add(&mut self, record: &Record) {
        let (key, length) = record.revision.bucket_key(record.deletion);
        self.sum = crc32c::crc32c_append(crc32c::crc32c_append(self.sum, &key[..length]), &record.key_value);
    }

    /// Adds those of `old` that count.
    fn add_kept(&mut self, core: &Core) {
        if self.old.is_empty() {
            return;
        }
        let old = std::mem::take(&mut self.old);
        let state = core.state.read();
        for record in &old {
            // A deletion is kept by a compaction only exactly at its revision, and then left out.
            let kept = !record.deletion
                && visible(state.index.get(key_of(&record.key_value)), self.reference).is_some_and(|version| {
                    version.main == record.revision.main && i64::from(version.sub) == record.revision.sub
                });
            if kept {
                self.add(record);
            }
        }
        drop(state);
        self.old = old;
        self.old.clear();
    }
}

/// The newest hashes that compactions left, by revision.
#[derive(Debug, Default)]
pub(crate) struct CompactionHashes(Vec<HashKv>);

impl CompactionHashes {
    pub(crate) fn keep(&mut self, hash: HashKv) {
        self.0.push(hash);
        self.0.sort_by_key(|kept| kept.hash_revision);
        let surplus = self.0.len().saturating_sub(KEPT_MAX);
        self.0.drain(..surplus);
    }

    fn at(&self, revision: i64) -> Option<HashKv> {
        self.0.iter().find(|kept| kept.hash_revision == revision).copied()
    }
}

/// Answers HashKV. A negative revision hashes nothing, as in etcd. A run that compaction overtakes begins again.
pub(crate) fn hash_kv(core: &Core, asked: i64) -> Result<HashKv, Error> {
    for _ in 0..RUNS_MAX {
        if let Some(answer) = hash_once(core, asked)? {
            return Ok(answer);
        }
    }
    Err(Error::Compacted)
}

/// `None`: overtaken by a compaction.
fn hash_once(core: &Core, asked: i64) -> Result<Option<HashKv>, Error> {
    let kept = core.compaction_hashes.lock().at(asked);
    let (mut run, revision, compact_revision, current) = {
        let state = core.state.read();
        if let Some(kept) = kept {
            return Ok(Some(HashKv { revision: state.revision, ..kept }));
        }
        if asked > 0 && asked < state.compact_revision {
            return Err(Error::Compacted);
        }
        if asked > state.revision {
            return Err(Error::FutureRevision);
        }
        let revision = if asked == 0 { state.revision } else { asked };
        let run = HashRun::new(&state, revision, state.compact_revision, keeps_any(&state, revision, false));
        (run, revision, state.compact_revision, state.revision)
    };
    loop {
        let sum = run.step(core, BYTES_PER_TURN)?;
        if compact_revision < core.state.read().compact_revision {
            return Ok(None);
        }
        if let Some(hash) = sum {
            return Ok(Some(HashKv { hash, compact_revision, hash_revision: revision, revision: current }));
        }
    }
}

/// Whether a compaction at `revision` keeps anything: a key that exists there or, where `deletions` count, was deleted
/// exactly there.
pub(crate) fn keeps_any(state: &State, revision: i64, deletions: bool) -> bool {
    if revision == state.revision && state.index.live() > 0 {
        return true;
    }
    let mut any = false;
    state.index.walk(&KeyRange::all(), &mut |_, versions| {
        let before = &versions[..versions.partition_point(|version| version.main <= revision)];
        any = visible(versions, revision).is_some()
            || (deletions && before.last().is_some_and(|version| version.is_deletion() && version.main == revision));
        if any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    any
}
