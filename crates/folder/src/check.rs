//! Judges a member's folder while no member runs on it.
//!
//! Reads every byte that counts and changes nothing. Invariant: each finding names a file, a place in it where there is
//! one, and what can be done.

use crate::layout::{Place, STORE, WAL};
use crate::lock::ensure_unused;
use crate::reading_disk::ReadingDisk;
use quorate_node::wal::Wal;
use quorate_store::disk::Disk;
use quorate_store::error::DiskError;
use quorate_store::home::verify;
use std::sync::Arc;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, below the data folder.
    pub file: String,
    /// Where in it, bytes; `None`: all of it.
    pub offset: Option<u64>,
    /// What was found.
    pub what: String,
    /// What can be done.
    pub advice: String,
}

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// The newest entry in the store.
    pub applied_index: u64,
    /// The newest entry in the log.
    pub last_index: u64,
    /// The newest entry known to be committed.
    pub commit_index: u64,
    /// The newest revision in the store.
    pub revision: i64,
    /// -1: never compacted.
    pub compact_revision: i64,
    /// Segments of the revision log.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records alive in them.
    pub records: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

const RESTORE: &str = "restore this member from a backup (utl snapshot restore), or remove it from its cluster and add it \
                       again with an empty data folder";

fn finding(error: &DiskError) -> Finding {
    let advice = RESTORE.to_owned();
    match error {
        DiskError::Io { path, source } => Finding {
            file: path.clone(),
            offset: None,
            what: source.to_string(),
            advice: "see whether the disk or its permissions are at fault, then check again".to_owned(),
        },
        DiskError::Corrupt { path, offset, what } => {
            Finding { file: path.clone(), offset: Some(*offset), what: what.clone(), advice }
        }
        DiskError::Version { path, found, supported } => Finding {
            file: path.clone(),
            offset: None,
            what: format!("format version {found}, expected {supported}"),
            advice: "use the release that wrote it".to_owned(),
        },
    }
}

fn missing(file: &str, what: &str, advice: &str) -> Finding {
    Finding { file: file.to_owned(), offset: None, what: what.to_owned(), advice: advice.to_owned() }
}

/// Looks at everything.
///
/// # Errors
/// A folder that can't be judged: a running member's, or none of ours.
pub fn check(place: &Place) -> anyhow::Result<Report> {
    let name = place.data.display();
    anyhow::ensure!(place.data.is_dir(), "{name} is no folder");
    if !place.has_store() && place.etcd_file().is_some() {
        anyhow::bail!("{name} is a data folder of etcd: use `utl import`");
    }
    ensure_unused(&place.member())?;
    let mut report = Report { compact_revision: -1, ..Report::default() };
    let disk: Arc<dyn Disk> = Arc::new(ReadingDisk::new(place.member()));
    if place.has_store() {
        let store = verify(&disk, STORE);
        (report.segments, report.bytes, report.records) = (store.segments, store.bytes, store.records);
        if let Some(checkpoint) = store.checkpoint {
            report.applied_index = checkpoint.applied_index;
            report.revision = checkpoint.revision;
            report.compact_revision = checkpoint.compact_revision;
        }
        report.findings.extend(store.errors.iter().map(finding));
    } else {
        report.findings.push(missing(STORE, "there is no store (member/store/CURRENT)", RESTORE));
    }
    let wal_disk = ReadingDisk::new(place.wal_root());
    match Wal::read(&wal_disk, WAL) {
        Ok(Some((identity, recovered))) => {
            (report.member_id, report.cluster_id) = (identity.member_id, identity.cluster_id);
            report.commit_index = recovered.hard_state.commit;
            report.last_index = recovered.entries.last().map_or(recovered.start.index, |entry| entry.index);
            let gap = recovered.check(WAL, report.applied_index).err();
            report.findings.extend(gap.as_ref().map(finding));
        }
        Ok(None) => report.findings.push(missing(
            WAL,
            "there is no log",
            "name its folder if it lies elsewhere (--wal-dir); if it is lost, remove this member from its cluster and add it \
             again with an empty data folder",
        )),
        Err(error) => report.findings.push(finding(&error)),
    }
    Ok(report)
}
