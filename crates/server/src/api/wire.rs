//! `WatchResponse` written by hand: its events are encoded already.

use crate::api::header::{header_bytes, put_header};
use crate::grpc::request::{FRAME_HEAD_BYTES, put_frame_head};
use bytes::Bytes;
use prost::encoding::{encode_varint, encoded_len_varint};
use quorate_proto::etcdserverpb::ResponseHeader;

const TAG_WATCH_ID: u8 = 0x10;
const TAG_CREATED: u8 = 0x18;
const TAG_CANCELED: u8 = 0x20;
const TAG_COMPACT_REVISION: u8 = 0x28;
const TAG_REASON: u8 = 0x32;
const TAG_FRAGMENT: u8 = 0x38;
const TAG_EVENTS: u8 = 0x5a;

/// All of a response but its events.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) header: &'a ResponseHeader,
    pub(super) watch_id: i64,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    pub(super) reason: &'a str,
    pub(super) fragment: bool,
}

fn int_bytes(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value as u64) }
}

fn event_bytes(event: &Bytes) -> usize {
    1 + encoded_len_varint(event.len() as u64) + event.len()
}

impl<'a> Fields<'a> {
    /// A response that tells nothing but its watcher.
    pub(super) fn new(header: &'a ResponseHeader, watch_id: i64) -> Self {
        Self { header, watch_id, created: false, canceled: false, compact_revision: 0, reason: "", fragment: false }
    }

    fn bytes(&self) -> usize {
        let flag = |set: bool| if set { 2 } else { 0 };
        let reason = match self.reason.len() {
            0 => 0,
            bytes => 1 + encoded_len_varint(bytes as u64) + bytes,
        };
        header_bytes(self.header)
            + int_bytes(self.watch_id)
            + flag(self.created)
            + flag(self.canceled)
            + int_bytes(self.compact_revision)
            + reason
            + flag(self.fragment)
    }

    /// How many of `events` one part of a split response takes: as many as stay below `bytes_max`, one at least. All of
    /// them when the whole response is below it.
    pub(super) fn part_length(&self, events: &[Bytes], bytes_max: usize) -> usize {
        let mut bytes = Self { fragment: true, ..*self }.bytes();
        for (number, event) in events.iter().enumerate() {
            bytes += event_bytes(event);
            if bytes >= bytes_max && number > 0 {
                return number;
            }
        }
        events.len()
    }
}

/// Appends a framed response.
pub(super) fn put_response(out: &mut Vec<u8>, fields: &Fields<'_>, events: &[Bytes]) {
    let length = fields.bytes() + events.iter().map(event_bytes).sum::<usize>();
    out.reserve(FRAME_HEAD_BYTES + length);
    put_frame_head(out, length);
    put_header(out, fields.header);
    if fields.watch_id != 0 {
        out.push(TAG_WATCH_ID);
        encode_varint(fields.watch_id as u64, out);
    }
    if fields.created {
        out.extend_from_slice(&[TAG_CREATED, 1]);
    }
    if fields.canceled {
        out.extend_from_slice(&[TAG_CANCELED, 1]);
    }
    if fields.compact_revision != 0 {
        out.push(TAG_COMPACT_REVISION);
        encode_varint(fields.compact_revision as u64, out);
    }
    if !fields.reason.is_empty() {
        out.push(TAG_REASON);
        encode_varint(fields.reason.len() as u64, out);
        out.extend_from_slice(fields.reason.as_bytes());
    }
    if fields.fragment {
        out.extend_from_slice(&[TAG_FRAGMENT, 1]);
    }
    for event in events {
        out.push(TAG_EVENTS);
        encode_varint(event.len() as u64, out);
        out.extend_from_slice(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::request::framed;
    use prost::Message;
    use quorate_proto::etcdserverpb::WatchResponse;
    use quorate_proto::mvccpb::{Event, KeyValue};

    fn event(value_bytes: usize) -> Event {
        let kv = KeyValue { key: "k".into(), value: vec![1; value_bytes].into(), ..Default::default() };
        Event { r#type: 0, kv: Some(kv), prev_kv: None }
    }

    #[test]
    fn a_response_is_what_the_generated_code_writes() {
        let header = ResponseHeader { cluster_id: 1 << 63, member_id: 5, revision: 1_000, raft_term: 3 };
        let events = [event(0), event(300), event(70_000)];
        let encoded: Vec<Bytes> = events.iter().map(|event| event.encode_to_vec().into()).collect();
        for (watch_id, flag, reason, compact_revision, count) in [
            (0, false, "", 0, 0),
            (-1, true, "mvcc: watcher range is empty", 0, 0),
            (7, true, "", 9, 3),
            (1, false, "", 0, 3),
        ] {
            let fields = Fields {
                header: &header,
                watch_id,
                created: flag,
                canceled: flag,
                compact_revision,
                reason,
                fragment: flag,
            };
            let mut out = b"before".to_vec();
            put_response(&mut out, &fields, &encoded[..count]);
            let expected = framed(&WatchResponse {
                header: Some(header),
                watch_id,
                created: flag,
                canceled: flag,
                compact_revision,
                cancel_reason: reason.to_owned(),
                fragment: flag,
                events: events[..count].to_vec(),
            });
            assert_eq!(&out[6..], expected);
        }
    }

    #[test]
    fn parts_stay_below_their_bound_where_they_can() {
        let header = ResponseHeader::default();
        let fields = Fields::new(&header, 1);
        let events: Vec<Bytes> = (0..10).map(|_| event(100).encode_to_vec().into()).collect();
        let one = event_bytes(&events[0]);
        let frame = Fields { fragment: true, ..fields }.bytes();
        assert_eq!(fields.part_length(&events, frame + 10 * one + 1), 10);
        assert_eq!(fields.part_length(&events, frame + 10 * one), 9);
        assert_eq!(fields.part_length(&events, frame + 3 * one + 1), 3);
        assert_eq!(fields.part_length(&events, 1), 1, "an event is never split");
        assert_eq!(fields.part_length(&events[..1], 1), 1);
    }
}
