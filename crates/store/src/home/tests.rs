//! Generations, checkpoints and the snapshot stream: what is kept, what is refused, and that a refusal changes nothing.

use super::{Home, SnapshotSource};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::memory_disk::{MemoryDisk, SeededRandom};
use crate::revision::Revision;
use crate::revlog::{Record, RevLog, RevLogConfig};
use prost::Message;
use quorate_proto::mvccpb::KeyValue;
use quorate_proto::quoratepb::{Checkpoint, LeaseRecord};
use std::sync::Arc;

const ROOT: &str = "data";
const CURRENT: &str = "data/CURRENT";
const CHECKPOINT: &str = "data/00000001/CHECKPOINT";
const CONFIG: RevLogConfig = RevLogConfig { segment_bytes: 700, buffer_bytes: 100 };

fn shared(disk: &MemoryDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn open(disk: &MemoryDisk) -> Result<(Home, Option<Checkpoint>), DiskError> {
    Home::open(shared(disk), ROOT)
}

fn append(log: &mut RevLog, main: i64) {
    let fields = KeyValue {
        key: format!("/key/{}", main % 7).into(),
        create_revision: main,
        mod_revision: main,
        version: 1,
        value: vec![main as u8; 30].into(),
        lease: 0,
    };
    log.append(Revision { main, sub: 0 }, false, &fields.encode_to_vec()).unwrap();
}

/// A store with a checkpoint over some segments, the last of which may still grow.
struct Fixture {
    disk: MemoryDisk,
    home: Home,
    log: RevLog,
    checkpoint: Checkpoint,
}

impl Fixture {
    fn new(leases: i64) -> Self {
        let disk = MemoryDisk::new();
        let (mut home, found) = open(&disk).unwrap();
        assert_eq!(found, None);
        let mut log = RevLog::open(shared(&disk), &home.folder(), CONFIG, &[], &mut |_| {}).unwrap();
        for main in 2..30 {
            append(&mut log, main);
        }
        let lease = |id| LeaseRecord { id, ttl_s: 60, renewals: 1 };
        let checkpoint = Checkpoint {
            applied_index: 17,
            revision: 29,
            segments: log.sync().unwrap(),
            leases: (1..=leases).map(lease).collect(),
            ..Checkpoint::default()
        };
        assert!(checkpoint.segments.len() > 2 && !checkpoint.segments.last().unwrap().sealed);
        home.write_checkpoint(&checkpoint).unwrap();
        Self { disk, home, log, checkpoint }
    }

    fn stream(&self) -> Vec<u8> {
        let mut source = SnapshotSource::new(&self.checkpoint, &self.log.view()).unwrap();
        let mut stream = Vec::new();
        while let Some(piece) = source.next().unwrap() {
            assert!(piece.len() <= 256 << 10);
            stream.extend_from_slice(&piece);
        }
        assert_eq!(stream.len() as u64, source.total_bytes());
        stream
    }

    fn records(&self) -> Vec<Record> {
        self.log.view().scan(0).map(Result::unwrap).take(28).collect()
    }
}

/// A member without anything that takes a stream.
fn receive(home: &Home, stream: &[u8]) -> Result<super::Received, DiskError> {
    let mut sink = home.receive()?;
    sink.write(stream)?;
    sink.finish()
}

fn records_of(disk: &MemoryDisk, folder: &str, checkpoint: &Checkpoint) -> Vec<Record> {
    let log = RevLog::open(shared(disk), folder, CONFIG, &checkpoint.segments, &mut |_| {}).unwrap();
    log.view().scan(0).map(Result::unwrap).collect()
}

/// The bytes that `docs/formats.md` promises. A change here needs a new format version.
#[test]
fn formats_are_pinned_byte_for_byte() {
    let disk = MemoryDisk::new();
    let mut home = open(&disk).unwrap().0;
    let config = RevLogConfig { segment_bytes: 16, ..CONFIG };
    let mut log = RevLog::open(shared(&disk), &home.folder(), config, &[], &mut |_| {}).unwrap();
    let put =
        KeyValue { key: "k".into(), create_revision: 2, mod_revision: 2, version: 1, value: "v".into(), lease: 3 };
    let location = log.append(Revision { main: 2, sub: 0 }, false, &put.encode_to_vec()).unwrap();
    let deleted = KeyValue { key: "k".into(), ..KeyValue::default() };
    log.append(Revision { main: 3, sub: 1 }, true, &deleted.encode_to_vec()).unwrap();
    log.mark_dead(location);
    let checkpoint = Checkpoint { applied_index: 5, segments: log.sync().unwrap(), ..Checkpoint::default() };
    home.write_checkpoint(&checkpoint).unwrap();
    let mut source = SnapshotSource::new(&checkpoint, &log.view()).unwrap();
    let mut stream = Vec::new();
    while let Some(piece) = source.next().unwrap() {
        stream.extend_from_slice(&piece);
    }
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let file = |path: &str| hex(disk.contents(path).unwrap());
    assert_eq!(file(CURRENT), "51435552010000000800000000000000333b0ce60100000000000000");
    assert_eq!(file(CHECKPOINT), "51434b5001000000130000000000000041413f6908053209080110541801220110320408021028");
    assert_eq!(
        file("data/00000001/0000000000000001.seg"),
        "515345470100000001000000041230a2bf399ec81b000000000200000000000000000000000a016b1002180220012a0176300300016b020023000103330000000900000001000000ba4f642d51494458278fc3f5"
    );
    assert_eq!(
        file("data/00000001/0000000000000002.seg"),
        "5153454701000000020000003d9b12c02e5c816810000000010300000000000000010000000a016b"
    );
    let expected = "51534e5001000000f70000000000000059c766dd011300000048cc749f08053209080110541801220110320408021028020d000000bdce2dbe0100000054000000000000000103540000008215dd5b515345470100000001000000041230a2bf399ec81b000000000200000000000000000000000a016b1002180220012a0176300300016b020023000103330000000900000001000000ba4f642d51494458278fc3f5020d00000059b852350200000028000000000000000003280000004243dd9d5153454701000000020000003d9b12c02e5c816810000000010300000000000000010000000a016b0404000000373b5754125cf2f4";
    assert_eq!(hex(stream), expected);
}

#[test]
fn a_new_store_begins_with_no_checkpoint_and_remembers_the_latest() {
    let fixture = Fixture::new(3);
    assert_eq!(open(&fixture.disk).unwrap().1.as_ref(), Some(&fixture.checkpoint));
    let later = Checkpoint { applied_index: 18, ..fixture.checkpoint.clone() };
    let mut home = open(&fixture.disk).unwrap().0;
    home.write_checkpoint(&later).unwrap();
    assert_eq!(home.folder(), "data/00000001");
    fixture.disk.crash(1);
    assert_eq!(open(&fixture.disk).unwrap().1, Some(later));
}

#[test]
fn a_flipped_bit_in_current_or_checkpoint_is_told_with_its_file() {
    let fixture = Fixture::new(3);
    for path in [CURRENT, CHECKPOINT] {
        let contents = fixture.disk.contents(path).unwrap();
        for bit in 0..contents.len() * 8 {
            let disk = fixture.disk.fork();
            let mut damaged = contents.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            disk.overwrite(path, &damaged);
            match open(&disk).map(drop) {
                Err(error @ DiskError::Corrupt { .. }) => {
                    let text = error.to_string();
                    assert!(text.contains(path) && text.contains("Restore this member"), "{text}");
                }
                other => panic!("bit {bit} of {path}: {other:?}"),
            }
        }
        for length in 0..contents.len() {
            let disk = fixture.disk.fork();
            disk.overwrite(path, &contents[..length]);
            assert!(matches!(open(&disk), Err(DiskError::Corrupt { .. })), "{path} cut to {length}");
        }
        let disk = fixture.disk.fork();
        disk.overwrite(path, &[&contents[..], b"x"].concat());
        assert!(matches!(open(&disk), Err(DiskError::Corrupt { .. })), "{path} with a byte more");
    }
}

#[test]
fn a_later_version_is_told_from_a_broken_file() {
    let fixture = Fixture::new(0);
    for path in [CURRENT, CHECKPOINT] {
        let mut contents = fixture.disk.contents(path).unwrap();
        contents[4] = 9;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&contents[..16]), &contents[20..]);
        contents[16..20].copy_from_slice(&checksum.to_le_bytes());
        let disk = fixture.disk.fork();
        disk.overwrite(path, &contents);
        let outcome = open(&disk).map(drop);
        assert!(matches!(outcome, Err(DiskError::Version { found: 9, supported: 1, .. })), "{outcome:?}");
    }
}

#[test]
fn what_is_missing_is_not_taken_for_a_new_store() {
    let fixture = Fixture::new(0);
    let disk = fixture.disk.fork();
    disk.remove(CURRENT).unwrap();
    assert!(matches!(open(&disk), Err(DiskError::Corrupt { .. })), "CURRENT is lost");
    let disk = fixture.disk.fork();
    disk.remove_folder("data/00000001").unwrap();
    assert!(matches!(open(&disk), Err(DiskError::Corrupt { .. })), "the generation is lost");
    let (disk, stream) = (MemoryDisk::new(), fixture.stream());
    let mut home = open(&disk).unwrap().0;
    let received = receive(&home, &stream).unwrap();
    home.promote(received).unwrap();
    disk.remove(&format!("{}/CHECKPOINT", home.folder())).unwrap();
    assert!(matches!(open(&disk), Err(DiskError::Corrupt { .. })), "the received checkpoint is lost");
}

#[test]
fn leftovers_are_removed() {
    let fixture = Fixture::new(0);
    let sink = fixture.home.receive().unwrap();
    for path in ["data/CURRENT.new", "data/00000001/CHECKPOINT.new"] {
        fixture.disk.create(path).unwrap();
    }
    drop(sink);
    assert_eq!(fixture.disk.list_folders(ROOT).unwrap().len(), 2);
    open(&fixture.disk).unwrap();
    assert_eq!(fixture.disk.list_folders(ROOT).unwrap(), ["00000001"]);
    assert!(fixture.disk.paths().iter().all(|path| !path.ends_with(".new")));
}

#[test]
fn a_snapshot_travels_in_any_cut() {
    let fixture = Fixture::new(40_000);
    assert!(fixture.checkpoint.encoded_len() > 256 << 10, "the checkpoint takes several pieces");
    let stream = fixture.stream();
    for seed in 0..20 {
        println!("seed {seed}");
        let random = &mut SeededRandom::new(seed);
        let disk = MemoryDisk::new();
        let mut home = open(&disk).unwrap().0;
        let mut sink = home.receive().unwrap();
        let mut rest = &stream[..];
        let longest = 1 << random.below(20);
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(random.below(longest + 1) as usize));
            sink.write(piece).unwrap();
            rest = later;
        }
        let received = sink.finish().unwrap();
        assert_eq!(received.checkpoint, fixture.checkpoint);
        home.promote(received).unwrap();
        disk.crash(seed);
        let (home, checkpoint) = open(&disk).unwrap();
        let checkpoint = checkpoint.unwrap();
        assert_eq!(checkpoint, fixture.checkpoint);
        assert_eq!(records_of(&disk, &home.folder(), &checkpoint), fixture.records());
        assert_eq!(disk.list_folders(ROOT).unwrap(), ["00000002"]);
    }
}

/// The receiver has a state of its own; whatever goes wrong, it keeps it.
fn check_refused(receiver: &Fixture, stream: &[u8], what: &str) {
    let outcome = receive(&receiver.home, stream);
    assert!(matches!(outcome.map(drop), Err(DiskError::Corrupt { .. })), "{what}");
    assert!(current_files(&receiver.disk) == current_files(&Fixture::new(3).disk), "{what}");
}

/// Everything but what arrives.
fn current_files(disk: &MemoryDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let is_current = |path: &String| path == CURRENT || path.starts_with("data/00000001/");
    disk.paths().into_iter().filter(is_current).map(|path| (path.clone(), disk.contents(&path))).collect()
}

#[test]
fn a_cut_or_garbled_stream_changes_nothing() {
    let (fixture, receiver) = (Fixture::new(2), Fixture::new(3));
    let stream = fixture.stream();
    for length in 0..stream.len() {
        check_refused(&receiver, &stream[..length], &format!("cut to {length}"));
    }
    for position in 0..stream.len() {
        let mut garbled = stream.clone();
        garbled[position] ^= 1 << (position % 8);
        check_refused(&receiver, &garbled, &format!("byte {position} changed"));
    }
    check_refused(&receiver, &[&stream[..], b"x"].concat(), "a byte more");
    check_refused(&receiver, &[&stream[..], &stream[..]].concat(), "twice");
    receive(&receiver.home, &stream).unwrap();
}

/// A source whose disk rots sends bytes that carry a right checksum and wrong records.
#[test]
fn a_snapshot_of_broken_segments_is_refused() {
    let (fixture, receiver) = (Fixture::new(2), Fixture::new(3));
    for reference in &fixture.checkpoint.segments {
        let path = format!("data/00000001/{:016x}.seg", reference.id);
        let contents = fixture.disk.contents(&path).unwrap();
        for position in (0..contents.len()).step_by(7) {
            let mut damaged = contents.clone();
            damaged[position] ^= 0x10;
            fixture.disk.overwrite(&path, &damaged);
            check_refused(&receiver, &fixture.stream(), &format!("byte {position} of {path}"));
        }
        fixture.disk.overwrite(&path, &contents);
    }
    receive(&receiver.home, &fixture.stream()).unwrap();
}

#[test]
fn a_snapshot_outlives_compaction_and_growth_of_its_source() {
    let mut fixture = Fixture::new(2);
    let expected = fixture.records();
    let mut source = SnapshotSource::new(&fixture.checkpoint, &fixture.log.view()).unwrap();
    let mut dead = Vec::new();
    for main in 30..200 {
        append(&mut fixture.log, main);
    }
    let folder = fixture.home.folder();
    let references = fixture.log.sync().unwrap();
    fixture.log = RevLog::open(shared(&fixture.disk), &folder, CONFIG, &references, &mut |entry| {
        dead.push(entry.location);
    })
    .unwrap();
    dead.into_iter().for_each(|location| fixture.log.mark_dead(location));
    while fixture.log.rewrite_step(1 << 20, &mut |_, _, _| false, &mut |_, _, _, _| {}).unwrap() {}
    fixture.log.sync().unwrap();
    fixture.log.checkpointed().unwrap();
    assert!(!fixture.disk.paths().contains(&format!("{folder}/{:016x}.seg", fixture.checkpoint.segments[0].id)));
    let disk = MemoryDisk::new();
    let mut home = open(&disk).unwrap().0;
    let mut sink = home.receive().unwrap();
    while let Some(piece) = source.next().unwrap() {
        sink.write(&piece).unwrap();
    }
    home.promote(sink.finish().unwrap()).unwrap();
    assert_eq!(records_of(&disk, &home.folder(), &fixture.checkpoint), expected);
}

#[test]
fn a_sink_that_was_given_up_disturbs_no_later_one() {
    let (fixture, receiver) = (Fixture::new(2), Fixture::new(3));
    let stream = fixture.stream();
    let mut home = receiver.home;
    let mut first = home.receive().unwrap();
    first.write(&stream[..stream.len() / 2]).unwrap();
    let second = receive(&home, &stream).unwrap();
    assert!(first.write(&stream[stream.len() / 2..]).is_err(), "its folder is gone");
    let stale = super::Received { checkpoint: second.checkpoint.clone(), folder: "data/00000002".to_string() };
    assert!(home.promote(stale).is_err());
    assert_eq!(open(&receiver.disk.fork()).unwrap().1, Some(receiver.checkpoint));
    home.promote(second).unwrap();
    assert_eq!(open(&receiver.disk).unwrap().1, Some(fixture.checkpoint));
}

#[test]
fn nothing_is_written_after_the_disk_failed() {
    for operation in 0..4 {
        let mut fixture = Fixture::new(0);
        fixture.disk.fail_after(operation);
        assert!(fixture.home.write_checkpoint(&fixture.checkpoint).is_err());
        let operations = fixture.disk.operations();
        assert!(fixture.home.write_checkpoint(&fixture.checkpoint).is_err());
        assert_eq!(fixture.disk.operations(), operations);
        assert_eq!(open(&fixture.disk).unwrap().1, Some(fixture.checkpoint));
    }
}
