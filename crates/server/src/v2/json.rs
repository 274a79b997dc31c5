//! Answers about keys as Go writes JSON: the order of the fields, what is left out, and what is escaped.

use quorate_store::v2::{Event, Fault, Image, KEYS};
use std::io::Write as _;

const NS_PER_S: i64 = 1_000_000_000;

/// Appends a string. Bytes that are no text become U+FFFD each.
pub(super) fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(character));
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// A string as Go's `%q` writes plain text.
pub(super) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// What clients see of a path.
fn shown(path: &[u8]) -> &[u8] {
    path.strip_prefix(KEYS).unwrap_or(path)
}

fn put_image(out: &mut Vec<u8>, image: &Image) {
    out.push(b'{');
    let start = out.len();
    let field = |out: &mut Vec<u8>, name: &str| {
        if out.len() > start {
            out.push(b',');
        }
        let _ = write!(out, "\"{name}\":");
    };
    let key = shown(&image.path);
    if !key.is_empty() {
        field(out, "key");
        put_string(out, key);
    }
    if let Some(value) = &image.value {
        field(out, "value");
        put_string(out, value);
    }
    if image.dir {
        field(out, "dir");
        out.extend_from_slice(b"true");
    }
    if let Some(expiration_ns) = image.expiration_ns {
        field(out, "expiration");
        let _ = write!(out, "\"{}\"", time(expiration_ns));
    }
    if image.ttl_s != 0 {
        field(out, "ttl");
        let _ = write!(out, "{}", image.ttl_s);
    }
    if !image.children.is_empty() {
        field(out, "nodes");
        out.push(b'[');
        for (position, child) in image.children.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            put_image(out, child);
        }
        out.push(b']');
    }
    for (name, index) in [("modifiedIndex", image.modified_index), ("createdIndex", image.created_index)] {
        if index != 0 {
            field(out, name);
            let _ = write!(out, "{index}");
        }
    }
    out.push(b'}');
}

/// An event with its line's end; without nodes when the client wants none.
pub(super) fn event(event: &Event, with_nodes: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    let _ = write!(out, "{{\"action\":\"{}\"", event.action.name());
    if with_nodes {
        out.extend_from_slice(b",\"node\":");
        put_image(&mut out, &event.node);
        if let Some(prev_node) = &event.prev_node {
            out.extend_from_slice(b",\"prevNode\":");
            put_image(&mut out, prev_node);
        }
    }
    out.extend_from_slice(b"}\n");
    out
}

/// The answer to a read.
pub(super) fn read(image: &Image) -> Vec<u8> {
    let mut out = b"{\"action\":\"get\",\"node\":".to_vec();
    put_image(&mut out, image);
    out.extend_from_slice(b"}\n");
    out
}

/// A failure with its line's end.
pub(super) fn failure(code: u16, text: &str, cause: &[u8], index: u64) -> Vec<u8> {
    let mut out = format!("{{\"errorCode\":{code},\"message\":").into_bytes();
    put_string(&mut out, text.as_bytes());
    if !cause.is_empty() {
        out.extend_from_slice(b",\"cause\":");
        put_string(&mut out, cause);
    }
    let _ = writeln!(out, ",\"index\":{index}}}");
    out
}

/// A fault's cause as clients see it.
pub(super) fn cause(fault: &Fault) -> &[u8] {
    shown(&fault.cause)
}

/// RFC 3339 in UTC, the fraction without zeros at its end.
pub(super) fn time(since_1970_ns: i64) -> String {
    let (seconds, ns) = (since_1970_ns.div_euclid(NS_PER_S), since_1970_ns.rem_euclid(NS_PER_S));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, so that a leap day ends its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text =
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
    if ns > 0 {
        text.push_str(format!(".{ns:09}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        let mut out = Vec::new();
        put_string(&mut out, b"\xff<&>\xe2\x80\xa8\"\\\x00\x08\t\x7f\xc3\xa9");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"\\ufffd\\u003c\\u0026\\u003e\\u2028\\\"\\\\\\u0000\\u0008\\t\u{7f}\u{e9}\""
        );
    }

    #[test]
    fn times_lose_their_last_zeros() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_400_120_000_000), "2000-02-29T00:00:00.12Z");
        assert_eq!(time(1_795_285_516_159_408_010), "2026-11-21T18:25:16.15940801Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn what_is_zero_is_left_out() {
        let root = Image { path: KEYS.into(), dir: true, ..Image::default() };
        assert_eq!(read(&root), b"{\"action\":\"get\",\"node\":{\"dir\":true}}\n");
        assert_eq!(
            failure(100, "Key not found", b"/a", 3),
            b"{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/a\",\"index\":3}\n"
        );
    }
}
