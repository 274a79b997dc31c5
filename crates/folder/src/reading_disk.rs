//! A disk that is read and never changed: what offline tools see of a folder that must stay as it is.
//!
//! Opening a store or a log tidies up: it cuts tails, removes leftovers, syncs. All that is passed over here, and those
//! who open see the files as they are. Creating a file is refused, so nothing can be built on it.

use crate::disk::RealDisk;
use quorate_store::disk::{Disk, DiskFile};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A root folder, for reading.
#[derive(Debug)]
pub struct ReadingDisk {
    root: PathBuf,
    listing: RealDisk,
}

impl ReadingDisk {
    /// What lies below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { listing: RealDisk::new(&root, crate::disk::Durability::Unsynced), root }
    }
}

impl Disk for ReadingDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{path} would be created: the folder is read only"),
        ))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(ReadingFile(File::open(self.root.join(path))?)))
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.listing.list(folder)
    }
    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>> {
        self.listing.list_folders(folder)
    }
    fn create_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A file, for reading.
pub struct ReadingFile(File);

impl ReadingFile {
    /// Opens a file anywhere.
    pub fn open(path: &std::path::Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Self(File::open(path)?)))
    }
}

impl DiskFile for ReadingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
    fn write_at(&self, _data: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
