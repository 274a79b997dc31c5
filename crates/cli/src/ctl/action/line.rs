//! Lines of commands typed or piped in: reading them, and splitting one into words.
//!
//! Not here: what the words mean. The invariant: a line counts only with its line feed, so that a truncated input never
//! passes for a whole one.

use std::io::BufRead;

use crate::command_line::go_text::unquote_prefix;
use crate::command_line::word;

/// Why a line could not be read or split.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineFault {
    /// The input ended before a line feed.
    End,
    /// A word in double quotes has a bad escape.
    Quoting,
    /// The input could not be read.
    Input(String),
}

impl std::fmt::Display for LineFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::End => formatter.write_str("EOF"),
            Self::Quoting => formatter.write_str("invalid syntax"),
            Self::Input(reason) => formatter.write_str(reason),
        }
    }
}

/// Reads a line and takes the blanks off both ends.
///
/// # Errors
/// The input ended or failed.
pub(crate) fn read_line(input: &mut impl BufRead) -> Result<String, LineFault> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).map_err(|error| LineFault::Input(error.to_string()))?;
    if line.last() != Some(&b'\n') {
        return Err(LineFault::End);
    }
    Ok(word::from_bytes(&line).trim().to_owned())
}

/// Splits a line into words. `"…"` is one word, with escapes; `'…'` is one word, as it stands; every other word ends at
/// a blank. A quote that is never closed is passed over.
///
/// # Errors
/// A bad escape between double quotes.
pub(crate) fn split(line: &str) -> Result<Vec<String>, LineFault> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => quoted_length(rest),
            '\'' => rest[1..].find('\'').map(|inside| inside + 2),
            _ => Some(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        let Some(length) = length else {
            rest = rest[1..].trim_start();
            continue;
        };
        let (text, after) = rest.split_at(length);
        words.push(match first {
            '"' => {
                unquote_prefix(text).and_then(|(bytes, _)| String::from_utf8(bytes).ok()).ok_or(LineFault::Quoting)?
            }
            '\'' => text[1..length - 1].to_owned(),
            _ => text.to_owned(),
        });
        rest = after.trim_start();
    }
    Ok(words)
}

/// The length of the string in double quotes that the text starts with, quotes included; None if it is not closed.
fn quoted_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    let closing = text[1..].char_indices().find(|(_, character)| {
        let closes = *character == '"' && !escaped;
        escaped = *character == '\\' && !escaped;
        closes
    });
    closing.map(|(inside, _)| inside + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_need_their_end() {
        let mut input = b" get a \r\n\nput b".as_slice();
        assert_eq!(read_line(&mut input), Ok("get a".to_owned()));
        assert_eq!(read_line(&mut input), Ok(String::new()));
        assert_eq!(read_line(&mut input), Err(LineFault::End));
    }

    #[test]
    fn words_and_quotes() {
        let check = |line: &str, words: &[&str]| assert_eq!(split(line).expect(line), words, "{line}");
        check(r#"put "a b" "c\n d\x23\\""#, &["put", "a b", "c\n d#\\"]);
        check(r#"put 'a q' '1"2'"#, &["put", "a q", "1\"2"]);
        check(r#"put a"b c"d 1"#, &["put", "a\"b", "c\"d", "1"]);
        check(r#"put "a 1"#, &["put", "a", "1"]);
        check(r#"put "" '' x"#, &["put", "", "", "x"]);
        check("put `a` --prev-kv", &["put", "`a`", "--prev-kv"]);
        check("  ", &[]);
        assert_eq!(split(r#"put "\q" 1"#), Err(LineFault::Quoting));
    }
}
