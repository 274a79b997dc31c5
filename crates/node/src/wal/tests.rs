//! What the log promises, against a disk that forgets.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use quorate_proto::quoratepb::ConfState;
use quorate_store::memory_disk::{MemoryDisk, SeededRandom};

const IDENTITY: Identity = Identity { cluster_id: 7, member_id: 1 };
/// Room for a few frames.
const SEGMENT_BYTES: u64 = FIRST_FRAME_OFFSET + 1024;

fn open(disk: &MemoryDisk) -> Result<(Wal, Recovered), DiskError> {
    let config = WalConfig { segment_bytes: SEGMENT_BYTES, sync: true };
    Wal::open(Arc::new(disk.clone()), "wal", config, IDENTITY)
}

fn entry(index: u64, term: u64, data_bytes: usize) -> LogEntry {
    let data: Vec<u8> = (0..data_bytes).map(|position| (position as u64 * 7 + index * 31 + term) as u8).collect();
    let (entry_type, context) =
        if index.is_multiple_of(5) { (2, Bytes::from_static(b"ctx")) } else { (0, Bytes::new()) };
    LogEntry { entry_type, term, index, data: data.into(), context }
}

fn entries_of(first: u64, count: u64, term: u64, data_bytes: usize) -> Persist {
    Persist {
        entries: (first..first + count).map(|index| entry(index, term, data_bytes)).collect(),
        ..Persist::default()
    }
}

fn point(index: u64, term: u64) -> SnapshotPoint {
    SnapshotPoint { index, term, conf_state: ConfState { voters: vec![1, 2, 3], ..ConfState::default() } }
}

/// What a log should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    start: (u64, u64),
    entries: Vec<LogEntry>,
}

impl Model {
    fn last(&self) -> u64 {
        self.start.0 + self.entries.len() as u64
    }

    fn append(&mut self, persist: &Persist) {
        if let Some(point) = &persist.snapshot {
            self.start = (point.index, point.term);
            self.entries.clear();
        }
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = persist.entries.first() {
            self.entries.truncate((first.index - self.start.0 - 1) as usize);
            self.entries.extend(persist.entries.iter().cloned());
        }
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.start.0 {
            return Some(self.start.1);
        }
        let position = index.checked_sub(self.start.0 + 1)?;
        self.entries.get(position as usize).map(|entry| entry.term)
    }

    /// Whether this is what was recovered, when everything up to `truncated` may be gone.
    fn check(&self, recovered: &Recovered, truncated: u64) -> Result<(), String> {
        if recovered.hard_state != self.hard_state {
            return Err(format!("hard state {:?} instead of {:?}", recovered.hard_state, self.hard_state));
        }
        let start = &recovered.start;
        if start.index > truncated.max(self.start.0) || self.term_at(start.index) != Some(start.term) {
            return Err(format!("it begins behind {}/{}", start.index, start.term));
        }
        if recovered.entries[..] != self.entries[(start.index - self.start.0) as usize..] {
            return Err(format!("entries {:?} instead of {:?}", recovered.entries, self.entries));
        }
        Ok(())
    }
}

/// A life of a log: growth, a change of mind, a large frame, a snapshot, and growth over several segments.
fn life() -> Vec<Persist> {
    let hard_state = |term, commit| Some(HardState { term, vote: 1, commit });
    let mut life = vec![
        Persist { hard_state: hard_state(1, 0), ..Persist::default() },
        entries_of(1, 3, 1, 40),
        entries_of(4, 1, 1, 300),
        entries_of(5, 2, 1, 200),
        Persist { hard_state: hard_state(2, 3), ..entries_of(5, 1, 2, 100) },
        entries_of(6, 1, 2, 3000),
        entries_of(7, 4, 2, 10),
        Persist { hard_state: hard_state(3, 20), snapshot: Some(point(20, 3)), ..entries_of(21, 2, 3, 50) },
    ];
    life.extend((0..8).map(|count| entries_of(23 + count, 1, 3, 250)));
    life
}

/// What the log holds after each step of a life, before the first one included.
fn states(life: &[Persist]) -> Vec<Model> {
    let mut states = vec![Model::default()];
    for persist in life {
        let mut next = states[states.len() - 1].clone();
        next.append(persist);
        states.push(next);
    }
    states
}

#[test]
fn everything_comes_back() {
    let disk = MemoryDisk::new();
    let (mut wal, recovered) = open(&disk).expect("a new log opens");
    assert_eq!(recovered, Recovered::default());
    for (persist, state) in life().iter().zip(&states(&life())[1..]) {
        wal.append(std::slice::from_ref(persist)).expect("the disk works");
        assert_eq!(state.check(&open(&disk.fork()).expect("it opens").1, 0), Ok(()));
    }
    assert!(wal.sealed.len() >= 3, "the life is too short to fill segments");
    let names: Vec<String> = disk.paths();
    assert_eq!(wal.disk_bytes(), disk.total_bytes(), "{names:?}");
}

#[test]
fn several_persists_are_one_write_and_one_sync() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk).expect("a new log opens");
    let before = disk.operations();
    wal.append(&[entries_of(1, 2, 1, 10), entries_of(3, 2, 1, 10)]).expect("the disk works");
    assert_eq!(disk.operations() - before, 2);
    assert_eq!(open(&disk).expect("it opens").1.entries.len(), 4);
}

#[test]
fn a_clean_stop_is_known_until_something_is_written() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk).expect("a new log opens");
    wal.append(&[entries_of(1, 2, 1, 10)]).expect("the disk works");
    wal.mark_clean().expect("the disk works");
    let (mut wal, recovered) = open(&disk).expect("it opens");
    assert!(recovered.clean);
    wal.append(&[entries_of(3, 1, 1, 10)]).expect("the disk works");
    assert!(!open(&disk).expect("it opens").1.clean);
}

#[test]
fn old_segments_go_and_come_back_as_spares() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk).expect("a new log opens");
    let mut model = Model::default();
    for index in 1..200 {
        let persist = entries_of(index, 1, 1, 200);
        wal.append(std::slice::from_ref(&persist)).expect("the disk works");
        model.append(&persist);
        wal.truncate(index.saturating_sub(5)).expect("the disk works");
        assert!(wal.disk_bytes() <= 8 * SEGMENT_BYTES, "the log grows: {} bytes", wal.disk_bytes());
    }
    let recovered = open(&disk).expect("it opens").1;
    assert_eq!(model.check(&recovered, 194), Ok(()));
    assert!(recovered.start.index > 180, "little is left of what may go");
}

#[test]
fn the_log_of_somebody_else_is_refused() {
    let disk = MemoryDisk::new();
    drop(open(&disk).expect("a new log opens"));
    let config = WalConfig { segment_bytes: SEGMENT_BYTES, sync: true };
    let other = Identity { member_id: 2, ..IDENTITY };
    let error = Wal::open(Arc::new(disk), "wal", config, other).err().expect("it is refused");
    assert!(error.to_string().contains("member 1 of cluster 7"), "{error}");
}

#[test]
fn another_version_is_refused() {
    let disk = MemoryDisk::new();
    drop(open(&disk).expect("a new log opens"));
    let path = segment_path("wal", 1);
    let mut bytes = disk.contents(&path).expect("it is there");
    bytes[8] = 9;
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    disk.overwrite(&path, &bytes);
    let error = open(&disk).err().expect("it is refused");
    assert!(matches!(error, DiskError::Version { found: 9, supported: FORMAT_VERSION, .. }), "{error}");
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk).expect("a new log opens");
    for persist in life() {
        wal.append(&[persist]).expect("the disk works");
    }
    disk.remove(&segment_path("wal", 2)).expect("it was there");
    let error = open(&disk).err().expect("it is refused");
    assert!(error.to_string().contains("segments are missing"), "{error}");
}

/// Power cuts at every write, sync and rename: what was acknowledged is there, and of the write under way all or nothing.
#[test]
fn a_power_cut_anywhere_loses_nothing_acknowledged() {
    let life = life();
    let states = states(&life);
    let mut cut = 0;
    loop {
        let mut finished = false;
        for seed in 0..6 {
            let disk = MemoryDisk::new();
            disk.halt_after(cut);
            let mut acknowledged = 0;
            if let Ok((mut wal, _)) = open(&disk) {
                for (step, persist) in life.iter().enumerate() {
                    if step == 12 && wal.truncate(21).is_err() {
                        break;
                    }
                    match wal.append(std::slice::from_ref(persist)) {
                        Ok(()) => acknowledged += 1,
                        Err(_) => {
                            assert!(wal.append(std::slice::from_ref(persist)).is_err(), "it writes after an error");
                            assert!(wal.mark_clean().is_err(), "it writes after an error");
                            assert!(wal.truncate(1).is_err(), "it writes after an error");
                            break;
                        }
                    }
                }
                finished |= acknowledged == life.len();
            }
            disk.crash(seed);
            // A second power cut, in the middle of the recovery.
            disk.halt_after(seed % 4);
            drop(open(&disk));
            disk.crash(seed + 100);
            let (mut wal, recovered) =
                open(&disk).unwrap_or_else(|error| panic!("cut {cut}, seed {seed}: the log is refused: {error}"));
            let matches = |state: &Model| state.check(&recovered, 21) == Ok(());
            let next = states.get(acknowledged + 1);
            assert!(
                matches(&states[acknowledged]) || next.is_some_and(matches),
                "cut {cut}, seed {seed}: {acknowledged} acknowledged, but {recovered:?}"
            );
            // It goes on, and what was cut off never comes back.
            let mut model = if matches(&states[acknowledged]) {
                states[acknowledged].clone()
            } else {
                next.cloned().unwrap_or_default()
            };
            for size in [10, 400] {
                let persist = entries_of(model.last() + 1, 1, 9, size);
                wal.append(std::slice::from_ref(&persist)).expect("the disk works again");
                model.append(&persist);
            }
            let recovered = open(&disk).unwrap_or_else(|error| panic!("cut {cut}, seed {seed}: {error}")).1;
            assert_eq!(model.check(&recovered, 21), Ok(()), "cut {cut}, seed {seed}");
        }
        if finished {
            break;
        }
        cut += 1;
    }
    assert!(cut > 40, "only {cut} places to cut");
}

/// A crash between a new segment and its first frame: the segment must tell the hard state all the same, since the older
/// ones go.
#[test]
fn a_segment_without_a_frame_does_not_lose_the_vote() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk).expect("a new log opens");
    let hard_state = HardState { term: 4, vote: 2, commit: 0 };
    wal.append(&[Persist { hard_state: Some(hard_state), ..entries_of(1, 1, 1, 700) }]).expect("the disk works");
    // Header, sync, rename and sync of the folder are done; the frame is not.
    disk.halt_after(4);
    assert!(wal.append(&[entries_of(2, 1, 1, 500)]).is_err());
    disk.crash(1);
    let (mut wal, recovered) = open(&disk).expect("it opens");
    assert_eq!((wal.sealed.len(), recovered.entries.len()), (1, 1), "the crash was at another place");
    wal.truncate(1).expect("the disk works");
    assert_eq!(open(&disk).expect("it opens").1.hard_state, hard_state);
    wal.append(&[entries_of(2, 1, 1, 500)]).expect("the disk works");
    wal.truncate(1).expect("the disk works");
    let recovered = open(&disk).expect("it opens").1;
    assert_eq!((recovered.hard_state, recovered.start.index, recovered.entries.len()), (hard_state, 1, 1));
}

/// A failed write or sync ends all writing, even if the disk works again.
#[test]
fn a_failed_write_or_sync_ends_all_writing() {
    for fault in 0..2 {
        let disk = MemoryDisk::new();
        let (mut wal, _) = open(&disk).expect("a new log opens");
        wal.append(&[entries_of(1, 1, 1, 10)]).expect("the disk works");
        disk.fail_after(fault);
        assert!(wal.append(&[entries_of(2, 1, 1, 10)]).is_err());
        assert!(wal.append(&[entries_of(2, 1, 1, 10)]).is_err());
        assert!(wal.mark_clean().is_err());
    }
}

/// Flips bits, one at a time: the log is refused, or only the last frame is missing, or the bit did not matter.
fn flip_everywhere(disk: &MemoryDisk, states: &[Model], clean: bool) -> usize {
    let full = states.last().expect("there are states");
    // The clean mark is a frame of its own: without it everything else is still there.
    let shorter = if clean { full } else { &states[states.len() - 2] };
    let mut refused = 0;
    for path in disk.paths() {
        let bytes = disk.contents(&path).expect("it is there");
        for position in 0..bytes.len() {
            let used = bytes[position] != 0 || position < 64;
            for bit in 0..8 {
                // Of the empty places a sample is enough.
                if !used && bit != position % 8 {
                    continue;
                }
                let mut flipped = bytes.clone();
                flipped[position] ^= 1 << bit;
                let damaged = disk.fork();
                damaged.overwrite(&path, &flipped);
                match open(&damaged) {
                    Err(DiskError::Corrupt { path: named, .. }) => {
                        assert!(named == path || path.ends_with(".wal"), "{path} is damaged, not {named}");
                        refused += 1;
                    }
                    Err(error) => panic!("{path}, byte {position}, bit {bit}: {error}"),
                    Ok((_, recovered)) => {
                        let known = full.check(&recovered, 0) == Ok(()) || shorter.check(&recovered, 0) == Ok(());
                        assert!(known, "{path}, byte {position}, bit {bit}: wrong state {recovered:?}");
                    }
                }
            }
        }
    }
    refused
}

#[test]
fn a_flipped_bit_never_gives_wrong_entries() {
    let hard_state = HardState { term: 1, vote: 1, commit: 2 };
    let life = [
        Persist { hard_state: Some(hard_state), ..entries_of(1, 3, 1, 100) },
        entries_of(4, 1, 1, 450),
        entries_of(5, 1, 1, 300),
        entries_of(5, 2, 2, 60),
    ];
    for clean in [false, true] {
        let disk = MemoryDisk::new();
        let (mut wal, _) = open(&disk).expect("a new log opens");
        for persist in &life {
            wal.append(std::slice::from_ref(persist)).expect("the disk works");
        }
        assert_eq!(wal.sealed.len(), 1, "two segments");
        if clean {
            wal.mark_clean().expect("the disk works");
        }
        let refused = flip_everywhere(&disk, &states(&life), clean);
        assert!(refused > 6000, "only {refused} flips were noticed");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { back: u64, count: u64, data_bytes: usize, term_rise: u64, with_hard_state: bool },
    Snapshot { ahead: u64 },
    Truncate { behind: u64 },
    Reopen,
    Clean,
    PowerCut { seed: u64, under_way: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4u64, 1..5u64, 0..300usize, 0..2u64, any::<bool>()).prop_map(
            |(back, count, data_bytes, term_rise, with_hard_state)| {
                Step::Append { back, count, data_bytes, term_rise, with_hard_state }
            }
        ),
        1 => (1..9u64).prop_map(|ahead| Step::Snapshot { ahead }),
        2 => (0..9u64).prop_map(|behind| Step::Truncate { behind }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Clean),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, under_way)| Step::PowerCut { seed, under_way }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any sequence of steps leaves what a vector would hold.
    #[test]
    fn a_log_is_a_vector_that_lasts(steps in prop::collection::vec(step(), 1..60)) {
        let disk = MemoryDisk::new();
        let (mut wal, _) = open(&disk).expect("a new log opens");
        let (mut model, mut term, mut truncated) = (Model::default(), 1, 0);
        for step in steps {
            match step {
                Step::Append { back, count, data_bytes, term_rise, with_hard_state } => {
                    let first = (model.last() + 1).saturating_sub(back).max(model.start.0.max(truncated) + 1);
                    term += term_rise;
                    let mut persist = entries_of(first, count, term, data_bytes);
                    if with_hard_state {
                        persist.hard_state = Some(HardState { term, vote: back, commit: truncated });
                    }
                    wal.append(std::slice::from_ref(&persist)).expect("the disk works");
                    model.append(&persist);
                }
                Step::Snapshot { ahead } => {
                    let persist = Persist { snapshot: Some(point(model.last() + ahead, term)), ..Persist::default() };
                    wal.append(std::slice::from_ref(&persist)).expect("the disk works");
                    model.append(&persist);
                }
                Step::Truncate { behind } => {
                    truncated = truncated.max(model.last().saturating_sub(behind));
                    wal.truncate(truncated).expect("the disk works");
                }
                Step::Clean => {
                    wal.mark_clean().expect("the disk works");
                    prop_assert!(open(&disk.fork()).expect("it opens").1.clean);
                }
                Step::Reopen => {
                    let (reopened, recovered) = open(&disk).expect("it opens");
                    prop_assert_eq!(model.check(&recovered, truncated), Ok(()));
                    wal = reopened;
                }
                Step::PowerCut { seed, under_way } => {
                    let mut after = model.clone();
                    if under_way {
                        let persist = entries_of(model.last() + 1, 2, term, 200);
                        after.append(&persist);
                        disk.halt_after(SeededRandom::new(seed).below(3));
                        if wal.append(&[persist]).is_ok() {
                            model = after.clone();
                        }
                    }
                    disk.crash(seed);
                    let (reopened, recovered) = open(&disk).expect("it opens");
                    if model.check(&recovered, truncated).is_err() {
                        prop_assert_eq!(after.check(&recovered, truncated), Ok(()));
                        model = after;
                    }
                    wal = reopened;
                }
            }
        }
        let recovered = open(&disk).expect("it opens").1;
        prop_assert_eq!(model.check(&recovered, truncated), Ok(()));
    }

    /// Whatever bytes a folder holds, opening it returns.
    #[test]
    fn garbage_never_panics(seed: u64, length in 0..9000usize, keep_header: bool) {
        let disk = MemoryDisk::new();
        drop(open(&disk).expect("a new log opens"));
        let path = segment_path("wal", 1);
        let old = disk.contents(&path).expect("it is there");
        let random = &mut SeededRandom::new(seed);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
        if keep_header && bytes.len() > 64 {
            bytes[..64].copy_from_slice(&old[..64]);
        }
        disk.overwrite(&path, &bytes);
        drop(open(&disk));
    }
}
