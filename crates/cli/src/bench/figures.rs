//! Numbers as people read them.
//!
//! It owns the rounding and the units, not where the numbers come from.

/// A whole number with commas between the thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A whole number of things, given the name of one of them.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number))
}

/// Three significant digits, and all digits before the point; nothing at all is `0`.
pub(crate) fn decimal(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if size >= 99.95 => {
            let whole = count(number.abs().round() as u64);
            if number < 0.0 { format!("-{whole}") } else { whole }
        }
        size if size >= 9.995 => format!("{number:.1}"),
        size if size >= 0.9995 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// A time in the unit that suits it.
pub(crate) fn nanoseconds(time_ns: u64) -> String {
    match time_ns {
        0..1_000 => format!("{time_ns} ns"),
        1_000..999_500 => format!("{} us", decimal(time_ns as f64 / 1e3)),
        999_500..999_500_000 => format!("{} ms", decimal(time_ns as f64 / 1e6)),
        _ => format!("{} s", decimal(time_ns as f64 / 1e9)),
    }
}

/// Nanoseconds as the milliseconds of a JSON report.
pub(crate) fn milliseconds(time_ns: u64) -> f64 {
    time_ns as f64 / 1e6
}

/// The middle of the values, between the two middle ones if their number is even; `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!([0, 1, 2_000].map(|number| counted(number, "key")), ["0 keys", "1 key", "2,000 keys"]);
    }

    #[test]
    fn decimals_keep_three_digits() {
        let texts = [0.0, 0.1234, 0.9996, 1.234, 12.345, 99.96, 12_345.6, -4_000.0].map(decimal);
        assert_eq!(texts, ["0", "0.123", "1.00", "1.23", "12.3", "100", "12,346", "-4,000"]);
    }

    #[test]
    fn times_have_fitting_units() {
        let texts = [999, 1_000, 123_456, 999_600, 45_678_000, 12_000_000_000].map(nanoseconds);
        assert_eq!(texts, ["999 ns", "1.00 us", "123 us", "1.00 ms", "45.7 ms", "12.0 s"]);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
