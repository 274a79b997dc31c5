//! The segments as readers see them.
//!
//! Owns the order of the segments and the way from an id to a segment. Does not own the segments' files. Invariant: a
//! view never changes; segments that were rewritten stay readable through it, out of the order, until they are deleted.

use super::record::{Location, Record};
use super::scan::Scan;
use super::segment::{Segment, segment_path};
use crate::error::DiskError;
use std::sync::Arc;

/// The segments as they are at one moment; readers share it and never wait for the writer.
///
/// A location must be looked up in a view that was taken no earlier than the location was learned. Locations from
/// before a rewriting stay readable through newer views until the files are deleted in `RevLog::checkpointed`, and
/// through a view that is held for as long as it is held.
pub struct SegmentSet {
    folder: String,
    ordered: Vec<Arc<Segment>>,
    by_id: Vec<Arc<Segment>>,
}

impl SegmentSet {
    /// `ordered` in revision order; `retired` are readable by location only.
    pub(crate) fn new(
        folder: &str,
        ordered: Vec<Arc<Segment>>,
        retired: impl IntoIterator<Item = Arc<Segment>>,
    ) -> Arc<Self> {
        let mut by_id: Vec<_> = ordered.iter().cloned().chain(retired).collect();
        by_id.sort_by_key(|segment| segment.id());
        Arc::new(Self { folder: folder.to_string(), ordered, by_id })
    }

    /// Reads and verifies one record.
    pub fn read(&self, location: Location) -> Result<Record, DiskError> {
        match self.segment(location.segment) {
            Some(segment) => segment.read_record(location),
            None => Err(DiskError::corrupt(
                segment_path(&self.folder, location.segment),
                location.offset.into(),
                "a record is looked for in a segment that is not in this view",
            )),
        }
    }

    /// Records from revision `from` (main) on, in order, to the end of what was appended when the scan began.
    pub fn scan(self: &Arc<Self>, from: i64) -> Scan {
        Scan::new(&self.ordered, from)
    }

    pub(crate) fn segment(&self, id: u32) -> Option<&Arc<Segment>> {
        self.by_id.binary_search_by_key(&id, |segment| segment.id()).ok().map(|position| &self.by_id[position])
    }
}
