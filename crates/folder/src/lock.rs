//! Keeps every other process out of a folder.
//!
//! Invariant: the lock ends with the process, whatever becomes of it.

use crate::disk::{Durability, create_folder_durably};
use anyhow::{Context, bail};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long is waited for an older process to let go of the folder.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Creates a folder and keeps every other process out of it while the answer lives.
pub fn lock_folder(folder: &Path, durability: Durability) -> anyhow::Result<File> {
    create_folder_durably(folder, durability).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(RETRY_PAUSE),
            Err(TryLockError::WouldBlock) => {
                bail!("another process uses {}: stop it, or choose another --data-dir", folder.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

/// Refuses a folder that a running member holds; writes nothing. A folder without a lock file is free.
pub fn ensure_unused(folder: &Path) -> anyhow::Result<()> {
    let Ok(file) = File::options().read(true).open(folder.join("lock")) else { return Ok(()) };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => bail!("a running member uses {}: stop it first", folder.display()),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}
