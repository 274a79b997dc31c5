//! The index against a plain ordered map, and the rules of compaction one by one.

use super::{KeyIndex, Version};
use crate::memory_disk::SeededRandom;
use crate::range::{KeyRange, RangeEnd};
use crate::revlog::Location;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

type Model = BTreeMap<Vec<u8>, Vec<Version>>;

fn location(number: u32) -> Location {
    Location { segment: number / 100, offset: number, length: 7 }
}

fn put(main: i64, sub: u32) -> Version {
    let location = location(main as u32 * 10 + sub);
    Version { main, sub, create_revision: main, version: 1, lease: 0, location }
}

fn deletion(main: i64, sub: u32) -> Version {
    Version { create_revision: 0, version: 0, ..put(main, sub) }
}

fn range(start: &[u8], end: RangeEnd) -> KeyRange {
    KeyRange { start: Bytes::copy_from_slice(start), end }
}

fn collect(index: &KeyIndex, range: &KeyRange, limit: usize) -> Vec<(Vec<u8>, Vec<Version>)> {
    let mut found = Vec::new();
    index.walk(range, &mut |key, versions| {
        found.push((key.to_vec(), versions.to_vec()));
        if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}

fn assert_equal(index: &KeyIndex, model: &Model, seed: u64) {
    index.check();
    let expected: Vec<_> = model.iter().map(|(key, versions)| (key.clone(), versions.clone())).collect();
    assert_eq!(collect(index, &KeyRange::all(), usize::MAX), expected, "seed {seed}");
    assert_eq!(index.keys(), model.len() as u64, "seed {seed}");
}

fn model_prune(model: &mut Model, key: &[u8], compact_revision: i64, dead: &mut Vec<Location>) {
    let versions = model.get_mut(key).expect("the key is in the model");
    let newest = versions.iter().rposition(|version| version.main <= compact_revision);
    let first_kept = match newest {
        None => 0,
        Some(at) if versions[at].is_deletion() && versions[at].main < compact_revision => at + 1,
        Some(at) => at,
    };
    dead.extend(versions.drain(..first_kept).map(|version| version.location));
    if versions.is_empty() {
        model.remove(key);
    }
}

fn random_key(random: &mut SeededRandom) -> Vec<u8> {
    match random.below(20) {
        0 => vec![0; random.below(4) as usize],
        1 => vec![b'k'; random.below(6_000) as usize],
        2 => random.next_u64().to_be_bytes()[..random.below(9) as usize].to_vec(),
        _ => format!("/registry/pods/{:04}", random.below(3_000)).into_bytes(),
    }
}

fn random_range(random: &mut SeededRandom) -> KeyRange {
    let start = random_key(random);
    let end = match random.below(4) {
        0 => RangeEnd::Single,
        1 => RangeEnd::Open,
        _ => RangeEnd::Before(random_key(random).into()),
    };
    range(&start, end)
}

fn run_against_model(seed: u64, operations: usize) {
    let random = &mut SeededRandom::new(seed);
    let (mut index, mut model) = (KeyIndex::new(), Model::new());
    let (mut main, mut sub) = (2, 0);
    for step in 0..operations {
        if random.one_in(3) {
            (main, sub) = (main + 1, 0);
        } else {
            sub += 1;
        }
        match random.below(100) {
            0..85 => {
                let key = random_key(random);
                let version = if random.one_in(4) { deletion(main, sub) } else { put(main, sub) };
                let versions = model.entry(key.clone()).or_default();
                assert_eq!(index.append(&key, version), versions.last().copied(), "seed {seed} step {step}");
                versions.push(version);
            }
            85..95 => {
                let range = random_range(random);
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| range.contains(key))
                    .map(|(key, versions)| (key.clone(), versions.clone()))
                    .collect();
                let live = expected.iter().filter(|(_, versions)| !versions.last().unwrap().is_deletion()).count();
                assert_eq!(index.count_live(&range), live as u64, "seed {seed} step {step} {range:?}");
                let limit = random.below(200) as usize + 1;
                let found = collect(&index, &range, limit);
                assert_eq!(found, expected[..limit.min(expected.len())], "seed {seed} step {step} {range:?}");
            }
            95..99 => {
                let key = random_key(random);
                let versions = model.get(&key).cloned().unwrap_or_default();
                assert_eq!(index.get(&key), versions, "seed {seed} step {step}");
                let to = location(random.below(1 << 30) as u32);
                match versions.last() {
                    None => assert!(!index.relocate(&key, main, sub, Location::default(), to)),
                    Some(_) => {
                        let position = random.below(versions.len() as u64) as usize;
                        let version = versions[position];
                        let elsewhere = Location { length: 8, ..version.location };
                        assert!(!index.relocate(&key, version.main, version.sub, elsewhere, to));
                        assert!(!index.relocate(&key, version.main + 1_000_000, 0, version.location, to));
                        assert!(index.relocate(&key, version.main, version.sub, version.location, to));
                        model.get_mut(&key).unwrap()[position].location = to;
                    }
                }
            }
            _ => {
                let compact_revision = main - random.below(300) as i64;
                let (mut after, mut dead, mut expected_dead) = (None, Vec::new(), Vec::new());
                let whole = random.one_in(2);
                loop {
                    let keys_max = random.below(500) as usize;
                    let from = after.clone();
                    let last = index.prune(from.as_deref(), keys_max, compact_revision, &mut |at| dead.push(at));
                    let looked_at: Vec<_> = model
                        .keys()
                        .filter(|key| from.as_ref().is_none_or(|from| *key > from))
                        .take(keys_max.max(1))
                        .cloned()
                        .collect();
                    match &last {
                        Some(last) => assert_eq!(looked_at.last(), Some(last), "seed {seed} step {step}"),
                        None => assert!(looked_at.len() < keys_max.max(1), "seed {seed} step {step}"),
                    }
                    for key in looked_at {
                        model_prune(&mut model, &key, compact_revision, &mut expected_dead);
                    }
                    assert_eq!(dead, expected_dead, "seed {seed} step {step}");
                    after = last;
                    if after.is_none() || !whole {
                        break;
                    }
                }
                assert_equal(&index, &model, seed);
            }
        }
    }
    assert_equal(&index, &model, seed);
}

#[test]
fn index_equals_an_ordered_map_under_random_operations() {
    for seed in 0..12 {
        run_against_model(seed, 6_000);
    }
}

/// Keys that are deleted and compacted leave nothing behind, so that the index does not grow with what was.
#[test]
fn index_shrinks_to_nothing_when_every_key_is_deleted_and_compacted() {
    for seed in 0..3 {
        let random = &mut SeededRandom::new(seed);
        let mut index = KeyIndex::new();
        let mut keys: Vec<u64> = (0..20_000).collect();
        for position in (1..keys.len()).rev() {
            keys.swap(position, random.below(position as u64 + 1) as usize);
        }
        for (at, key) in keys.iter().enumerate() {
            index.append(&key.to_be_bytes(), put(at as i64 + 2, 0));
        }
        index.check();
        let first_deletion = keys.len() as i64 + 2;
        for (at, key) in keys.iter().rev().enumerate() {
            index.append(&key.to_be_bytes(), deletion(first_deletion + at as i64, 0));
        }
        assert_eq!((index.live(), index.keys(), index.versions()), (0, 20_000, 40_000));
        let (mut after, mut dead, mut steps) = (None, 0, 0);
        for part in [2, 1] {
            let compact_revision = first_deletion + keys.len() as i64 / part;
            loop {
                after = index.prune(after.as_deref(), 777, compact_revision, &mut |_| dead += 1);
                steps += 1;
                index.check();
                if after.is_none() {
                    break;
                }
            }
        }
        assert_eq!((index.keys(), index.versions(), dead), (0, 0, 40_000), "seed {seed}");
        assert!(steps > 20_000 / 777, "each call looks at no more keys than it may");
        assert!(collect(&index, &KeyRange::all(), 10).is_empty());
    }
}

#[test]
fn index_keeps_order_and_counts_for_rising_and_falling_keys() {
    for is_rising in [true, false] {
        let mut index = KeyIndex::new();
        for number in 0..30_000_u32 {
            let key = if is_rising { number } else { 29_999 - number };
            index.append(&key.to_be_bytes(), put(i64::from(number) + 2, 0));
        }
        index.check();
        let before = |end: u32| RangeEnd::Before(Bytes::copy_from_slice(&end.to_be_bytes()));
        for (start, end) in [(0_u32, 0_u32), (0, 1), (17, 29_000), (29_999, 30_000), (500, 400)] {
            let expected = u64::from(end).saturating_sub(u64::from(start));
            assert_eq!(index.count_live(&range(&start.to_be_bytes(), before(end))), expected);
        }
        assert_eq!(index.count_live(&KeyRange::all()), 30_000);
    }
}

/// What stays of one key after a compaction.
fn check_prune(versions: &[Version], compact_revision: i64, expected: &[Version]) {
    let mut index = KeyIndex::new();
    for &version in versions {
        index.append(b"key", version);
    }
    let mut dead = Vec::new();
    assert_eq!(index.prune(None, 10, compact_revision, &mut |location| dead.push(location)), None);
    assert_eq!(index.get(b"key"), expected);
    assert_eq!(index.keys(), u64::from(!expected.is_empty()));
    assert_eq!(dead.len(), versions.len() - expected.len());
    assert!(dead.iter().all(|&location| expected.iter().all(|version| version.location != location)));
    index.check();
}

#[test]
fn compaction_keeps_the_newest_version_at_or_below_it() {
    check_prune(&[put(2, 0), put(4, 0), put(6, 0)], 5, &[put(4, 0), put(6, 0)]);
    check_prune(&[put(2, 0), put(4, 0), put(6, 0)], 4, &[put(4, 0), put(6, 0)]);
    check_prune(&[put(2, 0), put(4, 0), put(6, 0)], 9, &[put(6, 0)]);
    check_prune(&[put(2, 0), put(4, 0)], 1, &[put(2, 0), put(4, 0)]);
}

#[test]
fn compaction_drops_a_deletion_below_it_and_keeps_one_at_it() {
    check_prune(&[put(2, 0), deletion(4, 0)], 5, &[]);
    check_prune(&[put(2, 0), deletion(4, 0)], 4, &[deletion(4, 0)]);
    check_prune(&[put(2, 0), deletion(4, 0)], 3, &[put(2, 0), deletion(4, 0)]);
    check_prune(&[put(2, 0), deletion(4, 0), put(6, 0)], 5, &[put(6, 0)]);
    check_prune(&[put(2, 0), deletion(4, 0), put(6, 0)], 4, &[deletion(4, 0), put(6, 0)]);
}

#[test]
fn compaction_orders_changes_of_one_revision_by_their_sub_revision() {
    check_prune(&[put(2, 0), deletion(4, 0), put(4, 3)], 4, &[put(4, 3)]);
    check_prune(&[put(2, 0), put(4, 0), deletion(4, 3)], 4, &[deletion(4, 3)]);
    check_prune(&[put(2, 0), put(4, 0), deletion(4, 3)], 5, &[]);
}

#[test]
#[should_panic(expected = "revision order")]
fn an_older_version_is_refused() {
    let mut index = KeyIndex::new();
    index.append(b"key", put(4, 1));
    index.append(b"key", put(4, 1));
}
