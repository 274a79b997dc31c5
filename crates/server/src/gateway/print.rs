//! A message's bytes into JSON, as Go's `protojson` writes it with proto names and without empty fields.
//!
//! The message may come in pieces: what is complete is printed at once, so a large answer is never whole in memory. Fields
//! are printed in the order in which they come, which for answers of this server is the order of their declaration; items of
//! a repeated field come in one run.

use super::base64;
use crate::grpc::status::{Code, Status};
use bytes::{Buf, BytesMut};
use quorate_proto::descriptor::{FieldDescriptor, FieldKind, MessageDescriptor};
use std::io::Write;

/// Whether characters that mean something in HTML are escaped, as Go's `encoding/json` does in streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Html {
    /// They stand for themselves.
    Plain,
    /// They are escaped.
    Escaped,
}

/// The bytes are no message of their type: an error of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Self {
        Self::new(Code::Internal, "quorate: an answer is not of its type")
    }
}

/// Prints one message.
pub(super) struct Printer {
    html: Html,
    /// Bytes of the message that were taken.
    position: u64,
    /// The beginning of a field whose end did not come yet. At most one string, number or head of a message.
    rest: BytesMut,
    levels: Vec<Level>,
}

struct Level {
    message: &'static MessageDescriptor,
    /// Where it ends, in bytes of the outermost message.
    end: u64,
    /// The field printed last.
    last: Option<&'static FieldDescriptor>,
}

impl Printer {
    /// For a message of `length` bytes.
    pub(super) fn new(message: &'static MessageDescriptor, length: u64, html: Html, out: &mut Vec<u8>) -> Self {
        out.push(b'{');
        let outermost = Level { message, end: length, last: None };
        let mut printer = Self { html, position: 0, rest: BytesMut::new(), levels: vec![outermost] };
        printer.close_levels(out);
        printer
    }

    /// Whether all of it is printed.
    pub(super) fn is_done(&self) -> bool {
        self.levels.is_empty()
    }

    /// Prints what `piece` completes. Nothing may follow the message's end.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            let taken = self.take_fields(piece, out)?;
            self.rest.extend_from_slice(&piece[taken..]);
        } else {
            self.rest.extend_from_slice(piece);
            let rest = std::mem::take(&mut self.rest);
            let taken = self.take_fields(&rest, out)?;
            self.rest = rest;
            self.rest.advance(taken);
        }
        if self.is_done() && !self.rest.is_empty() { Err(Malformed) } else { Ok(()) }
    }

    /// Prints the fields that are there in full; how many bytes they are.
    fn take_fields(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut taken = 0;
        while let Some(level) = self.levels.last_mut() {
            let mut rest = &bytes[taken..];
            let before = rest.len();
            let Some(tag) = varint(&mut rest)? else { break };
            let Some(value) = varint_or_zero(&mut rest, tag)? else { break };
            let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
            let field = level.message.fields.iter().find(|field| field.number == number);
            let content = match (tag & 7, field.map(|field| field.kind)) {
                (0, _) => &[][..],
                (1, _) | (5, _) if field.is_some() => return Err(Malformed),
                (2, Some(FieldKind::Message(inner))) => {
                    let field = field.expect("it has a kind");
                    begin_value(level, field, out);
                    out.push(b'{');
                    taken += before - rest.len();
                    self.position += (before - rest.len()) as u64;
                    let end = self.position.checked_add(value).filter(|&end| end <= level.end).ok_or(Malformed)?;
                    self.levels.push(Level { message: inner, end, last: None });
                    self.close_levels(out);
                    continue;
                }
                (wire, _) => {
                    let length = match wire {
                        1 => 8,
                        5 => 4,
                        2 => usize::try_from(value).map_err(|_| Malformed)?,
                        _ => return Err(Malformed),
                    };
                    let Some((content, behind)) = rest.split_at_checked(length) else { break };
                    rest = behind;
                    content
                }
            };
            if let Some(field) = field {
                if (tag & 7 == 0) == matches!(field.kind, FieldKind::String | FieldKind::Bytes) {
                    return Err(Malformed);
                }
                begin_value(level, field, out);
                put_scalar(field, value, content, self.html, out)?;
            }
            taken += before - rest.len();
            self.position += (before - rest.len()) as u64;
            if self.position > level.end {
                return Err(Malformed);
            }
            self.close_levels(out);
        }
        Ok(taken)
    }

    /// Ends the messages that end here.
    fn close_levels(&mut self, out: &mut Vec<u8>) {
        while let Some(level) = self.levels.pop_if(|level| level.end == self.position) {
            if level.last.is_some_and(|field| field.repeated) {
                out.push(b']');
            }
            out.push(b'}');
        }
    }
}

/// A whole message.
pub(super) fn print(message: &'static MessageDescriptor, bytes: &[u8], html: Html) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(bytes.len() * 3 / 2 + 64);
    let mut printer = Printer::new(message, bytes.len() as u64, html, &mut out);
    printer.push(bytes, &mut out)?;
    if printer.is_done() { Ok(out) } else { Err(Malformed) }
}

/// A varint; `None`: its end is not there.
fn varint(bytes: &mut &[u8]) -> Result<Option<u64>, Malformed> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Ok(Some(value));
        }
    }
    if bytes.len() >= 10 { Err(Malformed) } else { Ok(None) }
}

/// The number that a field is or begins with.
fn varint_or_zero(bytes: &mut &[u8], tag: u64) -> Result<Option<u64>, Malformed> {
    match tag & 7 {
        0 | 2 => varint(bytes),
        1 | 5 => Ok(Some(0)),
        _ => Err(Malformed),
    }
}

/// Writes what stands in front of a field's value.
fn begin_value(level: &mut Level, field: &'static FieldDescriptor, out: &mut Vec<u8>) {
    match level.last {
        Some(last) if last.number == field.number && field.repeated => {
            out.push(b',');
            return;
        }
        Some(last) if last.repeated => out.extend_from_slice(b"],"),
        Some(_) => out.push(b','),
        None => {}
    }
    out.push(b'"');
    out.extend_from_slice(field.name.as_bytes());
    out.extend_from_slice(if field.repeated { b"\":[" } else { b"\":" });
    level.last = Some(field);
}

fn put_scalar(
    field: &FieldDescriptor,
    value: u64,
    content: &[u8],
    html: Html,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    const WRITES: &str = "writing to memory can't fail";
    match field.kind {
        FieldKind::Bool => out.extend_from_slice(if value == 0 { b"false" } else { b"true" }),
        FieldKind::Int32 => write!(out, "{}", value as i32).expect(WRITES),
        FieldKind::Uint32 => write!(out, "{}", value as u32).expect(WRITES),
        FieldKind::Int64 => write!(out, "\"{}\"", value as i64).expect(WRITES),
        FieldKind::Uint64 => write!(out, "\"{value}\"").expect(WRITES),
        FieldKind::Enum(names) => match names.values.iter().find(|(number, _)| *number == value as i32) {
            Some((_, name)) => write!(out, "\"{name}\"").expect(WRITES),
            None => write!(out, "{}", value as i32).expect(WRITES),
        },
        FieldKind::String => put_text(std::str::from_utf8(content).map_err(|_| Malformed)?, html, out),
        FieldKind::Bytes => {
            out.push(b'"');
            base64::encode(content, out);
            out.push(b'"');
        }
        FieldKind::Message(_) => return Err(Malformed),
    }
    Ok(())
}

/// Appends a string.
pub(super) fn put_text(text: &str, html: Html, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..' ' => put_escape(character, out),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if html == Html::Escaped => put_escape(character, out),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

fn put_escape(character: char, out: &mut Vec<u8>) {
    write!(out, "\\u{:04x}", u32::from(character)).expect("writing to memory can't fail");
}

/// A status as JSON: `google.rpc.Status` without details.
pub(super) fn status_text(status: &Status, html: Html) -> Vec<u8> {
    let mut out = format!("{{\"code\":{}", status.code as u8).into_bytes();
    if !status.message.is_empty() {
        out.extend_from_slice(b",\"message\":");
        put_text(&status.message, html, &mut out);
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use quorate_proto::descriptor;
    use quorate_proto::etcdserverpb::{
        AlarmMember, AlarmResponse, AuthUserListResponse, DowngradeInfo, HashKvResponse, LeaseTimeToLiveResponse,
        RangeResponse, ResponseHeader, ResponseOp, StatusResponse, TxnResponse, WatchResponse, response_op::Response,
    };
    use quorate_proto::mvccpb::{Event, KeyValue};

    /// Prints whole and in every cut; all must agree.
    fn check(message: &'static MessageDescriptor, bytes: &[u8], expected: &str) {
        assert_eq!(String::from_utf8(print(message, bytes, Html::Plain).unwrap()).unwrap(), expected);
        for size in [1, 2, 3, 7] {
            let mut out = Vec::new();
            let mut printer = Printer::new(message, bytes.len() as u64, Html::Plain, &mut out);
            for piece in bytes.chunks(size) {
                printer.push(piece, &mut out).unwrap();
            }
            assert!(printer.is_done());
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{size} bytes at a time");
        }
    }

    #[test]
    fn kinds_are_printed_as_protojson_prints_them() {
        let header = Some(ResponseHeader { cluster_id: u64::MAX, member_id: 1, revision: -1, raft_term: 0 });
        let kv = KeyValue { key: "a".into(), create_revision: 2, value: vec![0xff, 0xfe].into(), ..Default::default() };
        let range = RangeResponse { header, kvs: vec![kv.clone(), KeyValue::default()], more: true, count: 2 };
        check(
            &descriptor::ETCDSERVERPB_RANGERESPONSE,
            &range.encode_to_vec(),
            r#"{"header":{"cluster_id":"18446744073709551615","member_id":"1","revision":"-1"},"kvs":[{"key":"YQ==","create_revision":"2","value":"//4="},{}],"more":true,"count":"2"}"#,
        );
        check(&descriptor::ETCDSERVERPB_RANGERESPONSE, &[], "{}");
        let hash = HashKvResponse { hash: u32::MAX, hash_revision: 3, ..Default::default() };
        check(
            &descriptor::ETCDSERVERPB_HASHKVRESPONSE,
            &hash.encode_to_vec(),
            r#"{"hash":4294967295,"hash_revision":"3"}"#,
        );
        let alarms = vec![AlarmMember { member_id: 5, alarm: 1 }, AlarmMember { member_id: 6, alarm: 9 }];
        check(
            &descriptor::ETCDSERVERPB_ALARMRESPONSE,
            &AlarmResponse { header: None, alarms }.encode_to_vec(),
            r#"{"alarms":[{"memberID":"5","alarm":"NOSPACE"},{"memberID":"6","alarm":9}]}"#,
        );
        let status = StatusResponse {
            version: "3.7".into(),
            errors: vec!["<a>".into(), "\"\\\u{1}\u{8}\u{7f}\n\u{e4}".into()],
            downgrade_info: Some(DowngradeInfo::default()),
            ..Default::default()
        };
        check(
            &descriptor::ETCDSERVERPB_STATUSRESPONSE,
            &status.encode_to_vec(),
            "{\"version\":\"3.7\",\"errors\":[\"<a>\",\"\\\"\\\\\\u0001\\b\u{7f}\\n\u{e4}\"],\"downgradeInfo\":{}}",
        );
        let lease = LeaseTimeToLiveResponse { id: 1, ttl: -1, keys: vec!["".into(), "k".into()], ..Default::default() };
        check(
            &descriptor::ETCDSERVERPB_LEASETIMETOLIVERESPONSE,
            &lease.encode_to_vec(),
            r#"{"ID":"1","TTL":"-1","keys":["","aw=="]}"#,
        );
        let event = Event { r#type: 1, kv: Some(kv), prev_kv: None };
        check(
            &descriptor::ETCDSERVERPB_WATCHRESPONSE,
            &WatchResponse { canceled: true, events: vec![Event::default(), event], ..Default::default() }
                .encode_to_vec(),
            r#"{"canceled":true,"events":[{},{"type":"DELETE","kv":{"key":"YQ==","create_revision":"2","value":"//4="}}]}"#,
        );
    }

    #[test]
    fn messages_nest_as_deep_as_they_like() {
        let mut response = TxnResponse { succeeded: true, ..Default::default() };
        for _ in 0..100 {
            let operation = ResponseOp { response: Some(Response::ResponseTxn(response)) };
            response = TxnResponse { responses: vec![operation], ..Default::default() };
        }
        let expected = r#"{"responses":[{"response_txn":"#.repeat(100) + r#"{"succeeded":true}"# + &"}]}".repeat(100);
        check(&descriptor::ETCDSERVERPB_TXNRESPONSE, &response.encode_to_vec(), &expected);
    }

    #[test]
    fn unknown_fields_are_left_out_and_broken_bytes_refused() {
        let users = &descriptor::ETCDSERVERPB_AUTHUSERLISTRESPONSE;
        let mut bytes = AuthUserListResponse { header: None, users: vec!["u".into()] }.encode_to_vec();
        bytes.extend_from_slice(&[0xf8, 0x3f, 5, 0xfa, 0x3f, 1, 9, 0xfd, 0x3f, 1, 2, 3, 4]);
        check(users, &bytes, r#"{"users":["u"]}"#);
        for bytes in
            [&[0x12, 2, 0xff][..], &[0x12, 1, 0xff], &[0x10, 1], &[0x0b], &[0x0a, 5, 8], &[0x0a, 1, 8, 1], &[0xff; 11]]
        {
            assert_eq!(print(users, bytes, Html::Plain), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn a_status_is_printed() {
        let status = Status::new(Code::InvalidArgument, "a < \"b\"");
        assert_eq!(status_text(&status, Html::Plain), br#"{"code":3,"message":"a < \"b\""}"#);
        assert_eq!(status_text(&status, Html::Escaped), br#"{"code":3,"message":"a \u003c \"b\""}"#);
        assert_eq!(status_text(&Status::new(Code::Internal, ""), Html::Plain), br#"{"code":13}"#);
    }
}
