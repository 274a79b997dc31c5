//! The bytes of a segment: header, frames, records. Format: docs/formats-wal.md.
//!
//! Pure encoding and decoding. Owns no file. Invariant: decoding never panics, whatever the bytes are.

use super::Identity;
use crate::api::{HardState, SnapshotPoint};
use bytes::{Buf, Bytes};
use prost::Message as _;
use quorate_proto::quoratepb::{ConfState, LogEntry};

/// The version that is written and read.
pub const FORMAT_VERSION: u32 = 1;
/// Where a segment's first frame begins: the header has the first sectors to itself.
pub(super) const FIRST_FRAME_OFFSET: u64 = 4096;
/// Frames begin at multiples of this.
pub(super) const FRAME_ALIGNMENT: u64 = 8;
/// Length of a frame's header, bytes.
pub(super) const FRAME_HEADER_BYTES: usize = 32;
/// Length of a segment's header, bytes.
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
/// A frame's body at the most, bytes.
const BODY_BYTES_MAX: usize = 1 << 30;

const SEGMENT_MAGIC: [u8; 8] = *b"QRTWAL\r\n";
const FRAME_MAGIC: [u8; 4] = *b"QFrm";

const HARD_STATE: u8 = 1;
const ENTRY: u8 = 2;
const SNAPSHOT: u8 = 3;
const POSITION: u8 = 4;
const CLEAN: u8 = 5;
/// Kind and payload length.
const RECORD_HEADER_BYTES: usize = 5;

/// The beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) identity: Identity,
    pub(super) sequence: u64,
    /// The number of its first frame.
    pub(super) first_frame: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.identity.cluster_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.identity.member_id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_frame.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderError::Damaged)?;
        if bytes[..8] != SEGMENT_MAGIC || crc32c::crc32c(&bytes[..60]) != read_u32(bytes, 60) {
            return Err(HeaderError::Damaged);
        }
        let version = read_u32(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        Ok(Self {
            identity: Identity { cluster_id: read_u64(bytes, 16), member_id: read_u64(bytes, 24) },
            sequence: read_u64(bytes, 32),
            first_frame: read_u64(bytes, 40),
        })
    }
}

/// Which frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The segment's.
    pub(super) sequence: u64,
    /// Counts up by one through all segments.
    pub(super) number: u64,
}

/// Length of a frame with such a body, padding included, bytes.
pub(super) fn frame_bytes(body_bytes: usize) -> u64 {
    ((FRAME_HEADER_BYTES + body_bytes) as u64).next_multiple_of(FRAME_ALIGNMENT)
}

/// Replaces `buffer` by a whole frame.
pub(super) fn encode_frame<'a>(buffer: &mut Vec<u8>, frame: Frame, records: impl Iterator<Item = &'a Record<'a>>) {
    buffer.clear();
    buffer.resize(FRAME_HEADER_BYTES, 0);
    for record in records {
        record.encode(buffer);
    }
    let body_bytes = buffer.len() - FRAME_HEADER_BYTES;
    assert!(body_bytes <= BODY_BYTES_MAX, "a frame of {body_bytes} bytes is beyond what a reader takes");
    let body_sum = crc32c::crc32c(&buffer[FRAME_HEADER_BYTES..]);
    buffer.resize(frame_bytes(body_bytes) as usize, 0);
    buffer[..4].copy_from_slice(&FRAME_MAGIC);
    buffer[4..8].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    buffer[8..16].copy_from_slice(&frame.sequence.to_le_bytes());
    buffer[16..24].copy_from_slice(&frame.number.to_le_bytes());
    buffer[24..28].copy_from_slice(&body_sum.to_le_bytes());
    let header_sum = crc32c::crc32c(&buffer[..28]);
    buffer[28..32].copy_from_slice(&header_sum.to_le_bytes());
}

/// The frame at an offset, with its body; `None` when there is none that is whole.
pub(super) fn decode_frame(segment: &Bytes, offset: u64) -> Option<(Frame, Bytes)> {
    let start = usize::try_from(offset).ok()?;
    let header: &[u8; FRAME_HEADER_BYTES] = segment.get(start..)?.first_chunk()?;
    if header[..4] != FRAME_MAGIC || crc32c::crc32c(&header[..28]) != read_u32(header, 28) {
        return None;
    }
    let body_start = start + FRAME_HEADER_BYTES;
    let body_end = body_start.checked_add(read_u32(header, 4) as usize)?;
    if crc32c::crc32c(segment.get(body_start..body_end)?) != read_u32(header, 24) {
        return None;
    }
    let frame = Frame { sequence: read_u64(header, 8), number: read_u64(header, 16) };
    Some((frame, segment.slice(body_start..body_end)))
}

/// One fact in a frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record<'a> {
    /// Replaces the hard state.
    HardState(HardState),
    /// Follows the log's last entry, or replaces the log from its index on.
    Entry(&'a LogEntry),
    /// The log begins anew behind this.
    Snapshot(SnapshotPoint),
    /// First in a segment: the last entry before it.
    Position { index: u64, term: u64 },
    /// The process stopped in good order.
    Clean,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ReadRecord {
    HardState(HardState),
    Entry(LogEntry),
    Snapshot(SnapshotPoint),
    Position { index: u64, term: u64 },
    Clean,
}

impl Record<'_> {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::HardState(_) => 24,
            Self::Entry(entry) => 24 + entry.data.len() + entry.context.len(),
            Self::Snapshot(point) => 16 + point.conf_state.encoded_len(),
            Self::Position { .. } => 16,
            Self::Clean => 0,
        }
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload_bytes()
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        let kind = match self {
            Self::HardState(_) => HARD_STATE,
            Self::Entry(_) => ENTRY,
            Self::Snapshot(_) => SNAPSHOT,
            Self::Position { .. } => POSITION,
            Self::Clean => CLEAN,
        };
        buffer.push(kind);
        buffer.extend_from_slice(&(self.payload_bytes() as u32).to_le_bytes());
        match self {
            Self::HardState(hard_state) => {
                put_u64(buffer, hard_state.term);
                put_u64(buffer, hard_state.vote);
                put_u64(buffer, hard_state.commit);
            }
            Self::Entry(entry) => {
                put_u64(buffer, entry.index);
                put_u64(buffer, entry.term);
                buffer.extend_from_slice(&entry.entry_type.to_le_bytes());
                buffer.extend_from_slice(&(entry.context.len() as u32).to_le_bytes());
                buffer.extend_from_slice(&entry.context);
                buffer.extend_from_slice(&entry.data);
            }
            Self::Snapshot(point) => {
                put_u64(buffer, point.index);
                put_u64(buffer, point.term);
                buffer.extend_from_slice(&point.conf_state.encode_to_vec());
            }
            Self::Position { index, term } => {
                put_u64(buffer, *index);
                put_u64(buffer, *term);
            }
            Self::Clean => {}
        }
    }
}

/// The records of a body; `None` when they are not what this version writes. Entries share the body's bytes.
pub(super) fn decode_records(mut body: Bytes) -> Option<Vec<ReadRecord>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        if body.len() < RECORD_HEADER_BYTES {
            return None;
        }
        let kind = body.get_u8();
        let length = body.get_u32_le() as usize;
        if length > body.len() {
            return None;
        }
        records.push(decode_record(kind, body.split_to(length))?);
    }
    Some(records)
}

fn decode_record(kind: u8, mut payload: Bytes) -> Option<ReadRecord> {
    let least = match kind {
        HARD_STATE | ENTRY => 24,
        SNAPSHOT | POSITION => 16,
        CLEAN => 0,
        _ => return None,
    };
    let exact = matches!(kind, HARD_STATE | POSITION | CLEAN);
    if payload.len() < least || (exact && payload.len() != least) {
        return None;
    }
    Some(match kind {
        HARD_STATE => ReadRecord::HardState(HardState {
            term: payload.get_u64_le(),
            vote: payload.get_u64_le(),
            commit: payload.get_u64_le(),
        }),
        ENTRY => {
            let index = payload.get_u64_le();
            let term = payload.get_u64_le();
            let entry_type = payload.get_u32_le();
            let context_bytes = payload.get_u32_le() as usize;
            if context_bytes > payload.len() {
                return None;
            }
            let context = payload.split_to(context_bytes);
            ReadRecord::Entry(LogEntry { entry_type, term, index, data: payload, context })
        }
        SNAPSHOT => {
            let index = payload.get_u64_le();
            let term = payload.get_u64_le();
            let conf_state = ConfState::decode(payload).ok()?;
            ReadRecord::Snapshot(SnapshotPoint { index, term, conf_state })
        }
        POSITION => ReadRecord::Position { index: payload.get_u64_le(), term: payload.get_u64_le() },
        _ => ReadRecord::Clean,
    })
}

fn put_u64(buffer: &mut Vec<u8>, value: u64) {
    buffer.extend_from_slice(&value.to_le_bytes());
}

fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(value)
}

fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(value)
}
