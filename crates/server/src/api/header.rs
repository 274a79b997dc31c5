//! The header of every answer, and small answers written without an intermediate message.

use crate::grpc::request::{FRAME_HEAD_BYTES, put_frame_head};
use bytes::Bytes;
use prost::encoding::{encode_varint, encoded_len_varint};
use quorate_proto::etcdserverpb::ResponseHeader;

/// Tag of the header field, the first of every answer.
const TAG_HEADER: u8 = 0x0a;

fn field_bytes(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value) }
}

fn put_field(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        encode_varint(value, out);
    }
}

fn content_bytes(header: &ResponseHeader) -> usize {
    field_bytes(header.cluster_id)
        + field_bytes(header.member_id)
        + field_bytes(header.revision as u64)
        + field_bytes(header.raft_term)
}

/// Bytes of the header as the first field of an answer.
pub(crate) fn header_bytes(header: &ResponseHeader) -> usize {
    // Four fields of at most eleven bytes: the length fits one byte.
    2 + content_bytes(header)
}

/// Appends the header as the first field of an answer.
pub(crate) fn put_header(out: &mut Vec<u8>, header: &ResponseHeader) {
    out.push(TAG_HEADER);
    out.push(content_bytes(header) as u8);
    put_field(out, 0x08, header.cluster_id);
    put_field(out, 0x10, header.member_id);
    put_field(out, 0x18, header.revision as u64);
    put_field(out, 0x20, header.raft_term);
}

/// Begins an answer of `rest_bytes` behind its header: frame head and header are written, and there is room for the
/// rest exactly.
pub(crate) fn begin_framed(header: &ResponseHeader, rest_bytes: usize) -> Vec<u8> {
    let length = header_bytes(header) + rest_bytes;
    let mut out = Vec::with_capacity(FRAME_HEAD_BYTES + length);
    put_frame_head(&mut out, length);
    put_header(&mut out, header);
    out
}

/// A framed answer of nothing but its header.
pub(crate) fn header_only(header: &ResponseHeader) -> Bytes {
    Bytes::from(begin_framed(header, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::request::framed;
    use quorate_proto::etcdserverpb::PutResponse;

    #[test]
    fn the_header_is_what_the_generated_code_writes() {
        for header in [
            ResponseHeader::default(),
            ResponseHeader { cluster_id: u64::MAX, member_id: u64::MAX, revision: -1, raft_term: u64::MAX },
            ResponseHeader { cluster_id: 0, member_id: 127, revision: 128, raft_term: 2 },
        ] {
            let bytes = header_only(&header);
            assert_eq!(bytes, framed(&PutResponse { header: Some(header), prev_kv: None }));
            assert_eq!(bytes.len(), FRAME_HEAD_BYTES + header_bytes(&header));
        }
    }
}
