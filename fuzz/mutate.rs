//! Damage to bytes, from a seed: what decoders are tried with in the normal test run. Included by path where it is used.
//!
//! Owns the ways of damage. Invariant: the same seed damages the same sample alike, anywhere.

use quorate_store::memory_disk::SeededRandom;

/// Bytes that often stand at an edge.
const EDGES: [u8; 8] = [0, 1, 0x0a, 0x12, 0x7f, 0x80, 0xfe, 0xff];
/// Numbers that often stand at an edge.
const NUMBERS: [u64; 9] = [0, 1, 7, 0xff, 0xffff, i32::MAX as u64, u32::MAX as u64, i64::MAX as u64, u64::MAX];
/// Bytes inserted at once, at the most.
const INSERTED_BYTES_MAX: u64 = 40;

/// Damages samples.
pub(crate) struct Mutator {
    /// For further choices of the test.
    pub(crate) random: SeededRandom,
}

impl Mutator {
    /// Begins with a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: SeededRandom::new(seed) }
    }

    fn place(&mut self, length: usize) -> usize {
        self.random.below(length as u64 + 1) as usize
    }

    /// Up to four kinds of damage, one after another; pieces of `other` are put in.
    pub(crate) fn mutate(&mut self, sample: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = sample.to_vec();
        for _ in 0..1 + self.random.below(4) {
            self.damage(&mut bytes, other);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let (one, two) = (self.place(bytes.len()), self.place(bytes.len()));
        let (start, end) = (one.min(two), one.max(two));
        match self.random.below(11) {
            0 | 1 if start < bytes.len() => bytes[start] ^= 1 << self.random.below(8),
            2 if start < bytes.len() => bytes[start] = EDGES[self.random.below(8) as usize],
            3 => {
                let number = NUMBERS[self.random.below(9) as usize].to_le_bytes();
                let width = [2, 4, 8][self.random.below(3) as usize].min(bytes.len() - start);
                bytes[start..start + width].copy_from_slice(&number[..width]);
            }
            4 => bytes.truncate(end),
            5 => drop(bytes.drain(start..end.min(start + 64))),
            6 => bytes[start..end.min(start + 512)].fill(0),
            7 => {
                let count = self.random.below(INSERTED_BYTES_MAX);
                let new: Vec<u8> = (0..count).map(|_| self.random.next_u64() as u8).collect();
                drop(bytes.splice(start..start, new));
            }
            8 => {
                let copy = bytes[start..end.min(start + 600)].to_vec();
                let to = self.place(bytes.len());
                drop(bytes.splice(to..to, copy));
            }
            9 => {
                let (one, two) = (self.place(other.len()), self.place(other.len()));
                let piece = other[one.min(two)..one.max(two)].to_vec();
                let covered = end.min(start + piece.len());
                drop(bytes.splice(start..covered, piece));
            }
            _ if start < bytes.len() => {
                // A length or count, a little wrong.
                bytes[start] = bytes[start].wrapping_add(if self.random.one_in(2) { 1 } else { 0xff });
            }
            _ => bytes.push(self.random.next_u64() as u8),
        }
    }
}
