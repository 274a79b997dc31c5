//! A log file that is set aside when it is full.
//!
//! Owns the files set aside: their names (`etcd-2026-11-21T17-20-13.123.log`, as etcd's), how many and how old they may
//! be, and their compression. The invariant: no line is split between two files, and none is lost when setting aside
//! fails; then the file goes on growing.

use crate::config::LogRotation;
use crate::logging::calendar::Moment;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Behind the name of a file that was compressed.
const COMPRESSED: &str = ".gz";
/// Mode of a log file: it names keys.
const FILE_MODE: u32 = 0o600;

/// Opens a log file to append to it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

/// The file and what is known of it.
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: LogRotation,
    file: File,
    /// How long it is.
    bytes: u64,
    /// Whether a thread looks after the files set aside. One that finds this set leaves it to the next.
    is_tidying: Arc<AtomicBool>,
}

impl RotatingFile {
    pub(super) fn open(path: PathBuf, rotation: LogRotation) -> io::Result<Self> {
        let file = open(&path)?;
        let bytes = file.metadata()?.len();
        let opened = Self { path, rotation, file, bytes, is_tidying: Arc::default() };
        opened.tidy_aside();
        Ok(opened)
    }

    /// Appends a line; before that the file is set aside if it would grow too long.
    pub(super) fn write(&mut self, line: &[u8], now: SystemTime) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.rotation.bytes_max && self.set_aside(now).is_ok() {
            self.tidy_aside();
        }
        self.file.write_all(line)?;
        self.bytes += length;
        Ok(())
    }

    fn set_aside(&mut self, now: SystemTime) -> io::Result<()> {
        let aside = name_aside(&self.path, now);
        fs::rename(&self.path, &aside)?;
        match open(&self.path) {
            Ok(file) => {
                (self.file, self.bytes) = (file, 0);
                Ok(())
            }
            Err(error) => {
                // The open file goes on under its old name, if it can have it back.
                let _ = fs::rename(&aside, &self.path);
                Err(error)
            }
        }
    }

    /// Removes and compresses on a thread of its own: whoever logs does not wait for it.
    fn tidy_aside(&self) {
        if self.is_tidying.swap(true, Ordering::AcqRel) {
            return;
        }
        let (path, rotation, is_tidying) = (self.path.clone(), self.rotation, self.is_tidying.clone());
        let run = move || {
            // What cannot be removed or compressed stays, and is tried again with the next file.
            let _ = tidy(&path, &rotation, SystemTime::now());
            is_tidying.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("log-files".to_owned()).spawn(run).is_err() {
            self.is_tidying.store(false, Ordering::Release);
        }
    }
}

/// What is in front of the time, and what is behind it.
fn parts(path: &Path) -> (String, String) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.rfind('.') {
        Some(dot) => (format!("{}-", &name[..dot]), name[dot..].to_owned()),
        None => (format!("{name}-"), String::new()),
    }
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn name_aside(path: &Path, now: SystemTime) -> PathBuf {
    let (before, after) = parts(path);
    folder(path).join(format!("{before}{}{after}", Moment::of(now).for_file_name()))
}

/// Files set aside, oldest first: their names sort by time.
fn aside(path: &Path) -> io::Result<Vec<String>> {
    let (before, after) = parts(path);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let plain = name.strip_suffix(COMPRESSED).unwrap_or(&name);
        let time = plain.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
        if time.is_some_and(Moment::is_for_file_name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes what is too old or too much, compresses the rest if that is wanted.
fn tidy(path: &Path, rotation: &LogRotation, now: SystemTime) -> io::Result<()> {
    let folder = folder(path);
    let mut names = aside(path)?;
    if rotation.files_max > 0 {
        for name in names.drain(..names.len().saturating_sub(rotation.files_max)) {
            fs::remove_file(folder.join(name))?;
        }
    }
    if rotation.days_max > 0 {
        let days = u32::try_from(rotation.days_max).unwrap_or(u32::MAX);
        let oldest = DAY.checked_mul(days).and_then(|age| now.checked_sub(age)).unwrap_or(SystemTime::UNIX_EPOCH);
        let (before, _) = parts(path);
        let oldest = format!("{before}{}", Moment::of(oldest).for_file_name());
        let too_old = names.partition_point(|name| name.as_str() < oldest.as_str());
        for name in names.drain(..too_old) {
            fs::remove_file(folder.join(name))?;
        }
    }
    if rotation.compress {
        for name in names.iter().filter(|name| !name.ends_with(COMPRESSED)) {
            compress(&folder.join(name))?;
        }
    }
    Ok(())
}

fn compress(path: &Path) -> io::Result<()> {
    let mut plain = File::open(path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(COMPRESSED);
    let packed = PathBuf::from(name);
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(FILE_MODE).open(&packed)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    let written = io::copy(&mut plain, &mut encoder).and_then(|_| encoder.finish());
    match written {
        Ok(_) => fs::remove_file(path),
        Err(error) => {
            let _ = fs::remove_file(&packed);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;
    use std::time::UNIX_EPOCH;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("quorate-rotation-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).expect("folder");
            Self(folder)
        }
        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .expect("folder")
                .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const ROTATION: LogRotation = LogRotation { bytes_max: 10, days_max: 0, files_max: 0, compress: false };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_271_401 + seconds)
    }

    #[test]
    fn a_full_file_is_set_aside_with_whole_lines() {
        let folder = Folder::new("aside");
        let path = folder.0.join("etcd.log");
        let mut file = RotatingFile::open(path.clone(), ROTATION).expect("open");
        for (line, second) in [("one\n", 0), ("two\n", 1), ("three\n", 2), ("longer than all\n", 3)] {
            file.write(line.as_bytes(), at(second)).expect("write");
        }
        assert_eq!(
            folder.names(),
            ["etcd-2026-11-21T14-30-03.000.log", "etcd-2026-11-21T14-30-04.000.log", "etcd.log"]
        );
        assert_eq!(fs::read_to_string(folder.0.join("etcd-2026-11-21T14-30-03.000.log")).expect("text"), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).expect("text"), "longer than all\n");
        let mut again = RotatingFile::open(path.clone(), ROTATION).expect("open");
        assert_eq!(again.bytes, 16, "a file that exists counts");
        again.write(b"x\n", at(4)).expect("write");
        assert_eq!(fs::read_to_string(&path).expect("text"), "x\n");
    }

    #[test]
    fn what_is_too_much_or_too_old_goes() {
        let folder = Folder::new("tidy");
        let path = folder.0.join("etcd.log");
        for seconds in [0, 3600, 90_000, 180_000] {
            fs::write(name_aside(&path, at(seconds)), "a line\n").expect("write");
        }
        for other in ["etcd-other.log", "etcd.log", "etcd-2026-11-21T14-30-01.000.txt"] {
            fs::write(folder.0.join(other), "").expect("write");
        }
        tidy(&path, &LogRotation { files_max: 3, ..ROTATION }, at(180_000)).expect("tidy");
        assert_eq!(aside(&path).expect("names").len(), 3);
        tidy(&path, &LogRotation { days_max: 2, compress: true, ..ROTATION }, at(180_000)).expect("tidy");
        let names = aside(&path).expect("names");
        assert_eq!(names, ["etcd-2026-11-22T15-30-01.000.log.gz", "etcd-2026-11-23T16-30-01.000.log.gz"]);
        let mut text = String::new();
        GzDecoder::new(File::open(folder.0.join(&names[0])).expect("open")).read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "a line\n");
        tidy(&path, &LogRotation { files_max: 1, compress: true, ..ROTATION }, at(180_000)).expect("tidy");
        assert_eq!(aside(&path).expect("names"), ["etcd-2026-11-23T16-30-01.000.log.gz"]);
        assert_eq!(folder.names().len(), 4, "files of other names stay");
    }
}
