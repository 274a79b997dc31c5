//! A sorted list of keys in one buffer: no allocation per key, and a search that touches few cache lines.
//!
//! Owns the bytes and their order. Does not own a bound: a node splits before its list grows long.
//! Invariant: `ends` rises, its last element is the buffer's length, and keys rise strictly.

use std::cmp::Ordering;
use std::ops::Range;

/// Makes room in small steps: a node lives long and is mostly full, so doubling would waste up to half of it.
pub(super) fn make_room<T>(list: &mut Vec<T>, additional: usize) {
    if list.capacity() - list.len() < additional {
        list.reserve_exact(additional.max(list.len() / 8).max(2));
    }
}

/// Sorted keys.
#[derive(Default)]
pub(super) struct KeyList {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl KeyList {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn byte_length(&self) -> usize {
        self.bytes.len()
    }

    fn start(&self, position: usize) -> usize {
        if position == 0 { 0 } else { self.ends[position - 1] as usize }
    }

    pub(super) fn get(&self, position: usize) -> &[u8] {
        &self.bytes[self.start(position)..self.ends[position] as usize]
    }

    /// The position of a key, or where it would be inserted.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// How many keys are below `key`.
    pub(super) fn below(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|position| position)
    }

    /// How many keys are at or below `key`.
    pub(super) fn up_to(&self, key: &[u8]) -> usize {
        self.search(key).map_or_else(|position| position, |position| position + 1)
    }

    pub(super) fn insert(&mut self, position: usize, key: &[u8]) {
        let (start, old_length) = (self.start(position), self.bytes.len());
        make_room(&mut self.bytes, key.len());
        self.bytes.resize(old_length + key.len(), 0);
        self.bytes.copy_within(start..old_length, start + key.len());
        self.bytes[start..start + key.len()].copy_from_slice(key);
        make_room(&mut self.ends, 1);
        let length = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        self.ends.insert(position, start as u32);
        for end in &mut self.ends[position..] {
            *end += length;
        }
    }

    pub(super) fn remove(&mut self, position: usize) {
        let range = self.start(position)..self.ends[position] as usize;
        let length = range.len() as u32;
        self.bytes.drain(range);
        self.ends.remove(position);
        for end in &mut self.ends[position..] {
            *end -= length;
        }
    }

    /// Keeps the keys for which `keep` says so.
    pub(super) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let (mut kept, mut kept_bytes, mut start) = (0, 0, 0);
        for position in 0..self.ends.len() {
            let end = self.ends[position] as usize;
            if keep(position) {
                self.bytes.copy_within(start..end, kept_bytes);
                kept_bytes += end - start;
                self.ends[kept] = kept_bytes as u32;
                kept += 1;
            }
            start = end;
        }
        self.ends.truncate(kept);
        self.bytes.truncate(kept_bytes);
        self.shrink();
    }

    /// A copy of some of the keys, in memory of exactly their size.
    fn copy(&self, range: Range<usize>) -> Self {
        let (start, end) = (self.start(range.start), self.start(range.end));
        Self {
            bytes: self.bytes[start..end].to_vec(),
            ends: self.ends[range].iter().map(|&key_end| key_end - start as u32).collect(),
        }
    }

    /// Cuts the list in two.
    pub(super) fn split_off(&mut self, position: usize) -> Self {
        let right = self.copy(position..self.len());
        self.bytes.truncate(self.start(position));
        self.ends.truncate(position);
        self.shrink();
        right
    }

    /// Adds a list whose keys are all above these.
    pub(super) fn append(&mut self, other: &Self) {
        let base = self.bytes.len() as u32;
        self.bytes.reserve_exact(other.bytes.len());
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.reserve_exact(other.ends.len());
        self.ends.extend(other.ends.iter().map(|end| base + end));
    }

    fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}
