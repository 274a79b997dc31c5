//! Which records of a segment compaction made unreachable.
//!
//! Owns the set and its form in the checkpoint. It must be durable: a key's deletion may leave the log in one rewriting
//! while older records of the key still lie in other segments, and without this set a start would bring them back.
//! Does not own who dies. Invariant: a checkpoint that names a segment names all of its records that are dead.

use super::record::{Reader, put_varint};
use bytes::Bytes;
use std::collections::BTreeSet;

/// The dead records of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeadRecords {
    offsets: BTreeSet<u32>,
    bytes: u64,
}

impl DeadRecords {
    /// Notes a record's death; a second time changes nothing.
    pub(super) fn insert(&mut self, offset: u32, length: u32) {
        if self.offsets.insert(offset) {
            self.bytes += u64::from(length);
        }
    }

    /// Bytes of the dead records.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The form in the checkpoint.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.offsets.len() * 2);
        let mut last = 0;
        for &offset in &self.offsets {
            put_varint(&mut out, u64::from(offset - last));
            last = offset;
        }
        out.into()
    }

    /// The offsets of an encoded set, rising; `None` when the bytes are none. Lengths are learned as records are met.
    pub(super) fn decode_offsets(bytes: &[u8]) -> Option<Vec<u32>> {
        let mut reader = Reader { bytes, position: 0 };
        let mut offsets = Vec::new();
        let mut last = 0_u32;
        while reader.position < bytes.len() {
            let difference = u32::try_from(reader.varint()?).ok().filter(|&difference| difference > 0)?;
            last = last.checked_add(difference)?;
            offsets.push(last);
        }
        Some(offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_from_its_form_in_the_checkpoint() {
        let mut dead = DeadRecords::default();
        for (offset, length) in [(300, 10), (16, 20), (70_000, 5), (300, 10)] {
            dead.insert(offset, length);
        }
        assert_eq!(dead.bytes(), 35);
        assert_eq!(DeadRecords::decode_offsets(&dead.encode()), Some(vec![16, 300, 70_000]));
        assert_eq!(DeadRecords::decode_offsets(&[0x80]), None);
        assert_eq!(DeadRecords::decode_offsets(&[5, 0]), None);
        assert_eq!(DeadRecords::decode_offsets(&[0xff, 0xff, 0xff, 0xff, 0xff, 1]), None);
    }
}
