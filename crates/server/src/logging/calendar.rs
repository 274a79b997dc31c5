//! Moments as the log writes them: UTC, in the Gregorian calendar.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
    microseconds: u32,
}

impl Moment {
    /// Of a time; one before 1970 counts as 1970's beginning.
    pub(super) fn of(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since_epoch.as_secs();
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        // Days to a date in the Gregorian calendar, by eras of 400 years counted from 1 March of year 0.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        Self { year, month, day, second_of_day, microseconds: since_epoch.subsec_micros() }
    }

    fn clock(self) -> (u64, u64, u64) {
        (self.second_of_day / 3_600, self.second_of_day / 60 % 60, self.second_of_day % 60)
    }

    /// `2006-01-02T15:04:05.999999Z`, always six digits.
    pub(super) fn for_line(self) -> String {
        let Self { year, month, day, microseconds, .. } = self;
        let (hour, minute, second) = self.clock();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{microseconds:06}Z")
    }

    /// `2006-01-02T15-04-05.999`: sorts by time.
    pub(super) fn for_file_name(self) -> String {
        let Self { year, month, day, microseconds, .. } = self;
        let (hour, minute, second) = self.clock();
        let milliseconds = microseconds / 1_000;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{milliseconds:03}")
    }

    /// Whether a text has the form of [`Self::for_file_name`].
    pub(super) fn is_for_file_name(text: &str) -> bool {
        let form = b"0000-00-00T00-00-00.000";
        text.len() == form.len()
            && text.bytes().zip(form).all(|(byte, &wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                _ => byte == wanted,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_have_microseconds() {
        let at = |seconds, micros| {
            Moment::of(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros)).for_line()
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_400, 5), "2000-02-29T00:00:00.000005Z");
        assert_eq!(at(1_795_271_401, 999_999), "2026-11-21T14:30:01.999999Z");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28T23:59:59.000000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn file_names_are_told_from_others() {
        let name = Moment::of(UNIX_EPOCH + Duration::from_millis(1_795_271_401_005)).for_file_name();
        assert_eq!(name, "2026-11-21T14-30-01.005");
        assert!(Moment::is_for_file_name(&name));
        for other in ["", "other", "2026-11-21T14:30:01.005", "2026-11-21T14-30-01.0050"] {
            assert!(!Moment::is_for_file_name(other), "{other}");
        }
    }
}
