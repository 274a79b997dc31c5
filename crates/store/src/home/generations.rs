//! Generations: whole states of the store, each in a folder, one of them current.
//!
//! Owns the names below the root and when each may go. Does not own what a checkpoint means. Invariant: `CURRENT` names
//! a folder that is durable; every generation but the first has had a checkpoint from its beginning.

use super::framed::{self, Kind};
use super::snapshot::{Received, SnapshotSink};
use crate::disk::Disk;
use crate::error::DiskError;
use prost::Message;
use quorate_proto::quoratepb::Checkpoint;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CURRENT: &str = "CURRENT";
const CURRENT_KIND: Kind = Kind { magic: *b"QCUR", version: 1 };
const CHECKPOINT: &str = "CHECKPOINT";
const CHECKPOINT_KIND: Kind = Kind { magic: *b"QCKP", version: 1 };
const FIRST_GENERATION: u64 = 1;

/// The store's folder: `CURRENT` names the generation in use, each generation is a folder with its segments and its
/// checkpoint. A snapshot from another member is written as a new generation and becomes current by one rename.
pub struct Home {
    disk: Arc<dyn Disk>,
    root: String,
    generation: u64,
    /// The next snapshot's generation. A number is used once, so that a sink that was given up disturbs no later one.
    next_generation: AtomicU64,
    has_failed: bool,
}

fn folder_name(generation: u64) -> String {
    format!("{generation:08}")
}

/// The generation of a folder name, if it is one.
fn generation_of(name: &str) -> Option<u64> {
    name.parse().ok().filter(|&generation| folder_name(generation) == name)
}

/// Writes the checkpoint of a generation.
pub(super) fn replace_checkpoint(disk: &dyn Disk, folder: &str, checkpoint: &Checkpoint) -> Result<(), DiskError> {
    framed::replace(disk, folder, CHECKPOINT, CHECKPOINT_KIND, &checkpoint.encode_to_vec())
}

fn read_checkpoint(disk: &dyn Disk, folder: &str) -> Result<Option<Checkpoint>, DiskError> {
    let path = format!("{folder}/{CHECKPOINT}");
    let Some(body) = framed::read(disk, &path, CHECKPOINT_KIND)? else { return Ok(None) };
    match Checkpoint::decode(&body[..]) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) => Err(DiskError::corrupt(path, 0, format!("a body that is no checkpoint: {error}"))),
    }
}

impl Home {
    /// Opens the folder (creating it when absent), finds the current generation and its checkpoint, removes leftovers.
    ///
    /// No checkpoint means that none was ever written: the store is new.
    pub fn open(disk: Arc<dyn Disk>, root: &str) -> Result<(Self, Option<Checkpoint>), DiskError> {
        disk.create_folder(root).map_err(|error| DiskError::io(root, error))?;
        // Names that an end of the process alone left undurable must not go back once what they replaced is removed.
        disk.sync_dir(root).map_err(|error| DiskError::io(root, error))?;
        let current_path = format!("{root}/{CURRENT}");
        let generation = match framed::read(&*disk, &current_path, CURRENT_KIND)? {
            Some(body) => match <[u8; 8]>::try_from(&body[..]) {
                Ok(number) => u64::from_le_bytes(number),
                Err(_) => {
                    let what = format!("a body of {} bytes, expected 8", body.len());
                    return Err(DiskError::corrupt(current_path, 8, what));
                }
            },
            None => {
                begin(&*disk, root)?;
                FIRST_GENERATION
            }
        };
        let folders = disk.list_folders(root).map_err(|error| DiskError::io(root, error))?;
        let folder = format!("{root}/{}", folder_name(generation));
        if !folders.contains(&folder_name(generation)) {
            return Err(DiskError::corrupt(folder, 0, "CURRENT names this folder, and it is not there"));
        }
        disk.sync_dir(&folder).map_err(|error| DiskError::io(&folder, error))?;
        let checkpoint = read_checkpoint(&*disk, &folder)?;
        if checkpoint.is_none() && generation != FIRST_GENERATION {
            let what = "this generation came with a checkpoint, and it is not there";
            return Err(DiskError::corrupt(format!("{folder}/{CHECKPOINT}"), 0, what));
        }
        let home = Self {
            disk,
            root: root.to_string(),
            generation,
            next_generation: AtomicU64::new(generation + 1),
            has_failed: false,
        };
        home.remove_other_generations()?;
        home.remove_file(&format!("{root}/{}", framed::aside(CURRENT)))?;
        home.remove_file(&format!("{folder}/{}", framed::aside(CHECKPOINT)))?;
        Ok((home, checkpoint))
    }

    /// The folder of the current generation, where the revision log lives.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.root, folder_name(self.generation))
    }

    /// Writes a checkpoint aside, syncs it, renames it. The segments it names are synced already. Durable when it
    /// returns; after an error nothing more is written.
    pub fn write_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), DiskError> {
        self.guarded(|home| replace_checkpoint(&*home.disk, &home.folder(), checkpoint))
    }

    /// Begins to receive a snapshot as a new generation; one at a time, an older unfinished one is removed.
    pub fn receive(&self) -> Result<SnapshotSink, DiskError> {
        self.remove_other_generations()?;
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        let folder = format!("{}/{}", self.root, folder_name(generation));
        self.disk.create_folder(&folder).map_err(|error| DiskError::io(&folder, error))?;
        Ok(SnapshotSink::new(self.disk.clone(), folder))
    }

    /// Makes a received generation the current one; the old one's files are removed. Durable when it returns.
    ///
    /// A generation that a later `receive` removed is refused, and nothing changes.
    pub fn promote(&mut self, received: Received) -> Result<(), DiskError> {
        let refused = |what: &str| DiskError::corrupt(&received.folder, 0, what);
        let name = received.folder.strip_prefix(&self.root).and_then(|rest| rest.strip_prefix('/'));
        let Some(generation) = name.and_then(generation_of).filter(|&generation| generation > self.generation) else {
            return Err(refused("a folder that is no newer generation of this store"));
        };
        if read_checkpoint(&*self.disk, &received.folder)?.as_ref() != Some(&received.checkpoint) {
            return Err(refused("a received generation without its checkpoint"));
        }
        self.guarded(|home| {
            let body = generation.to_le_bytes();
            framed::replace(&*home.disk, &home.root, CURRENT, CURRENT_KIND, &body)?;
            home.generation = generation;
            home.remove_other_generations()
        })
    }

    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, DiskError>) -> Result<T, DiskError> {
        if self.has_failed {
            let source = io::Error::other("nothing more is written after the disk failed");
            return Err(DiskError::io(&self.root, source));
        }
        let outcome = act(self);
        self.has_failed = outcome.is_err();
        outcome
    }

    fn remove_other_generations(&self) -> Result<(), DiskError> {
        for name in self.disk.list_folders(&self.root).map_err(|error| DiskError::io(&self.root, error))? {
            if generation_of(&name).is_some_and(|generation| generation != self.generation) {
                let folder = format!("{}/{name}", self.root);
                self.disk.remove_folder(&folder).map_err(|error| DiskError::io(&folder, error))?;
            }
        }
        Ok(())
    }

    fn remove_file(&self, path: &str) -> Result<(), DiskError> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::io(path, error)),
            _ => Ok(()),
        }
    }
}

/// Makes the first generation. `CURRENT` exists from before the first checkpoint on, so a checkpoint without it means
/// that it was lost.
fn begin(disk: &dyn Disk, root: &str) -> Result<(), DiskError> {
    for name in disk.list_folders(root).map_err(|error| DiskError::io(root, error))? {
        let folder = format!("{root}/{name}");
        let files = disk.list(&folder).map_err(|error| DiskError::io(&folder, error))?;
        if generation_of(&name).is_some() && files.iter().any(|file| file == CHECKPOINT) {
            let what = format!("no file, though {folder} holds a checkpoint");
            return Err(DiskError::corrupt(format!("{root}/{CURRENT}"), 0, what));
        }
    }
    let folder = format!("{root}/{}", folder_name(FIRST_GENERATION));
    disk.create_folder(&folder).map_err(|error| DiskError::io(&folder, error))?;
    framed::replace(disk, root, CURRENT, CURRENT_KIND, &FIRST_GENERATION.to_le_bytes())
}
