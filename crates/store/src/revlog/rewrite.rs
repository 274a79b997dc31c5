//! Getting space back: the live records of segments with too little alive move into new segments.
//!
//! Owns the choice of segments and the one move that is under way. Does not own what is alive: the caller tells, twice
//! per record, before it is copied and before its new place is told. Invariant: new segments are sealed and durable
//! before they take the old ones' place in the order; old ones stay readable until every new place was told.

use super::footer::{FooterBuilder, FooterCursor};
use super::load::{Footer, read_footer};
use super::log::{Retired, RevLog};
use super::record::{FRAME_BYTES, Location, decode, framed_length};
use super::segment::{HEADER_BYTES, Segment};
use crate::error::DiskError;
use crate::revision::Revision;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

/// What looking at one entry counts for in a step's budget, bytes.
const ENTRY_COST_BYTES: usize = 64;
/// Neighbouring live records are read together up to this, bytes.
const RUN_BYTES_MAX: u32 = 256 << 10;
/// A segment that still grows is sealed for rewriting when most of it is dead and it holds at least this part of
/// `segment_bytes`; below that the space is not worth a file.
const ACTIVE_PART_MIN: u32 = 16;

/// Says whether the record of a key and revision is still reachable at a place.
type Alive<'a> = dyn FnMut(&[u8], Revision, Location) -> bool + 'a;
/// Learns that the record of a key and revision has a new place.
type Moved<'a> = dyn FnMut(&[u8], Revision, Location, Location) + 'a;

/// One move of neighbouring segments.
pub(super) struct Rewriting {
    sources: Vec<Arc<Segment>>,
    outputs: Vec<Output>,
    /// The records that were copied, in order.
    copies: Vec<Copied>,
    /// Of each source that was begun, where its records begin in `copies`.
    copies_starts: Vec<usize>,
    stage: Stage,
}

struct Output {
    segment: Arc<Segment>,
    footer: FooterBuilder,
}

/// A record's old and new place; its old segment follows from `copies_starts`.
#[derive(Clone, Copy)]
struct Copied {
    from_offset: u32,
    to_segment: u32,
    to_offset: u32,
}

enum Stage {
    Copying { source: usize, open: Option<Open> },
    Relocating { output: usize, source: usize, position: usize, cursor: FooterCursor },
}

/// The source that is being read.
struct Open {
    footer: Footer,
    cursor: FooterCursor,
}

/// Neighbouring live records of a source, not copied yet.
#[derive(Default)]
struct Run {
    offset: u32,
    length: u32,
}

impl Run {
    fn end(&self) -> u32 {
        self.offset + self.length
    }
}

#[derive(PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

impl Rewriting {
    /// Whether locations in a segment may still be in use because of this move.
    pub(super) fn reads(&self, segment: &Segment) -> bool {
        self.sources.iter().any(|source| source.id() == segment.id())
    }

    /// Where a record of a source was copied to. Until its new place is told it has both.
    pub(super) fn copied_to(&self, from: Location) -> Option<Location> {
        let source = self.sources.iter().position(|source| source.id() == from.segment)?;
        let start = *self.copies_starts.get(source)?;
        let end = self.copies_starts.get(source + 1).copied().unwrap_or(self.copies.len());
        let copies = &self.copies[start..end];
        let found = copies.binary_search_by_key(&from.offset, |copied| copied.from_offset).ok()?;
        let Copied { to_segment, to_offset, .. } = copies[found];
        Some(Location { segment: to_segment, offset: to_offset, length: from.length })
    }

    /// New segments that are not in the log's order.
    pub(super) fn unplaced_outputs(&self) -> impl Iterator<Item = &Arc<Segment>> {
        let is_copying = matches!(self.stage, Stage::Copying { .. });
        self.outputs.iter().filter(move |_| is_copying).map(|output| &output.segment)
    }
}

impl RevLog {
    /// One bounded step of rewriting segments that hold too little alive. `alive` says whether a record is still
    /// reachable, `moved` learns each new place. Answers whether there is more to do.
    ///
    /// A step copies and looks through about `bytes_max` bytes, and syncs what it wrote. New places are told only in
    /// steps after the one that put them into `view`: who takes `view` after each step can read every location, old
    /// or new.
    pub fn rewrite_step(
        &mut self,
        bytes_max: usize,
        alive: &mut Alive<'_>,
        moved: &mut Moved<'_>,
    ) -> Result<bool, DiskError> {
        self.guarded(|log| {
            if log.rewriting.is_none() {
                log.rewriting = log.next_rewriting()?;
            }
            // While a step works on the move, the log's other fields are free to change.
            let Some(mut rewriting) = log.rewriting.take() else { return Ok(false) };
            let progress = match rewriting.stage {
                Stage::Copying { .. } => log.copy(&mut rewriting, bytes_max, alive)?,
                Stage::Relocating { .. } => log.relocate(&mut rewriting, bytes_max, alive, moved),
            };
            if progress == Progress::More {
                log.rewriting = Some(rewriting);
            }
            Ok(progress == Progress::More || log.next_sources().is_some() || log.is_active_wasteful())
        })
    }

    fn next_rewriting(&mut self) -> Result<Option<Rewriting>, DiskError> {
        if self.next_sources().is_none() && self.is_active_wasteful() {
            self.seal_active()?;
        }
        Ok(self.next_sources().map(|range| Rewriting {
            sources: self.sealed[range].to_vec(),
            outputs: Vec::new(),
            copies: Vec::new(),
            copies_starts: Vec::new(),
            stage: Stage::Copying { source: 0, open: None },
        }))
    }

    fn is_wasteful(&self, segment: &Segment) -> bool {
        self.dead_bytes_of(segment) * 2 > segment.record_bytes()
    }

    fn is_active_wasteful(&self) -> bool {
        self.active.as_ref().is_some_and(|active| {
            self.is_wasteful(&active.segment)
                && active.segment.records_end() >= self.config.segment_bytes / ACTIVE_PART_MIN
        })
    }

    /// The first sealed segment with less than half alive, and the neighbours that are worth joining: those with too
    /// little alive themselves, and those with no more alive than what is joined so far. The latter keeps the number
    /// of small segments low, while every record is moved only when what it joins has doubled.
    fn next_sources(&self) -> Option<Range<usize>> {
        let segments = &self.sealed;
        let first = segments.iter().position(|segment| self.is_wasteful(segment))?;
        let (mut start, mut end) = (first, first + 1);
        let mut total = self.live_bytes_of(&segments[first]);
        let room = u64::from(self.config.segment_bytes.saturating_sub(HEADER_BYTES));
        let joins = |segment: &Segment, total: u64| {
            let live = self.live_bytes_of(segment);
            (self.is_wasteful(segment) || live <= total) && total + live <= room
        };
        loop {
            if start > 0 && joins(&segments[start - 1], total) {
                start -= 1;
                total += self.live_bytes_of(&segments[start]);
            } else if end < segments.len() && joins(&segments[end], total) {
                total += self.live_bytes_of(&segments[end]);
                end += 1;
            } else {
                return Some(start..end);
            }
        }
    }

    fn copy(
        &mut self,
        rewriting: &mut Rewriting,
        bytes_max: usize,
        alive: &mut Alive<'_>,
    ) -> Result<Progress, DiskError> {
        let mut budget = bytes_max.max(1);
        let Stage::Copying { source: mut position, mut open } =
            mem::replace(&mut rewriting.stage, Stage::Copying { source: 0, open: None })
        else {
            unreachable!("copying is called in its stage");
        };
        while budget > 0 && position < rewriting.sources.len() {
            let source = rewriting.sources[position].clone();
            let mut current = match open.take() {
                Some(current) => current,
                None => {
                    rewriting.copies_starts.push(rewriting.copies.len());
                    open_source(&source)?
                }
            };
            let entries = &current.footer.entries;
            let mut run = Run::default();
            while budget > 0 && !current.cursor.is_at_end(entries) {
                let end = u64::from(current.footer.records_end);
                let entry = current
                    .cursor
                    .next(entries)
                    .ok_or_else(|| source.corrupt(end, "a footer that does not fit the segment"))?;
                budget = budget.saturating_sub(ENTRY_COST_BYTES);
                let from = Location { segment: source.id(), offset: entry.offset, length: entry.length };
                if !alive(entry.fields.key, entry.revision, from) {
                    continue;
                }
                budget = budget.saturating_sub(entry.length as usize);
                if run.end() != entry.offset || run.length.saturating_add(entry.length) > RUN_BYTES_MAX {
                    self.copy_run(rewriting, &source, &run)?;
                    run = Run { offset: entry.offset, length: 0 };
                }
                if self.needs_output(rewriting, u64::from(run.length) + u64::from(entry.length)) {
                    self.copy_run(rewriting, &source, &run)?;
                    run = Run { offset: entry.offset, length: 0 };
                    self.begin_output(rewriting)?;
                }
                let output = rewriting.outputs.last_mut().expect("an output was begun");
                output.footer.push(entry.revision, entry.deletion, &entry.fields, entry.length);
                rewriting.copies.push(Copied {
                    from_offset: from.offset,
                    to_segment: output.segment.id(),
                    to_offset: output.segment.records_end() + run.length,
                });
                run.length += entry.length;
            }
            self.copy_run(rewriting, &source, &run)?;
            if current.cursor.is_at_end(entries) {
                position += 1;
            } else {
                open = Some(current);
            }
        }
        if position < rewriting.sources.len() {
            if let Some(output) = rewriting.outputs.last() {
                // Synced step by step, so that the last step has little left to wait for.
                output.segment.flush()?;
                output.segment.sync()?;
            }
            rewriting.stage = Stage::Copying { source: position, open };
            return Ok(Progress::More);
        }
        self.place(rewriting)
    }

    fn needs_output(&self, rewriting: &Rewriting, more: u64) -> bool {
        rewriting.outputs.last().is_none_or(|output| {
            let end = u64::from(output.segment.records_end());
            output.footer.count() > 0 && end + more > self.config.segment_bytes.into()
        })
    }

    fn begin_output(&mut self, rewriting: &mut Rewriting) -> Result<(), DiskError> {
        if let Some(output) = rewriting.outputs.last() {
            output.finish()?;
        }
        let segment = self.create_segment()?;
        rewriting.outputs.push(Output { segment, footer: FooterBuilder::default() });
        Ok(())
    }

    fn copy_run(&self, rewriting: &Rewriting, source: &Segment, run: &Run) -> Result<(), DiskError> {
        let Some(output) = rewriting.outputs.last().filter(|_| run.length > 0) else { return Ok(()) };
        let bytes = source.read(run.offset.into(), run.length as usize)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let offset = u64::from(run.end()) - rest.len() as u64;
            let length = if rest.len() < FRAME_BYTES { 0 } else { framed_length(rest) as usize };
            let record = &rest[..length.min(rest.len())];
            let parts = decode(record).map_err(|what| source.corrupt(offset, what))?;
            output.segment.append(parts.revision.main, |buffer| {
                buffer.extend_from_slice(record);
                length as u32
            });
            rest = &rest[length..];
            if output.segment.buffered() >= self.config.buffer_bytes {
                output.segment.flush()?;
            }
        }
        Ok(())
    }

    /// Puts the outputs in the sources' place.
    fn place(&mut self, rewriting: &mut Rewriting) -> Result<Progress, DiskError> {
        if let Some(output) = rewriting.outputs.last() {
            output.finish()?;
            self.sync_names()?;
        }
        let first = rewriting.sources[0].id();
        let start = self.sealed.iter().position(|segment| segment.id() == first).expect("sources stay in the order");
        let outputs = rewriting.outputs.iter().map(|output| output.segment.clone());
        let replaced = self.sealed.splice(start..start + rewriting.sources.len(), outputs);
        self.retired.extend(replaced.map(Retired::new));
        for source in &rewriting.sources {
            self.dead.remove(&source.id());
        }
        for output in &rewriting.outputs {
            self.dead.entry(output.segment.id()).or_default();
        }
        self.renew_view();
        rewriting.stage =
            Stage::Relocating { output: 0, source: 0, position: 0, cursor: FooterCursor::new(HEADER_BYTES) };
        Ok(if rewriting.outputs.is_empty() { Progress::Done } else { Progress::More })
    }

    /// Tells new places. What died since it was copied was marked in both places, or is marked here.
    fn relocate(
        &mut self,
        rewriting: &mut Rewriting,
        bytes_max: usize,
        alive: &mut Alive<'_>,
        moved: &mut Moved<'_>,
    ) -> Progress {
        let Rewriting { sources, outputs, copies, copies_starts, stage } = rewriting;
        let Stage::Relocating { output: place, source, position, cursor } = stage else {
            unreachable!("relocating is called in its stage");
        };
        let mut budget = bytes_max.max(1);
        while let Some(output) = outputs.get(*place) {
            let entries = output.footer.entries();
            if cursor.is_at_end(entries) {
                *place += 1;
                *cursor = FooterCursor::new(HEADER_BYTES);
                continue;
            }
            if budget == 0 {
                return Progress::More;
            }
            budget = budget.saturating_sub(ENTRY_COST_BYTES);
            let entry = cursor.next(entries).expect("a footer that this process built can be read");
            while copies_starts.get(*source + 1).is_some_and(|start| start <= position) {
                *source += 1;
            }
            let Copied { from_offset, to_segment, to_offset } = copies[*position];
            *position += 1;
            let from = Location { segment: sources[*source].id(), offset: from_offset, length: entry.length };
            let to = Location { segment: to_segment, offset: to_offset, length: entry.length };
            assert_eq!(
                (output.segment.id(), entry.offset),
                (to_segment, to_offset),
                "a copy lies where it was planned"
            );
            if alive(entry.fields.key, entry.revision, from) {
                moved(entry.fields.key, entry.revision, from, to);
            } else {
                self.mark_dead(to);
            }
        }
        Progress::Done
    }
}

impl Output {
    fn finish(&self) -> Result<(), DiskError> {
        self.segment.seal(&self.footer.finish(self.segment.records_end()))?;
        self.segment.sync()
    }
}

fn open_source(source: &Segment) -> Result<Open, DiskError> {
    match read_footer(source)? {
        Some(footer) => Ok(Open { footer, cursor: FooterCursor::new(HEADER_BYTES) }),
        None => Err(source.corrupt(source.records_end().into(), "a footer that is broken")),
    }
}
