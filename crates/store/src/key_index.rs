//! The index of all keys in memory: key → its versions → where each lies in the revision log.

use crate::range::KeyRange;
use crate::revlog::Location;
use std::ops::ControlFlow;

/// One version of a key, as far as no disk is needed to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The revision that wrote it (`mod_revision`).
    pub main: i64,
    /// Its place within that revision.
    pub sub: u32,
    /// The revision that created the key; 0 for a deletion.
    pub create_revision: i64,
    /// Writes since creation, from 1; 0 marks a deletion.
    pub version: i64,
    /// The lease it is attached to; 0: none.
    pub lease: i64,
    /// Its record.
    pub location: Location,
}

impl Version {
    /// Whether this version says that the key is gone.
    pub fn is_deletion(&self) -> bool {
        self.version == 0
    }
}

/// An ordered index with subtree counts.
#[derive(Default)]
pub struct KeyIndex {}

impl KeyIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }
    /// Keys that exist at the head revision (their newest version is no deletion).
    pub fn live(&self) -> u64 {
        todo!()
    }
    /// Versions held, deletions included.
    pub fn versions(&self) -> u64 {
        todo!()
    }
    /// Adds the newest version of a key; answers the version that was newest before.
    pub fn append(&mut self, _key: &[u8], _version: Version) -> Option<Version> {
        todo!()
    }
    /// All versions of a key in revision order; empty when the key is unknown.
    pub fn get(&self, _key: &[u8]) -> &[Version] {
        todo!()
    }
    /// Keys of the range that exist at the head revision, in O(log n).
    pub fn count_live(&self, _range: &KeyRange) -> u64 {
        todo!()
    }
    /// Visits keys of the range in order, with their versions, until told to stop.
    pub fn walk(&self, _range: &KeyRange, _visit: &mut dyn FnMut(&[u8], &[Version]) -> ControlFlow<()>) {
        todo!()
    }
    /// Drops what compaction at `compact_revision` makes unreachable, for at most `keys_max` keys after `after`.
    /// Answers the last key looked at, to go on from, or `None` at the end.
    pub fn prune(
        &mut self,
        _after: Option<&[u8]>,
        _keys_max: usize,
        _compact_revision: i64,
        _dead: &mut dyn FnMut(Location),
    ) -> Option<Vec<u8>> {
        todo!()
    }
    /// The record of a version moved. Answers whether the version (at `from`) is still there.
    pub fn relocate(&mut self, _key: &[u8], _main: i64, _sub: u32, _from: Location, _to: Location) -> bool {
        todo!()
    }
}
