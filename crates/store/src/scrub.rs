//! Reading all stored records in the background, so that a bad block is found before somebody needs it.
//!
//! Owns one pass. Knows no pace: whoever runs it decides how much a step reads. Invariant: what a pass finds is held
//! against the store that it reads, never against one that was installed meanwhile.

use crate::error::Error;
use crate::revlog::Scan;
use crate::state::Core;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

/// One pass over the records as they were at its beginning.
pub struct Scrub {
    core: Arc<Core>,
    scan: Scan,
    installs: u64,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// So many bytes were read and are whole; there is more.
    Bytes(u64),
    /// The pass is over, after so many bytes.
    Ended(u64),
}

impl Scrub {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let installs = core.installs.load(Acquire);
        let scan = core.state.read().view.scan(0);
        Self { core, scan, installs }
    }

    /// Reads about `bytes_max` further bytes and verifies them. An error says that a record is broken or cannot be read;
    /// the store knows it then, too ([`crate::reader::StoreReader::corrupt_reason`]), and the pass is over.
    pub fn step(&mut self, bytes_max: u64) -> Result<Scrubbed, Error> {
        let mut bytes = 0;
        while bytes < bytes_max {
            match self.scan.next() {
                None => return Ok(Scrubbed::Ended(bytes)),
                Some(Ok(record)) => bytes += record.key_value.len() as u64 + RECORD_OVERHEAD_BYTES,
                Some(Err(_)) if self.core.installs.load(Acquire) != self.installs => return Ok(Scrubbed::Ended(bytes)),
                Some(Err(error)) => return Err(self.core.broken(&error)),
            }
        }
        Ok(Scrubbed::Bytes(bytes))
    }
}

/// A record's frame, bytes.
const RECORD_OVERHEAD_BYTES: u64 = 21;
