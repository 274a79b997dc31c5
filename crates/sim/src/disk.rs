//! A disk in memory that keeps only what it promised to keep.
//!
//! Owns the files of one member as the process sees them and as the platter holds them. A crash of the process leaves
//! the first, a loss of power falls back to the second, where every sector and every name that was not synced is kept or
//! lost by the seed. Decides nothing about when a crash or a failure happens: the simulation tells it.
//!
//! Invariant: `sync` of a file makes exactly its sectors durable, `sync_dir` exactly the names in that folder, and
//! nothing else does.

use crate::random::Random;
use quorate_store::disk::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// What is written whole or not at all, bytes.
pub const SECTOR_BYTES: usize = 512;
/// Contents that one unsynced sector may fall back to, at the most; the oldest is what was synced.
const SECTOR_VERSIONS_MAX: usize = 4;

/// A member's disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// How a process ended, as far as its disk is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process alone: the operating system still has every write.
    Nothing,
    /// Power: what was not synced is kept or lost, piece by piece.
    Unsynced,
}

/// Counts of what was done, for the trace and for aiming failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Operations that change something or make it durable.
    pub changes: u64,
    /// Reads.
    pub reads: u64,
    /// Syncs of files.
    pub syncs: u64,
}

struct State {
    random: Random,
    files: BTreeMap<u64, File>,
    next_file: u64,
    /// Names as the process sees them.
    names: BTreeMap<String, u64>,
    /// Names as they are after a loss of power that keeps nothing.
    durable_names: BTreeMap<String, u64>,
    /// Changes of names that were not synced, in order.
    pending: Vec<NameChange>,
    folders: BTreeSet<String>,
    /// Changes that still succeed before one fails and everything after it.
    changes_before_failure: Option<u64>,
    /// Reads that still succeed before one fails and everything after it.
    reads_before_failure: Option<u64>,
    failed: bool,
    /// Handles of earlier lives of the process are dead.
    life: u64,
    counts: DiskCounts,
}

#[derive(Clone, Debug)]
enum NameChange {
    Created { path: String, file: u64 },
    Renamed { from: String, to: String, file: u64 },
    Removed { path: String },
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    durable_length: usize,
    /// What each sector written since the last sync held before, oldest first.
    earlier: BTreeMap<usize, Vec<[u8; SECTOR_BYTES]>>,
}

impl File {
    fn sector(&self, number: usize) -> [u8; SECTOR_BYTES] {
        let mut sector = [0; SECTOR_BYTES];
        let start = (number * SECTOR_BYTES).min(self.bytes.len());
        let end = (start + SECTOR_BYTES).min(self.bytes.len());
        sector[..end - start].copy_from_slice(&self.bytes[start..end]);
        sector
    }

    fn remember(&mut self, start: usize, end: usize) {
        if start >= end {
            return;
        }
        for number in start / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let sector = self.sector(number);
            let versions = self.earlier.entry(number).or_default();
            if versions.len() == SECTOR_VERSIONS_MAX {
                versions.remove(1);
            }
            versions.push(sector);
        }
    }

    fn write(&mut self, data: &[u8], offset: usize) {
        let end = offset + data.len();
        self.remember(offset, end);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(data);
    }

    fn set_length(&mut self, length: usize) {
        self.remember(length, self.bytes.len());
        self.bytes.resize(length, 0);
    }

    fn sync(&mut self) {
        self.earlier.clear();
        self.durable_length = self.bytes.len();
    }

    fn lose_power(&mut self, random: &mut Random) {
        if self.earlier.is_empty() && self.durable_length == self.bytes.len() {
            return;
        }
        // One crash in four keeps all, one none: the extremes are where most mistakes show.
        let keep_permille = *random.pick(&[0, 300, 700, 1000]);
        let (durable_length, length) = (self.durable_length, self.bytes.len());
        let length_kept = match random.below(3) {
            0 => durable_length,
            1 => length,
            _ => random.range(durable_length.min(length) as u64..durable_length.max(length) as u64 + 1) as usize,
        };
        self.bytes.resize(length.max(length_kept), 0);
        for (number, versions) in std::mem::take(&mut self.earlier) {
            if random.permille(keep_permille) {
                continue;
            }
            // Mostly what was synced; sometimes a state in between that reached the platter.
            let version = if random.below(4) == 0 { random.below(versions.len() as u64) as usize } else { 0 };
            let start = number * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.bytes.len());
            if start < end {
                self.bytes[start..end].copy_from_slice(&versions[version][..end - start]);
            }
        }
        self.bytes.resize(length_kept, 0);
        self.durable_length = length_kept;
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn file_name_in<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
    (!rest.contains('/')).then_some(rest)
}

impl State {
    /// Counts a change; the error when it is the one to fail, or any after it.
    fn change(&mut self) -> io::Result<()> {
        self.counts.changes += 1;
        if self.failed {
            return Err(io::Error::other("the disk failed before"));
        }
        match &mut self.changes_before_failure {
            Some(0) => {
                self.failed = true;
                Err(io::Error::other("simulated failure of the disk"))
            }
            Some(rest) => {
                *rest -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        self.counts.reads += 1;
        if self.failed {
            return Err(io::Error::other("the disk failed before"));
        }
        match &mut self.reads_before_failure {
            Some(0) => {
                self.failed = true;
                Err(io::Error::other("simulated failure of the disk while reading"))
            }
            Some(rest) => {
                *rest -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn lose_power(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        // A journal keeps a first part of the changes; without one any of them may be lost.
        let in_order = self.random.coin();
        let kept_first = self.random.below(pending.len() as u64 + 1) as usize;
        for (number, change) in pending.into_iter().enumerate() {
            let kept = if in_order { number < kept_first } else { self.random.coin() };
            if !kept {
                continue;
            }
            match change {
                NameChange::Created { path, file } => {
                    self.durable_names.insert(path, file);
                }
                NameChange::Renamed { from, to, file } => {
                    if self.durable_names.get(&from) == Some(&file) {
                        self.durable_names.remove(&from);
                    }
                    self.durable_names.insert(to, file);
                }
                NameChange::Removed { path } => {
                    self.durable_names.remove(&path);
                }
            }
        }
        self.names = self.durable_names.clone();
        for path in self.names.keys() {
            let mut folder = folder_of(path);
            while !folder.is_empty() && self.folders.insert(folder.to_owned()) {
                folder = folder_of(folder);
            }
        }
        for file in self.files.values_mut() {
            file.lose_power(&mut self.random);
        }
    }
}

impl SimDisk {
    /// An empty disk; `random` decides what a loss of power keeps.
    pub fn new(random: Random) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                random,
                files: BTreeMap::new(),
                next_file: 1,
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                pending: Vec::new(),
                folders: BTreeSet::new(),
                changes_before_failure: None,
                reads_before_failure: None,
                failed: false,
                life: 0,
                counts: DiskCounts::default(),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a run has one thread, and a panic ends it")
    }

    /// What the process of this life opens its files through.
    pub fn handle(&self) -> Arc<dyn Disk> {
        let life = self.state().life;
        Arc::new(Handle { disk: self.clone(), life })
    }

    /// The process ended: its handles are dead, planned failures are over, and what it lost is lost.
    pub fn end_life(&self, loss: Loss) {
        let mut state = self.state();
        state.life += 1;
        state.failed = false;
        state.changes_before_failure = None;
        state.reads_before_failure = None;
        if loss == Loss::Unsynced {
            state.lose_power();
        }
        let State { files, names, durable_names, pending, .. } = &mut *state;
        let mut named: BTreeSet<u64> = names.values().chain(durable_names.values()).copied().collect();
        named.extend(pending.iter().filter_map(|change| match change {
            NameChange::Created { file, .. } | NameChange::Renamed { file, .. } => Some(*file),
            NameChange::Removed { .. } => None,
        }));
        files.retain(|file, _| named.contains(file));
    }

    /// After this many further changes one fails in the middle, and everything after it fails too.
    pub fn fail_after_changes(&self, changes: u64) {
        self.state().changes_before_failure = Some(changes);
    }

    /// After this many further reads one fails, and everything after it fails too.
    pub fn fail_after_reads(&self, reads: u64) {
        self.state().reads_before_failure = Some(reads);
    }

    /// No failure is planned any more; one that happened stays until the life ends.
    pub fn cancel_failures(&self) {
        let mut state = self.state();
        state.changes_before_failure = None;
        state.reads_before_failure = None;
    }

    /// Whether a planned failure struck in this life.
    pub fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Counts so far.
    pub fn counts(&self) -> DiskCounts {
        self.state().counts
    }

    /// Paths of all files, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// A file's bytes as the process would read them.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.files[state.names.get(path)?].bytes.clone())
    }

    /// Turns one bit of a file over, on the platter.
    pub fn flip_bit(&self, path: &str, byte: usize, bit: u8) {
        let mut state = self.state();
        let file = state.names[path];
        let file = state.files.get_mut(&file).expect("a name's file exists");
        file.bytes[byte] ^= 1 << bit;
    }
}

struct Handle {
    disk: SimDisk,
    life: u64,
}

struct FileHandle {
    disk: SimDisk,
    file: u64,
    life: u64,
}

fn alive(state: &State, life: u64) -> io::Result<()> {
    if state.life == life { Ok(()) } else { Err(io::Error::other("a handle of a process that ended")) }
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        alive(&state, self.life)?;
        Ok(state)
    }

    fn file(&self, file: u64) -> Arc<dyn DiskFile> {
        Arc::new(FileHandle { disk: self.disk.clone(), file, life: self.life })
    }
}

impl Disk for Handle {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state()?;
        state.change()?;
        let folder = folder_of(path);
        if !folder.is_empty() && !state.folders.contains(folder) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no folder for {path}")));
        }
        let file = match state.names.get(path).copied() {
            Some(file) => {
                state.files.get_mut(&file).expect("a name's file exists").set_length(0);
                file
            }
            None => {
                let file = state.next_file;
                state.next_file += 1;
                state.files.insert(file, File::default());
                state.names.insert(path.to_owned(), file);
                state.pending.push(NameChange::Created { path: path.to_owned(), file });
                file
            }
        };
        Ok(self.file(file))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state()?;
        state.read()?;
        match state.names.get(path) {
            Some(file) => Ok(self.file(*file)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {path}"))),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut state = self.state()?;
        state.read()?;
        Ok(state.names.keys().filter_map(|path| file_name_in(path, folder)).map(str::to_owned).collect())
    }

    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut state = self.state()?;
        state.read()?;
        Ok(state.folders.iter().filter_map(|path| file_name_in(path, folder)).map(str::to_owned).collect())
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let mut folder = folder;
        while !folder.is_empty() && state.folders.insert(folder.to_owned()) {
            folder = folder_of(folder);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let Some(file) = state.names.remove(from) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {from}")));
        };
        state.names.insert(to.to_owned(), file);
        state.pending.push(NameChange::Renamed { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        if state.names.remove(path).is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {path}")));
        }
        state.pending.push(NameChange::Removed { path: path.to_owned() });
        Ok(())
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let below = format!("{folder}/");
        let paths: Vec<String> = state.names.keys().filter(|path| path.starts_with(&below)).cloned().collect();
        for path in paths {
            state.names.remove(&path);
            state.pending.push(NameChange::Removed { path });
        }
        state.folders.retain(|path| path != folder && !path.starts_with(&below));
        Ok(())
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let State { pending, durable_names, .. } = &mut *state;
        let here = |path: &str| folder_of(path) == folder;
        pending.retain(|change| match change {
            NameChange::Created { path, file } if here(path) => {
                durable_names.insert(path.clone(), *file);
                false
            }
            NameChange::Removed { path } if here(path) => {
                durable_names.remove(path);
                false
            }
            // A rename is one step on the platter too: either folder's sync brings the whole of it.
            NameChange::Renamed { from, to, file } if here(from) || here(to) => {
                if durable_names.get(from) == Some(file) {
                    durable_names.remove(from);
                }
                durable_names.insert(to.clone(), *file);
                false
            }
            _ => true,
        });
        Ok(())
    }
}

impl FileHandle {
    fn with<T>(&self, work: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        alive(&state, self.life)?;
        work(&mut state, self.file)
    }
}

fn file_of(state: &mut State, file: u64) -> &mut File {
    state.files.get_mut(&file).expect("a file outlives the handles of its life")
}

impl DiskFile for FileHandle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, file| {
            state.read()?;
            let bytes = &file_of(state, file).bytes;
            let start = (offset as usize).min(bytes.len());
            let count = buffer.len().min(bytes.len() - start);
            buffer[..count].copy_from_slice(&bytes[start..start + count]);
            Ok(count)
        })
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state, file| {
            if let Err(error) = state.change() {
                // The write that fails got as far as some byte.
                if !data.is_empty() {
                    let written = state.random.below(data.len() as u64) as usize;
                    file_of(state, file).write(&data[..written], offset as usize);
                }
                return Err(error);
            }
            file_of(state, file).write(data, offset as usize);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, file| {
            state.change()?;
            state.counts.syncs += 1;
            file_of(state, file).sync();
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|state, file| {
            state.change()?;
            file_of(state, file).set_length(length as usize);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state, file| Ok(file_of(state, file).bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests;
