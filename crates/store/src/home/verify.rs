//! Judges a store's files while no member uses them: every checksum, everything that the parts say of each other.
//!
//! Changes nothing on a disk that refuses to be changed, and goes on behind what it finds. Invariant: what is found sound
//! here opens, and what is not is named with file and offset.

use super::generations::Home;
use crate::disk::Disk;
use crate::error::DiskError;
use crate::revlog::{RevLog, RevLogConfig, verify_segment};
use quorate_proto::quoratepb::Checkpoint;
use std::sync::Arc;

/// What was looked at, and what is wrong with it.
#[derive(Debug, Default)]
pub struct StoreReport {
    /// The checkpoint, if it could be read.
    pub checkpoint: Option<Checkpoint>,
    /// Segments that were read.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Records that are alive in them.
    pub records: u64,
    /// What is wrong.
    pub errors: Vec<DiskError>,
}

/// Reads everything below `root`.
pub fn verify(disk: &Arc<dyn Disk>, root: &str) -> StoreReport {
    let mut report = StoreReport::default();
    let home = match Home::open(disk.clone(), root) {
        Ok((home, checkpoint)) => {
            report.checkpoint = checkpoint;
            home
        }
        Err(error) => {
            report.errors.push(error);
            return report;
        }
    };
    let Some(checkpoint) = &report.checkpoint else { return report };
    let folder = home.folder();
    for reference in &checkpoint.segments {
        report.segments += 1;
        report.bytes += reference.length;
        if let Err(error) = verify_segment(&**disk, &folder, reference) {
            report.errors.push(error);
        }
    }
    if report.errors.is_empty() {
        // The order of revisions over all segments, and the dead records, which must be there.
        let sizes = RevLogConfig { segment_bytes: u32::MAX, buffer_bytes: 0 };
        let mut records = 0;
        let opened = RevLog::open(disk.clone(), &folder, sizes, &checkpoint.segments, &mut |_| records += 1);
        report.records = records;
        report.errors.extend(opened.err());
    }
    report
}
