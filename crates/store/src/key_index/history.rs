//! The versions of one key. Most keys have one, so one version costs no allocation of its own.
//!
//! Owns the order of a key's versions and which of them a compaction drops. Invariant: never empty while it is in the
//! tree, and strictly rising in (main, sub).

use super::keys::make_room;
use super::version::Version;
use crate::revlog::Location;
use std::slice;

/// A key's versions, oldest first.
pub(super) enum History {
    One(Version),
    Many(Vec<Version>),
}

/// What is left of a key after compaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    Something,
    Nothing,
}

impl History {
    pub(super) fn versions(&self) -> &[Version] {
        match self {
            Self::One(version) => slice::from_ref(version),
            Self::Many(versions) => versions,
        }
    }

    pub(super) fn versions_mut(&mut self) -> &mut [Version] {
        match self {
            Self::One(version) => slice::from_mut(version),
            Self::Many(versions) => versions,
        }
    }

    pub(super) fn newest(&self) -> &Version {
        match self {
            Self::One(version) => version,
            Self::Many(versions) => versions.last().expect("a history is never empty"),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        !self.newest().is_deletion()
    }

    /// Adds a version; panics when it is not newer than all others, since the log is in revision order.
    pub(super) fn push(&mut self, version: Version) {
        let newest = *self.newest();
        assert!(
            (version.main, version.sub) > (newest.main, newest.sub),
            "versions of a key come in revision order: {}.{} after {}.{}",
            version.main,
            version.sub,
            newest.main,
            newest.sub,
        );
        match self {
            Self::One(only) => *self = Self::Many(vec![*only, version]),
            Self::Many(versions) => {
                make_room(versions, 1);
                versions.push(version);
            }
        }
    }

    /// Keeps the newest version at or below `compact_revision`, unless it is a deletion below it, and all above.
    pub(super) fn prune(&mut self, compact_revision: i64, dead: &mut dyn FnMut(Location)) -> (Remains, u64) {
        let versions = self.versions();
        let reached = versions.partition_point(|version| version.main <= compact_revision);
        let Some(newest) = versions[..reached].last() else { return (Remains::Something, 0) };
        let gone = newest.is_deletion() && newest.main < compact_revision;
        let dropped = if gone { reached } else { reached - 1 };
        for version in &versions[..dropped] {
            dead(version.location);
        }
        if dropped == versions.len() {
            return (Remains::Nothing, dropped as u64);
        }
        if dropped > 0 {
            *self = match &versions[dropped..] {
                [only] => Self::One(*only),
                rest => Self::Many(rest.to_vec()),
            };
        }
        (Remains::Something, dropped as u64)
    }
}
