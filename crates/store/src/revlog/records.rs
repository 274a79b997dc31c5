//! All records that a list of segments names and does not call dead, in revision order: first their lengths, then they
//! themselves.
//!
//! Owns the passing over of dead records. Does not own which are dead (the list says it). Invariant: both passes tell the
//! same records, whatever the writer does in the meantime, because neither a sealed segment nor the part of a growing one
//! that the list covers ever changes.

use super::dead::DeadRecords;
use super::footer::FooterCursor;
use super::load::read_footer;
use super::record::{RECORD_OVERHEAD, Record};
use super::scan::Blocks;
use super::segment::{HEADER_BYTES, Segment};
use super::view::SegmentSet;
use crate::error::DiskError;
use crate::revision::Revision;
use quorate_proto::quoratepb::SegmentRef;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

/// A record without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLength {
    /// Its place in history.
    pub revision: Revision,
    /// Whether it deletes the key.
    pub deletion: bool,
    /// Length of the encoded key-value, bytes.
    pub key_value_bytes: usize,
}

/// A segment that is to be passed over.
struct Part {
    segment: Arc<Segment>,
    /// Where its records end.
    end: u64,
    is_sealed: bool,
    dead: Peekable<IntoIter<u32>>,
}

impl Part {
    fn is_dead(&mut self, offset: u32) -> bool {
        self.dead.next_if_eq(&offset).is_some()
    }
}

/// A pass over records.
pub struct Records {
    parts: VecDeque<Part>,
    current: Option<(Part, Blocks)>,
}

impl Records {
    /// Over the records that `references` name, read through a view taken at the same moment.
    pub(crate) fn new(references: &[SegmentRef], view: &SegmentSet) -> Result<Self, DiskError> {
        let mut parts = VecDeque::with_capacity(references.len());
        for reference in references {
            let Some(segment) = view.segment(reference.id) else {
                let what = format!("segment {} is named, but is not in the view", reference.id);
                return Err(DiskError::corrupt("revision log", 0, what));
            };
            let Some(dead) = DeadRecords::decode_offsets(&reference.dead_offsets) else {
                return Err(segment.corrupt(0, "dead records that cannot be read"));
            };
            let end = if reference.sealed { segment.records_end().into() } else { reference.length };
            let dead = dead.into_iter().peekable();
            parts.push_back(Part { segment: segment.clone(), end, is_sealed: reference.sealed, dead });
        }
        Ok(Self { parts, current: None })
    }

    /// The next record; `None` at the end. After an error nothing follows.
    #[expect(clippy::should_implement_trait, reason = "a pass that failed is not an iterator that ended")]
    pub fn next(&mut self) -> Result<Option<Record>, DiskError> {
        loop {
            if self.current.is_none() {
                let Some(part) = self.parts.pop_front() else { return Ok(None) };
                let blocks = Blocks::new(part.segment.clone(), HEADER_BYTES, part.end);
                self.current = Some((part, blocks));
            }
            let (part, blocks) = self.current.as_mut().expect("made above");
            match blocks.next() {
                None => self.current = None,
                Some(Ok(record)) if part.is_dead(record.offset) => {}
                Some(Ok(record)) => return Ok(Some(record.parts.to_record(record.bytes))),
                Some(Err(error)) => {
                    self.parts.clear();
                    return Err(error);
                }
            }
        }
    }

    /// Tells the lengths of all records that `next` would tell. Of sealed segments only the footers are read.
    pub fn lengths(mut self, each: &mut dyn FnMut(RecordLength)) -> Result<(), DiskError> {
        while let Some(mut part) = self.parts.pop_front() {
            let footer = if part.is_sealed { read_footer(&part.segment)? } else { None };
            if let Some(footer) = footer {
                let mut cursor = FooterCursor::new(HEADER_BYTES);
                while !cursor.is_at_end(&footer.entries) {
                    let Some(entry) = cursor.next(&footer.entries) else {
                        return Err(part.segment.corrupt(footer.records_end.into(), "a footer that cannot be read"));
                    };
                    let (revision, deletion) = (entry.revision, entry.deletion);
                    let key_value_bytes = (entry.length as usize).saturating_sub(RECORD_OVERHEAD);
                    if !part.is_dead(entry.offset) {
                        each(RecordLength { revision, deletion, key_value_bytes });
                    }
                }
                continue;
            }
            let mut blocks = Blocks::new(part.segment.clone(), HEADER_BYTES, part.end);
            while let Some(record) = blocks.next() {
                let record = record?;
                if !part.is_dead(record.offset) {
                    let (revision, deletion) = (record.parts.revision, record.parts.deletion);
                    each(RecordLength { revision, deletion, key_value_bytes: record.payload().len() });
                }
            }
        }
        Ok(())
    }
}
