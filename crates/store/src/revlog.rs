//! The revision log: every change, in revision order, in segment files.

use crate::disk::Disk;
use crate::error::DiskError;
use crate::revision::Revision;
use bytes::Bytes;
use quorate_proto::quoratepb::SegmentRef;
use std::sync::Arc;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Location {
    /// The segment.
    pub segment: u32,
    /// The record's first byte in it.
    pub offset: u32,
    /// The record's length with its frame, bytes.
    pub length: u32,
}

/// A record as read back, its checksum verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in history.
    pub revision: Revision,
    /// Whether it deletes the key.
    pub deletion: bool,
    /// The encoded `mvccpb.KeyValue`; of a deletion it holds the key only.
    pub key_value: Bytes,
}

/// What start-up learns of a record: enough for the key index.
#[derive(Clone, Copy, Debug)]
pub struct LoadedEntry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its place in history.
    pub revision: Revision,
    /// The revision that created the key; 0 for a deletion.
    pub create_revision: i64,
    /// Writes since creation; 0 for a deletion.
    pub version: i64,
    /// The lease; 0: none.
    pub lease: i64,
    /// Where the record lies.
    pub location: Location,
}

/// Sizes of the log.
#[derive(Clone, Copy, Debug)]
pub struct RevLogConfig {
    /// A segment is sealed when it would grow beyond this, bytes.
    pub segment_bytes: u32,
    /// Appended bytes kept in memory before they are written to the file, bytes.
    pub buffer_bytes: usize,
}

/// The segments as they are at one moment; readers share it and never wait for the writer.
pub struct SegmentSet {}

impl SegmentSet {
    /// Reads and verifies one record.
    pub fn read(&self, _location: Location) -> Result<Record, DiskError> {
        todo!()
    }
    /// Records from revision `from` (main) on, in order, to the end of what was appended when the scan began.
    pub fn scan(self: &Arc<Self>, _from: i64) -> Scan {
        todo!()
    }
}

/// A pass over the records in revision order, reading large blocks.
pub struct Scan {}

impl Iterator for Scan {
    type Item = Result<Record, DiskError>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// The writer. One owner.
pub struct RevLog {}

impl RevLog {
    /// Opens the log as a checkpoint names it: cuts off what lies beyond, removes segments it does not name, and tells
    /// every record in revision order. With no segments it starts empty.
    pub fn open(
        _disk: Arc<dyn Disk>,
        _folder: &str,
        _config: RevLogConfig,
        _segments: &[SegmentRef],
        _entry: &mut dyn FnMut(LoadedEntry<'_>),
    ) -> Result<Self, DiskError> {
        todo!()
    }
    /// The segments for readers. Records appended later are readable through it as long as they fit its newest segment.
    pub fn view(&self) -> Arc<SegmentSet> {
        todo!()
    }
    /// Appends a record; readable at once, durable after `sync`.
    pub fn append(&mut self, _revision: Revision, _deletion: bool, _key_value: &[u8]) -> Result<Location, DiskError> {
        todo!()
    }
    /// Makes everything durable and says what a checkpoint must name.
    pub fn sync(&mut self) -> Result<Vec<SegmentRef>, DiskError> {
        todo!()
    }
    /// Compaction made this record unreachable.
    pub fn mark_dead(&mut self, _location: Location) {
        todo!()
    }
    /// Bytes of records that are not dead.
    pub fn live_bytes(&self) -> u64 {
        todo!()
    }
    /// Bytes of all segment files.
    pub fn disk_bytes(&self) -> u64 {
        todo!()
    }
    /// One bounded step of rewriting segments that hold too little alive. `alive` says whether a record is still
    /// reachable, `moved` learns each new place. Answers whether there is more to do.
    pub fn rewrite_step(
        &mut self,
        _bytes_max: usize,
        _alive: &mut dyn FnMut(&[u8], Revision, Location) -> bool,
        _moved: &mut dyn FnMut(&[u8], Revision, Location, Location),
    ) -> Result<bool, DiskError> {
        todo!()
    }
    /// A checkpoint with the segments of the latest `sync` is durable: files that only older ones named may go.
    pub fn checkpointed(&mut self) -> Result<(), DiskError> {
        todo!()
    }
}
