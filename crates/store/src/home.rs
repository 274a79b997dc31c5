//! Where the store lives on its disk: generations, the checkpoint, and the snapshot that travels between members.

use crate::disk::Disk;
use crate::error::DiskError;
use crate::revlog::SegmentSet;
use bytes::Bytes;
use quorate_proto::quoratepb::Checkpoint;
use std::sync::Arc;

/// The store's folder: `CURRENT` names the generation in use, each generation is a folder with its segments and its
/// checkpoint. A snapshot from another member is written as a new generation and becomes current by one rename.
pub struct Home {}

impl Home {
    /// Opens the folder (creating it when absent), finds the current generation and its checkpoint, removes leftovers.
    pub fn open(_disk: Arc<dyn Disk>, _root: &str) -> Result<(Self, Option<Checkpoint>), DiskError> {
        todo!()
    }
    /// The folder of the current generation, where the revision log lives.
    pub fn folder(&self) -> String {
        todo!()
    }
    /// Writes a checkpoint aside, syncs it, renames it. The segments it names are synced already.
    pub fn write_checkpoint(&mut self, _checkpoint: &Checkpoint) -> Result<(), DiskError> {
        todo!()
    }
    /// Begins to receive a snapshot as a new generation; one at a time, an older unfinished one is removed.
    pub fn receive(&self) -> Result<SnapshotSink, DiskError> {
        todo!()
    }
    /// Makes a received generation the current one; the old one's files are removed.
    pub fn promote(&mut self, _received: Received) -> Result<(), DiskError> {
        todo!()
    }
}

/// A snapshot to send: the checkpoint and the files it names, held open, so that compaction may go on.
pub struct SnapshotSource {}

impl SnapshotSource {
    /// The segments named by `checkpoint`, from a view taken at the same moment.
    pub fn new(_checkpoint: &Checkpoint, _segments: &Arc<SegmentSet>) -> Result<Self, DiskError> {
        todo!()
    }
    /// All bytes that `next` will give.
    pub fn total_bytes(&self) -> u64 {
        todo!()
    }
    /// The next piece of the stream, at most 256 KiB; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Bytes>, DiskError> {
        todo!()
    }
}

/// Writes an arriving snapshot, verifying it piece by piece.
pub struct SnapshotSink {}

impl SnapshotSink {
    /// Takes bytes in any cut.
    pub fn write(&mut self, _piece: &[u8]) -> Result<(), DiskError> {
        todo!()
    }
    /// The stream ended: everything is verified and synced, or the reason why not.
    pub fn finish(self) -> Result<Received, DiskError> {
        todo!()
    }
}

/// A complete, durable generation that is not current yet.
pub struct Received {
    /// Its checkpoint.
    pub checkpoint: Checkpoint,
    /// Its folder.
    pub folder: String,
}
