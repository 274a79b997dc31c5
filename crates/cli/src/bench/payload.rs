//! The keys and values of the requests.
//!
//! It owns what call number `n` carries; it holds no state that a call changes. The invariant: all of it follows from
//! the options, the seed and `n`, whatever client makes the call and when.

use bytes::Bytes;

/// Values are slices of this many random bytes, from a place that differs from call to call: each put costs no copy,
/// and no server gains by recognising a value.
const POOL_BYTES: u64 = 1 << 20;

/// The bytes at the head of a stamped value: the tag of the run and one word.
pub(crate) const STAMP_BYTES: u64 = 16;

/// How keys and values are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// What every key starts with; not empty.
    pub(crate) key_prefix: String,
    /// Bytes of each key: room for the prefix and the digits of `key_space - 1`.
    pub(crate) key_size: usize,
    /// How many different keys there are; at least 1.
    pub(crate) key_space: u64,
    /// Bytes of each value.
    pub(crate) value_size: usize,
    /// Where the choice of keys starts.
    pub(crate) seed: u64,
}

/// Makes keys and values.
#[derive(Debug)]
pub(crate) struct Payload {
    shape: Shape,
    pool: Bytes,
}

/// Spreads the bits of `value` (the finalizer of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Maps a random word to `0..bound` without a bias worth naming.
fn below(word: u64, bound: u64) -> u64 {
    ((u128::from(word) * u128::from(bound)) >> 64) as u64
}

/// How many decimal digits `number` has.
pub(crate) fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

impl Payload {
    pub(crate) fn new(shape: Shape) -> Self {
        let words = (POOL_BYTES + shape.value_size as u64).div_ceil(8);
        let pool = (0..words).flat_map(|word| mix(shape.seed ^ mix(word)).to_le_bytes()).collect();
        Self { shape, pool }
    }

    /// A random word for call `number`; `stream` tells apart the words of one call.
    pub(crate) fn word(&self, number: u64, stream: u64) -> u64 {
        mix(mix(self.shape.seed.wrapping_add(stream << 32)) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Which key call `number` is about, in `0..key_space`.
    pub(crate) fn key_number(&self, number: u64) -> u64 {
        below(self.word(number, 0), self.shape.key_space)
    }

    /// The key of that number: the prefix, then the number, padded with zeros to the key size.
    pub(crate) fn key(&self, key_number: u64) -> Bytes {
        debug_assert!(key_number < self.shape.key_space);
        let mut key = vec![b'0'; self.shape.key_size];
        key[..self.shape.key_prefix.len()].copy_from_slice(self.shape.key_prefix.as_bytes());
        let mut rest = key_number;
        for place in key.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        key.into()
    }

    /// The range of all keys with the prefix: the first key and the one after the last.
    pub(crate) fn prefix_range(&self) -> (Bytes, Bytes) {
        let prefix = self.shape.key_prefix.as_bytes();
        let mut end = prefix.to_vec();
        // UTF-8 has no byte 0xff, so the last byte can always be raised.
        *end.last_mut().expect("the prefix is not empty") += 1;
        (Bytes::copy_from_slice(prefix), end.into())
    }

    /// The value that call `number` writes.
    pub(crate) fn value(&self, number: u64) -> Bytes {
        let from = below(self.word(number, 1), POOL_BYTES) as usize;
        self.pool.slice(from..from + self.shape.value_size)
    }

    /// A value that says which run wrote it and carries one word, see [`read_stamp`].
    pub(crate) fn stamped_value(&self, number: u64, tag: u64, word: u64) -> Bytes {
        let mut value = self.value(number).to_vec();
        value[..8].copy_from_slice(&tag.to_le_bytes());
        value[8..16].copy_from_slice(&word.to_le_bytes());
        value.into()
    }
}

/// The word of a value stamped with `tag`; `None` if the value is someone else's.
pub(crate) fn read_stamp(value: &[u8], tag: u64) -> Option<u64> {
    let (head, rest) = value.split_first_chunk::<8>()?;
    let (word, _) = rest.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*head) == tag).then_some(u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(seed: u64) -> Payload {
        let key_prefix = "bench/".to_owned();
        Payload::new(Shape { key_prefix, key_size: 12, key_space: 1000, value_size: 20, seed })
    }

    #[test]
    fn keys_have_their_size_their_prefix_and_their_number() {
        let payload = payload(1);
        assert_eq!(payload.key(0), "bench/000000");
        assert_eq!(payload.key(907), "bench/000907");
        assert_eq!(payload.prefix_range(), ("bench/".into(), "bench0".into()));
    }

    #[test]
    fn the_seed_and_the_number_decide_and_nothing_else() {
        let (one, again, other) = (payload(1), payload(1), payload(2));
        let all = |payload: &Payload| (0..500).map(|n| (payload.key_number(n), payload.value(n))).collect::<Vec<_>>();
        assert_eq!(all(&one), all(&again));
        assert_ne!(all(&one), all(&other));
        assert!(all(&one).iter().all(|(key, value)| *key < 1000 && value.len() == 20));
    }

    #[test]
    fn keys_are_chosen_evenly() {
        let payload = payload(3);
        let mut counts = [0u32; 10];
        for number in 0..100_000 {
            counts[(payload.key_number(number) / 100) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_stamp_is_read_by_its_own_run_only() {
        let value = payload(4).stamped_value(9, 77, 12345);
        assert_eq!(value.len(), 20);
        assert_eq!(read_stamp(&value, 77), Some(12345));
        assert_eq!(read_stamp(&value, 78), None);
        assert_eq!(read_stamp(&value[..15], 77), None);
        assert_eq!(read_stamp(b"", 77), None);
    }

    #[test]
    fn digits_of_numbers() {
        assert_eq!([0, 9, 10, 99, 100, u64::MAX].map(digits), [1, 1, 2, 2, 3, 20]);
    }
}
