//! What was made of files, made anew when they change.
//!
//! Looked at when it is used, at most every [`CHECK_INTERVAL`]: one `stat` per file, no watcher and no thread. The
//! invariant: what was good stays in use until something good replaces it.

use super::files::TlsError;
use parking_lot::Mutex;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Files are looked at no more often than this.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// A file that changed this short a time ago may change again without its times telling so: clocks of file systems tick
/// every few milliseconds.
const UNSETTLED: Duration = Duration::from_millis(100);

/// What tells one state of a file from another; none for a file that cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: Duration,
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        let changed = Duration::new(
            u64::try_from(metadata.ctime()).unwrap_or(0),
            u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
        );
        Some(Stamp { device: metadata.dev(), inode: metadata.ino(), bytes: metadata.len(), changed })
    };
    files.iter().map(stamp).collect()
}

fn are_settled(stamps: &[Option<Stamp>]) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    stamps.iter().flatten().all(|stamp| stamp.changed + UNSETTLED < now || stamp.changed > now)
}

type Load<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// A value that is made of files.
pub(crate) struct Reloading<T> {
    files: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
    is_settled: bool,
    checked: Instant,
    /// Why the newest files are not in use.
    failure: Option<TlsError>,
}

impl<T> Reloading<T> {
    /// Makes the value for the first time. `load` reads `files`, and nothing else that changes.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let value = Arc::new(load()?);
        let is_settled = are_settled(&stamps);
        let state = State { value, stamps, is_settled, checked: Instant::now(), failure: None };
        Ok(Self { files, load: Box::new(load), state: Mutex::new(state) })
    }

    /// The value of the newest files that make one.
    pub(crate) fn current(&self, now: Instant) -> Arc<T> {
        let mut state = self.state.lock();
        if now.saturating_duration_since(state.checked) < CHECK_INTERVAL {
            return state.value.clone();
        }
        state.checked = now;
        let stamps = stamps(&self.files);
        if state.is_settled && state.stamps == stamps {
            return state.value.clone();
        }
        let have_changed = state.stamps != stamps;
        state.is_settled = are_settled(&stamps);
        state.stamps = stamps;
        match (self.load)() {
            Ok(value) => {
                if have_changed || state.failure.is_some() {
                    let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
                    tracing::info!(files = files.join(","), "reloaded TLS files");
                }
                state.failure = None;
                state.value = Arc::new(value);
            }
            Err(error) => {
                if state.failure.as_ref() != Some(&error) {
                    tracing::error!(
                        error = error.to_string(),
                        "cannot use a changed TLS file; the files that were read before stay in use"
                    );
                }
                state.failure = Some(error);
            }
        }
        state.value.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_counts_and_a_broken_one_does_not() {
        let path = std::env::temp_dir().join(format!("quorate-reload-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).expect("write");
        write("1");
        let source = path.clone();
        let load = move || {
            let text = std::fs::read_to_string(&source).map_err(|error| TlsError::new(error.to_string()))?;
            text.parse::<u32>().map_err(|error| TlsError::new(error.to_string()))
        };
        let value = Reloading::new(vec![path.clone()], load).expect("the first");
        let mut now = Instant::now();
        let mut later = || {
            now += CHECK_INTERVAL;
            now
        };
        assert_eq!(*value.current(later()), 1);
        // The same length, and most likely the same tick of the file system's clock.
        write("2");
        assert_eq!(*value.current(later()), 2);
        write("x");
        let at = later();
        assert_eq!(*value.current(at), 2, "broken: the old one stays");
        write("3");
        assert_eq!(*value.current(at), 2, "looked at a moment ago");
        assert_eq!(*value.current(later()), 3);
        std::fs::remove_file(&path).expect("remove");
        assert_eq!(*value.current(later()), 3, "gone: the old one stays");
        write("4");
        assert_eq!(*value.current(later()), 4);
        let _ = std::fs::remove_file(&path);
    }
}
