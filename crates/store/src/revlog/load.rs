//! What start-up reads of a segment: of a sealed one its footer, of the one that may still grow all records.
//!
//! Owns how a file becomes a `Segment` again, and the repair of a footer. Does not own which files there must be.
//! Invariant: everything told was verified; records are told in strictly rising revision order; a file that lacks
//! anything that the checkpoint covers is an error, never a shorter log.

use super::dead::DeadRecords;
use super::footer::{FooterBuilder, FooterCursor, TRAILER_BYTES, Trailer};
use super::record::{KeyFields, LoadedEntry, Location, key_fields};
use super::scan::{Blocks, Verified};
use super::segment::{HEADER_BYTES, Segment, Span};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::revision::Revision;
use quorate_proto::quoratepb::SegmentRef;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

/// Takes entries, in revision order over all segments.
pub(super) struct Loader<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) folder: &'a str,
    /// The newest revision so far.
    pub(super) last: Revision,
    /// The dead records of every segment, with their lengths as they are met.
    pub(super) dead: BTreeMap<u32, DeadRecords>,
    pub(super) entry: &'a mut dyn FnMut(LoadedEntry<'_>),
}

/// A footer whose checksum is right.
pub(crate) struct Footer {
    pub(crate) records_end: u32,
    pub(crate) entries: Vec<u8>,
    pub(crate) count: u32,
}

/// Reads the footer that the segment's bytes end in; `None` when it is broken.
pub(crate) fn read_footer(segment: &Segment) -> Result<Option<Footer>, DiskError> {
    let length = segment.written();
    let Some(trailer_offset) = length.checked_sub(TRAILER_BYTES as u64).filter(|&at| at >= HEADER_BYTES.into()) else {
        return Ok(None);
    };
    let Some(trailer) = Trailer::decode(&segment.read(trailer_offset, TRAILER_BYTES)?) else { return Ok(None) };
    let footer_end = u64::from(trailer.footer_offset) + u64::from(trailer.footer_length);
    if trailer.footer_offset < HEADER_BYTES || footer_end != trailer_offset {
        return Ok(None);
    }
    let entries = segment.read(trailer.footer_offset.into(), trailer.footer_length as usize)?;
    let is_sound = crc32c::crc32c(&entries) == trailer.footer_checksum;
    Ok(is_sound.then_some(Footer { records_end: trailer.footer_offset, entries, count: trailer.entries }))
}

impl Loader<'_> {
    /// A sealed segment: from its footer, or from its records when the footer is broken and they are not.
    pub(super) fn sealed(&mut self, reference: &SegmentRef) -> Result<Arc<Segment>, DiskError> {
        let segment = Segment::open(self.disk, self.folder, reference.id, reference.length)?;
        let is_complete = segment.written() == reference.length;
        let footer = if is_complete { read_footer(&segment)? } else { None };
        let footer = match footer {
            Some(footer) => footer,
            None => rebuild_footer(&segment, reference.length)?,
        };
        let mut dead = Deaths::of(&segment, reference)?;
        let span = self.tell_footer(&segment, &footer, &mut dead)?;
        self.take_deaths(&segment, dead)?;
        segment.set_records(span, footer.records_end, true);
        Ok(segment)
    }

    /// The segment that may still grow: every record up to `length` must be whole.
    pub(super) fn growing(&mut self, reference: &SegmentRef) -> Result<(Arc<Segment>, FooterBuilder), DiskError> {
        let segment = Segment::open(self.disk, self.folder, reference.id, reference.length)?;
        let length = segment.written();
        if length < reference.length {
            let what = format!("the end of the file, expected {} bytes", reference.length);
            return Err(segment.corrupt(length, what));
        }
        let records_end = u32::try_from(length).map_err(|_| segment.corrupt(length, "a segment beyond 4 GiB"))?;
        let mut dead = Deaths::of(&segment, reference)?;
        let mut span = Span::default();
        let mut footer = FooterBuilder::default();
        let mut blocks = Blocks::new(segment.clone(), HEADER_BYTES, length);
        while let Some(record) = blocks.next() {
            let record = record?;
            span.push(record.parts.revision.main, record.offset);
            let fields = push_record(&segment, &mut footer, &record)?;
            let location = Location { segment: segment.id(), offset: record.offset, length: record.bytes.len() as u32 };
            self.tell(&segment, record.parts.revision, location, &fields, &mut dead)?;
        }
        self.take_deaths(&segment, dead)?;
        segment.set_records(span, records_end, false);
        Ok((segment, footer))
    }

    fn take_deaths(&mut self, segment: &Segment, mut dead: Deaths) -> Result<(), DiskError> {
        if let Some(offset) = dead.expected.next() {
            return Err(segment.corrupt(offset.into(), "no record, expected one that the checkpoint calls dead"));
        }
        self.dead.insert(segment.id(), dead.met);
        Ok(())
    }

    fn tell_footer(&mut self, segment: &Segment, footer: &Footer, dead: &mut Deaths) -> Result<Span, DiskError> {
        let broken = || segment.corrupt(footer.records_end.into(), "a footer that does not fit the segment");
        let mut span = Span::default();
        let mut cursor = FooterCursor::new(HEADER_BYTES);
        let mut count = 0;
        while !cursor.is_at_end(&footer.entries) {
            let entry = cursor.next(&footer.entries).ok_or_else(broken)?;
            span.push(entry.revision.main, entry.offset);
            let location = Location { segment: segment.id(), offset: entry.offset, length: entry.length };
            self.tell(segment, entry.revision, location, &entry.fields, dead)?;
            count += 1;
        }
        if cursor.offset() != footer.records_end || count != footer.count {
            return Err(broken());
        }
        Ok(span)
    }

    fn tell(
        &mut self,
        segment: &Segment,
        revision: Revision,
        location: Location,
        fields: &KeyFields<'_>,
        dead: &mut Deaths,
    ) -> Result<(), DiskError> {
        if revision <= self.last {
            let (found, last) = (revision, self.last);
            let what = format!("revision {}.{}, expected one above {}.{}", found.main, found.sub, last.main, last.sub);
            return Err(segment.corrupt(location.offset.into(), what));
        }
        self.last = revision;
        if dead.meet(location) {
            return Ok(());
        }
        (self.entry)(LoadedEntry {
            key: fields.key,
            revision,
            create_revision: fields.create_revision,
            version: fields.version,
            lease: fields.lease,
            location,
        });
        Ok(())
    }
}

/// The records of one segment that the checkpoint calls dead.
struct Deaths {
    /// Not met yet, rising.
    expected: Peekable<IntoIter<u32>>,
    met: DeadRecords,
}

impl Deaths {
    fn of(segment: &Segment, reference: &SegmentRef) -> Result<Self, DiskError> {
        let Some(offsets) = DeadRecords::decode_offsets(&reference.dead_offsets) else {
            return Err(segment.corrupt(0, "the checkpoint's list of this segment's dead records cannot be read"));
        };
        Ok(Self { expected: offsets.into_iter().peekable(), met: DeadRecords::default() })
    }

    /// Whether the next record is dead.
    fn meet(&mut self, location: Location) -> bool {
        let is_dead = self.expected.next_if_eq(&location.offset).is_some();
        if is_dead {
            self.met.insert(location.offset, location.length);
        }
        is_dead
    }
}

/// Makes a sealed segment's footer again from its records and puts it back. The footer's length must make up exactly
/// for the rest of the file, which it cannot when a record is missing or broken.
fn rebuild_footer(segment: &Arc<Segment>, length: u64) -> Result<Footer, DiskError> {
    let mut footer = FooterBuilder::default();
    let mut records_end = HEADER_BYTES;
    let mut blocks = Blocks::new(segment.clone(), HEADER_BYTES, segment.written());
    while let Some(record) = blocks.next() {
        let record = match record {
            Ok(record) => record,
            // The records end where no record can be read; the length tells whether that is their true end.
            Err(DiskError::Corrupt { .. }) => break,
            Err(error) => return Err(error),
        };
        push_record(segment, &mut footer, &record)?;
        records_end = record.offset + record.bytes.len() as u32;
    }
    let bytes = footer.finish(records_end);
    if u64::from(records_end) + bytes.len() as u64 != length {
        let what = "neither a whole record nor the end of the records, and the segment's footer is broken too";
        return Err(segment.corrupt(records_end.into(), what));
    }
    segment.repair_footer(&bytes, records_end)?;
    let count = footer.count();
    Ok(Footer { records_end, entries: footer.into_entries(), count })
}

fn push_record<'a>(
    segment: &Segment,
    footer: &mut FooterBuilder,
    record: &'a Verified<'_>,
) -> Result<KeyFields<'a>, DiskError> {
    let Some(fields) = key_fields(record.parts.deletion, record.payload()) else {
        return Err(segment.corrupt(record.offset.into(), "a record that holds no key-value"));
    };
    footer.push(record.parts.revision, record.parts.deletion, &fields, record.bytes.len() as u32);
    Ok(fields)
}
