//! The disk of the real world: files below one root folder of the operating system.
//!
//! Owns nothing but the root's path. The invariant: what `sync`, `sync_dir` and `create_folder` answer with success is
//! on the disk, unless the user gave that up with `--unsafe-no-fsync`.

use quorate_store::disk::{Disk, DiskFile};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Mode of every folder that holds data.
const FOLDER_MODE: u32 = 0o700;
/// Mode of every file that holds data.
const FILE_MODE: u32 = 0o600;

/// Whether syncs reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They do.
    Synced,
    /// They are left out (`--unsafe-no-fsync`).
    Unsynced,
}

/// Is told how long writes and syncs take.
pub trait DiskTimer: Send + Sync + std::fmt::Debug {
    /// A write took so long.
    fn wrote(&self, took: Duration);
    /// A sync took so long.
    fn synced(&self, took: Duration);
}

/// A root folder.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    durability: Durability,
    times: Option<Arc<dyn DiskTimer>>,
}

impl RealDisk {
    /// A disk below `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>, durability: Durability) -> Self {
        Self { root: root.into(), durability, times: None }
    }

    /// The same disk, its files' writes and syncs timed.
    pub fn timed(self, times: Arc<dyn DiskTimer>) -> Self {
        Self { times: Some(times), ..self }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        match self.durability {
            Durability::Synced => File::open(folder)?.sync_all(),
            Durability::Unsynced => Ok(()),
        }
    }

    fn names(&self, folder: &str, wanted: impl Fn(fs::FileType) -> bool) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if wanted(entry.file_type()?) {
                // A name that is no text is not one of ours.
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort();
        Ok(names)
    }

    fn opened(&self, file: File) -> Arc<dyn DiskFile> {
        Arc::new(RealFile { file, durability: self.durability, times: self.times.clone() })
    }
}

/// Creates a folder and those above it with the mode of data folders, each durable in its parent.
pub fn create_folder_durably(folder: &Path, durability: Durability) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    create_folder_durably(parent, durability)?;
    match fs::DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if durability == Durability::Synced {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Disk for RealDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
        Ok(self.opened(options.open(self.path(path))?))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.opened(OpenOptions::new().read(true).write(true).open(self.path(path))?))
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.names(folder, |kind| kind.is_file())
    }
    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>> {
        self.names(folder, |kind| kind.is_dir())
    }
    fn create_folder(&self, folder: &str) -> io::Result<()> {
        create_folder_durably(&self.path(folder), self.durability)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }
    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.path(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        self.sync_folder(&self.path(folder))
    }
}

struct RealFile {
    file: File,
    durability: Durability,
    times: Option<Arc<dyn DiskTimer>>,
}

impl RealFile {
    fn time<T>(&self, tell: impl Fn(&dyn DiskTimer, Duration), work: impl FnOnce() -> T) -> T {
        let Some(times) = &self.times else { return work() };
        let started = Instant::now();
        let done = work();
        tell(&**times, started.elapsed());
        done
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.time(|times, took| times.wrote(took), || self.file.write_all_at(data, offset))
    }
    fn sync(&self) -> io::Result<()> {
        match self.durability {
            Durability::Synced => self.time(|times, took| times.synced(took), || self.file.sync_data()),
            Durability::Unsynced => Ok(()),
        }
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("quorate-disk-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_read_and_written_by_position() {
        let folder = Folder::new("position");
        let disk = RealDisk::new(&folder.0, Durability::Synced);
        disk.create_folder("a/b").expect("folder");
        let file = disk.create("a/b/f").expect("file");
        assert!(file.is_empty().expect("length"));
        file.write_at(b"world", 6).expect("write");
        file.write_at(b"hello ", 0).expect("write");
        file.sync().expect("sync");
        let mut buffer = [0; 32];
        assert_eq!(file.read_at(&mut buffer, 0).expect("read"), 11);
        assert_eq!(&buffer[..11], b"hello world");
        assert_eq!(file.read_at(&mut buffer, 11).expect("read"), 0);
        file.set_len(5).expect("cut");
        assert_eq!(disk.open("a/b/f").expect("open").len().expect("length"), 5);
        assert_eq!(disk.create("a/b/f").expect("create again").len().expect("length"), 0);
    }

    #[test]
    fn folders_list_sorted_and_absent_ones_are_empty() {
        let folder = Folder::new("list");
        let disk = RealDisk::new(&folder.0, Durability::Unsynced);
        assert!(disk.list("x").expect("list").is_empty());
        assert!(disk.list_folders("x").expect("list").is_empty());
        for path in ["x/2", "x/1", "x/10"] {
            disk.create_folder(path).expect("folder");
            disk.create(&format!("{path}.seg")).expect("file");
        }
        assert_eq!(disk.list("x").expect("list"), ["1.seg", "10.seg", "2.seg"]);
        assert_eq!(disk.list_folders("x").expect("list"), ["1", "10", "2"]);
        disk.rename("x/1.seg", "x/2.seg").expect("rename");
        disk.remove("x/10.seg").expect("remove");
        disk.sync_dir("x").expect("sync");
        assert_eq!(disk.list("x").expect("list"), ["2.seg"]);
        disk.remove_folder("x").expect("remove");
        disk.remove_folder("x").expect("removing what is absent is no error");
        assert_eq!(disk.open("x/2.seg").err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    }

    #[derive(Debug, Default)]
    struct Counts {
        writes: AtomicU64,
        syncs: AtomicU64,
    }

    impl DiskTimer for Counts {
        fn wrote(&self, _took: Duration) {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        fn synced(&self, _took: Duration) {
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn writes_and_syncs_are_timed_when_asked_for() {
        let folder = Folder::new("times");
        let times = Arc::new(Counts::default());
        let disk = RealDisk::new(&folder.0, Durability::Synced).timed(times.clone());
        disk.create_folder("a").expect("folder");
        let file = disk.create("a/f").expect("file");
        file.write_at(b"x", 0).expect("write");
        file.write_at(b"y", 1).expect("write");
        file.sync().expect("sync");
        assert_eq!((times.writes.load(Ordering::Relaxed), times.syncs.load(Ordering::Relaxed)), (2, 1));
    }

    #[test]
    fn data_is_for_its_owner_only() {
        let folder = Folder::new("mode");
        let disk = RealDisk::new(&folder.0, Durability::Synced);
        disk.create_folder("member").expect("folder");
        disk.create("member/f").expect("file");
        let mode = |path: &str| fs::metadata(folder.0.join(path)).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode("member"), 0o700);
        assert_eq!(mode("member/f"), 0o600);
    }
}
