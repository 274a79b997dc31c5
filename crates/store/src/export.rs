//! The whole store at one moment, for readers that take their time: backups in other formats.
//!
//! Owns nothing but the way to the records. Invariant: what a moment tells never changes, whatever is applied or
//! compacted meanwhile; the files that it reads stay on the disk for as long as it lives, so its holder bounds its life.

use crate::error::DiskError;
use crate::revlog::Records;
use crate::store::BuiltSnapshot;
use quorate_proto::quoratepb::Checkpoint;

/// The store as it was.
#[derive(Clone)]
pub struct Moment {
    pub(crate) snapshot: BuiltSnapshot,
    pub(crate) compacted_revision: i64,
}

impl Moment {
    /// Everything but the records.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.snapshot.checkpoint
    }

    /// The compaction up to which unreachable records were already forgotten; at most the checkpoint's. Below 1: none.
    pub fn compacted_revision(&self) -> i64 {
        self.compacted_revision
    }

    /// A pass over all records, in revision order. Those that a compaction made unreachable may be among them while it is
    /// not done.
    pub fn records(&self) -> Result<Records, DiskError> {
        Records::new(&self.snapshot.checkpoint.segments, &self.snapshot.segments)
    }
}
