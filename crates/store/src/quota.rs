//! How full the store is, in the stages that a quota knows.
//!
//! Owns the thresholds. Counts nothing, raises nothing: the sizes are the revision log's, the alarm is a command of the
//! member whose store is full. Invariant: the stage at which the alarm is taken back lies well below the one at which it
//! is raised, so that a store at the edge does not go to and fro.

/// From here on operators are warned, percent of the quota.
const WARNING_PERCENT: u128 = 80;
/// From here on what grows is slowed down; up to here an alarm is taken back.
const PRESSURE_PERCENT: u128 = 90;
/// The longest delay of a growing write, ms: at the limit.
const DELAY_MS_MAX: u64 = 100;

/// A quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of live data that it allows; 0: as many as there are.
    pub bytes: u64,
}

impl Quota {
    /// Whether live data of `live_bytes` is something to be warned of.
    pub fn is_warned(self, live_bytes: u64) -> bool {
        self.is_beyond(live_bytes, WARNING_PERCENT)
    }

    /// Whether there is so much room that an alarm is over.
    pub fn has_room(self, live_bytes: u64) -> bool {
        !self.is_beyond(live_bytes, PRESSURE_PERCENT)
    }

    /// Whether `more_bytes` still fit.
    pub fn fits(self, live_bytes: u64, more_bytes: u64) -> bool {
        self.bytes == 0 || live_bytes.saturating_add(more_bytes) < self.bytes
    }

    /// How long a write that grows the store is to wait, ms: nothing up to nine tenths, then more and more, so that whoever
    /// writes feels the limit before it is there and compaction has time to work.
    pub fn delay_ms(self, live_bytes: u64) -> u64 {
        if self.has_room(live_bytes) {
            return 0;
        }
        let begin = (u128::from(self.bytes) * PRESSURE_PERCENT / 100) as u64;
        let span = (self.bytes - begin).max(1);
        (u128::from(DELAY_MS_MAX) * u128::from((live_bytes - begin).min(span)) / u128::from(span)) as u64
    }

    fn is_beyond(self, live_bytes: u64, percent: u128) -> bool {
        self.bytes != 0 && u128::from(live_bytes) * 100 > u128::from(self.bytes) * percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_follow_each_other() {
        let quota = Quota { bytes: 1_000 };
        assert!(!quota.is_warned(800) && quota.is_warned(801));
        assert!(quota.has_room(900) && !quota.has_room(901));
        assert!(quota.fits(900, 99) && !quota.fits(900, 100) && !quota.fits(u64::MAX, 1));
        assert_eq!([0, 900, 901, 950, 1_000, 5_000].map(|live| quota.delay_ms(live)), [0, 0, 1, 50, 100, 100]);
    }

    #[test]
    fn without_a_quota_everything_fits() {
        let quota = Quota { bytes: 0 };
        assert!(quota.fits(u64::MAX, u64::MAX) && quota.has_room(u64::MAX) && !quota.is_warned(u64::MAX));
        assert_eq!(quota.delay_ms(u64::MAX), 0);
        assert_eq!(Quota { bytes: 1 }.delay_ms(1), 100, "no quota is too small to divide by");
        assert_eq!(Quota { bytes: u64::MAX }.delay_ms(u64::MAX), 100);
    }
}
