//! The data folder of a stopped real etcd into a new folder of ours.
//!
//! Owns the joining of its data file with what its log holds beyond it. Invariant: every entry that etcd called committed
//! arrives; nothing of the old folder is changed.

use crate::build::{Built, Plan, Replayed, build};
use crate::initial_cluster::NewCluster;
use crate::layout::Place;
use crate::lock::ensure_unused;
use crate::reading_disk::ReadingFile;
use crate::restore::checkpoint_of;
use anyhow::{Context, bail};
use quorate_backend::bbolt::Reader;
use quorate_backend::content::Content;
use quorate_backend::import::seed_records;
use quorate_backend::wal::{WalFile, WalTail, read_tail};
use std::fs::{File, TryLockError};
use std::path::Path;

/// What was taken over.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The folder.
    pub built: Built,
    /// Records of the data file.
    pub records: u64,
    /// Entries that came from the log.
    pub replayed: u64,
    /// Entries of the log that were not known to be committed, and were left out.
    pub uncommitted: u64,
}

/// etcd locks its data file while it runs.
fn ensure_stopped(file: &Path) -> anyhow::Result<()> {
    let opened = File::open(file).with_context(|| format!("open {}", file.display()))?;
    match opened.try_lock_shared() {
        Err(TryLockError::WouldBlock) => bail!("a running etcd uses {}: stop it first", file.display()),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn wal_files(folder: &Path) -> anyhow::Result<Vec<WalFile>> {
    let mut names: Vec<String> = match std::fs::read_dir(folder) {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".wal"))
            .collect(),
        Err(error) => return Err(error).with_context(|| format!("open {}", folder.display())),
    };
    names.sort();
    let open = |name: &String| {
        let path = folder.join(name);
        let file = ReadingFile::open(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(WalFile { path: path.display().to_string(), file })
    };
    names.iter().map(open).collect()
}

/// Imports `from` into `place`. `wal` is the old `--wal-dir`, if it had one.
pub fn import(
    from: &Path,
    wal: Option<&Path>,
    place: &Place,
    cluster: &NewCluster,
    revision_bump: u64,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<Imported> {
    let source = Place::new(from);
    if source.has_store() {
        bail!("{} is a data folder of Quorate already: start a member on it, or see `utl recover`", from.display());
    }
    let Some(file) = source.etcd_file() else {
        bail!("{} is no data folder of etcd: it has no member/snap/db", from.display());
    };
    ensure_unused(&source.member())?;
    ensure_stopped(&file)?;
    let reader = Reader::open(ReadingFile::open(&file)?).with_context(|| file.display().to_string())?;
    reader.check().with_context(|| format!("{} is damaged", file.display()))?;
    let content = Content::read(&reader)?;
    let wal_folder = wal.map_or_else(|| source.member().join("wal"), Path::to_path_buf);
    let mut tail = read_tail(&wal_files(&wal_folder)?, content.consistent_index)?;
    let uncommitted = leave_uncommitted(&mut tail, &content);
    let mut records = 0;
    let replayed = tail.entries.len() as u64;
    let built = build(place, cluster, |seed| {
        let taken = seed_records(&reader, seed, progress)?;
        records = taken.records;
        let mut checkpoint = checkpoint_of(&content, taken.revision);
        checkpoint.applied_term = checkpoint.applied_term.max(1);
        checkpoint.applied_index = checkpoint.applied_index.max(1);
        let entries = tail.entries.into_iter();
        let replayed = entries.map(|entry| Replayed { index: entry.index, term: entry.term, batch: entry.batch });
        Ok((checkpoint, Plan { replayed: replayed.collect(), position: None, revision_bump }))
    })?;
    Ok(Imported { built, records, replayed, uncommitted })
}

/// Cuts what was not known to be committed. The only voter's log is all committed: it alone decides.
fn leave_uncommitted(tail: &mut WalTail, content: &Content) -> u64 {
    let voters = content.conf_state.as_ref().map_or(content.members.len(), |conf_state| conf_state.voters.len());
    if voters <= 1 {
        return 0;
    }
    let before = tail.entries.len();
    tail.entries.retain(|entry| entry.index <= tail.commit);
    (before - tail.entries.len()) as u64
}
