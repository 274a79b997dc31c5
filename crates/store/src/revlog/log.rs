//! The writer of the revision log.
//!
//! Owns the list of segments, what is dead in each, and which files may be deleted. Does not own what is alive.
//! Invariant: a file that the latest durable checkpoint names is never changed below the length named, and never
//! deleted; after an error of the disk nothing more is written.

use super::dead::DeadRecords;
use super::footer::FooterBuilder;
use super::load::Loader;
use super::record::{LoadedEntry, Location, RECORD_OVERHEAD, encode, key_fields};
use super::rewrite::Rewriting;
use super::segment::{HEADER_BYTES, Segment, is_segment_name, segment_path};
use super::view::SegmentSet;
use crate::disk::Disk;
use crate::error::DiskError;
use crate::revision::Revision;
use quorate_proto::quoratepb::SegmentRef;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Sizes of the log.
#[derive(Clone, Copy, Debug)]
pub struct RevLogConfig {
    /// A segment is sealed when its records would grow beyond this, bytes. A longer record gets a segment for itself.
    pub segment_bytes: u32,
    /// Appended bytes kept in memory before they are written to the file, bytes.
    pub buffer_bytes: usize,
}

/// The writer. One owner.
pub struct RevLog {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: String,
    pub(super) config: RevLogConfig,
    /// In revision order; all before `active`.
    pub(super) sealed: Vec<Arc<Segment>>,
    pub(super) active: Option<Active>,
    /// Dead records of each segment in `sealed` and `active`.
    pub(super) dead: BTreeMap<u32, DeadRecords>,
    pub(super) retired: Vec<Retired>,
    pub(super) rewriting: Option<Rewriting>,
    pub(super) next_id: u32,
    /// Sealed since the last sync.
    unsynced: Vec<Arc<Segment>>,
    /// Files were created since the folder was last synced.
    pub(super) names_changed: bool,
    last: Revision,
    view: Arc<SegmentSet>,
    has_failed: bool,
}

/// The segment that takes new records, with the footer that it will end in.
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) footer: FooterBuilder,
    synced_length: u64,
}

/// A segment that was rewritten. Its file goes when no durable checkpoint names it and nothing leads to it.
pub(super) struct Retired {
    pub(super) segment: Arc<Segment>,
    /// The latest `sync` told a list without it.
    is_unnamed: bool,
}

impl Retired {
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self { segment, is_unnamed: false }
    }
}

impl RevLog {
    /// Opens the log as a checkpoint names it: cuts off what lies beyond, removes segments it does not name, and tells
    /// every record that is not dead in revision order. With no segments it starts empty.
    ///
    /// Of sealed segments only the footer is read; a broken one is made again when all records are whole. Anything
    /// else that is missing or broken is an error. After an error the log on disk is as it was, but for such repairs
    /// and cuts.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &str,
        config: RevLogConfig,
        segments: &[SegmentRef],
        entry: &mut dyn FnMut(LoadedEntry<'_>),
    ) -> Result<Self, DiskError> {
        check_references(folder, segments)?;
        disk.create_folder(folder).map_err(|error| DiskError::io(folder, error))?;
        let named: BTreeSet<String> = segments.iter().map(|reference| segment_path(folder, reference.id)).collect();
        for name in disk.list(folder).map_err(|error| DiskError::io(folder, error))? {
            let path = format!("{folder}/{name}");
            if is_segment_name(&name) && !named.contains(&path) {
                disk.remove(&path).map_err(|error| DiskError::io(&path, error))?;
            }
        }
        let mut sealed = Vec::with_capacity(segments.len());
        let mut active = None;
        let mut loader = Loader { disk: &*disk, folder, last: Revision::default(), dead: BTreeMap::new(), entry };
        for reference in segments {
            if reference.sealed {
                sealed.push(loader.sealed(reference)?);
            } else {
                let (segment, footer) = loader.growing(reference)?;
                active = Some(Active { segment, footer, synced_length: reference.length });
            }
        }
        let (last, dead) = (loader.last, loader.dead);
        let next_id = segments.iter().map(|reference| reference.id).max().unwrap_or(0) + 1;
        let mut log = Self {
            disk,
            folder: folder.to_string(),
            config,
            sealed,
            active,
            dead,
            retired: Vec::new(),
            rewriting: None,
            next_id,
            unsynced: Vec::new(),
            names_changed: false,
            last,
            view: SegmentSet::new(folder, Vec::new(), []),
            has_failed: false,
        };
        log.renew_view();
        Ok(log)
    }

    /// A log that has no records and touches no file, in place of one that cannot be read. Nothing may be appended to it.
    pub(crate) fn without_records(disk: Arc<dyn Disk>, folder: &str, config: RevLogConfig) -> Self {
        Self {
            disk,
            folder: folder.to_string(),
            config,
            sealed: Vec::new(),
            active: None,
            dead: BTreeMap::new(),
            retired: Vec::new(),
            rewriting: None,
            next_id: 1,
            unsynced: Vec::new(),
            names_changed: false,
            last: Revision::default(),
            view: SegmentSet::new(folder, Vec::new(), []),
            // Appending to it ends in an error: the files below the folder are not its own.
            has_failed: true,
        }
    }

    /// The segments for readers. Records appended later are readable through it as long as they fit its newest segment.
    pub fn view(&self) -> Arc<SegmentSet> {
        self.view.clone()
    }

    /// The newest revision appended; 0.0 when there is none.
    pub fn last_revision(&self) -> Revision {
        self.last
    }

    /// Appends a record; readable at once, durable after `sync`.
    ///
    /// Panics when the revision is not above all others, or when the payload is no encoded `mvccpb.KeyValue`.
    pub fn append(&mut self, revision: Revision, deletion: bool, key_value: &[u8]) -> Result<Location, DiskError> {
        self.guarded(|log| log.append_record(revision, deletion, key_value))
    }

    /// Makes everything durable and says what a checkpoint must name. The length of a sealed segment is that of its
    /// whole file, of the last one, which may grow, where its records end.
    pub fn sync(&mut self) -> Result<Vec<SegmentRef>, DiskError> {
        self.guarded(Self::sync_all)
    }

    /// Compaction made this record unreachable: it is not told by the next `open` if it is still there. A record in a
    /// segment that was rewritten, whose new place was told, needs no mark.
    pub fn mark_dead(&mut self, location: Location) {
        // While a rewriting is under way a record may have two places. Dead in only one of them it could come back:
        // the deletion that ended its key may be dropped before its new place is told.
        let copied = self.rewriting.as_ref().and_then(|rewriting| rewriting.copied_to(location));
        if let Some(copied) = copied {
            self.dead.entry(copied.segment).or_default().insert(copied.offset, copied.length);
        }
        if let Some(dead) = self.dead.get_mut(&location.segment) {
            dead.insert(location.offset, location.length);
        }
    }

    /// Whether a rewriting is under way.
    pub fn is_rewriting(&self) -> bool {
        self.rewriting.is_some()
    }

    /// Bytes of records that are not dead.
    pub fn live_bytes(&self) -> u64 {
        self.ordered().map(|segment| self.live_bytes_of(segment)).sum()
    }

    /// Bytes of all segment files, those included that wait for their deletion, and what is still in memory.
    pub fn disk_bytes(&self) -> u64 {
        let retired = self.retired.iter().map(|retired| &retired.segment);
        let outputs = self.rewriting.iter().flat_map(Rewriting::unplaced_outputs);
        self.ordered().chain(retired).chain(outputs).map(|segment| segment.length()).sum()
    }

    /// A checkpoint with the segments of the latest `sync` is durable: files that only older ones named may go.
    pub fn checkpointed(&mut self) -> Result<(), DiskError> {
        self.guarded(Self::delete_unnamed)
    }

    /// Refuses everything after the first failure: what a failed write or sync left on the disk is unknown.
    pub(super) fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, DiskError>) -> Result<T, DiskError> {
        if self.has_failed {
            let source = io::Error::other("nothing more is written after the disk failed");
            return Err(DiskError::io(&self.folder, source));
        }
        let outcome = act(self);
        self.has_failed = outcome.is_err();
        outcome
    }

    pub(super) fn ordered(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.sealed.iter().chain(self.active.iter().map(|active| &active.segment))
    }

    pub(super) fn dead_bytes_of(&self, segment: &Segment) -> u64 {
        self.dead.get(&segment.id()).map_or(0, DeadRecords::bytes)
    }

    pub(super) fn live_bytes_of(&self, segment: &Segment) -> u64 {
        segment.record_bytes().saturating_sub(self.dead_bytes_of(segment))
    }

    pub(super) fn renew_view(&mut self) {
        let retired = self.retired.iter().map(|retired| retired.segment.clone());
        self.view = SegmentSet::new(&self.folder, self.ordered().cloned().collect(), retired);
    }

    pub(super) fn create_segment(&mut self) -> Result<Arc<Segment>, DiskError> {
        let id = self.next_id;
        self.next_id = id.checked_add(1).expect("fewer than 2^32 segments");
        self.names_changed = true;
        Segment::create(&*self.disk, &self.folder, id)
    }

    fn append_record(&mut self, revision: Revision, deletion: bool, key_value: &[u8]) -> Result<Location, DiskError> {
        assert!(revision > self.last, "revision {revision:?} comes after {:?}", self.last);
        let fields = key_fields(deletion, key_value).expect("a payload is an encoded mvccpb.KeyValue");
        let length = (RECORD_OVERHEAD + key_value.len()) as u64;
        let is_full = self.active.as_ref().is_some_and(|active| {
            active.segment.record_bytes() > 0
                && u64::from(active.segment.records_end()) + length > self.config.segment_bytes.into()
        });
        if is_full {
            self.seal_active()?;
        }
        if self.active.is_none() {
            let segment = self.create_segment()?;
            self.dead.insert(segment.id(), DeadRecords::default());
            self.active = Some(Active { segment, footer: FooterBuilder::default(), synced_length: 0 });
            self.renew_view();
        }
        let active = self.active.as_mut().expect("an active segment was made above");
        let (offset, length) =
            active.segment.append(revision.main, |buffer| encode(buffer, revision, deletion, key_value));
        active.footer.push(revision, deletion, &fields, length);
        self.last = revision;
        if active.segment.buffered() >= self.config.buffer_bytes {
            active.segment.flush()?;
        }
        Ok(Location { segment: active.segment.id(), offset, length })
    }

    /// Ends the active segment; the next record begins another.
    pub(super) fn seal_active(&mut self) -> Result<(), DiskError> {
        if let Some(active) = self.active.take() {
            let footer = active.footer.finish(active.segment.records_end());
            let sealed = active.segment.seal(&footer);
            self.sealed.push(active.segment.clone());
            self.unsynced.push(active.segment);
            sealed?;
        }
        Ok(())
    }

    fn sync_all(&mut self) -> Result<Vec<SegmentRef>, DiskError> {
        for segment in self.unsynced.drain(..) {
            segment.sync()?;
        }
        if let Some(active) = &mut self.active {
            active.segment.flush()?;
            if active.synced_length != active.segment.length() {
                active.segment.sync()?;
                active.synced_length = active.segment.length();
            }
        }
        self.sync_names()?;
        for retired in &mut self.retired {
            retired.is_unnamed = true;
        }
        Ok(self.references())
    }

    /// What there is, as `sync` says it, of which not all may be durable.
    pub fn references(&self) -> Vec<SegmentRef> {
        let reference = |segment: &Arc<Segment>| SegmentRef {
            id: segment.id(),
            length: segment.length(),
            sealed: segment.is_sealed(),
            dead_offsets: self.dead.get(&segment.id()).map(DeadRecords::encode).unwrap_or_default(),
        };
        self.ordered().map(reference).collect()
    }

    pub(super) fn sync_names(&mut self) -> Result<(), DiskError> {
        if self.names_changed {
            self.disk.sync_dir(&self.folder).map_err(|error| DiskError::io(&self.folder, error))?;
            self.names_changed = false;
        }
        Ok(())
    }

    fn delete_unnamed(&mut self) -> Result<(), DiskError> {
        let (rewriting, disk) = (&self.rewriting, &self.disk);
        let mut outcome = Ok(());
        let before = self.retired.len();
        self.retired.retain(|retired| {
            let is_led_to = rewriting.as_ref().is_some_and(|rewriting| rewriting.reads(&retired.segment));
            if !retired.is_unnamed || is_led_to || outcome.is_err() {
                return true;
            }
            let path = retired.segment.path();
            outcome = disk.remove(path).map_err(|error| DiskError::io(path, error));
            false
        });
        if self.retired.len() != before {
            self.renew_view();
        }
        outcome
    }
}

/// What a checkpoint must keep to: ids are unique, and only the last segment may still grow.
fn check_references(folder: &str, segments: &[SegmentRef]) -> Result<(), DiskError> {
    let mut ids = BTreeSet::new();
    for (position, reference) in segments.iter().enumerate() {
        let is_last = position + 1 == segments.len();
        let is_sound = ids.insert(reference.id)
            && (reference.sealed || is_last)
            && reference.length >= HEADER_BYTES.into()
            && reference.id < u32::MAX;
        if !is_sound {
            let what = "the checkpoint names this segment twice, out of place, or too short";
            return Err(DiskError::corrupt(segment_path(folder, reference.id), 0, what));
        }
    }
    Ok(())
}
