//! The time, on both clocks, as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// On the clock that never goes back: for how long.
    pub(crate) steady: Instant,
    /// On the clock on the wall, ms since 1970: what members and issuers of tokens tell each other.
    pub(crate) wall_ms: u64,
}

impl Moment {
    /// This one.
    pub(crate) fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { steady: Instant::now(), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }
}
