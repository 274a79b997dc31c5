//! HashKV: etcd's own number over the history, so that two servers that lived through the same can be proven equal.
//!
//! CRC-32C over the bytes `key`, then, in revision order, each record's revision in etcd's 17- or 18-byte form and its
//! encoded key-value. Records above the asked revision are left out; of those at or below the compact revision only what
//! a compaction at the asked revision would keep counts (when that would keep anything at all), and a deletion exactly
//! at the compact revision never does.

use crate::encode::key_of;
use crate::error::Error;
use crate::range::KeyRange;
use crate::reader::HashKv;
use crate::revlog::Record;
use crate::state::{Core, State, visible};
use std::ops::ControlFlow;

/// Records at or below the compact revision that are judged under one hold of the lock.
const RECORDS_PER_TURN: usize = 1_024;

pub(crate) fn hash_kv(core: &Core, asked: i64) -> Result<HashKv, Error> {
    let (revision, compact_revision, current, view, reference) = {
        let state = core.state.read();
        if asked > 0 && asked < state.compact_revision {
            return Err(Error::Compacted);
        }
        if asked > state.revision {
            return Err(Error::FutureRevision);
        }
        let revision = if asked <= 0 { state.revision } else { asked };
        let reference = if keeps_any(&state, revision) { revision } else { state.compact_revision };
        (revision, state.compact_revision, state.revision, state.view.clone(), reference)
    };
    let mut sum = crc32c::crc32c(b"key");
    let mut old: Vec<Record> = Vec::new();
    for record in view.scan(0) {
        let record = record.map_err(|error| core.broken(&error))?;
        if record.revision.main > revision {
            break;
        }
        if record.revision.main <= compact_revision {
            old.push(record);
            if old.len() == RECORDS_PER_TURN {
                sum = add_kept(core, &mut old, reference, compact_revision, sum)?;
            }
        } else {
            sum = add_kept(core, &mut old, reference, compact_revision, sum)?;
            sum = add(&record, sum);
        }
    }
    sum = add_kept(core, &mut old, reference, compact_revision, sum)?;
    Ok(HashKv { hash: sum, compact_revision, hash_revision: revision, revision: current })
}

fn add(record: &Record, sum: u32) -> u32 {
    let (key, length) = record.revision.bucket_key(record.deletion);
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &key[..length]), &record.key_value)
}

/// Whether a compaction at `revision` would keep anything.
fn keeps_any(state: &State, revision: i64) -> bool {
    if revision == state.revision {
        return state.index.live() > 0;
    }
    let mut any = false;
    state.index.walk(&KeyRange::all(), &mut |_, versions| {
        any = visible(versions, revision).is_some();
        if any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    any
}

/// Adds those of `old` that a compaction at `reference` keeps.
fn add_kept(
    core: &Core,
    old: &mut Vec<Record>,
    reference: i64,
    compact_revision: i64,
    mut sum: u32,
) -> Result<u32, Error> {
    if old.is_empty() {
        return Ok(sum);
    }
    let state = core.state.read();
    if compact_revision < state.compact_revision && reference < state.compact_revision {
        return Err(Error::Compacted);
    }
    for record in old.drain(..) {
        if record.deletion {
            // Kept by a compaction only exactly at its revision, and then left out.
            continue;
        }
        let kept = visible(state.index.get(key_of(&record.key_value)), reference).is_some_and(|version| {
            version.main == record.revision.main && i64::from(version.sub) == record.revision.sub
        });
        if kept {
            sum = add(&record, sum);
        }
    }
    Ok(sum)
}
