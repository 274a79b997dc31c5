//! The log against a plain list of records: reading, scanning, reopening, rewriting, and what a broken file comes to.

use super::footer::{FooterBuilder, FooterCursor, FooterEntry};
use super::record::KeyFields;
use super::{Location, Record, RevLog, RevLogConfig, SegmentSet};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::memory_disk::{MemoryDisk, SeededRandom};
use crate::revision::Revision;
use bytes::Bytes;
use prost::Message;
use quorate_proto::mvccpb::KeyValue;
use quorate_proto::quoratepb::SegmentRef;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const FOLDER: &str = "log";

/// A record as it was appended, and where it is.
#[derive(Clone, Debug)]
struct Written {
    record: Record,
    fields: KeyValue,
    location: Location,
    is_alive: bool,
}

struct Harness {
    disk: MemoryDisk,
    config: RevLogConfig,
    log: RevLog,
    written: Vec<Written>,
    head: Revision,
    random: SeededRandom,
}

fn small_config() -> RevLogConfig {
    RevLogConfig { segment_bytes: 2_000, buffer_bytes: 300 }
}

fn put(key: &[u8], main: i64, value: Vec<u8>, random: &mut SeededRandom) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        create_revision: main - random.below(main as u64) as i64,
        mod_revision: main,
        version: random.below(300) as i64 + 1,
        value: value.into(),
        lease: if random.one_in(3) { random.next_u64() as i64 } else { 0 },
    }
}

impl Harness {
    fn new(config: RevLogConfig, seed: u64) -> Self {
        let disk = MemoryDisk::new();
        let log = RevLog::open(Arc::new(disk.clone()), FOLDER, config, &[], &mut |_| panic!("an empty log")).unwrap();
        let random = SeededRandom::new(seed);
        Self { disk, config, log, written: Vec::new(), head: Revision { main: 1, sub: 0 }, random }
    }

    fn append_value(&mut self, value_bytes: usize) {
        let random = &mut self.random;
        self.head = match random.one_in(3) {
            true => Revision { main: self.head.main, sub: self.head.sub + 1 },
            false => Revision { main: self.head.main + 1 + random.below(3) as i64, sub: 0 },
        };
        let key = format!("/keys/{}", random.below(40));
        let deletion = random.one_in(5);
        let fields = if deletion {
            KeyValue { key: key.into(), ..KeyValue::default() }
        } else {
            put(key.as_bytes(), self.head.main, vec![random.next_u64() as u8; value_bytes], random)
        };
        let key_value = fields.encode_to_vec();
        let location = self.log.append(self.head, deletion, &key_value).unwrap();
        let record = Record { revision: self.head, deletion, key_value: key_value.into() };
        self.written.push(Written { record, fields, location, is_alive: true });
    }

    fn append(&mut self) {
        let long = self.random.one_in(60);
        let value_bytes = self.random.below(if long { 5_000 } else { 150 }) as usize;
        self.append_value(value_bytes);
    }

    fn kill(&mut self, position: usize) {
        let written = &mut self.written[position];
        if written.is_alive {
            written.is_alive = false;
            self.log.mark_dead(written.location);
        }
    }

    fn alive(&self) -> impl Iterator<Item = &Written> {
        self.written.iter().filter(|written| written.is_alive)
    }

    fn rewrite_step(&mut self, bytes_max: usize) -> bool {
        let written = std::cell::RefCell::new(&mut self.written);
        let find = |written: &[Written], key: &[u8], revision: Revision| {
            let position = written.iter().position(|written| written.record.revision == revision).unwrap();
            assert_eq!(written[position].fields.key, key);
            position
        };
        self.log
            .rewrite_step(
                bytes_max,
                &mut |key, revision, location| {
                    let written = written.borrow();
                    let found = &written[find(&written, key, revision)];
                    found.is_alive && found.location == location
                },
                &mut |key, revision, from, to| {
                    let mut written = written.borrow_mut();
                    let position = find(&written, key, revision);
                    assert!(written[position].is_alive && written[position].location == from);
                    written[position].location = to;
                },
            )
            .unwrap()
    }

    fn check_reads(&self) {
        let view = self.log.view();
        for written in self.alive() {
            assert_eq!(view.read(written.location).unwrap(), written.record);
        }
    }

    /// A scan tells every live record, nothing that was not written, and all in order.
    fn check_scan(&self, from: i64) {
        let scanned: Vec<Record> = self.log.view().scan(from).collect::<Result<_, _>>().unwrap();
        assert!(scanned.windows(2).all(|pair| pair[0].revision < pair[1].revision));
        let mut rest = scanned.iter();
        for written in self.written.iter().filter(|written| written.record.revision.main >= from) {
            let is_next = rest.as_slice().first().is_some_and(|next| next.revision == written.record.revision);
            assert!(is_next || !written.is_alive, "{:?} is missing", written.record.revision);
            if is_next {
                assert_eq!(rest.next().unwrap(), &written.record);
            }
        }
        assert_eq!(rest.next(), None, "a record that was not written");
    }

    fn references(&mut self) -> Vec<SegmentRef> {
        self.log.sync().unwrap()
    }

    /// Opens what is on the disk, as start-up does, and compares what it tells with what was written.
    fn reopen(&mut self, references: &[SegmentRef]) {
        let written = &mut self.written;
        let mut position = 0;
        self.log = RevLog::open(Arc::new(self.disk.clone()), FOLDER, self.config, references, &mut |entry| {
            while written[position].record.revision != entry.revision {
                assert!(!written[position].is_alive, "{:?} is missing", written[position].record.revision);
                position += 1;
            }
            let expected = &mut written[position];
            assert!(expected.is_alive, "{:?} was dead when the references were made", entry.revision);
            assert_eq!(entry.key, expected.fields.key);
            let fields = (entry.create_revision, entry.version, entry.lease);
            assert_eq!(fields, (expected.fields.create_revision, expected.fields.version, expected.fields.lease));
            expected.location = entry.location;
            position += 1;
        })
        .unwrap();
        assert!(self.written[position..].iter().all(|written| !written.is_alive), "live records are missing");
    }

    fn live_bytes(&self) -> u64 {
        self.alive().map(|written| u64::from(written.location.length)).sum()
    }

    fn segment_paths(&self) -> Vec<String> {
        self.disk.paths()
    }
}

#[test]
fn log_equals_a_list_under_random_operations() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut harness = Harness::new(small_config(), seed);
        let mut held: Vec<(Arc<SegmentSet>, Vec<Written>)> = Vec::new();
        for _ in 0..1_500 {
            match harness.random.below(100) {
                0..60 => harness.append(),
                60..80 if !harness.written.is_empty() => {
                    let count = harness.written.len() as u64;
                    let position = harness.random.below(count) as usize;
                    // Neighbours die together often enough for whole segments to die.
                    for neighbour in position..harness.written.len().min(position + 12) {
                        harness.kill(neighbour);
                    }
                }
                80..90 => {
                    let bytes_max = harness.random.below(3_000) as usize;
                    harness.rewrite_step(bytes_max);
                }
                90..92 => {
                    let from = harness.random.below(harness.head.main as u64 + 3) as i64;
                    harness.check_scan(from);
                }
                92..94 => harness.check_reads(),
                94..96 => {
                    harness.references();
                    harness.log.checkpointed().unwrap();
                }
                96..97 => {
                    let references = harness.references();
                    harness.reopen(&references);
                    assert_eq!(harness.log.live_bytes(), harness.live_bytes());
                }
                97..98 => held.push((harness.log.view(), harness.alive().cloned().collect())),
                _ => {
                    if let Some((view, written)) = held.pop() {
                        for written in written {
                            assert_eq!(view.read(written.location).unwrap(), written.record);
                        }
                    }
                }
            }
        }
        while harness.rewrite_step(500) {}
        harness.check_reads();
        harness.check_scan(0);
        assert_eq!(harness.log.live_bytes(), harness.live_bytes());
        harness.references();
        harness.log.checkpointed().unwrap();
        assert_eq!(harness.log.disk_bytes(), harness.disk.total_bytes(), "what is on the disk is accounted for");
    }
}

/// The space of what is dead comes back, whatever the order in which it dies.
#[test]
fn rewriting_bounds_the_disk_by_what_is_alive() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut harness = Harness::new(small_config(), seed);
        for round in 0..30 {
            for _ in 0..100 {
                harness.append_value(60);
            }
            for position in 0..harness.written.len() {
                if harness.random.below(10) < 7 && harness.written.len() - position > 20 {
                    harness.kill(position);
                }
            }
            while harness.rewrite_step(700) {}
            harness.references();
            harness.log.checkpointed().unwrap();
            let live = harness.log.live_bytes();
            let segments = harness.segment_paths().len() as u64;
            let bound = live * 2 + live / 2 + segments * 60 + u64::from(harness.config.segment_bytes) * 2;
            assert!(harness.disk.total_bytes() <= bound, "round {round}: {} bytes", harness.disk.total_bytes());
            assert!(segments <= 6 + 4 * live / u64::from(harness.config.segment_bytes), "{segments} segments");
        }
        harness.check_reads();
    }
}

#[test]
fn old_files_stay_until_a_checkpoint_without_them_is_durable() {
    let mut harness = Harness::new(small_config(), 1);
    for _ in 0..100 {
        harness.append_value(50);
    }
    let before = harness.references();
    harness.log.checkpointed().unwrap();
    let old_view = harness.log.view();
    let old: Vec<Written> = harness.written.clone();
    for position in 0..90 {
        harness.kill(position);
    }
    while harness.rewrite_step(1 << 20) {}
    harness.log.checkpointed().unwrap();
    let exists = |harness: &Harness, reference: &SegmentRef| {
        harness.segment_paths().contains(&super::segment_path(FOLDER, reference.id))
    };
    assert!(before.iter().all(|reference| exists(&harness, reference)), "no sync has left them out yet");
    let after = harness.references();
    assert!(before.iter().all(|reference| exists(&harness, reference)), "the checkpoint is not durable yet");
    harness.log.checkpointed().unwrap();
    for reference in &before {
        assert_eq!(exists(&harness, reference), after.iter().any(|kept| kept.id == reference.id));
    }
    assert!(after.iter().all(|reference| exists(&harness, reference)));
    for written in &old {
        assert_eq!(old_view.read(written.location).unwrap(), written.record, "an old view reads on");
    }
}

#[test]
fn what_lies_beyond_the_checkpoint_is_cut_off() {
    let mut harness = Harness::new(small_config(), 2);
    for _ in 0..50 {
        harness.append_value(50);
    }
    let references = harness.references();
    let (kept, head) = (harness.written.len(), harness.head);
    for _ in 0..200 {
        harness.append_value(50);
    }
    harness.references();
    harness.written.truncate(kept);
    harness.head = head;
    harness.reopen(&references);
    assert_eq!(harness.segment_paths().len(), references.len());
    harness.check_scan(0);
    for _ in 0..200 {
        harness.append_value(50);
    }
    harness.check_scan(0);
    let references = harness.references();
    harness.reopen(&references);
    harness.check_scan(0);
}

#[test]
fn a_long_record_gets_a_segment_for_itself() {
    let mut harness = Harness::new(small_config(), 3);
    harness.append_value(10);
    harness.append_value(9_000);
    harness.append_value(10);
    let references = harness.references();
    assert_eq!(references.iter().map(|reference| reference.sealed).collect::<Vec<_>>(), [true, true, false]);
    harness.check_reads();
    harness.reopen(&references);
    harness.check_scan(0);
}

#[test]
fn records_are_readable_before_they_are_written() {
    let mut harness = Harness::new(RevLogConfig { segment_bytes: 1 << 20, buffer_bytes: 1 << 20 }, 4);
    harness.append_value(10);
    let view = harness.log.view();
    for _ in 0..100 {
        harness.append_value(10);
    }
    assert_eq!(harness.disk.total_bytes(), 0, "everything is in memory");
    for written in &harness.written {
        assert_eq!(view.read(written.location).unwrap(), written.record, "an older view reads on in its segment");
    }
    assert_eq!(view.scan(0).count(), 101);
    harness.check_scan(5);
}

#[test]
fn readers_on_other_threads_see_whole_records_while_the_writer_goes_on() {
    let mut harness = Harness::new(RevLogConfig { segment_bytes: 1 << 30, buffer_bytes: 500 }, 5);
    harness.append();
    let view = harness.log.view();
    let total = 5_000;
    let mut plan = Vec::new();
    // The same appends into another log tell the places beforehand.
    let mut rehearsal = Harness::new(harness.config, 5);
    for _ in 0..total {
        rehearsal.append();
        plan.push(rehearsal.written.last().unwrap().clone());
    }
    let published = AtomicUsize::new(1);
    thread::scope(|scope| {
        for reader in 0..3 {
            let (view, plan, published) = (&view, &plan, &published);
            scope.spawn(move || {
                let random = &mut SeededRandom::new(reader);
                loop {
                    let count = published.load(Ordering::Acquire);
                    let newest = count - 1 - random.below(count.min(20) as u64) as usize;
                    assert_eq!(view.read(plan[newest].location).unwrap(), plan[newest].record);
                    if random.one_in(500) {
                        assert!(view.scan(0).map(Result::unwrap).zip(plan).all(|(read, plan)| read == plan.record));
                    }
                    if count == total {
                        return;
                    }
                }
            });
        }
        while harness.written.len() < total {
            harness.append();
            published.store(harness.written.len(), Ordering::Release);
        }
    });
}

/// Opens and reads everything after `damage` changed one file; what is told must be right or an error.
fn open_damaged(harness: &Harness, references: &[SegmentRef], path: &str, contents: &[u8]) -> Result<(), DiskError> {
    let disk = harness.disk.fork();
    disk.overwrite(path, contents);
    let mut told = Vec::new();
    let log = RevLog::open(Arc::new(disk.clone()), FOLDER, harness.config, references, &mut |entry| {
        told.push((
            entry.key.to_vec(),
            entry.revision,
            entry.create_revision,
            entry.version,
            entry.lease,
            entry.location,
        ));
    })?;
    let expected: Vec<_> = harness
        .written
        .iter()
        .map(|written| {
            let fields = &written.fields;
            let numbers = (fields.create_revision, fields.version, fields.lease);
            (fields.key.to_vec(), written.record.revision, numbers.0, numbers.1, numbers.2, written.location)
        })
        .collect();
    assert_eq!(told, expected);
    let view = log.view();
    let mut outcome = Ok(());
    for written in &harness.written {
        match view.read(written.location) {
            Ok(record) => assert_eq!(record, written.record),
            Err(error) => outcome = Err(error),
        }
    }
    let mut expected = harness.written.iter();
    for record in view.scan(0) {
        match record {
            Ok(record) => assert_eq!(record, expected.next().unwrap().record),
            Err(error) => return Err(error),
        }
    }
    assert_eq!(expected.count(), 0);
    assert!(outcome.is_ok(), "a scan and a read disagree");
    assert_eq!(disk.contents(path), harness.disk.contents(path), "what could be opened is as it was written");
    outcome
}

fn damaged_harness() -> (Harness, Vec<SegmentRef>) {
    let mut harness = Harness::new(RevLogConfig { segment_bytes: 600, buffer_bytes: 100 }, 6);
    for _ in 0..20 {
        harness.append_value(20);
    }
    let references = harness.references();
    assert!(references.len() >= 3 && !references.last().unwrap().sealed);
    (harness, references)
}

#[test]
fn a_flipped_bit_never_gives_wrong_data() {
    let (harness, references) = damaged_harness();
    let (mut repaired, mut refused) = (0, 0);
    for path in harness.segment_paths() {
        let contents = harness.disk.contents(&path).unwrap();
        for bit in 0..contents.len() * 8 {
            let mut damaged = contents.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match open_damaged(&harness, &references, &path, &damaged) {
                Ok(()) => repaired += 1,
                Err(DiskError::Corrupt { path: named, offset, .. }) => {
                    assert!(named == path && offset <= contents.len() as u64, "bit {bit}");
                    refused += 1;
                }
                Err(error) => panic!("bit {bit} of {path}: {error}"),
            }
        }
    }
    assert!(repaired > 0 && refused > repaired, "footers are made again, records are not");
}

#[test]
fn a_cut_file_never_gives_wrong_data() {
    let (harness, references) = damaged_harness();
    for (path, reference) in harness.segment_paths().iter().zip(&references) {
        let contents = harness.disk.contents(path).unwrap();
        assert_eq!(contents.len() as u64, reference.length);
        let mut opened = 0;
        for length in 0..contents.len() {
            match open_damaged(&harness, &references, path, &contents[..length]) {
                Ok(()) => opened += 1,
                Err(DiskError::Corrupt { .. }) => {}
                Err(error) => panic!("{path} cut to {length}: {error}"),
            }
        }
        // Of a sealed segment the footer can be lost, of a growing one nothing.
        assert_eq!(opened > 0, reference.sealed, "{path}");
        assert!(opened < contents.len() / 2, "{path}");
    }
}

#[test]
fn a_missing_file_and_a_wrong_list_are_errors() {
    let (harness, references) = damaged_harness();
    let open = |disk: &MemoryDisk, references: &[SegmentRef]| {
        RevLog::open(Arc::new(disk.clone()), FOLDER, harness.config, references, &mut |_| {}).map(drop)
    };
    let disk = harness.disk.fork();
    disk.remove(&harness.segment_paths()[1]).unwrap();
    assert!(matches!(open(&disk, &references), Err(DiskError::Corrupt { .. })));
    let mut swapped = references.clone();
    swapped.swap(0, 1);
    assert!(matches!(open(&harness.disk.fork(), &swapped), Err(DiskError::Corrupt { .. })));
    let mut doubled = references.clone();
    doubled.insert(0, references[0].clone());
    assert!(matches!(open(&harness.disk.fork(), &doubled), Err(DiskError::Corrupt { .. })));
    let mut open_early = references.clone();
    open_early[0].sealed = false;
    assert!(matches!(open(&harness.disk.fork(), &open_early), Err(DiskError::Corrupt { .. })));
    let mut longer = references.clone();
    longer.last_mut().unwrap().length += 1;
    assert!(matches!(open(&harness.disk.fork(), &longer), Err(DiskError::Corrupt { .. })));
    for dead_offsets in [&[17][..], &[16, 0], &[0], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0x0f, 1]] {
        let mut wrong = references.clone();
        wrong[0].dead_offsets = Bytes::copy_from_slice(dead_offsets);
        assert!(matches!(open(&harness.disk.fork(), &wrong), Err(DiskError::Corrupt { .. })), "{dead_offsets:?}");
    }
    let mut right = references.clone();
    right[0].dead_offsets = vec![16].into();
    open(&harness.disk.fork(), &right).unwrap();
    open(&harness.disk.fork(), &references).unwrap();
}

#[test]
fn a_later_format_is_told_from_a_broken_file() {
    let (harness, references) = damaged_harness();
    let path = &harness.segment_paths()[0];
    let mut contents = harness.disk.contents(path).unwrap();
    contents[4..8].copy_from_slice(&2_u32.to_le_bytes());
    let checksum = crc32c::crc32c(&contents[..12]);
    contents[12..16].copy_from_slice(&checksum.to_le_bytes());
    let outcome = open_damaged(&harness, &references, path, &contents);
    assert!(matches!(outcome, Err(DiskError::Version { found: 2, supported: 1, .. })), "{outcome:?}");
}

#[test]
fn a_location_in_no_segment_is_an_error() {
    let (harness, _) = damaged_harness();
    let view = harness.log.view();
    for location in [
        Location { segment: 99, offset: 16, length: 40 },
        Location { segment: 1, offset: 16, length: u32::MAX },
        Location { segment: 1, offset: u32::MAX, length: 40 },
        Location { segment: 1, offset: 16, length: 3 },
        Location { segment: 1, offset: 17, length: 40 },
        Location { segment: 1, offset: 0, length: 0 },
    ] {
        assert!(matches!(view.read(location), Err(DiskError::Corrupt { .. })), "{location:?}");
    }
}

#[test]
fn nothing_is_written_after_the_disk_failed_and_everything_stays_readable() {
    for operation in 0..12 {
        let mut harness = Harness::new(small_config(), 7);
        harness.append_value(100);
        harness.disk.fail_after(operation);
        let key_value = KeyValue { key: "k".into(), version: 1, ..KeyValue::default() }.encode_to_vec();
        let mut appended = Vec::new();
        let mut has_failed = false;
        while !has_failed {
            harness.head.main += 1;
            match harness.log.append(harness.head, false, &key_value) {
                Ok(location) => appended.push(location),
                Err(_) => has_failed = true,
            }
            if appended.len() % 30 == 0 {
                has_failed |= harness.log.sync().is_err();
            }
        }
        let operations = harness.disk.operations();
        harness.head.main += 1;
        assert!(harness.log.append(harness.head, false, &key_value).is_err());
        assert!(harness.log.sync().is_err() && harness.log.checkpointed().is_err());
        assert!(harness.log.rewrite_step(100, &mut |_, _, _| true, &mut |_, _, _, _| {}).is_err());
        assert_eq!(harness.disk.operations(), operations);
        let view = harness.log.view();
        assert!(appended.iter().all(|&location| view.read(location).is_ok()), "operation {operation}");
    }
}

#[test]
#[should_panic(expected = "comes after")]
fn revisions_must_rise() {
    let mut harness = Harness::new(small_config(), 8);
    harness.append_value(1);
    let head = harness.head;
    let _ = harness.log.append(head, true, &[]);
}

#[test]
fn footer_entries_come_back_as_they_were_written() {
    let seed = 9;
    let random = &mut SeededRandom::new(seed);
    let mut builder = FooterBuilder::default();
    let (mut expected, mut offset, mut main) = (Vec::new(), 16, 0);
    for position in 0..2_000_u32 {
        let extreme = |random: &mut SeededRandom| match random.below(4) {
            0 => i64::MIN,
            1 => i64::MAX,
            _ => random.next_u64() as i64 >> random.below(64),
        };
        let deletion = random.one_in(4);
        let key = vec![random.below(3) as u8; random.below(200) as usize];
        main += (random.next_u64() >> random.below(30) >> 32) as i64;
        let (create_revision, version, lease) =
            if deletion { (0, 0, 0) } else { (extreme(random), extreme(random), extreme(random)) };
        let length = 21 + random.below(1_000) as u32;
        let revision = Revision { main, sub: position.into() };
        let fields = KeyFields { key: &key, create_revision, version, lease };
        builder.push(revision, deletion, &fields, length);
        expected.push((key, create_revision, version, lease, revision, deletion, offset, length));
        offset += length;
    }
    let mut cursor = FooterCursor::new(16);
    for (key, create_revision, version, lease, revision, deletion, offset, length) in &expected {
        let fields = KeyFields { key, create_revision: *create_revision, version: *version, lease: *lease };
        let entry = FooterEntry { fields, revision: *revision, deletion: *deletion, offset: *offset, length: *length };
        assert_eq!(cursor.next(builder.entries()), Some(entry), "seed {seed}");
    }
    assert!(cursor.is_at_end(builder.entries()));
    assert_eq!(cursor.offset(), offset);
}
