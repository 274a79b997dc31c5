//! The snapshot stream: a checkpoint and the segments it names, from one member to another.
//!
//! Owns the stream's bytes, at both ends. Does not own its transport. Invariant: a sink that finishes has written
//! exactly what the source read, every record of it verified and durable; whatever else arrives is an error.
//!
//! ```text
//! "QSNP" | version u32 | length of the whole stream u64 | crc32c u32 (of these)
//! frames: kind u8 | payload length u32 | crc32c u32 (of kind, length and payload) | payload
//!   1 checkpoint, a piece of its encoding     2 segment: id u32 | length u64 | sealed u8
//!   3 data, a piece of the segment            4 end: crc32c u32 of all bytes of the stream before this frame
//! ```

use super::generations::replace_checkpoint;
use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;
use crate::revlog::{Segment, SegmentSet, segment_path, verify_segment};
use bytes::Bytes;
use prost::Message;
use quorate_proto::quoratepb::{Checkpoint, SegmentRef};
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"QSNP";
const FORMAT_VERSION: u32 = 1;
const PREAMBLE_BYTES: usize = 20;
const FRAME_HEAD_BYTES: usize = 9;
/// A piece of the stream, at most.
const PIECE_BYTES_MAX: usize = 256 << 10;
const PAYLOAD_BYTES_MAX: usize = PIECE_BYTES_MAX - FRAME_HEAD_BYTES;
const SEGMENT_PAYLOAD_BYTES: usize = 13;
const END_PAYLOAD_BYTES: usize = 4;
/// What errors name instead of a file.
const STREAM: &str = "snapshot stream";

const KIND_CHECKPOINT: u8 = 1;
const KIND_SEGMENT: u8 = 2;
const KIND_DATA: u8 = 3;
const KIND_END: u8 = 4;

fn encode_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    frame.push(kind);
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), payload);
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn encode_preamble(total: u64) -> Vec<u8> {
    let mut preamble = Vec::with_capacity(PREAMBLE_BYTES);
    preamble.extend_from_slice(&MAGIC);
    preamble.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    preamble.extend_from_slice(&total.to_le_bytes());
    preamble.extend_from_slice(&crc32c::crc32c(&preamble).to_le_bytes());
    preamble
}

fn encode_segment(reference: &SegmentRef) -> Vec<u8> {
    let mut payload = Vec::with_capacity(SEGMENT_PAYLOAD_BYTES);
    payload.extend_from_slice(&reference.id.to_le_bytes());
    payload.extend_from_slice(&reference.length.to_le_bytes());
    payload.push(reference.sealed.into());
    payload
}

/// Bytes of a stream that carries `length` bytes in pieces.
fn framed_bytes(length: u64) -> u64 {
    length + length.div_ceil(PAYLOAD_BYTES_MAX as u64) * FRAME_HEAD_BYTES as u64
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

/// A snapshot to send: the checkpoint and the files it names, held open, so that compaction may go on.
pub struct SnapshotSource {
    total: u64,
    checksum: u32,
    checkpoint: Vec<u8>,
    segments: Vec<(SegmentRef, Arc<Segment>)>,
    next: Next,
}

#[derive(Clone, Copy)]
enum Next {
    Preamble,
    Checkpoint { offset: usize },
    Segment { position: usize },
    Data { position: usize, offset: u64 },
    Done,
}

impl SnapshotSource {
    /// The segments named by `checkpoint`, from a view taken at the same moment.
    pub fn new(checkpoint: &Checkpoint, segments: &Arc<SegmentSet>) -> Result<Self, DiskError> {
        let mut named = Vec::with_capacity(checkpoint.segments.len());
        let checkpoint_bytes = checkpoint.encode_to_vec();
        let head = PREAMBLE_BYTES + FRAME_HEAD_BYTES + END_PAYLOAD_BYTES;
        let mut total = head as u64 + framed_bytes(checkpoint_bytes.len() as u64);
        for reference in &checkpoint.segments {
            let Some(segment) = segments.segment(reference.id) else {
                let what = format!("the checkpoint names segment {}, which is not in the view", reference.id);
                return Err(DiskError::corrupt(STREAM, 0, what));
            };
            if segment.length() < reference.length {
                let what = format!("the end of the segment, expected {} bytes", reference.length);
                return Err(segment.corrupt(segment.length(), what));
            }
            total += (FRAME_HEAD_BYTES + SEGMENT_PAYLOAD_BYTES) as u64 + framed_bytes(reference.length);
            named.push((reference.clone(), segment.clone()));
        }
        Ok(Self { total, checksum: 0, checkpoint: checkpoint_bytes, segments: named, next: Next::Preamble })
    }

    /// All bytes that `next` will give.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// The next piece of the stream, at most 256 KiB; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "a source that failed is not an iterator that ended")]
    pub fn next(&mut self) -> Result<Option<Bytes>, DiskError> {
        loop {
            let piece = match self.next {
                Next::Preamble => {
                    self.next = Next::Checkpoint { offset: 0 };
                    encode_preamble(self.total)
                }
                Next::Checkpoint { offset } if offset == self.checkpoint.len() => {
                    self.next = Next::Segment { position: 0 };
                    continue;
                }
                Next::Checkpoint { offset } => {
                    let end = self.checkpoint.len().min(offset + PAYLOAD_BYTES_MAX);
                    self.next = Next::Checkpoint { offset: end };
                    encode_frame(KIND_CHECKPOINT, &self.checkpoint[offset..end])
                }
                Next::Segment { position } => match self.segments.get(position) {
                    Some((reference, _)) => {
                        self.next = Next::Data { position, offset: 0 };
                        encode_frame(KIND_SEGMENT, &encode_segment(reference))
                    }
                    None => {
                        self.next = Next::Done;
                        encode_frame(KIND_END, &self.checksum.to_le_bytes())
                    }
                },
                Next::Data { position, offset } => {
                    let (reference, segment) = &self.segments[position];
                    let left = reference.length - offset;
                    if left == 0 {
                        self.next = Next::Segment { position: position + 1 };
                        continue;
                    }
                    let count = left.min(PAYLOAD_BYTES_MAX as u64);
                    let bytes = segment.read(offset, count as usize)?;
                    self.next = Next::Data { position, offset: offset + count };
                    encode_frame(KIND_DATA, &bytes)
                }
                Next::Done => return Ok(None),
            };
            self.checksum = crc32c::crc32c_append(self.checksum, &piece);
            return Ok(Some(piece.into()));
        }
    }
}

/// Writes an arriving snapshot, verifying it piece by piece.
pub struct SnapshotSink {
    disk: Arc<dyn Disk>,
    folder: String,
    /// Bytes that do not make a whole frame yet: at most `PIECE_BYTES_MAX`.
    pending: Vec<u8>,
    /// Bytes of whole frames so far, and their checksum.
    taken: u64,
    checksum: u32,
    total: u64,
    state: State,
}

enum State {
    Preamble,
    Checkpoint { encoded: Vec<u8> },
    Segments { checkpoint: Checkpoint, missing: VecDeque<SegmentRef>, writing: Option<Writing> },
    Complete { checkpoint: Checkpoint },
    Failed,
}

/// A segment that is arriving.
struct Writing {
    reference: SegmentRef,
    file: Arc<dyn DiskFile>,
    written: u64,
}

impl SnapshotSink {
    /// Into a folder that exists and is empty.
    pub(super) fn new(disk: Arc<dyn Disk>, folder: String) -> Self {
        Self { disk, folder, pending: Vec::new(), taken: 0, checksum: 0, total: 0, state: State::Preamble }
    }

    /// Takes bytes in any cut. After an error the snapshot is lost: begin again with `Home::receive`.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), DiskError> {
        let mut rest = piece;
        loop {
            let wanted = self.wanted()?;
            let count = wanted.saturating_sub(self.pending.len()).min(rest.len());
            self.pending.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            if self.pending.len() < wanted {
                return Ok(());
            }
            // The head of a frame tells how long it is: only when that is there, too, the frame is whole.
            if self.pending.len() == self.wanted()? {
                let unit = mem::take(&mut self.pending);
                let outcome = self.take(&unit);
                if outcome.is_err() {
                    self.state = State::Failed;
                }
                outcome?;
                self.taken += unit.len() as u64;
                self.checksum = crc32c::crc32c_append(self.checksum, &unit);
                self.pending = unit;
                self.pending.clear();
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// The stream ended: everything is verified and synced, or the reason why not.
    pub fn finish(self) -> Result<Received, DiskError> {
        match self.state {
            State::Complete { checkpoint } if self.pending.is_empty() => {
                replace_checkpoint(&*self.disk, &self.folder, &checkpoint)?;
                Ok(Received { checkpoint, folder: self.folder })
            }
            State::Failed => Err(DiskError::corrupt(STREAM, self.taken, "an error before the end of the stream")),
            _ => {
                let end = self.taken + self.pending.len() as u64;
                Err(DiskError::corrupt(STREAM, end, format!("the end of the stream, expected {} bytes", self.total)))
            }
        }
    }

    fn corrupt<T>(&self, what: impl Into<String>) -> Result<T, DiskError> {
        Err(DiskError::corrupt(STREAM, self.taken, what))
    }

    /// How many bytes make the next unit, as far as it can be told from those that are there.
    fn wanted(&mut self) -> Result<usize, DiskError> {
        if let State::Preamble = self.state {
            return Ok(PREAMBLE_BYTES);
        }
        if self.pending.len() < FRAME_HEAD_BYTES {
            return Ok(FRAME_HEAD_BYTES);
        }
        let length = u32_at(&self.pending, 1) as usize;
        if length > PAYLOAD_BYTES_MAX {
            self.state = State::Failed;
            return self.corrupt(format!("a frame of {length} bytes, expected at most {PAYLOAD_BYTES_MAX}"));
        }
        Ok(FRAME_HEAD_BYTES + length)
    }

    fn take(&mut self, unit: &[u8]) -> Result<(), DiskError> {
        if let State::Preamble = self.state {
            return self.take_preamble(unit);
        }
        let payload = &unit[FRAME_HEAD_BYTES..];
        let found = crc32c::crc32c_append(crc32c::crc32c(&unit[..5]), payload);
        if found != u32_at(unit, 5) {
            return self.corrupt(format!("a frame with checksum {found:08x}, expected {:08x}", u32_at(unit, 5)));
        }
        match unit[0] {
            KIND_CHECKPOINT => self.take_checkpoint(payload),
            KIND_SEGMENT if payload.len() == SEGMENT_PAYLOAD_BYTES => self.take_segment(payload),
            KIND_DATA if !payload.is_empty() => self.take_data(payload),
            KIND_END if payload.len() == END_PAYLOAD_BYTES => self.take_end(payload),
            kind => self.corrupt(format!("a frame of kind {kind} and {} bytes", payload.len())),
        }
    }

    fn take_preamble(&mut self, unit: &[u8]) -> Result<(), DiskError> {
        if unit[..4] != MAGIC || crc32c::crc32c(&unit[..16]) != u32_at(unit, 16) {
            return self.corrupt("bytes that do not begin a snapshot");
        }
        let found = u32_at(unit, 4);
        if found != FORMAT_VERSION {
            return Err(DiskError::Version { path: STREAM.to_string(), found, supported: FORMAT_VERSION });
        }
        self.total = u64_at(unit, 8);
        self.state = State::Checkpoint { encoded: Vec::new() };
        Ok(())
    }

    fn take_checkpoint(&mut self, payload: &[u8]) -> Result<(), DiskError> {
        match &mut self.state {
            State::Checkpoint { encoded } => {
                encoded.extend_from_slice(payload);
                Ok(())
            }
            _ => self.corrupt("a piece of a checkpoint behind the segments' beginning"),
        }
    }

    /// Goes from the checkpoint to the segments, at the first frame that is no piece of it.
    fn begin_segments(&mut self) -> Result<(), DiskError> {
        if let State::Checkpoint { encoded } = &self.state {
            match Checkpoint::decode(&encoded[..]) {
                Ok(checkpoint) => {
                    let missing = checkpoint.segments.iter().cloned().collect();
                    self.state = State::Segments { checkpoint, missing, writing: None };
                }
                Err(error) => return self.corrupt(format!("a checkpoint that cannot be read: {error}")),
            }
        }
        Ok(())
    }

    fn take_segment(&mut self, payload: &[u8]) -> Result<(), DiskError> {
        self.begin_segments()?;
        let sealed = payload[12];
        let (id, length) = (u32_at(payload, 0), u64_at(payload, 4));
        let State::Segments { missing, writing, .. } = &mut self.state else {
            return self.corrupt("a segment behind the end");
        };
        let is_next = |named: &SegmentRef| (named.id, named.length, u8::from(named.sealed)) == (id, length, sealed);
        let Some(reference) = missing.pop_front().filter(is_next).filter(|_| writing.is_none()) else {
            return self.corrupt(format!("segment {id}, which the checkpoint does not name here"));
        };
        let path = segment_path(&self.folder, reference.id);
        let file = self.disk.create(&path).map_err(|error| DiskError::io(&path, error))?;
        *writing = Some(Writing { reference, file, written: 0 });
        Ok(())
    }

    fn take_data(&mut self, payload: &[u8]) -> Result<(), DiskError> {
        let State::Segments { writing, .. } = &mut self.state else {
            return self.corrupt("data outside of a segment");
        };
        let Some(current) = writing.as_mut() else {
            return self.corrupt("data outside of a segment");
        };
        let path = segment_path(&self.folder, current.reference.id);
        let end = current.written + payload.len() as u64;
        let length = current.reference.length;
        if end > length {
            return self.corrupt(format!("more data than the segment's {length} bytes"));
        }
        current.file.write_at(payload, current.written).map_err(|error| DiskError::io(&path, error))?;
        current.written = end;
        if end == length {
            current.file.sync().map_err(|error| DiskError::io(&path, error))?;
            verify_segment(&*self.disk, &self.folder, &current.reference)?;
            *writing = None;
        }
        Ok(())
    }

    fn take_end(&mut self, payload: &[u8]) -> Result<(), DiskError> {
        self.begin_segments()?;
        let State::Segments { checkpoint, missing, writing } = &mut self.state else {
            return self.corrupt("a second end");
        };
        if !missing.is_empty() || writing.is_some() {
            return self.corrupt("the end, expected more segments");
        }
        let checkpoint = mem::take(checkpoint);
        let end = self.taken + (FRAME_HEAD_BYTES + payload.len()) as u64;
        if u32_at(payload, 0) != self.checksum || end != self.total {
            return self.corrupt("an end that does not belong to what came before it");
        }
        self.state = State::Complete { checkpoint };
        Ok(())
    }
}

/// A complete, durable generation that is not current yet.
pub struct Received {
    /// Its checkpoint.
    pub checkpoint: Checkpoint,
    /// Its folder.
    pub folder: String,
}
