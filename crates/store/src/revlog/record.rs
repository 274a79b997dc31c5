//! One record: its frame, and the few fields of its payload that the index needs.
//!
//! Owns the record's bytes. Does not own where they lie. Invariant: `decode` accepts exactly what `encode` wrote.
//!
//! ```text
//! crc32c u32 | body length u32 | flags u8 | main u64 | sub u32 | payload
//! ```
//! Little endian; the checksum covers everything after itself, the body begins with the flags, flag bit 0 marks a
//! deletion. All before the payload is of one length, so that a location tells how long the payload is.

use crate::revision::Revision;
use bytes::Bytes;
use std::ops::Range;

/// Checksum and length.
pub(crate) const FRAME_BYTES: usize = 8;
/// What a record has beside its payload, bytes.
pub const RECORD_OVERHEAD: usize = FRAME_BYTES + 13;
const FLAG_DELETION: u8 = 1;
/// The longest record, so that offsets within a segment fit 32 bits with room for the segment's header.
const RECORD_BYTES_MAX: usize = (u32::MAX - 1024) as usize;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Location {
    /// The segment.
    pub segment: u32,
    /// The record's first byte in it.
    pub offset: u32,
    /// The record's length with its frame, bytes.
    pub length: u32,
}

/// A record as read back, its checksum verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in history.
    pub revision: Revision,
    /// Whether it deletes the key.
    pub deletion: bool,
    /// The encoded `mvccpb.KeyValue`; of a deletion it holds the key only.
    pub key_value: Bytes,
}

/// What start-up learns of a record: enough for the key index.
#[derive(Clone, Copy, Debug)]
pub struct LoadedEntry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its place in history.
    pub revision: Revision,
    /// The revision that created the key; 0 for a deletion.
    pub create_revision: i64,
    /// Writes since creation; 0 for a deletion.
    pub version: i64,
    /// The lease; 0: none.
    pub lease: i64,
    /// Where the record lies.
    pub location: Location,
}

/// A record's parts, its payload as a range of the record's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) revision: Revision,
    pub(crate) deletion: bool,
    pub(crate) payload: Range<usize>,
}

impl Parts {
    /// The record with a payload of its own, so that it keeps no larger buffer alive.
    pub(crate) fn to_record(&self, bytes: &[u8]) -> Record {
        Record {
            revision: self.revision,
            deletion: self.deletion,
            key_value: Bytes::copy_from_slice(&bytes[self.payload.clone()]),
        }
    }
}

/// The fields of an encoded `mvccpb.KeyValue` that the index keeps. A deletion's are 0 but for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyFields<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// Appends a record to a buffer and answers its length. Panics when the payload is too long for a segment.
pub(crate) fn encode(buffer: &mut Vec<u8>, revision: Revision, deletion: bool, key_value: &[u8]) -> u32 {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; FRAME_BYTES]);
    buffer.push(if deletion { FLAG_DELETION } else { 0 });
    let sub = u32::try_from(revision.sub).expect("a transaction has fewer than 2^32 changes");
    buffer.extend_from_slice(&revision.main.to_le_bytes());
    buffer.extend_from_slice(&sub.to_le_bytes());
    buffer.extend_from_slice(key_value);
    let length = buffer.len() - start;
    assert!(length <= RECORD_BYTES_MAX, "a record of {length} bytes fits no segment");
    let body_length = (length - FRAME_BYTES) as u32;
    buffer[start + 4..start + 8].copy_from_slice(&body_length.to_le_bytes());
    let checksum = crc32c::crc32c(&buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    length as u32
}

/// The length of the whole record, from its frame.
pub(crate) fn framed_length(frame: &[u8]) -> u64 {
    FRAME_BYTES as u64 + u64::from(u32_at(frame, 4))
}

/// Verifies and takes apart a record that fills `bytes`; the error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Parts, String> {
    if bytes.len() < RECORD_OVERHEAD {
        return Err(format!("a record of {} bytes, expected at least {RECORD_OVERHEAD}", bytes.len()));
    }
    let length = framed_length(bytes);
    if length != bytes.len() as u64 {
        return Err(format!("a record of {length} bytes, expected {}", bytes.len()));
    }
    let (found, expected) = (crc32c::crc32c(&bytes[4..]), u32_at(bytes, 0));
    if found != expected {
        return Err(format!("a record with checksum {found:08x}, expected {expected:08x}"));
    }
    let flags = bytes[FRAME_BYTES];
    if flags & !FLAG_DELETION != 0 {
        return Err(format!("a record with flags {flags:02x}, of which only {FLAG_DELETION:02x} is known"));
    }
    let main = i64::from_le_bytes(bytes[9..17].try_into().expect("eight bytes"));
    Ok(Parts {
        revision: Revision { main, sub: u32_at(bytes, 17).into() },
        deletion: flags & FLAG_DELETION != 0,
        payload: RECORD_OVERHEAD..bytes.len(),
    })
}

/// Reads the fields of a payload; `None` when it is no encoded `mvccpb.KeyValue`.
pub(crate) fn key_fields(deletion: bool, key_value: &[u8]) -> Option<KeyFields<'_>> {
    let mut reader = Reader { bytes: key_value, position: 0 };
    let mut fields = KeyFields { key: &[], create_revision: 0, version: 0, lease: 0 };
    while reader.position < key_value.len() {
        let tag = reader.varint()?;
        match (tag >> 3, tag & 7) {
            (0, _) => return None,
            (1, 2) => fields.key = reader.delimited()?,
            (2, 0) => fields.create_revision = reader.varint()? as i64,
            (4, 0) => fields.version = reader.varint()? as i64,
            (6, 0) => fields.lease = reader.varint()? as i64,
            (_, 0) => drop(reader.varint()?),
            (_, 1) => drop(reader.take(8)?),
            (_, 2) => drop(reader.delimited()?),
            (_, 5) => drop(reader.take(4)?),
            _ => return None,
        }
    }
    Some(if deletion { KeyFields { create_revision: 0, version: 0, lease: 0, ..fields } } else { fields })
}

/// A `u32`, little endian. The caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

/// Appends an unsigned number, seven bits a byte, low bits first.
pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

/// Reads numbers and byte strings from a slice; `None` when it ends too early.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.position..self.position.checked_add(count)?)?;
        self.position += count;
        Some(taken)
    }

    fn delimited(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }
}
