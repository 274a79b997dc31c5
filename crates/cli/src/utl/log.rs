//! Log lines as etcdutl writes them: time, level, place in its code, text, fields.
//!
//! Not here: what is said. The invariant: they go to the standard error, so that the standard output is the answer alone.

use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// `2026-11-21T12:01:08Z` of seconds since 1970.
fn time_text(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY_S, seconds % DAY_S);
    // Days since 0000-03-01, in eras of 400 years: leap days are then at the end of a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A line without its time.
fn line(place: &str, text: &str, fields: &[(&str, Value)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}: {}", Value::from(*name), spaced(value))).collect();
    let fields = if fields.is_empty() { String::new() } else { format!("\t{{{}}}", fields.join(", ")) };
    format!("info\t{place}\t{text}{fields}")
}

/// A value with a blank behind each comma, as in etcdutl's lists.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

/// Says something.
pub(super) fn info(place: &str, text: &str, fields: &[(&str, Value)]) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    eprintln!("{}\t{}", time_text(seconds), line(place, text, fields));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_etcdutls() {
        assert_eq!(time_text(0), "1970-01-01T00:00:00Z");
        assert_eq!(time_text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(time_text(1_795_262_468), "2026-11-21T12:01:08Z");
        let urls = Value::from(vec!["http://a:1", "http://b:2"]);
        assert_eq!(
            line(
                "membership/cluster.go:408",
                "added member",
                &[("id", "7".into()), ("urls", urls), ("learner", false.into())]
            ),
            "info\tmembership/cluster.go:408\tadded member\t{\"id\": \"7\", \"urls\": [\"http://a:1\", \"http://b:2\"], \
             \"learner\": false}"
        );
    }
}
