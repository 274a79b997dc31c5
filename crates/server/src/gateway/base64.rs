//! Bytes in JSON: base64 of either alphabet, padded or not, as Go's `protojson` takes it.
//!
//! Written here because the accepted language is Go's own: line ends anywhere, unused bits of any value.

const INVALID: u8 = 0xff;

const fn alphabet(last_two: &[u8; 2]) -> [u8; 256] {
    let mut values = [INVALID; 256];
    let mut at = 0;
    while at < 26 {
        values[b'A' as usize + at] = at as u8;
        values[b'a' as usize + at] = 26 + at as u8;
        at += 1;
    }
    at = 0;
    while at < 10 {
        values[b'0' as usize + at] = 52 + at as u8;
        at += 1;
    }
    values[last_two[0] as usize] = 62;
    values[last_two[1] as usize] = 63;
    values
}

static STANDARD: [u8; 256] = alphabet(b"+/");
static URL: [u8; 256] = alphabet(b"-_");

/// Appends what `text` stands for. `None`: it is no base64; `out` may have grown.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let values = if text.iter().any(|byte| matches!(byte, b'-' | b'_')) { &URL } else { &STANDARD };
    // Line ends count here, as they do in Go.
    let padded = text.len().is_multiple_of(4);
    out.reserve(text.len() / 4 * 3 + 3);
    let mut digits = text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let mut bits = 0u32;
    let mut count = 0;
    for digit in digits.by_ref() {
        if digit == b'=' && padded {
            break;
        }
        let value = values[digit as usize];
        if value == INVALID {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        count += 1;
        if count == 4 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
            continue;
        }
    }
    // What is left of a group of four: two digits are one byte, three are two.
    let pads = text.iter().filter(|&&byte| byte == b'=').count();
    let wanted_pads = if count == 0 || !padded { 0 } else { 4 - count };
    if count == 1 || pads != wanted_pads || digits.any(|byte| byte != b'=') {
        return None;
    }
    match count {
        2 => out.push((bits >> 4) as u8),
        3 => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => {}
    }
    Some(())
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` in the standard alphabet, padded.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let digit = |bits: u32, shift: u32| DIGITS[(bits >> shift & 63) as usize];
    let mut groups = bytes.chunks_exact(3);
    for group in groups.by_ref() {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        out.extend_from_slice(&[digit(bits, 18), digit(bits, 12), digit(bits, 6), digit(bits, 0)]);
    }
    match *groups.remainder() {
        [first] => {
            let bits = u32::from(first) << 16;
            out.extend_from_slice(&[digit(bits, 18), digit(bits, 12), b'=', b'=']);
        }
        [first, second] => {
            let bits = u32::from(first) << 16 | u32::from(second) << 8;
            out.extend_from_slice(&[digit(bits, 18), digit(bits, 12), digit(bits, 6), b'=']);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(text.as_bytes(), &mut out).map(|()| out)
    }

    #[test]
    fn either_alphabet_padded_or_not() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zg", b"f"),
            ("Zm8=", b"fo"),
            ("Zm8", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg", b"foob"),
            ("-_-_", b"\xfb\xff\xbf"),
            ("+/+/", b"\xfb\xff\xbf"),
            ("_w", b"\xff"),
            ("Zh==", b"f"),
            ("Zm\r9\nv\n\n", b"foo"),
        ] {
            assert_eq!(decoded(text).as_deref(), Some(bytes), "{text:?}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "!",
            "Z",
            "Zm9v=",
            "Zg=",
            "Zm9vZ",
            "====",
            "=",
            "Zg==Zg==",
            "Zm=v",
            "+_+_",
            "Z===",
            "Zm8=\u{e4}",
            "Zm9v====",
        ] {
            assert_eq!(decoded(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for length in 0..50u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(97).wrapping_add(length)).collect();
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            assert_eq!(text.len() % 4, 0);
            assert_eq!(decoded(std::str::from_utf8(&text).unwrap()), Some(bytes));
        }
    }
}
