//! The disk as everything in `store` and `node` sees it: named files below one root folder.
//!
//! `server` implements it over the real file system, `sim` over a disk in memory that loses what was not synced, tears
//! writes and fails on demand. Paths are relative, with `/`, for example `data/00000001/0000000000000001.seg`.
//!
//! What we assume of a disk, and what the simulator takes away where it is not promised:
//! - bytes are durable once `sync` of their file returned, and a file's name once `sync_dir` of its folder returned;
//! - before that, any subset of the sectors written since the last sync may be there after a crash;
//! - `rename` replaces its target atomically;
//! - a failed sync says nothing about what is on the disk: the caller must stop (it may not try again).

use std::io;
use std::sync::Arc;

/// A folder tree. Cheap to share; every method may be called from any thread.
pub trait Disk: Send + Sync {
    /// Creates a file, or empties the one that is there.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that exists, for reading and writing. `NotFound` otherwise.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// File names (not paths, not folders) in a folder, sorted. An absent folder is empty.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Names of the folders in a folder, sorted. An absent folder is empty.
    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Creates a folder and those above it; it may exist already. Durable when it returns.
    fn create_folder(&self, folder: &str) -> io::Result<()>;
    /// Renames a file, replacing `to`. Durable after `sync_dir` of the folder(s).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Files that are open stay readable through their handle.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes a folder with everything in it; an absent one is no error.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, folder: &str) -> io::Result<()>;
}

/// An open file. Positional, so that readers never disturb a writer.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data` at `offset`, growing the file where needed.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written so far durable (data and length).
    fn sync(&self) -> io::Result<()>;
    /// Cuts or grows (with zeros) the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// The file's length, bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads exactly `length` bytes at `offset`; `UnexpectedEof` when the file ends before.
pub fn read_exact_at(file: &dyn DiskFile, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; length];
    let mut done = 0;
    while done < length {
        match file.read_at(&mut buffer[done..], offset + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(buffer)
}
