//! Compaction's background work, in bounded steps: hash what is to be forgotten, forget it, give the space back.
//!
//! The logical part (reads below the revision are refused) happened when the command was applied. Owns the order of the
//! rest; a job that came later waits. Invariant: nothing is called dead while a rewriting is under way, so that places
//! told and deaths can't part.

use crate::error::DiskError;
use crate::hash::{HashRun, keeps_any};
use crate::key_index::Version;
use crate::reader::HashKv;
use crate::revlog::{Location, RevLog};
use crate::state::Core;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// Keys that one step forgets versions of.
const KEYS_PER_STEP: usize = 2_000;
/// Compactions that wait to be hashed; of more the oldest go unhashed.
const HASHES_MAX: usize = 16;

/// One compaction command.
struct Job {
    /// The compact revision before it; -1: none.
    previous: i64,
    revision: i64,
    /// Whether its hash is wanted.
    hash: bool,
}

enum Stage {
    Hashing(Box<HashRun>),
    /// Forgetting versions; the key looked at last.
    Pruning(Option<Vec<u8>>),
}

/// The work at hand.
#[derive(Default)]
pub(crate) struct Compaction {
    jobs: VecDeque<Job>,
    stage: Option<Stage>,
    /// Whether segments may be worth rewriting.
    rewrite: bool,
}

impl Compaction {
    /// After a start or an installed snapshot: whatever the compact revision makes unreachable is forgotten (again).
    pub(crate) fn resume(compact_revision: i64) -> Self {
        let mut jobs = VecDeque::new();
        if compact_revision > 0 {
            jobs.push_back(Job { previous: compact_revision, revision: compact_revision, hash: false });
        }
        Self { jobs, stage: None, rewrite: true }
    }

    /// A compaction command was applied.
    pub(crate) fn add(&mut self, previous: i64, revision: i64) {
        self.jobs.push_back(Job { previous, revision, hash: true });
        let surplus = self.jobs.len().saturating_sub(HASHES_MAX);
        for job in self.jobs.iter_mut().take(surplus) {
            job.hash = false;
        }
    }

    /// One bounded step; whether there is more to do.
    pub(crate) fn step(&mut self, core: &Core, log: &mut RevLog, bytes_max: usize) -> Result<bool, DiskError> {
        if !log.is_rewriting()
            && let Some(job) = self.jobs.front()
        {
            let stage = self.stage.take().unwrap_or_else(|| begin(core, job));
            self.stage = match stage {
                Stage::Hashing(mut run) if job.hash => match run.step(core, bytes_max) {
                    Ok(None) => Some(Stage::Hashing(run)),
                    Ok(Some(hash)) => {
                        let (compact_revision, hash_revision) = (job.previous, job.revision);
                        let hash = HashKv { hash, compact_revision, hash_revision, revision: hash_revision };
                        core.compaction_hashes.lock().keep(hash);
                        Some(Stage::Pruning(None))
                    }
                    // Without a hash then; what is broken is known to whoever asks the core.
                    Err(_) => Some(Stage::Pruning(None)),
                },
                Stage::Hashing(_) => Some(Stage::Pruning(None)),
                Stage::Pruning(after) => prune(core, log, job.revision, after).map(|key| Stage::Pruning(Some(key))),
            };
            if self.stage.is_none() {
                core.compacted_revision.store(job.revision, Release);
                self.jobs.pop_front();
                self.rewrite = true;
            }
            return Ok(true);
        }
        if self.rewrite {
            self.rewrite = rewrite(core, log, bytes_max)?;
        }
        Ok(self.rewrite)
    }
}

fn begin(core: &Core, job: &Job) -> Stage {
    if !job.hash {
        return Stage::Pruning(None);
    }
    let state = core.state.read();
    let keeps_any = keeps_any(&state, job.revision, true);
    Stage::Hashing(Box::new(HashRun::new(&state, job.revision, job.previous, keeps_any)))
}

/// Forgets unreachable versions of some keys; the last key looked at, unless it was the last of all.
fn prune(core: &Core, log: &mut RevLog, revision: i64, after: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut dead: Vec<Location> = Vec::new();
    let resume = {
        let mut state = core.state.write();
        state.index.prune(after.as_deref(), KEYS_PER_STEP, revision, &mut |location| dead.push(location))
    };
    core.counters.versions_compacted.fetch_add(dead.len() as u64, Relaxed);
    for location in dead {
        log.mark_dead(location);
    }
    resume
}

fn rewrite(core: &Core, log: &mut RevLog, bytes_max: usize) -> Result<bool, DiskError> {
    let mut moved: Vec<(Bytes, Version, Location)> = Vec::new();
    let more = log.rewrite_step(
        bytes_max,
        &mut |key, revision, location| {
            let state = core.state.read();
            let versions = state.index.get(key);
            let place = versions
                .binary_search_by(|version| (version.main, i64::from(version.sub)).cmp(&(revision.main, revision.sub)));
            place.is_ok_and(|place| versions[place].location == location)
        },
        &mut |key, revision, from, to| {
            let version = Version {
                main: revision.main,
                sub: revision.sub as u32,
                create_revision: 0,
                version: 0,
                lease: 0,
                location: from,
            };
            moved.push((Bytes::copy_from_slice(key), version, to));
        },
    )?;
    let view = log.view();
    let mut orphans = Vec::new();
    {
        let mut state = core.state.write();
        for (key, version, to) in &moved {
            if !state.index.relocate(key, version.main, version.sub, version.location, *to) {
                orphans.push(*to);
            }
        }
        state.view = view;
    }
    for location in orphans {
        log.mark_dead(location);
    }
    Ok(more)
}
