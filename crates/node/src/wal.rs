//! The write-ahead log: raft's entries and hard state, in segments of a fixed size.
//!
//! Owns the files of one folder, their order and their recycling. Does not own what entries mean, nor when old ones may
//! go. Format: docs/formats-wal.md. Invariants: every append is one frame, synced before the next one is written, so that
//! a broken frame with a valid one behind it is damage and never a crash; a segment gets its name only after its header
//! is durable; after a failed write or sync nothing is written again.

mod format;
mod recovery;
#[cfg(test)]
mod tests;

use crate::api::{HardState, Persist, SnapshotPoint};
use format::{FIRST_FRAME_OFFSET, FRAME_ALIGNMENT, FRAME_HEADER_BYTES, Frame, Record, SegmentHeader};
use quorate_proto::quoratepb::LogEntry;
use quorate_store::disk::{Disk, DiskFile};
use quorate_store::error::DiskError;
use std::io;
use std::sync::Arc;

pub use format::FORMAT_VERSION;

/// Segments that are empty and kept for later, at the most.
pub const SPARES_MAX: usize = 2;
/// Zeros are written in pieces of this size, bytes.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// How the log writes.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Length of a segment, bytes. A frame that is larger gets a segment of its own length.
    pub segment_bytes: u64,
    /// Whether to sync. Without, a power cut may lose what was acknowledged: for tests and throw-away clusters.
    pub sync: bool,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, sync: true }
    }
}

/// Whose log it is. A log of another cluster or member is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// The newest hard state.
    pub hard_state: HardState,
    /// The entries behind `start`, without gaps.
    pub entries: Vec<LogEntry>,
    /// The position that the log begins behind. The configuration is known only if it stems from a snapshot.
    pub start: SnapshotPoint,
    /// Whether the log was closed by [`Wal::mark_clean`], with nothing written since.
    pub clean: bool,
}

impl Recovered {
    /// Whether a store that has applied `applied_index` can go on with this log: an error says that files are missing.
    pub fn check(&self, folder: &str, applied_index: u64) -> Result<(), DiskError> {
        if self.start.index > applied_index {
            let what = format!(
                "the log begins behind entry {}, but the store has applied {applied_index} only: entries are missing",
                self.start.index
            );
            return Err(DiskError::corrupt(folder, 0, what));
        }
        Ok(())
    }
}

/// A closed segment.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    sequence: u64,
    file_bytes: u64,
    /// The highest index of an entry in it; 0: none that still counts.
    index_max: u64,
}

/// The segment that is written to.
struct Active {
    sequence: u64,
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    /// Where the next frame goes.
    offset: u64,
    index_max: u64,
}

impl Active {
    /// Whether it has no frame yet.
    fn is_empty(&self) -> bool {
        self.offset == FIRST_FRAME_OFFSET
    }
}

/// An open log.
pub struct Wal {
    disk: Arc<dyn Disk>,
    folder: String,
    config: WalConfig,
    identity: Identity,
    /// Oldest first.
    sealed: Vec<Sealed>,
    active: Active,
    /// Names and lengths of spare segments.
    spares: Vec<(String, u64)>,
    next_frame: u64,
    hard_state: HardState,
    /// Index and term of the last entry, or of what the log begins behind.
    last: (u64, u64),
    buffer: Vec<u8>,
    poisoned: bool,
    written_bytes: u64,
}

impl Wal {
    /// Whose log a folder holds: a member that starts again is who its log says. `None`: there is no log yet.
    pub fn identity_of(disk: &dyn Disk, folder: &str) -> Result<Option<Identity>, DiskError> {
        recovery::identity_of(disk, folder)
    }

    /// Reads a folder's log without opening it for writing; `None`: there is none. On a disk that refuses to be changed
    /// nothing is, a torn tail included.
    pub fn read(disk: &dyn Disk, folder: &str) -> Result<Option<(Identity, Recovered)>, DiskError> {
        let Some(identity) = Self::identity_of(disk, folder)? else { return Ok(None) };
        Ok(Some((identity, recovery::recover(disk, folder, identity)?.recovered)))
    }

    /// Opens a folder's log, or makes one in an empty folder. A torn tail is cut off, durably.
    ///
    /// Fails when the log is damaged, of an unknown version, or somebody else's.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &str,
        config: WalConfig,
        identity: Identity,
    ) -> Result<(Self, Recovered), DiskError> {
        assert!(
            config.segment_bytes >= FIRST_FRAME_OFFSET + FRAME_HEADER_BYTES as u64,
            "a segment of {} bytes has no room for a frame",
            config.segment_bytes
        );
        disk.create_folder(folder).map_err(|error| DiskError::io(folder, error))?;
        let found = recovery::recover(&*disk, folder, identity)?;
        let mut spares = found.spares;
        let made = match found.active {
            Some(active) => Ok(active),
            None => {
                let header = SegmentHeader { identity, sequence: 1, first_frame: 1 };
                make_segment(&*disk, folder, config, &mut spares, &header, Filling::Zeros).map(|(file, file_bytes)| {
                    Active { sequence: 1, file, file_bytes, offset: FIRST_FRAME_OFFSET, index_max: 0 }
                })
            }
        };
        let active = made.map_err(|error| DiskError::io(folder, error))?;
        let mut wal = Self {
            disk,
            folder: folder.to_owned(),
            config,
            identity,
            sealed: found.sealed,
            active,
            spares,
            next_frame: found.next_frame,
            hard_state: found.recovered.hard_state,
            last: found.last,
            buffer: Vec::new(),
            poisoned: false,
            written_bytes: 0,
        };
        wal.keep_spares().map_err(|error| DiskError::io(folder, error))?;
        Ok((wal, found.recovered))
    }

    /// Makes all of `persists` durable with one write and one sync, in order. After an error the log refuses everything:
    /// what is on the disk is unknown.
    pub fn append(&mut self, persists: &[Persist]) -> Result<(), DiskError> {
        if persists.is_empty() {
            return Ok(());
        }
        let mut records = Vec::new();
        for persist in persists {
            if let Some(point) = &persist.snapshot {
                records.push(Record::Snapshot(point.clone()));
            }
            if let Some(hard_state) = persist.hard_state {
                records.push(Record::HardState(hard_state));
            }
            records.extend(persist.entries.iter().map(Record::Entry));
        }
        self.write(&records)
    }

    /// Notes that everything is written and the process stops: the end of the log is then known to be its end.
    pub fn mark_clean(&mut self) -> Result<(), DiskError> {
        self.write(&[Record::Clean])
    }

    /// Gives up segments that hold nothing beyond `up_to`: they become spares, or go.
    pub fn truncate(&mut self, up_to: u64) -> Result<(), DiskError> {
        self.check_usable()?;
        // An empty segment does not stand for itself yet.
        while !self.active.is_empty()
            && let Some(&oldest) = self.sealed.first()
            && oldest.index_max <= up_to
        {
            let result = self.retire(oldest);
            self.poison_on_error(&segment_path(&self.folder, oldest.sequence), result)?;
            self.sealed.remove(0);
        }
        Ok(())
    }

    /// What was appended since this log was opened, bytes.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// What the log takes of the disk, spare segments included, bytes.
    pub fn disk_bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|sealed| sealed.file_bytes).sum();
        let spares: u64 = self.spares.iter().map(|(_, file_bytes)| file_bytes).sum();
        sealed + spares + self.active.file_bytes
    }

    fn check_usable(&self) -> Result<(), DiskError> {
        if self.poisoned {
            let error = io::Error::other("an earlier write to the log failed; nothing is written any more");
            return Err(DiskError::io(segment_path(&self.folder, self.active.sequence), error));
        }
        Ok(())
    }

    fn poison_on_error<T>(&mut self, path: &str, result: io::Result<T>) -> Result<T, DiskError> {
        result.map_err(|error| {
            self.poisoned = true;
            DiskError::io(path, error)
        })
    }

    fn write(&mut self, records: &[Record<'_>]) -> Result<(), DiskError> {
        self.check_usable()?;
        self.check_order(records);
        let body_bytes: usize = records.iter().map(Record::encoded_bytes).sum();
        // What a reader must know that begins at this segment, because the older ones are gone.
        let opening = [Record::Position { index: self.last.0, term: self.last.1 }, Record::HardState(self.hard_state)];
        let opening_bytes: usize = opening.iter().map(Record::encoded_bytes).sum();
        let offered = if self.active.is_empty() { opening_bytes } else { 0 };
        if self.active.offset + format::frame_bytes(offered + body_bytes) > self.active.file_bytes {
            let path = segment_path(&self.folder, self.active.sequence + 1);
            let result = self.rotate(FIRST_FRAME_OFFSET + format::frame_bytes(opening_bytes + body_bytes));
            self.poison_on_error(&path, result)?;
        }
        let opening = if self.active.is_empty() { &opening[..] } else { &[] };
        let frame = Frame { sequence: self.active.sequence, number: self.next_frame };
        format::encode_frame(&mut self.buffer, frame, opening.iter().chain(records));
        let result = self.active.file.write_at(&self.buffer, self.active.offset).and_then(|()| self.sync());
        let path = segment_path(&self.folder, self.active.sequence);
        self.poison_on_error(&path, result)?;
        self.active.offset += self.buffer.len() as u64;
        self.written_bytes += self.buffer.len() as u64;
        self.next_frame += 1;
        self.note(records);
        if self.buffer.capacity() > ZERO_CHUNK_BYTES * 8 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.config.sync { self.active.file.sync() } else { Ok(()) }
    }

    /// Entries follow what is there or replace its end, and never skip: else a reader would refuse the log.
    fn check_order(&self, records: &[Record<'_>]) {
        let mut last = self.last;
        for record in records {
            match record {
                Record::Entry(entry) => {
                    assert!(entry.index > 0, "entry 0 does not exist");
                    assert!(entry.index <= last.0 + 1, "entry {} leaves a gap behind {}", entry.index, last.0);
                    last = (entry.index, entry.term);
                }
                Record::Snapshot(point) => last = (point.index, point.term),
                Record::HardState(_) | Record::Position { .. } | Record::Clean => {}
            }
        }
    }

    fn note(&mut self, records: &[Record<'_>]) {
        for record in records {
            match record {
                Record::Entry(entry) => {
                    self.last = (entry.index, entry.term);
                    self.active.index_max = self.active.index_max.max(entry.index);
                }
                Record::Snapshot(point) => {
                    self.last = (point.index, point.term);
                    for sealed in &mut self.sealed {
                        sealed.index_max = 0;
                    }
                }
                Record::HardState(hard_state) => self.hard_state = *hard_state,
                Record::Position { .. } | Record::Clean => {}
            }
        }
    }

    /// Goes on in a new segment with room for `needed` bytes.
    fn rotate(&mut self, needed: u64) -> io::Result<()> {
        let sequence = self.active.sequence + 1;
        let header = SegmentHeader { identity: self.identity, sequence, first_frame: self.next_frame };
        let config = WalConfig { segment_bytes: self.config.segment_bytes.max(needed), ..self.config };
        let (file, file_bytes) =
            make_segment(&*self.disk, &self.folder, config, &mut self.spares, &header, Filling::Length)?;
        let active = Active { sequence, file, file_bytes, offset: FIRST_FRAME_OFFSET, index_max: 0 };
        let full = std::mem::replace(&mut self.active, active);
        self.sealed.push(Sealed { sequence: full.sequence, file_bytes: full.file_bytes, index_max: full.index_max });
        Ok(())
    }

    /// Takes the oldest segment out of the log. Its name is durably gone before the next one's goes, so that no crash
    /// leaves a gap.
    fn retire(&mut self, oldest: Sealed) -> io::Result<()> {
        let path = segment_path(&self.folder, oldest.sequence);
        if self.spares.len() < SPARES_MAX && oldest.file_bytes == self.config.segment_bytes {
            let spare = spare_name(oldest.sequence);
            self.disk.rename(&path, &format!("{}/{spare}", self.folder))?;
            // A crash may have left a spare of this name, which is replaced.
            self.spares.retain(|(name, _)| *name != spare);
            self.spares.push((spare, oldest.file_bytes));
        } else {
            self.disk.remove(&path)?;
        }
        self.disk.sync_dir(&self.folder)
    }

    /// Has one spare ready at least, of the right length, and not more than are of use.
    fn keep_spares(&mut self) -> io::Result<()> {
        let segment_bytes = self.config.segment_bytes;
        let mut kept = Vec::new();
        for (name, file_bytes) in std::mem::take(&mut self.spares) {
            if kept.len() < SPARES_MAX && file_bytes == segment_bytes {
                kept.push((name, file_bytes));
            } else {
                self.disk.remove(&format!("{}/{name}", self.folder))?;
            }
        }
        if kept.is_empty() {
            let name = spare_name(0);
            fill(&*self.disk.create(&format!("{}/{name}", self.folder))?, segment_bytes, Filling::Zeros)?;
            kept.push((name, segment_bytes));
        }
        self.spares = kept;
        Ok(())
    }
}

/// How a new segment gets its length.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filling {
    /// Written out, so that later writes change no metadata: syncs are then twice as fast.
    Zeros,
    /// Only set, since somebody waits.
    Length,
}

fn fill(file: &dyn DiskFile, length: u64, filling: Filling) -> io::Result<()> {
    match filling {
        Filling::Length => file.set_len(length)?,
        Filling::Zeros => write_zeros(file, 0, length)?,
    }
    file.sync()
}

fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK_BYTES.min((to - from) as usize)];
    let mut offset = from;
    while offset < to {
        let count = zeros.len().min((to - offset) as usize);
        file.write_at(&zeros[..count], offset)?;
        offset += count as u64;
    }
    Ok(())
}

/// Makes a segment of a spare or a new file. Its header is durable before it gets its name, and its name before it is
/// written to: a file with a segment's name has a valid header, or is damaged.
fn make_segment(
    disk: &dyn Disk,
    folder: &str,
    config: WalConfig,
    spares: &mut Vec<(String, u64)>,
    header: &SegmentHeader,
    filling: Filling,
) -> io::Result<(Arc<dyn DiskFile>, u64)> {
    let usable = spares.iter().position(|(_, file_bytes)| *file_bytes == config.segment_bytes);
    let (name, file) = match usable.map(|position| spares.remove(position)) {
        Some((name, _)) => {
            let file = disk.open(&format!("{folder}/{name}"))?;
            (name, file)
        }
        None => {
            let name = spare_name(header.sequence);
            spares.retain(|(spare, _)| *spare != name);
            let file = disk.create(&format!("{folder}/{name}"))?;
            fill(&*file, config.segment_bytes, filling)?;
            (name, file)
        }
    };
    file.write_at(&header.encode(), 0)?;
    file.sync()?;
    disk.rename(&format!("{folder}/{name}"), &segment_path(folder, header.sequence))?;
    disk.sync_dir(folder)?;
    Ok((file, config.segment_bytes))
}

fn segment_path(folder: &str, sequence: u64) -> String {
    format!("{folder}/{sequence:016x}.wal")
}

/// A spare is never named like a segment. `sequence` only makes names differ.
fn spare_name(sequence: u64) -> String {
    format!("{sequence:016x}.spare")
}

/// The sequence number in a segment's name.
fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

const _: () = assert!(FIRST_FRAME_OFFSET.is_multiple_of(FRAME_ALIGNMENT));
