//! What a watcher that is behind reads: the changes of its keys from a revision on, in bounded pieces.

use super::event::EventRecord;
use crate::error::DiskError;
use crate::range::{KeyRange, RangeEnd};
use crate::state::Core;
use bytes::Bytes;
use std::sync::atomic::Ordering::Acquire;

/// Bytes of events in one piece (a single revision is never split).
const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Records looked at for one piece.
const RECORDS_MAX: usize = 16_384;

/// One piece of history.
pub(super) struct Piece {
    /// The changes, in order, whole revisions.
    pub(super) events: Vec<EventRecord>,
    /// The revision to go on from; everything below it was looked at.
    pub(super) next: i64,
}

/// Why there is none.
pub(super) enum Missing {
    /// The revision is compacted.
    Compacted(i64),
    /// It cannot be read.
    Broken(DiskError),
    /// The store is not to be trusted, or was replaced meanwhile.
    Untrusted,
}

/// Changes in `range` from revision `from` to `to` (both included).
pub(super) fn read(core: &Core, range: &KeyRange, from: i64, to: i64) -> Result<Piece, Missing> {
    let installs = core.installs.load(Acquire);
    let piece = read_piece(core, range, from, to);
    if core.quarantined.load(Acquire) || core.installs.load(Acquire) != installs {
        return Err(Missing::Untrusted);
    }
    piece
}

fn read_piece(core: &Core, range: &KeyRange, from: i64, to: i64) -> Result<Piece, Missing> {
    let state = core.state.read();
    if from < state.compact_revision {
        return Err(Missing::Compacted(state.compact_revision));
    }
    let view = state.view.clone();
    let mut piece = Piece { events: Vec::new(), next: to + 1 };
    let mut bytes = 0;
    if matches!(range.end, RangeEnd::Single) {
        let versions = state.index.get(&range.start);
        let first = versions.partition_point(|version| version.main < from);
        let wanted: Vec<_> = versions[first..].iter().take_while(|version| version.main <= to).copied().collect();
        drop(state);
        let mut last = from;
        for version in wanted {
            if bytes > EVENT_BYTES_MAX && version.main != last {
                piece.next = version.main;
                break;
            }
            let record = view.read(version.location).map_err(Missing::Broken)?;
            bytes += record.key_value.len();
            last = version.main;
            piece.events.push(EventRecord::new(version.main, record.deletion, record.key_value));
        }
        return Ok(piece);
    }
    drop(state);
    let mut last = from;
    for (looked, record) in view.scan(from).enumerate() {
        let record = record.map_err(Missing::Broken)?;
        let main = record.revision.main;
        if main > to {
            break;
        }
        if (bytes > EVENT_BYTES_MAX || looked >= RECORDS_MAX) && main != last {
            piece.next = main;
            break;
        }
        last = main;
        if range.contains(crate::encode::key_of(&record.key_value)) {
            bytes += record.key_value.len();
            // A scan's records share large blocks: an event that waits must not hold one alive.
            let key_value = Bytes::copy_from_slice(&record.key_value);
            piece.events.push(EventRecord::new(main, record.deletion, key_value));
        }
    }
    // Compaction may have overtaken the reading; then records may be missing from it.
    let compact_revision = core.state.read().compact_revision;
    if from < compact_revision {
        return Err(Missing::Compacted(compact_revision));
    }
    Ok(piece)
}
