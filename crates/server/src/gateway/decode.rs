//! JSON into a message's bytes, as Go's `protojson` reads it with unknown fields discarded.
//!
//! Takes a value that [`super::scan`] let through, so what is left to find wrong is what it means: types, duplicates, text
//! that is no Unicode. One pass with a stack of its own; no depth of the input reaches the thread's stack.

use super::{base64, integer};
use prost::encoding::{encode_varint, encoded_len_varint};
use quorate_proto::descriptor::{FieldDescriptor, FieldKind, MessageDescriptor};
use std::borrow::Cow;

const WIRE_VARINT: u32 = 0;
const WIRE_BYTES: u32 = 2;

/// The bytes of the message that a JSON value describes, or what is wrong in Go's words.
pub(super) fn decode(json: &[u8], message: &'static MessageDescriptor) -> Result<Vec<u8>, String> {
    let mut reader = Reader { text: json, at: 0 };
    let mut writer = Writer::default();
    let first = reader.token()?;
    if first.kind != Kind::ObjectOpen {
        return Err(reader.unexpected(&first));
    }
    let mut levels = vec![Level::new(message)];
    while let Some(level) = levels.last_mut() {
        if let Some(field) = level.list {
            if reader.peek() == Some(b']') {
                reader.token()?;
                level.list = None;
                continue;
            }
            if let FieldKind::Message(inner) = field.kind {
                open(&mut reader, &mut writer, field)?;
                levels.push(Level::new(inner));
            } else {
                put_scalar(&mut reader, &mut writer, field)?;
            }
            continue;
        }
        let token = reader.token()?;
        if token.kind == Kind::ObjectClose {
            levels.pop();
            writer.close(levels.is_empty());
            continue;
        }
        let name = token.text.as_deref().expect("an object that was let through holds names");
        let Some(position) =
            level.message.fields.iter().position(|field| field.json_name == name || field.name == name)
        else {
            reader.skip_value()?;
            continue;
        };
        let field = &level.message.fields[position];
        if level.seen & 1 << position != 0 {
            return Err(reader.error(token.start, &format!("duplicate field {}", reader.raw(&token))));
        }
        level.seen |= 1 << position;
        if reader.peek() == Some(b'n') {
            reader.token()?;
            continue;
        }
        if field.repeated {
            let bracket = reader.token()?;
            if bracket.kind != Kind::ArrayOpen {
                return Err(reader.unexpected(&bracket));
            }
            level.list = Some(field);
            continue;
        }
        if let Some(oneof) = field.oneof {
            if level.oneofs.contains(&oneof) {
                let text = format!("error parsing {}, oneof {oneof} is already set", reader.raw(&token));
                return Err(reader.error(token.start, &text));
            }
            level.oneofs.push(oneof);
        }
        if let FieldKind::Message(inner) = field.kind {
            open(&mut reader, &mut writer, field)?;
            levels.push(Level::new(inner));
        } else {
            put_scalar(&mut reader, &mut writer, field)?;
        }
    }
    Ok(writer.finish())
}

/// A message that is being read.
struct Level {
    message: &'static MessageDescriptor,
    /// One bit for each field that occurred.
    seen: u64,
    oneofs: Vec<&'static str>,
    /// The repeated field whose items come.
    list: Option<&'static FieldDescriptor>,
}

impl Level {
    fn new(message: &'static MessageDescriptor) -> Self {
        assert!(message.fields.len() <= 64, "one bit for each field");
        Self { message, seen: 0, oneofs: Vec::new(), list: None }
    }
}

fn open(reader: &mut Reader<'_>, writer: &mut Writer, field: &FieldDescriptor) -> Result<(), String> {
    let brace = reader.token()?;
    if brace.kind != Kind::ObjectOpen {
        return Err(reader.unexpected(&brace));
    }
    writer.open(field.number);
    Ok(())
}

fn put_scalar(reader: &mut Reader<'_>, writer: &mut Writer, field: &FieldDescriptor) -> Result<(), String> {
    let token = reader.token()?;
    let whole = match token.kind {
        Kind::Number => integer::of_literal(reader.raw(&token)),
        Kind::String => token.text.as_deref().and_then(integer::of_string),
        _ => None,
    };
    // Without presence of its own, a field of no value is not written.
    let keep_empty = field.repeated || field.oneof.is_some();
    let mut number = |value: u64| {
        if value != 0 || keep_empty {
            writer.put_number(field.number, value);
        }
    };
    let (kind, done) = match field.kind {
        FieldKind::Bool => {
            let value = match token.kind {
                Kind::Bool => Some(u64::from(reader.raw(&token) == "true")),
                _ => None,
            };
            ("bool", value.map(&mut number))
        }
        FieldKind::Int32 => ("int32", whole.and_then(|n| i32::try_from(n).ok()).map(|n| number(n as i64 as u64))),
        FieldKind::Int64 => ("int64", whole.and_then(|n| i64::try_from(n).ok()).map(|n| number(n as u64))),
        FieldKind::Uint32 => ("uint32", whole.and_then(|n| u32::try_from(n).ok()).map(|n| number(n.into()))),
        FieldKind::Uint64 => ("uint64", whole.and_then(|n| u64::try_from(n).ok()).map(number)),
        FieldKind::Enum(names) => {
            let done = match (token.kind, &token.text) {
                (Kind::String, Some(text)) => {
                    // An unknown name is discarded like an unknown field.
                    if let Some((value, _)) = names.values.iter().find(|(_, name)| name == text) {
                        number(*value as i64 as u64);
                    }
                    Some(())
                }
                (Kind::Number, _) => whole.and_then(|n| i32::try_from(n).ok()).map(|n| number(n as i64 as u64)),
                _ => None,
            };
            ("enum", done)
        }
        FieldKind::String => {
            let text = token.text.as_deref().filter(|_| token.kind == Kind::String);
            ("string", text.map(|text| writer.put_bytes(field.number, text.as_bytes(), keep_empty)))
        }
        FieldKind::Bytes => {
            let mut bytes = Vec::new();
            let text = token.text.as_deref().filter(|_| token.kind == Kind::String);
            let done = text.and_then(|text| base64::decode(text.as_bytes(), &mut bytes));
            ("bytes", done.map(|()| writer.put_bytes(field.number, &bytes, keep_empty)))
        }
        FieldKind::Message(_) => unreachable!("opened by its caller"),
    };
    done.ok_or_else(|| {
        let text = format!("invalid value for {kind} field {}: {}", field.json_name, reader.raw(&token));
        reader.error(token.start, &text)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ObjectOpen,
    ObjectClose,
    ArrayOpen,
    ArrayClose,
    /// A string, or a name, which is one.
    String,
    Number,
    Bool,
    Null,
}

struct Token<'a> {
    kind: Kind,
    start: usize,
    end: usize,
    /// What a string says.
    text: Option<Cow<'a, str>>,
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The first byte of the next token.
    fn peek(&mut self) -> Option<u8> {
        // Commas and colons stand where they must: what was let through needs no second look.
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn token(&mut self) -> Result<Token<'a>, String> {
        let Some(first) = self.peek() else {
            return Err("proto: unexpected EOF".to_owned());
        };
        let start = self.at;
        let mut text = None;
        let kind = match first {
            b'{' => Kind::ObjectOpen,
            b'}' => Kind::ObjectClose,
            b'[' => Kind::ArrayOpen,
            b']' => Kind::ArrayClose,
            b'"' => Kind::String,
            b't' | b'f' => Kind::Bool,
            b'n' => Kind::Null,
            _ => Kind::Number,
        };
        match kind {
            Kind::String => text = Some(self.string()?),
            Kind::Number | Kind::Bool | Kind::Null => {
                let rest = &self.text[start..];
                let end = rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"+-.".contains(byte)));
                self.at = end.map_or(self.text.len(), |end| start + end);
            }
            _ => self.at += 1,
        }
        Ok(Token { kind, start, end: self.at, text })
    }

    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        let start = self.at;
        self.at += 1;
        let mut plain_from = self.at;
        let mut unescaped: Option<String> = None;
        loop {
            let rest = &self.text[self.at..];
            let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or("proto: unexpected EOF")?;
            self.at += length;
            let plain = std::str::from_utf8(&self.text[plain_from..self.at])
                .map_err(|_| self.syntax_error(start, "invalid UTF-8 in string"))?;
            if self.text[self.at] == b'"' {
                self.at += 1;
                return Ok(match unescaped {
                    None => Cow::Borrowed(plain),
                    Some(text) => Cow::Owned(text + plain),
                });
            }
            let out = unescaped.get_or_insert_default();
            out.push_str(plain);
            self.at += 1;
            let code = self.text[self.at];
            self.at += 1;
            let character = match code {
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.escaped_character(start)?,
                other => char::from(other),
            };
            unescaped.get_or_insert_default().push(character);
            plain_from = self.at;
        }
    }

    /// The character behind `\u`: four digits, or twice four for one beyond 16 bits.
    fn escaped_character(&mut self, string_start: usize) -> Result<char, String> {
        let first = hexadecimal(&self.text[self.at..self.at + 4]).expect("the digits were let through");
        self.at += 4;
        if !(0xd800..0xe000).contains(&first) {
            return Ok(char::from_u32(first).expect("no surrogate"));
        }
        let Some(second) = self.text.get(self.at..self.at + 6) else {
            return Err("proto: unexpected EOF".to_owned());
        };
        let low = if second.starts_with(b"\\u") { hexadecimal(&second[2..]) } else { None };
        let pair = low.filter(|low| first < 0xdc00 && (0xdc00..0xe000).contains(low));
        match pair {
            Some(low) => {
                self.at += 6;
                Ok(char::from_u32(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00)).expect("a pair of surrogates"))
            }
            None => {
                let text = format!("invalid escape code {} in string", quoted(second));
                Err(self.syntax_error(string_start, &text))
            }
        }
    }

    /// Reads past a value of any kind, looking at its strings.
    fn skip_value(&mut self) -> Result<(), String> {
        let mut open = 0usize;
        loop {
            match self.token()?.kind {
                Kind::ObjectOpen | Kind::ArrayOpen => open += 1,
                Kind::ObjectClose | Kind::ArrayClose => open -= 1,
                Kind::String | Kind::Number | Kind::Bool | Kind::Null => {}
            }
            // A name in an open object is a string like others.
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn raw(&self, token: &Token<'_>) -> &'a str {
        std::str::from_utf8(&self.text[token.start..token.end]).expect("strings were looked at, all else is ASCII")
    }

    fn unexpected(&self, token: &Token<'_>) -> String {
        self.syntax_error(token.start, &format!("unexpected token {}", self.raw(token)))
    }

    fn syntax_error(&self, at: usize, text: &str) -> String {
        let (line, column) = self.position(at);
        format!("proto: syntax error (line {line}:{column}): {text}")
    }

    fn error(&self, at: usize, text: &str) -> String {
        let (line, column) = self.position(at);
        format!("proto: (line {line}:{column}): {text}")
    }

    /// Line and column, from one on; columns are characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    // A sign is no digit, though the parser would take it.
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, 16).ok()
}

/// Text as Go quotes it, for the few bytes behind a broken escape.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\0'..' ' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", character as u32)),
                _ => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// Writes fields; the lengths of inner messages, which are not known before their ends, are put in at last.
#[derive(Default)]
struct Writer {
    /// All but the lengths.
    bytes: Vec<u8>,
    /// Inner messages in the order of their beginnings.
    inner: Vec<Inner>,
    /// Those that are open, by their place in `inner`.
    open: Vec<usize>,
}

struct Inner {
    /// Where in `bytes` the content begins.
    start: usize,
    /// Of the content, lengths of inner messages included.
    length: usize,
    parent: Option<usize>,
}

impl Writer {
    fn put_key(&mut self, number: u32, wire: u32) {
        encode_varint(u64::from(number << 3 | wire), &mut self.bytes);
    }

    fn put_number(&mut self, number: u32, value: u64) {
        self.put_key(number, WIRE_VARINT);
        encode_varint(value, &mut self.bytes);
    }

    fn put_bytes(&mut self, number: u32, bytes: &[u8], keep_empty: bool) {
        if !bytes.is_empty() || keep_empty {
            self.put_key(number, WIRE_BYTES);
            encode_varint(bytes.len() as u64, &mut self.bytes);
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn open(&mut self, number: u32) {
        self.put_key(number, WIRE_BYTES);
        let parent = self.open.last().copied();
        self.open.push(self.inner.len());
        self.inner.push(Inner { start: self.bytes.len(), length: 0, parent });
    }

    fn close(&mut self, outermost: bool) {
        if outermost {
            return;
        }
        let at = self.open.pop().expect("each end has its beginning");
        self.inner[at].length += self.bytes.len() - self.inner[at].start;
        let length_bytes = encoded_len_varint(self.inner[at].length as u64);
        // What was put into inner messages lengthens every message around them.
        let grown = length_bytes + self.inner[at].length - (self.bytes.len() - self.inner[at].start);
        if let Some(parent) = self.inner[at].parent {
            self.inner[parent].length += grown;
        }
    }

    fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 5 * self.inner.len());
        let mut from = 0;
        for inner in &self.inner {
            out.extend_from_slice(&self.bytes[from..inner.start]);
            encode_varint(inner.length as u64, &mut out);
            from = inner.start;
        }
        out.extend_from_slice(&self.bytes[from..]);
        out
    }
}

#[cfg(test)]
mod tests;
