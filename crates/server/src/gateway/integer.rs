//! Whole numbers in JSON: `12`, `"12"`, `1.2e1`.
//!
//! Nothing is computed in floating point, so every 64-bit number is taken exactly.

use super::scan::{Scanner, Step};

/// Digits of the largest 64-bit number.
const DIGITS_MAX: i64 = 20;

/// The number at the beginning of a string's text. What stands behind it does not matter, as in Go, so long as the number
/// ends there.
pub(super) fn of_string(text: &str) -> Option<i128> {
    let end = text.bytes().position(|byte| !is_number_byte(byte)).unwrap_or(text.len());
    if text.trim() != text {
        return None;
    }
    // A letter or an underscore right behind the digits makes it no number.
    if text[end..].starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_') {
        return None;
    }
    let literal = &text[..end];
    let mut scanner = Scanner::default();
    let whole = literal.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && literal.bytes().all(|byte| scanner.step(byte) == Step::More)
        && scanner.step(b' ') == Step::EndedBefore;
    if whole { of_literal(literal) } else { None }
}

fn is_number_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The value of a JSON number, if it is whole and not larger than any 64-bit number.
pub(super) fn of_literal(literal: &str) -> Option<i128> {
    let (negative, rest) = match literal.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, literal),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, "0"),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let integer = if integer == "0" { "" } else { integer };
    let fraction = fraction.trim_end_matches('0');
    if integer.is_empty() && fraction.is_empty() {
        return Some(0);
    }
    let exponent = i64::from(exponent.parse::<i32>().ok()?);
    let integer_digits = i64::try_from(integer.len()).ok()?;
    let fraction_digits = i64::try_from(fraction.len()).ok()?;
    let digits = if exponent >= 0 {
        if fraction_digits > exponent || integer_digits + exponent > DIGITS_MAX {
            return None;
        }
        let zeros = usize::try_from(exponent - fraction_digits).ok()?;
        format!("{integer}{fraction}{}", "0".repeat(zeros))
    } else {
        let kept = usize::try_from(integer_digits + exponent).ok()?;
        let (kept, dropped) = integer.split_at(kept);
        if !fraction.is_empty() || dropped.bytes().any(|digit| digit != b'0') {
            return None;
        }
        kept.to_owned()
    };
    if digits.len() > 2 * DIGITS_MAX as usize {
        // Further than any number of 64 bits; leading zeros may not hide one that long.
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_taken_exactly() {
        for (literal, value) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("0.000", Some(0)),
            ("0e99999999999", Some(0)),
            ("18446744073709551615", Some(i128::from(u64::MAX))),
            ("-9223372036854775808", Some(i128::from(i64::MIN))),
            ("1e3", Some(1000)),
            ("1.5e1", Some(15)),
            ("0.05e2", Some(5)),
            ("100e-2", Some(1)),
            ("1000.0", Some(1000)),
            ("1.5", None),
            ("15e-1", None),
            ("1e-1", None),
            ("1e20", None),
            ("1e99999999999", None),
            ("123456789012345678901234567890123456789012345", None),
        ] {
            assert_eq!(of_literal(literal), value, "{literal}");
        }
    }

    #[test]
    fn strings_hold_numbers_without_blanks_around_them() {
        for (text, value) in [
            ("12", Some(12)),
            ("-1e2", Some(-100)),
            ("12 34", Some(12)),
            ("12,", Some(12)),
            ("", None),
            (" 12", None),
            ("12\n", None),
            ("012", None),
            ("+1", None),
            ("12x", None),
            ("1_000", None),
            ("0x10", None),
            ("1.", None),
            ("1e", None),
            ("null", None),
            ("\u{e4}", None),
        ] {
            assert_eq!(of_string(text), value, "{text:?}");
        }
    }
}
