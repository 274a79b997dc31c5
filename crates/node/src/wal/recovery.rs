//! Reading a log back: which segments there are, where it ends, and what it says.
//!
//! Changes nothing but a torn tail, which is overwritten with zeros. Invariant: bytes that a sync covered are either read
//! as they were written, or refused with file and offset; only what follows the last whole frame is cut.

use super::format::{
    FIRST_FRAME_OFFSET, FORMAT_VERSION, FRAME_ALIGNMENT, HeaderError, ReadRecord, SEGMENT_HEADER_BYTES, SegmentHeader,
    decode_frame, decode_records, frame_bytes,
};
use super::{Active, Identity, Recovered, Sealed, segment_path, sequence_of, write_zeros};
use crate::api::{HardState, SnapshotPoint};
use bytes::Bytes;
use quorate_proto::quoratepb::LogEntry;
use quorate_store::disk::{Disk, DiskFile, read_exact_at};
use quorate_store::error::DiskError;
use std::io;
use std::sync::Arc;

/// What a folder holds.
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) sealed: Vec<Sealed>,
    /// `None`: there is no log.
    pub(super) active: Option<Active>,
    /// Names and lengths.
    pub(super) spares: Vec<(String, u64)>,
    pub(super) next_frame: u64,
    pub(super) last: (u64, u64),
}

/// A segment in memory.
struct Segment {
    sequence: u64,
    path: String,
    file: Arc<dyn DiskFile>,
    bytes: Bytes,
    header: SegmentHeader,
}

/// The log as the frames so far say.
struct Replay {
    hard_state: HardState,
    start: SnapshotPoint,
    /// Whether `start` stems from a snapshot: entries never replace what that holds.
    start_is_snapshot: bool,
    entries: Vec<LogEntry>,
    clean: bool,
    /// Nothing was read yet: the first position counts.
    fresh: bool,
}

/// Whose log a folder holds, by its oldest segment; `None`: there is no log.
pub(super) fn identity_of(disk: &dyn Disk, folder: &str) -> Result<Option<Identity>, DiskError> {
    let names = disk.list(folder).map_err(|error| DiskError::io(folder, error))?;
    let Some(sequence) = names.iter().filter_map(|name| sequence_of(name)).min() else { return Ok(None) };
    let path = segment_path(folder, sequence);
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    disk.open(&path).and_then(|file| file.read_at(&mut bytes, 0)).map_err(|error| DiskError::io(&path, error))?;
    decode_header(&path, &bytes).map(|header| Some(header.identity))
}

fn decode_header(path: &str, bytes: &[u8]) -> Result<SegmentHeader, DiskError> {
    SegmentHeader::decode(bytes).map_err(|error| match error {
        HeaderError::Damaged => DiskError::corrupt(path, 0, "the segment's header is damaged"),
        HeaderError::Version(found) => DiskError::Version { path: path.to_owned(), found, supported: FORMAT_VERSION },
    })
}

/// Reads a folder's log.
pub(super) fn recover(disk: &dyn Disk, folder: &str, identity: Identity) -> Result<Found, DiskError> {
    let in_folder = |error| DiskError::io(folder, error);
    // Names that a crash of the process alone left undurable must not vanish later.
    disk.sync_dir(folder).map_err(in_folder)?;
    let names = disk.list(folder).map_err(in_folder)?;
    let mut spares = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".spare")) {
        let path = format!("{folder}/{name}");
        let length = disk.open(&path).and_then(|file| file.len()).map_err(|error| DiskError::io(path, error))?;
        spares.push((name.clone(), length));
    }
    let sequences: Vec<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
    let mut replay = Replay {
        hard_state: HardState::default(),
        start: SnapshotPoint::default(),
        start_is_snapshot: false,
        entries: Vec::new(),
        clean: false,
        fresh: true,
    };
    let mut found = Found {
        recovered: Recovered::default(),
        sealed: Vec::new(),
        active: None,
        spares,
        next_frame: 1,
        last: (0, 0),
    };
    let mut previous: Option<(u64, String, u64)> = None;
    for (position, &sequence) in sequences.iter().enumerate() {
        let segment = load(disk, folder, sequence, identity)?;
        match &previous {
            None => found.next_frame = segment.header.first_frame,
            Some((before, path, end)) => {
                if sequence != before + 1 {
                    let what = format!("the segment behind it is {sequence:016x}: segments are missing");
                    return Err(DiskError::corrupt(path, *end, what));
                }
                // The next segment was made when this one was complete and synced.
                if segment.header.first_frame != found.next_frame {
                    let what = format!("frame {} is damaged", found.next_frame);
                    return Err(DiskError::corrupt(path, *end, what));
                }
            }
        }
        let is_last = position + 1 == sequences.len();
        let (end, index_max) = replay_segment(&segment, &mut found.next_frame, &mut replay, &mut found.sealed)?;
        let file_bytes = segment.bytes.len() as u64;
        if is_last {
            cut_tail(&segment, end, found.next_frame)?;
            found.active = Some(Active { sequence, file: segment.file, file_bytes, offset: end, index_max });
        } else {
            found.sealed.push(Sealed { sequence, file_bytes, index_max });
        }
        previous = Some((sequence, segment.path, end));
    }
    found.last = replay.last();
    if let Some((_, path, end)) = previous
        && replay.hard_state.commit > found.last.0
    {
        let what = format!("the log ends at entry {}, but {} are committed", found.last.0, replay.hard_state.commit);
        return Err(DiskError::corrupt(path, end, what));
    }
    found.recovered =
        Recovered { hard_state: replay.hard_state, entries: replay.entries, start: replay.start, clean: replay.clean };
    Ok(found)
}

fn load(disk: &dyn Disk, folder: &str, sequence: u64, identity: Identity) -> Result<Segment, DiskError> {
    let path = segment_path(folder, sequence);
    let read = || -> io::Result<(Arc<dyn DiskFile>, Vec<u8>)> {
        let file = disk.open(&path)?;
        let length = file.len()?;
        let bytes = read_exact_at(&*file, 0, length as usize)?;
        Ok((file, bytes))
    };
    let (file, bytes) = read().map_err(|error| DiskError::io(&path, error))?;
    let header = decode_header(&path, &bytes)?;
    if header.sequence != sequence {
        let what = format!("the header is that of segment {:016x}: the file was renamed", header.sequence);
        return Err(DiskError::corrupt(path, 0, what));
    }
    if header.identity != identity {
        let error = io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "this is the log of member {:x} of cluster {:x}, but this member is {:x} of cluster {:x}: use its own \
                 data folder",
                header.identity.member_id, header.identity.cluster_id, identity.member_id, identity.cluster_id
            ),
        );
        return Err(DiskError::io(path, error));
    }
    Ok(Segment { sequence, path, file, bytes: bytes.into(), header })
}

/// Reads a segment's frames; returns where they end and the highest index in them.
fn replay_segment(
    segment: &Segment,
    next_frame: &mut u64,
    replay: &mut Replay,
    sealed: &mut [Sealed],
) -> Result<(u64, u64), DiskError> {
    let mut offset = FIRST_FRAME_OFFSET;
    let mut index_max = 0;
    while let Some((frame, body)) = decode_frame(&segment.bytes, offset) {
        if frame.sequence != segment.sequence || frame.number != *next_frame {
            break;
        }
        let length = frame_bytes(body.len());
        let Some(records) = decode_records(body) else {
            return Err(DiskError::corrupt(&segment.path, offset, "a frame holds what this release never writes"));
        };
        for record in records {
            match &record {
                ReadRecord::Entry(entry) => index_max = index_max.max(entry.index),
                ReadRecord::Snapshot(_) => sealed.iter_mut().for_each(|sealed| sealed.index_max = 0),
                _ => {}
            }
            replay.take(record).map_err(|what| DiskError::corrupt(&segment.path, offset, what))?;
        }
        offset += length;
        *next_frame += 1;
    }
    Ok((offset, index_max))
}

/// Makes sure that what follows the last whole frame is no damaged frame that was synced, and makes it zeros.
fn cut_tail(segment: &Segment, end: u64, next_frame: u64) -> Result<(), DiskError> {
    let length = segment.bytes.len() as u64;
    let mut offset = end + FRAME_ALIGNMENT;
    while offset < length {
        if let Some((frame, _)) = decode_frame(&segment.bytes, offset)
            && frame.sequence == segment.sequence
            && frame.number >= next_frame
        {
            let what = format!("frame {next_frame} is damaged: frame {} at offset {offset} follows it", frame.number);
            return Err(DiskError::corrupt(&segment.path, end, what));
        }
        offset += FRAME_ALIGNMENT;
    }
    let tail = segment.bytes.get(end.min(length) as usize..).unwrap_or_default();
    let zero = tail.iter().all(|&byte| byte == 0);
    let cut = if zero { Ok(()) } else { write_zeros(&*segment.file, end, length) };
    // What was read may be in a cache only; from here on it counts as durable.
    cut.and_then(|()| segment.file.sync()).map_err(|error| DiskError::io(&segment.path, error))
}

impl Replay {
    /// Index and term of the last entry, or of the start.
    fn last(&self) -> (u64, u64) {
        self.entries.last().map_or((self.start.index, self.start.term), |entry| (entry.index, entry.term))
    }

    fn take(&mut self, record: ReadRecord) -> Result<(), String> {
        let first = std::mem::replace(&mut self.fresh, false);
        self.clean = record == ReadRecord::Clean;
        match record {
            ReadRecord::HardState(hard_state) => self.hard_state = hard_state,
            ReadRecord::Clean => {}
            ReadRecord::Snapshot(point) => {
                self.entries.clear();
                self.start = point;
                self.start_is_snapshot = true;
            }
            ReadRecord::Position { index, term } if first => {
                self.start = SnapshotPoint { index, term, ..SnapshotPoint::default() };
            }
            ReadRecord::Position { index, term } => {
                let (last_index, last_term) = self.last();
                if (index, term) != (last_index, last_term) {
                    return Err(format!(
                        "the log should end at entry {index} of term {term}, but ends at {last_index} of {last_term}"
                    ));
                }
            }
            ReadRecord::Entry(entry) => self.take_entry(entry)?,
        }
        Ok(())
    }

    fn take_entry(&mut self, entry: LogEntry) -> Result<(), String> {
        let last = self.last().0;
        if entry.index > last + 1 {
            return Err(format!("entry {} follows entry {last}", entry.index));
        }
        if entry.index <= self.start.index {
            if self.start_is_snapshot || entry.index == 0 {
                return Err(format!(
                    "entry {} would replace what the snapshot at {} holds",
                    entry.index, self.start.index
                ));
            }
            // It replaced what an older segment held. That segment is gone, so the store has applied this far.
            self.entries.clear();
            self.start = SnapshotPoint { index: entry.index, term: entry.term, ..SnapshotPoint::default() };
            return Ok(());
        }
        self.entries.truncate((entry.index - self.start.index - 1) as usize);
        // A copy: the segment's whole content must not live as long as its last entry.
        let (data, context) = (Bytes::copy_from_slice(&entry.data), Bytes::copy_from_slice(&entry.context));
        self.entries.push(LogEntry { data, context, ..entry });
        Ok(())
    }
}
