//! Committed entries that a store must not apply, because it is not to be trusted, kept for the one that replaces it.
//!
//! Owns their order and their bound. Invariant: no entry behind the last one that was applied is lost or reordered.

use crate::api::{CommittedEntry, Payload};
use std::collections::VecDeque;

/// Bytes of entries held at the most. The log in memory shares them.
pub const HELD_BYTES_MAX: usize = 1 << 30;

/// The entries.
#[derive(Debug, Default)]
pub struct HeldEntries {
    entries: VecDeque<CommittedEntry>,
    bytes: usize,
}

/// More than [`HELD_BYTES_MAX`]: the repair takes too long, and the process must begin anew from its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl HeldEntries {
    /// Keeps entries, which follow those that are here.
    pub fn hold(&mut self, entries: impl IntoIterator<Item = CommittedEntry>) -> Result<(), TooMany> {
        for entry in entries {
            self.bytes += match &entry.payload {
                Payload::Commands(bytes) | Payload::Members { change: bytes, .. } => bytes.len(),
                Payload::Empty => 0,
            };
            self.entries.push_back(entry);
        }
        if self.bytes > HELD_BYTES_MAX { Err(TooMany) } else { Ok(()) }
    }

    /// Gives back what lies behind `index`, which is all that the new store holds.
    pub fn release(&mut self, index: u64) -> Vec<CommittedEntry> {
        self.bytes = 0;
        let mut entries = Vec::from(std::mem::take(&mut self.entries));
        entries.retain(|entry| entry.index > index);
        entries
    }
}
