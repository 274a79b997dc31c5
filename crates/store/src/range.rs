//! Ranges of keys, as every request names them.

use bytes::Bytes;

/// Where a range of keys ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// Only the key itself.
    Single,
    /// Every key from the start on (etcd: `range_end` is one zero byte).
    Open,
    /// Keys below this one; nothing when it is not above the start.
    Before(Bytes),
}

/// One key, or the keys of `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// Where it ends.
    pub end: RangeEnd,
}

impl KeyRange {
    /// From the wire's two fields: an empty end names one key, a single zero byte all keys from `key` on.
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        let end = match &range_end[..] {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Open,
            _ => RangeEnd::Before(range_end),
        };
        Self { start: key, end }
    }

    /// All keys.
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: RangeEnd::Open }
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Open => key >= &self.start[..],
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
        }
    }

    /// Whether the range can hold no key at all.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if *end <= self.start)
    }
}
