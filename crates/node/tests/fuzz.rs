//! The write-ahead log against damaged files: no panic, no allocation out of proportion, and never an entry or a vote that
//! was not written. Damage is made from seeds. `docs/fuzzing.md` says more.

#[path = "../../../fuzz/meter.rs"]
mod meter;
#[path = "../../../fuzz/mutate.rs"]
mod mutate;

use bytes::Bytes;
use meter::{Meter, measured};
use mutate::Mutator;
use quorate_node::api::{HardState, Persist, SnapshotPoint};
use quorate_node::wal::{Identity, Recovered, Wal, WalConfig};
use quorate_proto::quoratepb::{ConfState, LogEntry};
use quorate_store::error::DiskError;
use quorate_store::memory_disk::MemoryDisk;
use std::path::PathBuf;
use std::sync::Arc;

#[global_allocator]
static METER: Meter = Meter;

/// Opening makes a spare segment of zeros, one segment is read at once.
const ALLOCATION_BYTES_MAX: usize = 4 << 20;
const IDENTITY: Identity = Identity { cluster_id: 7, member_id: 1 };
/// The first frame of a segment.
const FIRST_FRAME_OFFSET: usize = 4_096;
const FRAME_HEADER_BYTES: usize = 32;

fn open(disk: &MemoryDisk) -> Result<(Wal, Recovered), DiskError> {
    let config = WalConfig { segment_bytes: FIRST_FRAME_OFFSET as u64 + 1_024, sync: true };
    Wal::open(Arc::new(disk.clone()), "wal", config, IDENTITY)
}

fn entries(first: u64, count: u64, term: u64, data_bytes: usize) -> Persist {
    let entry = |index: u64| LogEntry {
        entry_type: u32::from(index.is_multiple_of(4)) * 2,
        term,
        index,
        data: (0..data_bytes).map(|place| (place as u64 * 7 + index * 31 + term) as u8).collect::<Vec<u8>>().into(),
        context: if index.is_multiple_of(3) { Bytes::from_static(b"context") } else { Bytes::new() },
    };
    Persist { entries: (first..first + count).map(entry).collect(), ..Persist::default() }
}

/// A life with votes, a change of mind, a snapshot, and several segments.
fn life() -> Vec<Persist> {
    let vote = |term, vote, commit| Some(HardState { term, vote, commit });
    let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let mut life = vec![
        Persist { hard_state: vote(1, 1, 0), ..entries(1, 3, 1, 40) },
        entries(4, 2, 1, 200),
        Persist { hard_state: vote(2, 3, 0), ..entries(4, 3, 2, 90) },
        entries(7, 1, 2, 1_500),
        Persist { snapshot: Some(SnapshotPoint { index: 20, term: 3, conf_state }), ..Persist::default() },
        Persist { hard_state: vote(3, 2, 20), ..entries(21, 4, 3, 30) },
    ];
    life.extend((25..45).map(|index| entries(index, 1, 3 + index / 30, 10 + 6 * index as usize)));
    life.push(Persist { hard_state: vote(4, 2, 44), ..Persist::default() });
    life.push(entries(45, 2, 4, 20));
    life
}

/// What the log held after each of its appends.
struct States {
    states: Vec<Recovered>,
}

impl States {
    fn of(life: &[Persist]) -> Self {
        let mut states = vec![Recovered::default()];
        for count in 1..=life.len() {
            let disk = MemoryDisk::new();
            let (mut wal, _) = open(&disk).unwrap();
            for persist in &life[..count] {
                wal.append(std::slice::from_ref(persist)).unwrap();
            }
            states.push(open(&disk).unwrap().1);
        }
        Self { states }
    }

    /// What is recovered is one of them.
    fn check(&self, found: &Recovered, what: &str) {
        let same = |state: &Recovered| {
            (state.hard_state, &state.start, &state.entries) == (found.hard_state, &found.start, &found.entries)
        };
        assert!(self.states.iter().any(same), "{what}: never was in the log: {found:?}");
    }
}

fn sample(life: &[Persist]) -> (MemoryDisk, Vec<(String, Vec<u8>)>) {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    for persist in life {
        wal.append(std::slice::from_ref(persist)).unwrap();
    }
    drop(wal);
    let paths = disk.paths().into_iter().filter(|path| path.ends_with(".wal"));
    let files = paths.map(|path| (path.clone(), disk.contents(&path).unwrap())).collect();
    (disk, files)
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/wal")
}

/// Keeps what a failure needs.
struct Keep<'a>(&'a [u8]);

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = corpus().join(format!("{:08x}", crc32c::crc32c(self.0)));
            println!("the input: {}", path.display());
            let _ = std::fs::create_dir_all(corpus()).and_then(|()| std::fs::write(path, self.0));
        }
    }
}

/// Opens a log of one file.
fn open_alone(bytes: &[u8]) -> Option<Recovered> {
    let disk = MemoryDisk::new();
    drop(open(&disk).unwrap());
    disk.overwrite("wal/0000000000000001.wal", bytes);
    let (opened, largest) = measured(|| open(&disk));
    assert!(largest <= ALLOCATION_BYTES_MAX.max(4 * bytes.len()), "{largest} bytes were asked for at once");
    opened.ok().map(|(_, recovered)| recovered)
}

#[test]
fn a_damaged_log_is_refused_or_ends_earlier() {
    let life = life();
    let states = States::of(&life);
    let (disk, files) = sample(&life);
    assert!(files.len() >= 4, "{} segments", files.len());
    states.check(&open(&disk.fork()).unwrap().1, "undamaged");
    let (mut refused, mut taken) = (0, 0);
    for seed in 0..16_000 {
        let mut mutator = Mutator::new(seed);
        // What comes last matters most: a torn end looks like damage.
        let count = files.len() as u64;
        let choice = if mutator.random.one_in(2) { count - 1 } else { mutator.random.below(count) };
        let (path, bytes) = &files[choice as usize];
        let (_, other) = &files[mutator.random.below(count) as usize];
        // The empty part between header and frames is of no use.
        let (head, frames) = bytes.split_at(FIRST_FRAME_OFFSET);
        let damaged = if mutator.random.one_in(5) {
            [&mutator.mutate(&head[..64], other), &bytes[64..]].concat()
        } else {
            [head, &mutator.mutate(frames, &other[FIRST_FRAME_OFFSET..])].concat()
        };
        let disk = disk.fork();
        disk.overwrite(path, &damaged);
        let what = format!("seed {seed}, {path}");
        let (opened, largest) = measured(|| open(&disk));
        assert!(largest <= ALLOCATION_BYTES_MAX, "{what}: {largest} bytes were asked for at once");
        match opened {
            Err(_) => refused += 1,
            Ok((mut wal, recovered)) => {
                taken += 1;
                states.check(&recovered, &what);
                // It goes on, and what was cut off does not come back.
                let last = recovered.entries.last().map_or(recovered.start.index, |entry| entry.index);
                let more = entries(last + 1, 1, 9, 50);
                wal.append(std::slice::from_ref(&more)).unwrap();
                let again = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}")).1;
                let wanted = [&recovered.entries[..], &more.entries].concat();
                assert_eq!((again.hard_state, again.entries), (recovered.hard_state, wanted), "{what}");
            }
        }
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused > 500 && taken > 500, "the damage is of every kind");
}

/// Frames whose checksums are right although their records are not.
#[test]
fn a_forged_log_ends_no_process() {
    for input in std::fs::read_dir(corpus()).into_iter().flatten() {
        open_alone(&std::fs::read(input.unwrap().path()).unwrap());
    }
    let (_, files) = sample(&life());
    let (mut refused, mut taken) = (0, 0);
    for seed in 0..16_000 {
        let mut mutator = Mutator::new(seed);
        let (_, bytes) = &files[mutator.random.below(files.len() as u64) as usize];
        let forged = forge(&mut mutator, bytes);
        let _keep = Keep(&forged);
        match open_alone(&forged) {
            None => refused += 1,
            Some(recovered) => {
                let indexes: Vec<u64> = recovered.entries.iter().map(|entry| entry.index).collect();
                let wanted: Vec<u64> = (1..=indexes.len() as u64).map(|step| recovered.start.index + step).collect();
                assert_eq!(indexes, wanted, "seed {seed}: entries without gaps");
                assert!(recovered.hard_state.commit <= recovered.start.index + indexes.len() as u64);
                taken += 1;
            }
        }
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused > 500 && taken > 500, "the damage is of every kind");
}

fn u32_at(bytes: &[u8], offset: usize) -> usize {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap()) as usize
}

/// A segment as the first and only one of a log, with some bodies damaged and all checksums right.
fn forge(mutator: &mut Mutator, bytes: &[u8]) -> Vec<u8> {
    let mut forged = bytes[..64].to_vec();
    forged[32..40].copy_from_slice(&1u64.to_le_bytes());
    let checksum = crc32c::crc32c(&forged[..60]);
    forged[60..].copy_from_slice(&checksum.to_le_bytes());
    forged.resize(FIRST_FRAME_OFFSET, 0);
    let mut offset = FIRST_FRAME_OFFSET;
    while offset + FRAME_HEADER_BYTES <= bytes.len() && bytes[offset..offset + 4] == *b"QFrm" {
        let body_bytes = u32_at(bytes, offset + 4);
        let mut frame = bytes[offset..offset + FRAME_HEADER_BYTES].to_vec();
        let body = &bytes[offset + FRAME_HEADER_BYTES..offset + FRAME_HEADER_BYTES + body_bytes];
        let body = if mutator.random.one_in(3) { mutator.mutate(body, bytes) } else { body.to_vec() };
        frame[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
        frame[8..16].copy_from_slice(&1u64.to_le_bytes());
        frame[24..28].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        let checksum = crc32c::crc32c(&frame[..28]);
        frame[28..].copy_from_slice(&checksum.to_le_bytes());
        forged.extend_from_slice(&frame);
        forged.extend_from_slice(&body);
        forged.resize(forged.len().next_multiple_of(8), 0);
        offset += (FRAME_HEADER_BYTES + body_bytes).next_multiple_of(8);
    }
    forged.resize(forged.len() + 64, 0);
    forged
}
