//! One version of a key. Owns nothing but the numbers; a deletion is the version whose count is 0.

use crate::revlog::Location;

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
