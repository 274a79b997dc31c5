//! A leader whose disk does not answer.
//!
//! Owns the watch over the oldest write on its way. A leader goes on sending heartbeats while its disk hangs, so nobody
//! would relieve it, and soon it takes no commands. Invariant: only a voter that is heard of is handed to, and a member whose
//! disk hangs can't win: its own vote has to be durable first.

use super::Node;

/// What is remembered between ticks.
#[derive(Default)]
pub(super) struct Stall {
    /// The number of the oldest write at the last tick, and at which tick it was first seen as that.
    oldest: Option<(u64, u64)>,
    /// When leadership was handed over for it last, in ticks.
    handed_over: Option<u64>,
}

impl Node {
    /// Hands leadership over when one write has taken longer than an election timeout; again after two more.
    pub(super) fn hand_over_when_stalled(&mut self) {
        let Some(number) = self.writes.front().map(|write| write.number) else {
            self.stall.oldest = None;
            return;
        };
        let since = match self.stall.oldest {
            Some((known, since)) if known == number => since,
            _ => {
                self.stall.oldest = Some((number, self.ticks));
                self.ticks
            }
        };
        let patience = self.config.election_ticks as u64;
        let is_too_soon = self.stall.handed_over.is_some_and(|tick| self.ticks < tick + 2 * patience);
        if self.ticks >= since + patience && !is_too_soon && self.consensus.transfer_to_active() {
            self.stall.handed_over = Some(self.ticks);
        }
    }
}
