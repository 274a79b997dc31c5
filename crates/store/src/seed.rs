//! A new store made of history from elsewhere: a backup, another program's data.
//!
//! Owns the order: records first, then the checkpoint that makes them a store. Does not own where the history comes
//! from. Invariant: before `finish` returned, the folder is no store with data, and making it again starts anew.

use crate::disk::Disk;
use crate::error::DiskError;
use crate::home::Home;
use crate::revision::Revision;
use crate::revlog::{RevLog, RevLogConfig};
use crate::store::FIRST_REVISION;
use prost::Message;
use quorate_proto::mvccpb::KeyValue;
use quorate_proto::quoratepb::Checkpoint;
use std::sync::Arc;

/// What errors name instead of a file.
const HISTORY: &str = "history";

/// Takes records in revision order, and makes a store of them.
pub struct StoreSeed {
    home: Home,
    log: RevLog,
    digest: u64,
}

impl StoreSeed {
    /// Begins a store below `root`. What an earlier seed that was not finished left there is removed; a store is refused.
    pub fn begin(disk: Arc<dyn Disk>, root: &str, config: RevLogConfig) -> Result<Self, DiskError> {
        let (home, checkpoint) = Home::open(disk.clone(), root)?;
        if checkpoint.is_some() {
            let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "there is a store already");
            return Err(DiskError::io(root, source));
        }
        let log = RevLog::open(disk, &home.folder(), config, &[], &mut |_| {})?;
        Ok(Self { home, log, digest: 0 })
    }

    /// Takes the next record: an encoded `mvccpb.KeyValue`, of a deletion the key only.
    ///
    /// Refuses one that is not in revision order, or whose key-value is none of this revision.
    pub fn append(&mut self, revision: Revision, deletion: bool, key_value: &[u8]) -> Result<(), DiskError> {
        let Revision { main, sub } = revision;
        let refused = |what: &str| Err(DiskError::corrupt(HISTORY, 0, format!("revision {main}.{sub}: {what}")));
        if revision <= self.log.last_revision() || main <= 0 || u32::try_from(sub).is_err() {
            return refused("not in order");
        }
        let fields = match KeyValue::decode(key_value) {
            Ok(fields) if fields.key.is_empty() => return refused("a record without a key"),
            Ok(fields) => fields,
            Err(_) => return refused("no key-value"),
        };
        let is_sound = deletion
            || (fields.mod_revision == main
                && fields.version > 0
                && fields.create_revision > 0
                && fields.create_revision <= main);
        if !is_sound {
            return refused("a key-value of another revision");
        }
        // Readers take the key from the front, where every etcd writes it; anything else is written anew.
        let canonical = fields.encode_to_vec();
        self.log.append(revision, deletion, if key_value.first() == Some(&0x0a) { key_value } else { &canonical })?;
        let sum = u64::from(crc32c::crc32c_append(crc32c::crc32c(&main.to_le_bytes()), key_value));
        self.digest = (self.digest.rotate_left(5) ^ sum).wrapping_mul(0x517c_c1b7_2722_0a95);
        Ok(())
    }

    /// The newest revision taken; 0.0 when there is none.
    pub fn last_revision(&self) -> Revision {
        self.log.last_revision()
    }

    /// Makes it a store: `checkpoint` says everything beside the records. Durable when it returns.
    pub fn finish(mut self, checkpoint: Checkpoint) -> Result<Checkpoint, DiskError> {
        let checkpoint = Checkpoint {
            segments: self.log.sync()?,
            revision: checkpoint.revision.max(self.log.last_revision().main).max(FIRST_REVISION),
            live_bytes: self.log.live_bytes(),
            digest: self.digest,
            ..checkpoint
        };
        self.home.write_checkpoint(&checkpoint)?;
        self.log.checkpointed()?;
        Ok(checkpoint)
    }
}

/// Changes what a store that nobody has open says of itself, durably. `root` as it is given to [`crate::store::Store`].
pub fn amend(disk: Arc<dyn Disk>, root: &str, change: impl FnOnce(&mut Checkpoint)) -> Result<Checkpoint, DiskError> {
    let (mut home, checkpoint) = Home::open(disk, root)?;
    let Some(mut checkpoint) = checkpoint else {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no store");
        return Err(DiskError::io(root, source));
    };
    change(&mut checkpoint);
    home.write_checkpoint(&checkpoint)?;
    Ok(checkpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_disk::MemoryDisk;
    use crate::store::{Bootstrap, Store, StoreConfig};

    const CONFIG: RevLogConfig = RevLogConfig { segment_bytes: 900, buffer_bytes: 100 };

    fn key_value(key: &str, main: i64, version: i64) -> Vec<u8> {
        let create_revision = main + 1 - version;
        let (key, value) = (key.to_owned().into(), vec![main as u8; 20].into());
        KeyValue { key, create_revision, mod_revision: main, version, value, lease: 0 }.encode_to_vec()
    }

    fn at(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    fn opened(disk: &MemoryDisk) -> Store {
        let config = StoreConfig { revlog: CONFIG };
        Store::open(Arc::new(disk.clone()), "store", config, Bootstrap::default()).expect("a store")
    }

    #[test]
    fn a_seed_becomes_the_store_that_its_history_says() {
        let disk = MemoryDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut seed = StoreSeed::begin(shared.clone(), "store", CONFIG).expect("begun");
        for main in 2..40 {
            seed.append(at(main), false, &key_value("k", main, main - 1)).expect("in order");
        }
        let gone = KeyValue { key: "k".into(), ..KeyValue::default() }.encode_to_vec();
        seed.append(at(40), true, &gone).expect("a deletion");
        for (main, deletion, wrong) in [
            (40, false, key_value("k", 40, 1)),
            (41, false, key_value("k", 42, 1)),
            (41, false, Vec::new()),
            (41, true, Vec::new()),
            (41, false, vec![0xff]),
        ] {
            assert!(seed.append(at(main), deletion, &wrong).is_err(), "{main} {wrong:?}");
        }
        seed.append(at(41), false, &key_value("z", 41, 1)).expect("going on");
        let checkpoint = Checkpoint { applied_index: 7, applied_term: 2, compact_revision: 5, ..Checkpoint::default() };
        seed.finish(checkpoint).expect("finished");
        let store = opened(&disk);
        let stats = store.reader().stats();
        assert_eq!((stats.revision, stats.compact_revision, stats.keys, stats.applied_index), (41, 5, 1, 7));
        drop(store);
        assert!(StoreSeed::begin(shared.clone(), "store", CONFIG).is_err(), "there is a store");
        amend(shared, "store", |checkpoint| checkpoint.revision = 100).expect("amended");
        assert_eq!(opened(&disk).reader().revision(), 100);
    }

    #[test]
    fn a_seed_that_was_not_finished_is_begun_anew() {
        let disk = MemoryDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut seed = StoreSeed::begin(shared.clone(), "store", CONFIG).expect("begun");
        for main in 2..80 {
            seed.append(at(main), false, &key_value("k", main, 1)).expect("in order");
        }
        drop(seed);
        let mut seed = StoreSeed::begin(shared, "store", CONFIG).expect("begun again");
        seed.append(at(2), false, &key_value("only", 2, 1)).expect("in order");
        seed.finish(Checkpoint { compact_revision: -1, ..Checkpoint::default() }).expect("finished");
        let stats = opened(&disk).reader().stats();
        assert_eq!((stats.revision, stats.keys), (2, 1));
    }
}
