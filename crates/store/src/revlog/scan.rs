//! Reading records in order, many at a time.
//!
//! Owns block-wise reading and its verification. Does not own where a segment's bytes are. Invariant: every record that
//! is told was verified, and after an error nothing follows.

use super::footer::FooterBuilder;
use super::load::read_footer;
use super::record::{FRAME_BYTES, Parts, Record, decode, framed_length, key_fields};
use super::segment::{HEADER_BYTES, Segment};
use crate::disk::Disk;
use crate::error::DiskError;
use quorate_proto::quoratepb::SegmentRef;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Read at once, bytes; a longer record is read as a whole.
const BLOCK_BYTES: usize = 256 << 10;

/// The records of a part of one segment.
pub(crate) struct Blocks {
    segment: Arc<Segment>,
    position: u64,
    end: u64,
    block: Vec<u8>,
    block_start: u64,
}

/// A record within a block.
pub(crate) struct Verified<'a> {
    pub(crate) offset: u32,
    pub(crate) bytes: &'a [u8],
    pub(crate) parts: Parts,
}

impl Verified<'_> {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[self.parts.payload.clone()]
    }
}

impl Blocks {
    /// From the record at `start` to `end`, where a record ends.
    pub(crate) fn new(segment: Arc<Segment>, start: u32, end: u64) -> Self {
        Self { segment, position: start.into(), end, block: Vec::new(), block_start: start.into() }
    }

    pub(crate) fn next(&mut self) -> Option<Result<Verified<'_>, DiskError>> {
        if self.position >= self.end {
            return None;
        }
        let start = self.position;
        match self.load() {
            Ok((range, parts)) => Some(Ok(Verified { offset: start as u32, bytes: &self.block[range], parts })),
            Err(error) => {
                self.position = self.end;
                Some(Err(error))
            }
        }
    }

    fn load(&mut self) -> Result<(Range<usize>, Parts), DiskError> {
        let start = self.position;
        let frame = self.ensure(FRAME_BYTES as u64)?;
        let length = framed_length(&self.block[frame..]);
        let from = self.ensure(length)?;
        let range = from..from + length as usize;
        let parts = decode(&self.block[range.clone()]).map_err(|what| self.segment.corrupt(start, what))?;
        self.position += length;
        Ok((range, parts))
    }

    /// Has the next `count` bytes in the block, and tells where in it.
    fn ensure(&mut self, count: u64) -> Result<usize, DiskError> {
        let left = self.end - self.position;
        if count > left {
            let what = format!("a record of at least {count} bytes, expected at most {left}");
            return Err(self.segment.corrupt(self.position, what));
        }
        if self.position + count > self.block_start + self.block.len() as u64 {
            let wanted = count.max(left.min(BLOCK_BYTES as u64));
            self.block = self.segment.read(self.position, wanted as usize)?;
            self.block_start = self.position;
        }
        Ok((self.position - self.block_start) as usize)
    }
}

/// A pass over the records in revision order, reading large blocks.
pub struct Scan {
    from: i64,
    parts: VecDeque<(Arc<Segment>, u32, u32)>,
    blocks: Option<Blocks>,
}

impl Scan {
    pub(crate) fn new(segments: &[Arc<Segment>], from: i64) -> Self {
        let part = |segment: &Arc<Segment>| {
            let (start, end) = segment.records_from(from)?;
            Some((segment.clone(), start, end))
        };
        Self { from, parts: segments.iter().filter_map(part).collect(), blocks: None }
    }
}

impl Iterator for Scan {
    type Item = Result<Record, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.blocks.is_none() {
                let (segment, start, end) = self.parts.pop_front()?;
                self.blocks = Some(Blocks::new(segment, start, end.into()));
            }
            match self.blocks.as_mut().and_then(Blocks::next) {
                None => self.blocks = None,
                Some(Ok(record)) if record.parts.revision.main < self.from => {}
                Some(Ok(record)) => return Some(Ok(record.parts.to_record(record.bytes))),
                Some(Err(error)) => {
                    self.parts.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Reads a whole segment file and verifies every record, and that its footer is the one that belongs to them.
pub(crate) fn verify_segment(disk: &dyn Disk, folder: &str, reference: &SegmentRef) -> Result<(), DiskError> {
    let segment = Segment::open(disk, folder, reference.id, reference.length)?;
    let mut end = reference.length;
    if reference.sealed {
        let Some(footer) = read_footer(&segment)? else {
            return Err(segment.corrupt(end, "a footer that is broken"));
        };
        end = footer.records_end.into();
    }
    let mut expected = FooterBuilder::default();
    let mut blocks = Blocks::new(segment.clone(), HEADER_BYTES, end);
    while let Some(record) = blocks.next() {
        let record = record?;
        let Some(fields) = key_fields(record.parts.deletion, record.payload()) else {
            return Err(segment.corrupt(record.offset.into(), "a record that holds no key-value"));
        };
        expected.push(record.parts.revision, record.parts.deletion, &fields, record.bytes.len() as u32);
    }
    if reference.sealed {
        let expected = expected.finish(end as u32);
        if segment.read(end, (reference.length - end) as usize)? != expected {
            return Err(segment.corrupt(end, "a footer that does not belong to the records"));
        }
    } else if segment.written() != reference.length {
        return Err(segment.corrupt(segment.written(), "the end of the file, expected more records"));
    }
    Ok(())
}
