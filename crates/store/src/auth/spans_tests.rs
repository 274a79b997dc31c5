//! The union of ranges against the plain question: is each key permitted by some range?
//!
//! All ends of ranges come from a small set of bytes, zero among them. Where a union has a gap, the gap begins at the end
//! of a range or where the question begins; all these keys are among those that the model asks about, so that a finite
//! list of keys decides.

use super::spans::Spans;
use crate::memory_disk::SeededRandom;
use bytes::Bytes;
use std::collections::BTreeSet;

const LETTERS: [u8; 5] = [0, 1, b'a', b'b', 0xff];
const SEEDS: u64 = 400;

/// All keys of one to three letters.
fn keys() -> BTreeSet<Bytes> {
    let mut keys = BTreeSet::new();
    for a in LETTERS {
        keys.insert(Bytes::copy_from_slice(&[a]));
        for b in LETTERS {
            keys.insert(Bytes::copy_from_slice(&[a, b]));
            for c in LETTERS {
                keys.insert(Bytes::copy_from_slice(&[a, b, c]));
            }
        }
    }
    keys
}

/// One or two letters.
fn draw(random: &mut SeededRandom) -> Bytes {
    let count = 1 + random.below(2);
    (0..count).map(|_| LETTERS[random.below(5) as usize]).collect()
}

fn draw_range(random: &mut SeededRandom) -> (Bytes, Bytes) {
    let end = match random.below(4) {
        0 => Bytes::new(),
        1 => Bytes::from_static(&[0]),
        _ => draw(random),
    };
    (draw(random), end)
}

/// Whether a range as the wire names it holds a key.
fn holds(range: &(Bytes, Bytes), key: &[u8]) -> bool {
    let (start, end) = range;
    match &end[..] {
        [] => key == start,
        [0] => key >= &start[..],
        end => key >= &start[..] && key < end,
    }
}

fn union(ranges: &[(Bytes, Bytes)]) -> Spans {
    Spans::union(ranges.iter().map(|(key, range_end)| (key, range_end)))
}

#[test]
fn a_range_is_covered_when_each_of_its_keys_is() {
    let keys = keys();
    for seed in 0..SEEDS {
        let mut random = SeededRandom::new(seed);
        let count = random.below(6);
        let granted: Vec<_> = (0..count).map(|_| draw_range(&mut random)).collect();
        let spans = union(&granted);
        let permitted = |key: &Bytes| granted.iter().any(|range| holds(range, key));
        for _ in 0..100 {
            let asked = draw_range(&mut random);
            let (start, end) = &asked;
            if !end.is_empty() && end[..] != [0] && end <= start {
                // Nothing is asked for; it must not be let through where what lies around it is not.
                if spans.covers(start, end) {
                    assert!(permitted(start) && permitted(end), "seed {seed}: {granted:?} covers {asked:?}");
                }
                continue;
            }
            let expected = keys.iter().filter(|key| holds(&asked, key)).all(permitted);
            assert_eq!(spans.covers(start, end), expected, "seed {seed}: {granted:?} covers {asked:?}");
        }
        for _ in 0..20 {
            let some: BTreeSet<Bytes> = keys.iter().filter(|_| random.one_in(20)).cloned().collect();
            let expected = some.iter().all(permitted);
            assert_eq!(spans.covers_all(&some), expected, "seed {seed}: {granted:?} covers all of {some:?}");
        }
        let inside: BTreeSet<Bytes> = keys.iter().filter(|key| permitted(key)).cloned().collect();
        assert!(spans.covers_all(&inside), "seed {seed}: {granted:?}");
    }
}

#[test]
fn spans_are_joined_where_they_meet() {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let open = Bytes::from_static(&[0]);
    let spans = union(&[
        (text("k"), text("m")),
        (text("a"), text("c")),
        (text("c"), text("e")),
        (text("b"), text("d")),
        (text("z"), open.clone()),
        (text("m"), Bytes::new()),
    ]);
    assert!(spans.covers(b"a", b"e"));
    assert!(!spans.covers(b"a", b"e\0"));
    assert!(spans.covers(b"k", b"m\0"), "a single key prolongs the range that ends before it");
    assert!(!spans.covers(b"k", b"m\0\0"));
    assert!(spans.covers(b"zz", &open) && spans.covers(b"z", b"zzz"));
    assert!(!spans.covers(b"y", &open) && !spans.covers(b"a", &open));
    assert!(!spans.covers(b"", b"") && !spans.covers(b"", b"b"), "the empty key is no key");
    assert!(spans.covers(b"d", b"b"), "nothing, in the middle of what is permitted");
    assert!(!spans.covers(b"d", b"a"), "as in etcd, nothing at the edge of it is refused");
    assert!(!spans.covers(b"l", b"d"), "nothing, across a gap");
}

#[test]
fn without_permissions_nothing_is_covered() {
    let spans = Spans::default();
    assert!(!spans.covers(b"a", b"") && !spans.covers(b"a", b"b") && !spans.covers(b"\0", b"\0"));
    assert!(spans.covers_all(&BTreeSet::new()));
    let empty = (Bytes::from_static(b"b"), Bytes::from_static(b"a"));
    assert_eq!(union(&[empty]), Spans::default(), "a range without keys permits nothing");
}
