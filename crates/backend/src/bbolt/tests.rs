//! Writer and reader against each other, and the reader against damage.

use super::{BucketPairs, FileError, Layout, Measure, PAGE_BYTES, Reader, Writer};
use bytes::Bytes;
use proptest::prelude::*;
use quorate_store::disk::Disk;
use quorate_store::memory_disk::{MemoryDisk, SeededRandom};
use std::collections::BTreeMap;
use std::convert::Infallible;

/// Names and pairs.
type Model = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The same as a file tells it.
type Contents = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

struct Listed(std::vec::IntoIter<(Bytes, Bytes)>);

impl BucketPairs for Listed {
    type Error = Infallible;

    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Infallible> {
        Ok(self.0.next())
    }
}

fn measured(model: &Model) -> Layout {
    let mut measure = Measure::default();
    for (name, pairs) in model {
        pairs.iter().for_each(|(key, value)| measure.pair(key, value.len()));
        measure.end_bucket(name);
    }
    measure.finish()
}

fn written(model: &Model, piece_bytes: usize) -> Vec<u8> {
    let layout = measured(model);
    let listed = |pairs: &BTreeMap<Vec<u8>, Vec<u8>>| {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.clone().into(), value.clone().into())).collect();
        Listed(pairs.into_iter())
    };
    let mut writer = Writer::new(layout, model.iter().map(|(&name, pairs)| (name, listed(pairs))).collect());
    let mut file = Vec::new();
    while let Ok(Some(piece)) = writer.next(piece_bytes) {
        file.extend_from_slice(&piece);
    }
    assert_eq!(file.len() as u64, layout.bytes());
    file
}

fn opened(bytes: &[u8]) -> Result<Reader, FileError> {
    let disk = MemoryDisk::default();
    let file = disk.create("db").expect("memory");
    file.write_at(bytes, 0).expect("memory");
    Reader::open(file)
}

/// Everything that a file tells.
fn contents(bytes: &[u8]) -> Result<Contents, FileError> {
    let reader = opened(bytes)?;
    let mut found = BTreeMap::new();
    for bucket in reader.buckets()? {
        let mut pairs = reader.pairs(&bucket)?;
        let mut told = BTreeMap::new();
        while let Some((key, value)) = pairs.next()? {
            told.insert(key.to_vec(), value.to_vec());
        }
        found.insert(bucket.name.clone(), told);
    }
    Ok(found)
}

fn expected(model: &Model) -> Contents {
    model.iter().map(|(name, pairs)| (name.as_bytes().to_vec(), pairs.clone())).collect()
}

fn counted(name: &'static str, count: u32, value_bytes: usize) -> (&'static str, BTreeMap<Vec<u8>, Vec<u8>>) {
    (name, (0..count).map(|number| (number.to_be_bytes().to_vec(), vec![number as u8; value_bytes])).collect())
}

#[test]
fn a_file_without_anything_is_a_file() {
    let file = written(&Model::new(), 1);
    assert_eq!(file.len(), 4 * PAGE_BYTES);
    opened(&file).expect("valid").check().expect("sound");
    assert!(contents(&file).expect("valid").is_empty());
}

#[test]
fn trees_of_several_levels_come_back() {
    let model = Model::from([counted("few", 3, 10), counted("many", 100_000, 3), counted("none", 0, 0)]);
    let file = written(&model, 32 << 10);
    let reader = opened(&file).expect("valid");
    reader.check().expect("sound");
    assert_eq!(reader.bytes(), file.len() as u64);
    assert_eq!(contents(&file).expect("valid"), expected(&model));
}

#[test]
fn either_meta_page_is_enough() {
    let model = Model::from([counted("a", 50, 100)]);
    for broken in [20, PAGE_BYTES + 20] {
        let mut file = written(&model, 4096);
        file[broken] ^= 1;
        assert_eq!(contents(&file).expect("valid"), expected(&model));
        file[20] ^= 0x55;
        file[PAGE_BYTES + 20] ^= 0x55;
        assert!(matches!(contents(&file), Err(FileError::NotADatabase)));
    }
}

#[test]
fn what_follows_the_last_page_is_passed_over_and_a_cut_is_found() {
    let model = Model::from([counted("a", 5000, 10)]);
    let mut file = written(&model, 4096);
    file.extend_from_slice(&[7; 32]);
    assert_eq!(contents(&file).expect("valid"), expected(&model));
    file.truncate(file.len() - 33);
    assert!(contents(&file).is_err());
}

fn any_pairs(count_max: usize) -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 3_900..4_200),
        1 => prop::collection::vec(any::<u8>(), 0..20_000),
    ];
    let key =
        prop_oneof![8 => prop::collection::vec(any::<u8>(), 1..30), 1 => prop::collection::vec(any::<u8>(), 1..9_000)];
    prop::collection::btree_map(key, value, 0..count_max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(a in any_pairs(8), b in any_pairs(300), c in any_pairs(2), piece_bytes in 1_usize..100_000) {
        let model = Model::from([("a", a), ("b", b), ("c", c)]);
        let file = written(&model, piece_bytes);
        opened(&file).expect("valid").check().expect("sound");
        prop_assert_eq!(contents(&file).expect("valid"), expected(&model));
    }
}

/// Damage anywhere: an answer or an error, soon, whatever stands there.
#[test]
fn damage_is_an_error_or_other_contents_and_never_more() {
    let model = Model::from([counted("few", 3, 10), counted("large", 4, 9_000), counted("many", 3_000, 20)]);
    let whole = written(&model, 4096);
    for seed in 0..3_000 {
        let mut random = SeededRandom::new(seed);
        let mut file = whole.clone();
        for _ in 0..1 + random.below(4) {
            let page = random.below((file.len() / PAGE_BYTES) as u64) as usize;
            // Mostly the heads of pages and elements, where numbers lie.
            let within = if random.one_in(4) { random.below(PAGE_BYTES as u64) } else { random.below(64) } as usize;
            let at = page * PAGE_BYTES + within;
            match random.below(4) {
                0 => file[at] ^= 1 << random.below(8),
                1 => file[at] = 0xff,
                2 => file[at] = random.next_u64() as u8,
                _ => {
                    // A page in the place of another one.
                    let from = random.below((file.len() / PAGE_BYTES) as u64) as usize * PAGE_BYTES;
                    file.copy_within(from..from + PAGE_BYTES, page * PAGE_BYTES);
                }
            }
        }
        if random.one_in(8) {
            file.truncate(random.below(file.len() as u64) as usize);
        }
        if let Ok(reader) = opened(&file) {
            let _ = reader.check();
        }
        let _ = contents(&file);
    }
}

/// A child that is its own parent, and a page that is its own child's sibling.
#[test]
fn circles_end() {
    let whole = written(&Model::from([counted("many", 3_000, 20)]), 4096);
    let branch = (3..whole.len() / PAGE_BYTES)
        .find(|page| whole[page * PAGE_BYTES + 8] == 1)
        .expect("a tree of so many pairs has a branch page");
    for child in [branch, 3, 0, 1, 2, whole.len() / PAGE_BYTES, usize::MAX] {
        let mut file = whole.clone();
        let at = branch * PAGE_BYTES + 16 + 16 + 8;
        file[at..at + 8].copy_from_slice(&(child as u64).to_le_bytes());
        assert!(matches!(contents(&file), Err(FileError::Corrupt { .. })), "child {child}");
        assert!(opened(&file).expect("its meta pages are valid").check().is_err(), "child {child}");
    }
}
