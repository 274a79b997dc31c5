//! Where a JSON value ends, byte by byte, and what is wrong with it when it is none.
//!
//! Knows no message. The texts are those of Go's `encoding/json`; the stack of open arrays and objects is bounded, so what
//! passes may be decoded without a look at its depth.

/// Arrays and objects in each other (Go's bound).
const DEPTH_MAX: usize = 10_000;

/// What a byte did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value goes on, or has not begun.
    More,
    /// The value ends with this byte.
    EndsWith,
    /// The value, a bare one, ended before this byte, which is not taken.
    EndedBefore,
    /// No value can go on like this.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    ObjectKey,
    ObjectValue,
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    BeginValue,
    BeginValueOrEmpty,
    BeginKey,
    BeginKeyOrEmpty,
    EndValue,
    InString,
    Escape,
    /// Hexadecimal digits that are still to come.
    EscapeDigits(u8),
    Minus,
    /// Behind a zero, or behind all digits before the point.
    Integer,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// A word, and how many of its letters are there.
    Word(&'static str, usize),
}

/// Follows one value.
pub(super) struct Scanner {
    state: State,
    open: Vec<Inside>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { state: State::BeginValue, open: Vec::new() }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl Scanner {
    /// Whether nothing but blanks was seen.
    pub(super) fn is_at_start(&self) -> bool {
        self.state == State::BeginValue && self.open.is_empty()
    }

    /// Takes a byte. After anything but [`Step::More`] a new scanner is needed.
    pub(super) fn step(&mut self, byte: u8) -> Step {
        let next = match (self.state, byte) {
            (State::InString, b'"') => State::EndValue,
            (State::InString, b'\\') => State::Escape,
            (State::InString, 0..0x20) => return failed(byte, "in string literal"),
            (State::InString, _) => return Step::More,
            (
                State::BeginValue | State::BeginValueOrEmpty | State::BeginKey | State::BeginKeyOrEmpty,
                b' ' | b'\t' | b'\r' | b'\n',
            ) => return Step::More,
            (State::BeginValueOrEmpty, b']') | (State::EndValue, _) => return self.end_value(byte),
            (State::BeginKeyOrEmpty, b'}') => {
                *self.open.last_mut().expect("an object is open") = Inside::ObjectValue;
                return self.end_value(byte);
            }
            (State::BeginKey | State::BeginKeyOrEmpty, b'"') => State::InString,
            (State::BeginKey | State::BeginKeyOrEmpty, _) => {
                return failed(byte, "looking for beginning of object key string");
            }
            (State::BeginValue | State::BeginValueOrEmpty, _) => match byte {
                b'{' => return self.open(byte, Inside::ObjectKey, State::BeginKeyOrEmpty),
                b'[' => return self.open(byte, Inside::Array, State::BeginValueOrEmpty),
                b'"' => State::InString,
                b'-' => State::Minus,
                b'0' => State::Integer,
                b'1'..=b'9' => State::Digits,
                b't' => State::Word("true", 1),
                b'f' => State::Word("false", 1),
                b'n' => State::Word("null", 1),
                _ => return failed(byte, "looking for beginning of value"),
            },
            (State::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => State::InString,
            (State::Escape, b'u') => State::EscapeDigits(4),
            (State::Escape, _) => return failed(byte, "in string escape code"),
            (State::EscapeDigits(left), _) if byte.is_ascii_hexdigit() => {
                if left == 1 {
                    State::InString
                } else {
                    State::EscapeDigits(left - 1)
                }
            }
            (State::EscapeDigits(_), _) => return failed(byte, "in \\u hexadecimal character escape"),
            (State::Minus, b'0') => State::Integer,
            (State::Minus, b'1'..=b'9') | (State::Digits, b'0'..=b'9') => State::Digits,
            (State::Minus, _) => return failed(byte, "in numeric literal"),
            (State::Integer | State::Digits, b'.') => State::Point,
            (State::Integer | State::Digits | State::Fraction, b'e' | b'E') => State::Exponent,
            (State::Point | State::Fraction, b'0'..=b'9') => State::Fraction,
            (State::Point, _) => return failed(byte, "after decimal point in numeric literal"),
            (State::Exponent, b'+' | b'-') => State::ExponentSign,
            (State::Exponent | State::ExponentSign | State::ExponentDigits, b'0'..=b'9') => State::ExponentDigits,
            (State::Exponent | State::ExponentSign, _) => return failed(byte, "in exponent of numeric literal"),
            (State::Integer | State::Digits | State::Fraction | State::ExponentDigits, _) => {
                return self.end_value(byte);
            }
            (State::Word(word, there), _) => {
                let wanted = word.as_bytes()[there];
                if byte != wanted {
                    return failed(byte, &format!("in literal {word} (expecting '{}')", wanted as char));
                }
                if there + 1 == word.len() { State::EndValue } else { State::Word(word, there + 1) }
            }
        };
        self.state = next;
        Step::More
    }

    fn open(&mut self, byte: u8, inside: Inside, state: State) -> Step {
        if self.open.len() == DEPTH_MAX {
            return failed(byte, "exceeded max depth");
        }
        self.open.push(inside);
        self.state = state;
        Step::More
    }

    /// A byte behind a value.
    fn end_value(&mut self, byte: u8) -> Step {
        let Some(inside) = self.open.last_mut() else {
            return Step::EndedBefore;
        };
        if is_space(byte) {
            self.state = State::EndValue;
            return Step::More;
        }
        self.state = match (*inside, byte) {
            (Inside::ObjectKey, b':') => {
                *inside = Inside::ObjectValue;
                State::BeginValue
            }
            (Inside::ObjectKey, _) => return failed(byte, "after object key"),
            (Inside::ObjectValue, b',') => {
                *inside = Inside::ObjectKey;
                State::BeginKey
            }
            (Inside::Array, b',') => State::BeginValue,
            (Inside::ObjectValue, b'}') | (Inside::Array, b']') => {
                self.open.pop();
                if self.open.is_empty() {
                    return Step::EndsWith;
                }
                State::EndValue
            }
            (Inside::ObjectValue, _) => return failed(byte, "after object key:value pair"),
            (Inside::Array, _) => return failed(byte, "after array element"),
        };
        Step::More
    }
}

fn failed(byte: u8, context: &str) -> Step {
    Step::Failed(format!("invalid character {} {context}", quoted(byte)))
}

/// A byte as Go quotes the character of its number.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0..0x20 | 0x7f => format!(r"'\x{byte:02x}'"),
        // The soft hyphen and the no-break space are not printable to Go.
        0x80..=0xa0 | 0xad => format!(r"'\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first value of a text, or what is wrong with it.
    fn first(text: &[u8]) -> Result<&[u8], String> {
        let mut scanner = Scanner::default();
        for (at, &byte) in text.iter().enumerate() {
            match scanner.step(byte) {
                Step::More => {}
                Step::EndsWith => return Ok(&text[..=at]),
                Step::EndedBefore => return Ok(&text[..at]),
                Step::Failed(reason) => return Err(reason),
            }
        }
        Err("cut off".to_owned())
    }

    #[test]
    fn a_value_ends_where_it_ends() {
        for (text, value) in [
            ("{} x", "{}"),
            (" [1,2 , {\"a\" : null}]]", " [1,2 , {\"a\" : null}]"),
            ("\"a\\\"\\u00e4\" ", "\"a\\\"\\u00e4\""),
            ("-0.5e+3x", "-0.5e+3"),
            ("true,", "true"),
            ("10]", "10"),
            ("{\"a\":{\"b\":[]},\"c\":{}}{", "{\"a\":{\"b\":[]},\"c\":{}}"),
        ] {
            assert_eq!(first(text.as_bytes()), Ok(value.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_gos_words() {
        for (text, reason) in [
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\"x", "invalid character 'x' after object key"),
            ("{\"a\":1 x", "invalid character 'x' after object key:value pair"),
            ("[1 2", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("\"\n", "invalid character '\\n' in string literal"),
            ("\"\\x", "invalid character 'x' in string escape code"),
            ("\"\\u12g", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("[1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("[1e+x", "invalid character 'x' in exponent of numeric literal"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("nul!", "invalid character '!' in literal null (expecting 'l')"),
            ("'", "invalid character '\\'' looking for beginning of value"),
            ("\u{7f}", "invalid character '\\x7f' looking for beginning of value"),
            ("\0", "invalid character '\\x00' looking for beginning of value"),
            ("\u{e4}", "invalid character '\u{c3}' looking for beginning of value"),
        ] {
            assert_eq!(first(text.as_bytes()), Err(reason.to_owned()), "{text}");
        }
        assert_eq!(first(b"\x80").unwrap_err(), "invalid character '\\u0080' looking for beginning of value");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(first(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(first(deep(DEPTH_MAX + 1).as_bytes()).unwrap_err(), "invalid character '[' exceeded max depth");
    }
}
