//! A disk in memory for tests, of this crate and of others: it can lose what was not synced, and fail on demand.
//!
//! Owns files and folder entries in two states: as programs see them, and as a power cut may leave them. Owns no time
//! and no randomness: every choice follows from a seed. Invariant: what `sync` and `sync_dir` covered survives every
//! crash; of the rest any subset of 512-byte sectors and of folder entries may.

use crate::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Bytes that survive or vanish together.
pub const SECTOR_BYTES: usize = 512;

/// A small generator of pseudo-random numbers (splitmix64): the same seed gives the same numbers everywhere.
#[derive(Clone, Debug)]
pub struct SeededRandom {
    state: u64,
}

impl SeededRandom {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// True in one of `count` cases.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The disk. Clones share it; `fork` makes an independent copy.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

/// What happens at a counted operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// This operation fails and does nothing.
    FailOnce(u64),
    /// This operation is half done, and it and all later ones fail.
    Halt(u64),
}

#[derive(Clone, Default)]
struct State {
    /// Counts crashes: a handle from before one is stale.
    epoch: u64,
    operations: u64,
    fault: Fault,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    folders: BTreeSet<String>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names since the last `sync_dir` of their folder, oldest first.
    pending: Vec<NameChange>,
}

/// One atomic change of folder entries.
#[derive(Clone)]
struct NameChange {
    folder: String,
    removed: Option<String>,
    set: Option<(String, u64)>,
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync, each with the contents that it had in between.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    open_handles: u64,
}

/// How far an operation may go.
enum Permit {
    Proceed,
    /// It reaches the disk's cache, but its caller is told that it failed.
    ProceedAndFail,
}

fn power_off() -> io::Error {
    io::Error::other("the disk has no power")
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations that change the disk (creations, writes, cuts, syncs, renames, removals) were asked for.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Lets the operation after `count` more fail, without effect. Later ones work again.
    pub fn fail_after(&self, count: u64) {
        let mut state = self.state.lock();
        state.fault = Fault::FailOnce(state.operations + count);
    }

    /// Takes the power away at the operation after `count` more: that one may have reached the disk or not, and
    /// everything fails until `crash`.
    pub fn halt_after(&self, count: u64) {
        let mut state = self.state.lock();
        state.fault = Fault::Halt(state.operations + count);
    }

    /// A power cut: what was not synced is lost, except for a subset of sectors and names chosen by `seed`. Open handles
    /// become stale, and faults are forgotten.
    pub fn crash(&self, seed: u64) {
        let random = &mut SeededRandom::new(seed);
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.epoch += 1;
        state.fault = Fault::None;
        for change in std::mem::take(&mut state.pending) {
            if random.one_in(2) {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        for path in state.names.keys() {
            for (position, _) in path.match_indices('/') {
                state.folders.insert(path[..position].to_string());
            }
        }
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| named.contains(inode));
        for inode in state.inodes.values_mut() {
            inode.crash(random);
            inode.open_handles = 0;
        }
    }

    /// An independent copy of the disk as it is, unsynced bytes and power included. Handles stay with the original.
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().clone())) }
    }

    /// Paths of all files, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// A file's bytes.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.names.get(path).map(|inode| state.inodes[inode].current.clone())
    }

    /// Replaces a file's bytes behind the program's back, durably.
    ///
    /// Panics when there is no such file.
    pub fn overwrite(&self, path: &str, contents: &[u8]) {
        let mut state = self.state.lock();
        let inode = *state.names.get(path).unwrap_or_else(|| panic!("no file {path}"));
        let inode = state.inodes.entry(inode).or_default();
        inode.current = contents.to_vec();
        inode.durable = contents.to_vec();
        inode.dirty.clear();
    }

    /// Bytes of all files that have a name.
    pub fn total_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.names.values().map(|inode| state.inodes[inode].current.len() as u64).sum()
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        if let Some(removed) = self.removed {
            names.remove(&removed);
        }
        if let Some((name, inode)) = self.set {
            names.insert(name, inode);
        }
    }
}

impl Inode {
    /// Remembers the sectors of a range before it changes.
    fn touch(&mut self, offset: usize, length: usize) {
        if length == 0 {
            return;
        }
        for sector in offset / SECTOR_BYTES..=(offset + length - 1) / SECTOR_BYTES {
            match self.dirty.get_mut(&sector) {
                None => {
                    self.dirty.insert(sector, Vec::new());
                }
                Some(earlier) => {
                    let end = self.current.len().min((sector + 1) * SECTOR_BYTES);
                    earlier.push(self.current.get(sector * SECTOR_BYTES..end).unwrap_or_default().to_vec());
                }
            }
        }
    }

    fn write(&mut self, data: &[u8], offset: usize) {
        self.touch(offset, data.len());
        let end = offset + data.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(data);
    }

    fn set_len(&mut self, length: usize) {
        let (low, high) = (length.min(self.current.len()), length.max(self.current.len()));
        self.touch(low, high - low);
        self.current.resize(length, 0);
    }

    fn sync(&mut self) {
        let current = &self.current;
        for &sector in self.dirty.keys() {
            let start = sector * SECTOR_BYTES;
            let end = current.len().min(start + SECTOR_BYTES);
            if start < end {
                if self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                self.durable[start..end].copy_from_slice(&current[start..end]);
            }
        }
        self.durable.resize(current.len(), 0);
        self.dirty.clear();
    }

    fn crash(&mut self, random: &mut SeededRandom) {
        for (sector, mut versions) in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_BYTES;
            let end = self.current.len().min(start + SECTOR_BYTES);
            versions.push(self.current.get(start..end).unwrap_or_default().to_vec());
            let choice = random.below(versions.len() as u64 * 2) as usize;
            if let Some(kept) = versions.get(choice) {
                let kept_end = start + kept.len();
                if self.durable.len() < kept_end {
                    self.durable.resize(kept_end, 0);
                }
                self.durable[start..kept_end].copy_from_slice(kept);
            }
        }
        // The length is written on its own: it may be older or newer than the sectors.
        if random.one_in(3) {
            self.durable.resize(self.current.len(), 0);
        }
        self.current = self.durable.clone();
    }
}

impl State {
    /// Counts an operation that changes the disk, and says whether it may go on.
    fn permit(&mut self) -> io::Result<Permit> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Fault::FailOnce(at) if number == at => Err(io::Error::other("the disk failed on demand")),
            Fault::Halt(at) if number == at => Ok(Permit::ProceedAndFail),
            Fault::Halt(at) if number > at => Err(power_off()),
            _ => Ok(Permit::Proceed),
        }
    }

    fn require_power(&self) -> io::Result<()> {
        match self.fault {
            Fault::Halt(at) if self.operations > at => Err(power_off()),
            _ => Ok(()),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        self.pending.push(change.clone());
        change.apply(&mut self.names);
    }

    fn inode(&mut self, inode: u64, epoch: u64) -> io::Result<&mut Inode> {
        if epoch != self.epoch {
            return Err(io::Error::other("the handle is from before the crash"));
        }
        self.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn handle(&mut self, inode: u64, disk: &MemoryDisk) -> Arc<dyn DiskFile> {
        self.inodes.entry(inode).or_default().open_handles += 1;
        Arc::new(MemoryFile { state: disk.state.clone(), inode, epoch: self.epoch })
    }

    /// Forgets files that no name, no pending change and no handle leads to.
    fn collect(&mut self, inode: u64) {
        let is_reachable = self.inodes.get(&inode).is_none_or(|inode| inode.open_handles > 0)
            || self.names.values().chain(self.durable_names.values()).any(|&named| named == inode)
            || self.pending.iter().any(|change| change.set.as_ref().is_some_and(|(_, set)| *set == inode));
        if !is_reachable {
            self.inodes.remove(&inode);
        }
    }
}

/// Ends an operation whose effect is in the cache.
fn end(permit: Permit) -> io::Result<()> {
    match permit {
        Permit::Proceed => Ok(()),
        Permit::ProceedAndFail => Err(power_off()),
    }
}

/// Names directly below a folder.
fn children<'a>(paths: impl Iterator<Item = &'a String>, folder: &str) -> Vec<String> {
    paths
        .filter(|path| folder_of(path) == folder)
        .map(|path| path[path.rfind('/').map_or(0, |at| at + 1)..].to_string())
        .collect()
}

impl Disk for MemoryDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let permit = state.permit()?;
        if !folder_of(path).is_empty() && !state.folders.contains(folder_of(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = match state.names.get(path) {
            Some(&inode) => {
                state.inodes.entry(inode).or_default().set_len(0);
                inode
            }
            None => {
                let inode = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(inode, Inode::default());
                state.change_names(NameChange {
                    folder: folder_of(path).to_string(),
                    removed: None,
                    set: Some((path.to_string(), inode)),
                });
                inode
            }
        };
        end(permit)?;
        Ok(state.handle(inode, self))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.require_power()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.handle(inode, self))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.require_power()?;
        Ok(children(state.names.keys(), folder))
    }

    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.require_power()?;
        Ok(children(state.folders.iter(), folder))
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        end(state.permit()?)?;
        for (position, _) in folder.match_indices('/') {
            state.folders.insert(folder[..position].to_string());
        }
        state.folders.insert(folder.to_string());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let permit = state.permit()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_names(NameChange {
            folder: folder_of(to).to_string(),
            removed: Some(from.to_string()),
            set: Some((to.to_string(), inode)),
        });
        end(permit)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let permit = state.permit()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        state.change_names(NameChange {
            folder: folder_of(path).to_string(),
            removed: Some(path.to_string()),
            set: None,
        });
        state.collect(inode);
        end(permit)
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let permit = state.permit()?;
        let below = format!("{folder}/");
        let paths: Vec<String> = state.names.keys().filter(|path| path.starts_with(&below)).cloned().collect();
        for path in paths {
            let parent = folder_of(&path).to_string();
            state.change_names(NameChange { folder: parent, removed: Some(path), set: None });
        }
        state.folders.retain(|name| name != folder && !name.starts_with(&below));
        end(permit)
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        end(state.permit()?)?;
        let below = format!("{folder}/");
        for change in std::mem::take(&mut state.pending) {
            // The entries of a folder that was removed are durably gone once the folder above is synced.
            let is_removed = change.folder.starts_with(&below) && !state.folders.contains(&change.folder);
            if change.folder == folder || is_removed {
                change.apply(&mut state.durable_names);
            } else {
                state.pending.push(change);
            }
        }
        let inodes: Vec<u64> = state.inodes.keys().copied().collect();
        for inode in inodes {
            state.collect(inode);
        }
        Ok(())
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    epoch: u64,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Ok(inode) = state.inode(self.inode, self.epoch) {
            inode.open_handles = inode.open_handles.saturating_sub(1);
            state.collect(self.inode);
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.require_power()?;
        let contents = &state.inode(self.inode, self.epoch)?.current;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(contents.len());
        let count = buffer.len().min(contents.len() - start);
        buffer[..count].copy_from_slice(&contents[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let permit = state.permit()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        state.inode(self.inode, self.epoch)?.write(data, offset);
        end(permit)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        end(state.permit()?)?;
        state.inode(self.inode, self.epoch)?.sync();
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let permit = state.permit()?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        state.inode(self.inode, self.epoch)?.set_len(length);
        end(permit)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.require_power()?;
        Ok(state.inode(self.inode, self.epoch)?.current.len() as u64)
    }
}

#[cfg(test)]
mod tests;
