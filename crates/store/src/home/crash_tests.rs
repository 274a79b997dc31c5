//! The power goes at every single operation of a random workload: what is found afterwards is exactly the state of the
//! latest durable checkpoint, or of the one that was being written.

use super::{Home, SnapshotSource};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::key_index::{KeyIndex, Version};
use crate::memory_disk::{MemoryDisk, SeededRandom};
use crate::range::KeyRange;
use crate::revision::Revision;
use crate::revlog::{Location, RevLog, RevLogConfig};
use bytes::Bytes;
use prost::Message;
use quorate_proto::mvccpb::KeyValue;
use quorate_proto::quoratepb::Checkpoint;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

const CONFIG: RevLogConfig = RevLogConfig { segment_bytes: 1_500, buffer_bytes: 400 };

/// Everything a reader could ask for: keys, versions, records.
type Contents = Vec<(Vec<u8>, Vec<(Version, Bytes)>)>;

/// A store in small: what the layers above do with the log, the index and the checkpoints.
struct MiniStore {
    disk: Arc<dyn Disk>,
    home: Home,
    log: RevLog,
    index: KeyIndex,
    revision: i64,
    compact_revision: i64,
    applied: u64,
}

/// What checkpoints held, by applied index: it outlives the crash.
#[derive(Default)]
struct Witness {
    contents: BTreeMap<u64, Contents>,
    durable: u64,
    latest: u64,
}

fn open_log(disk: &Arc<dyn Disk>, folder: &str, checkpoint: &Checkpoint) -> Result<(RevLog, KeyIndex), DiskError> {
    let mut index = KeyIndex::new();
    let mut log = RevLog::open(disk.clone(), folder, CONFIG, &checkpoint.segments, &mut |entry| {
        let version = Version {
            main: entry.revision.main,
            sub: entry.revision.sub as u32,
            create_revision: entry.create_revision,
            version: entry.version,
            lease: entry.lease,
            location: entry.location,
        };
        index.append(entry.key, version);
    })?;
    index.prune(None, usize::MAX, checkpoint.compact_revision, &mut |location| log.mark_dead(location));
    Ok((log, index))
}

impl MiniStore {
    fn open(disk: &MemoryDisk) -> Result<Self, DiskError> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (home, checkpoint) = Home::open(disk.clone(), "data")?;
        let checkpoint = checkpoint.unwrap_or(Checkpoint { revision: 1, ..Checkpoint::default() });
        let (log, index) = open_log(&disk, &home.folder(), &checkpoint)?;
        let Checkpoint { revision, compact_revision, applied_index: applied, .. } = checkpoint;
        Ok(Self { disk, home, log, index, revision, compact_revision, applied })
    }

    fn contents(&self) -> Contents {
        let view = self.log.view();
        let mut contents = Vec::new();
        self.index.walk(&KeyRange::all(), &mut |key, versions| {
            let read = |version: &Version| {
                let record = view.read(version.location).expect("a live record can be read");
                assert_eq!(record.revision, Revision { main: version.main, sub: version.sub.into() });
                // Where a record lies may change; what it says may not.
                (Version { location: Location::default(), ..*version }, record.key_value)
            };
            contents.push((key.to_vec(), versions.iter().map(read).collect()));
            ControlFlow::Continue(())
        });
        contents
    }

    fn apply(&mut self, random: &mut SeededRandom) -> Result<(), DiskError> {
        self.revision += 1;
        self.applied += 1;
        for sub in 0..random.below(3) as u32 + 1 {
            let key = format!("key-{:02}", random.below(12));
            let newest = self.index.get(key.as_bytes()).last().copied().filter(|version| !version.is_deletion());
            let deletion = newest.is_some() && random.one_in(4);
            let (create_revision, version) = match newest {
                _ if deletion => (0, 0),
                Some(newest) => (newest.create_revision, newest.version + 1),
                None => (self.revision, 1),
            };
            let mut fields = KeyValue { key: key.clone().into(), create_revision, version, ..KeyValue::default() };
            if !deletion {
                fields.mod_revision = self.revision;
                fields.value = vec![random.next_u64() as u8; random.below(200) as usize].into();
            }
            let revision = Revision { main: self.revision, sub: sub.into() };
            let location = self.log.append(revision, deletion, &fields.encode_to_vec())?;
            let main = self.revision;
            let version = Version { main, sub, create_revision, version, lease: 0, location };
            self.index.append(key.as_bytes(), version);
        }
        Ok(())
    }

    fn checkpoint(&mut self, witness: &mut Witness) -> Result<Checkpoint, DiskError> {
        self.applied += 1;
        let segments = self.log.sync()?;
        let checkpoint = Checkpoint {
            applied_index: self.applied,
            revision: self.revision,
            compact_revision: self.compact_revision,
            segments,
            ..Checkpoint::default()
        };
        witness.contents.insert(self.applied, self.contents());
        witness.latest = self.applied;
        self.home.write_checkpoint(&checkpoint)?;
        witness.durable = self.applied;
        self.log.checkpointed()?;
        Ok(checkpoint)
    }

    fn compact(&mut self, random: &mut SeededRandom) {
        let span = (self.revision - self.compact_revision) as u64;
        self.compact_revision += random.below(span + 1) as i64;
        let log = &mut self.log;
        self.index.prune(None, usize::MAX, self.compact_revision, &mut |location| log.mark_dead(location));
    }

    fn rewrite(&mut self, bytes_max: usize) -> Result<bool, DiskError> {
        let index = RefCell::new(&mut self.index);
        self.log.rewrite_step(
            bytes_max,
            &mut |key, revision, location| {
                index.borrow().get(key).iter().any(|version| {
                    (version.main, i64::from(version.sub), version.location) == (revision.main, revision.sub, location)
                })
            },
            &mut |key, revision, from, to| {
                assert!(index.borrow_mut().relocate(key, revision.main, revision.sub as u32, from, to));
            },
        )
    }

    /// A snapshot of this store becomes its own next generation.
    fn promote(&mut self, witness: &mut Witness) -> Result<(), DiskError> {
        let checkpoint = self.checkpoint(witness)?;
        let mut source = SnapshotSource::new(&checkpoint, &self.log.view())?;
        let mut sink = self.home.receive()?;
        while let Some(piece) = source.next()? {
            sink.write(&piece)?;
        }
        let received = sink.finish()?;
        self.home.promote(received)?;
        (self.log, self.index) = open_log(&self.disk, &self.home.folder(), &checkpoint)?;
        Ok(())
    }

    fn step(&mut self, random: &mut SeededRandom, witness: &mut Witness) -> Result<(), DiskError> {
        match random.below(100) {
            0..50 => self.apply(random),
            50..65 => self.checkpoint(witness).map(drop),
            65..77 => {
                self.compact(random);
                Ok(())
            }
            77..97 => self.rewrite(random.below(1_500) as usize).map(drop),
            _ => self.promote(witness),
        }
    }
}

/// Runs the workload of a seed until it is done or the disk fails.
fn run(disk: &MemoryDisk, seed: u64, witness: &mut Witness) -> Result<(), DiskError> {
    let random = &mut SeededRandom::new(seed);
    let mut store = MiniStore::open(disk)?;
    for _ in 0..150 {
        store.step(random, witness)?;
    }
    Ok(())
}

/// Starts from what a crash left, compares, and goes on for a while.
fn check_recovered(disk: &MemoryDisk, witness: &Witness, label: &str) {
    let mut store = MiniStore::open(disk).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert!(store.applied == witness.durable || store.applied == witness.latest, "{label}: at {}", store.applied);
    let expected = witness.contents.get(&store.applied).cloned().unwrap_or_default();
    assert!(store.contents() == expected, "{label}: not the checkpoint's contents");
    let random = &mut SeededRandom::new(store.applied);
    let mut later = Witness::default();
    for _ in 0..15 {
        store.step(random, &mut later).unwrap_or_else(|error| panic!("{label}: {error}"));
    }
    while store.rewrite(1_000).unwrap() {}
    store.checkpoint(&mut later).unwrap();
    let expected = store.contents();
    disk.crash(random.next_u64());
    let store = MiniStore::open(disk).unwrap();
    assert_eq!(store.applied, later.durable, "{label}");
    assert!(store.contents() == expected, "{label}: not what was there before the second crash");
}

#[test]
fn a_crash_at_any_operation_leaves_the_latest_checkpoint() {
    for seed in 0..5 {
        let disk = MemoryDisk::new();
        let mut witness = Witness::default();
        run(&disk, seed, &mut witness).unwrap();
        assert!(witness.contents.len() > 10, "seed {seed} writes enough checkpoints");
        let operations = disk.operations();
        for operation in 0..operations {
            let disk = MemoryDisk::new();
            let mut witness = Witness::default();
            disk.halt_after(operation);
            run(&disk, seed, &mut witness).expect_err("the power is gone");
            for crash in 0..3 {
                let crashed = disk.fork();
                crashed.crash(seed << 32 | operation << 8 | crash);
                check_recovered(&crashed, &witness, &format!("seed {seed}, operation {operation}, crash {crash}"));
            }
        }
    }
}

#[test]
fn rewriting_and_compaction_change_no_contents() {
    for seed in 0..20 {
        println!("seed {seed}");
        let random = &mut SeededRandom::new(seed);
        let mut store = MiniStore::open(&MemoryDisk::new()).unwrap();
        for _ in 0..300 {
            store.apply(random).unwrap();
            if random.one_in(10) {
                store.compact(random);
            }
            let before = store.contents();
            store.rewrite(random.below(2_000) as usize).unwrap();
            assert!(store.contents() == before);
        }
    }
}
