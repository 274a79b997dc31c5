//! The revision log: every change, in revision order, in segment files. `docs/formats.md` has the bytes.
//!
//! Owns the segment files of one folder: appending, reading, sealing, and rewriting those with too little alive. Does
//! not own which records are alive (the key index does) nor when anything becomes durable (the checkpoint's writer
//! calls `sync`). Invariant: segments in their order hold strictly rising revisions; a sealed segment never changes;
//! no byte is handed out whose checksum was not verified.

mod dead;
mod footer;
mod load;
mod log;
mod record;
mod records;
mod rewrite;
mod scan;
mod segment;
mod view;

#[cfg(test)]
mod tests;

pub use log::{RevLog, RevLogConfig};
pub use record::{LoadedEntry, Location, RECORD_OVERHEAD, Record};
pub use records::{RecordLength, Records};
pub use scan::Scan;
pub use view::SegmentSet;

pub(crate) use scan::verify_segment;
pub(crate) use segment::{Segment, segment_path};
