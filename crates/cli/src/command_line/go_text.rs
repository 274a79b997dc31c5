//! Values written and read the way Go's standard library does it, because users and scripts see them.
//!
//! Not here: where they are printed. The invariant: `unquote(quote(bytes)) == bytes` for every byte string.

use std::time::Duration;

use super::word;

/// Go's `%q` of a byte string: double quotes, escapes for what cannot be printed, `\xNN` for bytes that are not UTF-8.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| quote_character(character, &mut quoted));
        chunk.invalid().iter().for_each(|byte| quoted.push_str(&format!("\\x{byte:02x}")));
    }
    quoted.push('"');
    quoted
}

fn quote_character(character: char, quoted: &mut String) {
    match character {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        '\0'..' ' | '\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(character))),
        printable if is_printable(printable) => quoted.push(printable),
        other if u32::from(other) < 0x10000 => quoted.push_str(&format!("\\u{:04x}", u32::from(other))),
        other => quoted.push_str(&format!("\\U{:08x}", u32::from(other))),
    }
}

/// Whether Go would print the character as it is.
fn is_printable(character: char) -> bool {
    // A combining mark is escaped at the start of a string only, hence the letter before it.
    let mut pair = String::from("a");
    pair.push(character);
    pair.escape_debug().nth(1) == Some(character)
}

/// Reads a quoted string (`"…"` with escapes, or `` `…` `` without) from the start of `text`.
///
/// Answers the bytes and what follows the closing quote; nothing where the text is not a well-formed quoted string.
pub(crate) fn unquote_prefix(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (inside, rest) = raw.split_once('`')?;
        return Some((word::bytes(inside), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut bytes = Vec::new();
    loop {
        let character = rest.chars().next()?;
        rest = &rest[character.len_utf8()..];
        match character {
            '"' => return Some((bytes, rest)),
            '\n' => return None,
            '\\' => rest = unescape(rest, &mut bytes)?,
            other => bytes.extend(word::bytes(other.encode_utf8(&mut [0; 4]))),
        }
    }
}

/// Reads what follows a backslash; answers the rest of the text.
fn unescape<'text>(text: &'text str, bytes: &mut Vec<u8>) -> Option<&'text str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let plain = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            bytes.push(u8::try_from(digits(rest, 2, 16)?).ok()?);
            return Some(&rest[2..]);
        }
        '0'..='7' => {
            bytes.push(u8::try_from(digits(text, 3, 8)?).ok()?);
            return Some(&text[3..]);
        }
        'u' | 'U' => {
            let length = if kind == 'u' { 4 } else { 8 };
            let character = char::from_u32(digits(rest, length, 16)?)?;
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(&rest[length..]);
        }
        _ => return None,
    };
    bytes.push(plain);
    Some(rest)
}

fn digits(text: &str, length: usize, base: u32) -> Option<u32> {
    let digits = text.get(..length)?;
    digits.chars().all(|digit| digit.is_digit(base)).then(|| u32::from_str_radix(digits, base).ok())?
}

/// Go's `strconv.ParseInt(text, base, 64)`; base 0 reads the base off a prefix such as `0x`.
///
/// # Errors
/// The text of Go's error, such as `strconv.ParseInt: parsing "x": invalid syntax`.
pub(crate) fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let value = parse_magnitude(magnitude, base).map_err(|fault| number_error("ParseInt", text, fault))?;
    let signed = if negative { -i128::from(value) } else { i128::from(value) };
    i64::try_from(signed).map_err(|_| number_error("ParseInt", text, NumberFault::Range))
}

/// Go's `strconv.ParseUint(text, base, 64)`.
///
/// # Errors
/// The text of Go's error.
pub(crate) fn parse_uint(text: &str, base: u32) -> Result<u64, String> {
    parse_magnitude(text, base).map_err(|fault| number_error("ParseUint", text, fault))
}

/// Go's `strconv.ParseBool(text)`.
///
/// # Errors
/// The text of Go's error.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(number_error("ParseBool", text, NumberFault::Syntax)),
    }
}

#[derive(Clone, Copy)]
enum NumberFault {
    Syntax,
    Range,
}

fn number_error(function: &str, text: &str, fault: NumberFault) -> String {
    let reason = match fault {
        NumberFault::Syntax => "invalid syntax",
        NumberFault::Range => "value out of range",
    };
    format!("strconv.{function}: parsing {}: {reason}", quote(text.as_bytes()))
}

fn parse_magnitude(text: &str, base: u32) -> Result<u64, NumberFault> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match (base, lower.get(..2)) {
        (0, Some("0x")) => (&text[2..], 16),
        (0, Some("0b")) => (&text[2..], 2),
        (0, Some("0o")) => (&text[2..], 8),
        (0, _) if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        (0, _) => (text, 10),
        (base, _) => (text, base),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err(NumberFault::Syntax);
    }
    u64::from_str_radix(digits, base).map_err(|_| NumberFault::Range)
}

/// Go's `time.ParseDuration`. A negative duration is read as zero: nothing here can wait for less than no time.
///
/// # Errors
/// The text of Go's error.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quote(text.as_bytes()));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds = 0_f64;
    while !rest.is_empty() {
        let number_length = rest.find(|character: char| !character.is_ascii_digit() && character != '.');
        let (number, after) = rest.split_at(number_length.unwrap_or(rest.len()));
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit_length = after.find(|character: char| character.is_ascii_digit() || character == '.');
        let (unit, after) = after.split_at(unit_length.unwrap_or(after.len()));
        nanoseconds += number
            * match unit {
                "" => return Err(format!("time: missing unit in duration {}", quote(text.as_bytes()))),
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                other => {
                    let (unit, duration) = (quote(other.as_bytes()), quote(text.as_bytes()));
                    return Err(format!("time: unknown unit {unit} in duration {duration}"));
                }
            };
        rest = after;
    }
    if nanoseconds >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { Duration::ZERO } else { Duration::from_nanos(nanoseconds as u64) })
}

/// Go's `Duration.String`: `1h0m0s`, `2.5s`, `8.573555ms`, `973µs`, `0s`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let with_fraction = |unit: u128, name: &str| {
        let (whole, fraction) = (nanoseconds / unit, nanoseconds % unit);
        let width = unit.ilog10() as usize;
        let decimals = if width == 0 { String::new() } else { format!("{fraction:0width$}") };
        let decimals = decimals.trim_end_matches('0');
        if decimals.is_empty() { format!("{whole}{name}") } else { format!("{whole}.{decimals}{name}") }
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => with_fraction(1, "ns"),
        1_000..1_000_000 => with_fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => with_fraction(1_000_000, "ms"),
        _ => {
            let minutes = nanoseconds / 60_000_000_000;
            let seconds = duration_seconds_text(nanoseconds % 60_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

fn duration_seconds_text(nanoseconds: u128) -> String {
    let decimals = format!("{:09}", nanoseconds % 1_000_000_000);
    let decimals = decimals.trim_end_matches('0');
    let whole = nanoseconds / 1_000_000_000;
    if decimals.is_empty() { format!("{whole}s") } else { format!("{whole}.{decimals}s") }
}

/// A size in powers of a thousand with at most two digits that say something: `20 kB`, `2.1 GB`, `7 B`.
pub(crate) fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog(1000) as usize;
    let scaled = (bytes as f64 / 1000_f64.powi(exponent as i32) * 10.0 + 0.5).floor() / 10.0;
    if scaled < 10.0 { format!("{scaled:.1} {}", UNITS[exponent]) } else { format!("{scaled:.0} {}", UNITS[exponent]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngCore, SeedableRng, rngs::StdRng};

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote(b"a \"b\" \\ \n\t\x01\x7f\xff"), r#""a \"b\" \\ \n\t\x01\x7f\xff""#);
        assert_eq!(quote("€\u{2028}\u{301}😀\u{e000}".as_bytes()), "\"€\\u2028\u{301}😀\\ue000\"");
        assert_eq!(quote("\u{10ffff}".as_bytes()), "\"\\U0010ffff\"");
        assert_eq!(quote(b"a\xe2\x82"), r#""a\xe2\x82""#);
    }

    #[test]
    fn unquotes_what_it_quoted() {
        let seed = 0x51;
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..500 {
            let mut bytes = vec![0; (random.next_u32() % 24) as usize];
            random.fill_bytes(&mut bytes);
            let quoted = quote(&bytes);
            assert_eq!(unquote_prefix(&quoted), Some((bytes, "")), "seed {seed} round {round}: {quoted}");
        }
    }

    #[test]
    fn unquotes_escapes_and_refuses_others() {
        let ok = |text| unquote_prefix(text).map(|(bytes, rest)| (String::from_utf8(bytes).expect("utf-8"), rest));
        assert_eq!(ok(r#""c\n d\x23\\" rest"#), Some(("c\n d#\\".to_owned(), " rest")));
        assert_eq!(ok(r#""\101\u20ac\U0001f600""#), Some(("A€😀".to_owned(), "")));
        assert_eq!(ok("`a\\n`)"), Some(("a\\n".to_owned(), ")")));
        for broken in ["", "a", "\"", "\"a", "`a", r#""\q""#, r#""\xzz""#, r#""\x+1""#, r#""\400""#, r#""\ud800""#] {
            assert_eq!(unquote_prefix(broken), None, "{broken}");
        }
    }

    #[test]
    fn numbers_fail_in_gos_words() {
        assert_eq!(parse_int("-12", 10), Ok(-12));
        assert_eq!(parse_int("0x10", 0), Ok(16));
        assert_eq!(parse_int("010", 0), Ok(8));
        assert_eq!(parse_int("-9223372036854775808", 10), Ok(i64::MIN));
        assert_eq!(parse_int("zz", 16), Err("strconv.ParseInt: parsing \"zz\": invalid syntax".to_owned()));
        assert_eq!(parse_int("", 0), Err("strconv.ParseInt: parsing \"\": invalid syntax".to_owned()));
        let large = "99999999999999999999";
        assert_eq!(parse_int(large, 0), Err(format!("strconv.ParseInt: parsing \"{large}\": value out of range")));
        assert_eq!(parse_uint("-1", 16), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".to_owned()));
        assert_eq!(parse_bool("maybe"), Err("strconv.ParseBool: parsing \"maybe\": invalid syntax".to_owned()));
    }

    #[test]
    fn durations_there_and_back() {
        let cases = [("1h0m0s", 3_600_000_000_000), ("1m30.5s", 90_500_000_000), ("100ms", 100_000_000)];
        let cases = cases.into_iter().chain([("8.573555ms", 8_573_555), ("973.5µs", 973_500), ("1ns", 1), ("0s", 0)]);
        for (text, nanoseconds) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
            assert_eq!(duration_text(Duration::from_nanos(nanoseconds)), text);
        }
        assert_eq!(parse_duration("5"), Err("time: missing unit in duration \"5\"".to_owned()));
        assert_eq!(parse_duration("xx"), Err("time: invalid duration \"xx\"".to_owned()));
        assert_eq!(parse_duration("5x"), Err("time: unknown unit \"x\" in duration \"5x\"".to_owned()));
    }

    #[test]
    fn sizes_have_two_digits() {
        let cases = [(0, "0 B"), (9, "9 B"), (20_480, "20 kB"), (24_576, "25 kB"), (2_147_483_648, "2.1 GB")];
        for (bytes, text) in cases.into_iter().chain([(999, "999 B"), (1_000, "1.0 kB"), (53_248, "53 kB")]) {
            assert_eq!(size_text(bytes), text);
        }
    }
}
