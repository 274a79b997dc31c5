//! The index that ends a sealed segment: an entry per record, and a trailer that leads to it.
//!
//! Owns these bytes. Does not own the records. Invariant: the footer is a function of the records before it, so that a
//! broken one can be made again, and its length proves that none of them is missing.
//!
//! ```text
//! entry:   shared·2 + deletion varint | suffix length varint | suffix | main - previous main varint | sub varint
//!          | record length varint | of a put: zigzag(main - create) varint | version varint | lease varint
//! trailer: footer offset u32 | footer length u32 | entries u32 | footer crc32c u32 | "QIDX" | trailer crc32c u32
//! ```

use super::record::{KeyFields, Reader, put_varint, u32_at};
use crate::revision::Revision;
use std::iter;

/// The trailer's length.
pub(crate) const TRAILER_BYTES: usize = 24;
const TRAILER_MAGIC: [u8; 4] = *b"QIDX";

/// A segment's footer while the segment grows. It is always smaller than the records that it describes.
#[derive(Default)]
pub(crate) struct FooterBuilder {
    bytes: Vec<u8>,
    last_key: Vec<u8>,
    last_main: i64,
    count: u32,
}

impl FooterBuilder {
    pub(crate) fn push(&mut self, revision: Revision, deletion: bool, fields: &KeyFields<'_>, length: u32) {
        let shared = iter::zip(&self.last_key, fields.key).take_while(|(a, b)| a == b).count();
        let suffix = &fields.key[shared..];
        let bytes = &mut self.bytes;
        put_varint(bytes, (shared as u64) << 1 | u64::from(deletion));
        put_varint(bytes, suffix.len() as u64);
        bytes.extend_from_slice(suffix);
        put_varint(bytes, revision.main.wrapping_sub(self.last_main) as u64);
        put_varint(bytes, revision.sub as u64);
        put_varint(bytes, length.into());
        if !deletion {
            put_varint(bytes, zigzag(revision.main.wrapping_sub(fields.create_revision)));
            put_varint(bytes, fields.version as u64);
            put_varint(bytes, fields.lease as u64);
        }
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(suffix);
        self.last_main = revision.main;
        self.count += 1;
    }

    /// The entries so far.
    pub(crate) fn entries(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_entries(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Footer and trailer, to be written behind the records, which end at `records_end`.
    pub(crate) fn finish(&self, records_end: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + TRAILER_BYTES);
        bytes.extend_from_slice(&self.bytes);
        let length = u32::try_from(self.bytes.len()).expect("a footer is smaller than its records");
        for number in [records_end, length, self.count, crc32c::crc32c(&self.bytes)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&TRAILER_MAGIC);
        let checksum = crc32c::crc32c(&bytes[self.bytes.len()..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// Where the footer lies, and what it must be.
pub(crate) struct Trailer {
    pub(crate) footer_offset: u32,
    pub(crate) footer_length: u32,
    pub(crate) entries: u32,
    pub(crate) footer_checksum: u32,
}

impl Trailer {
    /// Reads a trailer of `TRAILER_BYTES`; `None` when it is broken.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let is_sound = bytes[16..20] == TRAILER_MAGIC && crc32c::crc32c(&bytes[..20]) == u32_at(bytes, 20);
        is_sound.then(|| Self {
            footer_offset: u32_at(bytes, 0),
            footer_length: u32_at(bytes, 4),
            entries: u32_at(bytes, 8),
            footer_checksum: u32_at(bytes, 12),
        })
    }
}

/// An entry of a footer: a record without its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FooterEntry<'a> {
    pub(crate) fields: KeyFields<'a>,
    pub(crate) revision: Revision,
    pub(crate) deletion: bool,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// A position in a footer. It can be kept between steps, and needs no allocation per entry.
#[derive(Default)]
pub(crate) struct FooterCursor {
    position: usize,
    key: Vec<u8>,
    main: i64,
    offset: u32,
}

impl FooterCursor {
    /// Before the first entry of a segment whose first record lies at `first_offset`.
    pub(crate) fn new(first_offset: u32) -> Self {
        Self { offset: first_offset, ..Self::default() }
    }

    /// Where the record of the next entry begins; after the last entry, where the records end.
    pub(crate) fn offset(&self) -> u32 {
        self.offset
    }

    pub(crate) fn is_at_end(&self, entries: &[u8]) -> bool {
        self.position == entries.len()
    }

    /// The next entry; `None` when it cannot be read. The caller has asked `is_at_end`.
    pub(crate) fn next(&mut self, entries: &[u8]) -> Option<FooterEntry<'_>> {
        let mut reader = Reader { bytes: entries, position: self.position };
        let head = reader.varint()?;
        let deletion = head & 1 == 1;
        let shared = usize::try_from(head >> 1).ok().filter(|&shared| shared <= self.key.len())?;
        let suffix_length = usize::try_from(reader.varint()?).ok()?;
        let suffix = reader.take(suffix_length)?;
        let main = self.main.checked_add_unsigned(reader.varint()?)?;
        let sub = u32::try_from(reader.varint()?).ok()?;
        let length = u32::try_from(reader.varint()?).ok()?;
        let (mut create_revision, mut version, mut lease) = (0, 0, 0);
        if !deletion {
            create_revision = main.wrapping_sub(unzigzag(reader.varint()?));
            version = reader.varint()? as i64;
            lease = reader.varint()? as i64;
        }
        let offset = self.offset;
        self.offset = offset.checked_add(length)?;
        self.position = reader.position;
        self.main = main;
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        let fields = KeyFields { key: &self.key, create_revision, version, lease };
        Some(FooterEntry { fields, revision: Revision { main, sub: sub.into() }, deletion, offset, length })
    }
}

fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
