//! Progress of long work, on a terminal only.
//!
//! Invariant: nothing but a terminal ever sees it, and the line is gone when the work is done.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line changes.
const INTERVAL: Duration = Duration::from_millis(200);
/// Counts between two looks at the clock.
const LOOK_EVERY: u64 = 1_024;

/// A line that counts up.
pub(super) struct Progress {
    what: &'static str,
    shown: Option<Instant>,
    is_terminal: bool,
    /// Counts until the next look at the clock.
    until_look: u64,
}

impl Progress {
    /// Counts `what`, in the plural.
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, shown: None, is_terminal: std::io::stderr().is_terminal(), until_look: 0 }
    }

    /// So many by now.
    pub(super) fn tell(&mut self, count: u64) {
        if !self.is_terminal || count < self.until_look {
            return;
        }
        self.until_look = count + LOOK_EVERY;
        if self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL) {
            eprint!("\r{count} {}", self.what);
            let _ = std::io::stderr().flush();
            self.shown = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
