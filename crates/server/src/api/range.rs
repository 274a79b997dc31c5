//! Answers of a range on the wire: small ones in one buffer, large ones piece by piece.
//!
//! A large answer is one gRPC message whose length is announced before its records are read, so that it costs its
//! receiver the memory and not the server. What is announced is what is sent: a record that can't be read ends the
//! stream with its failure.

use crate::api::Reply;
use crate::api::header::{begin_framed, header_bytes, put_header};
use crate::grpc::body::{Chunk, ChunkStream};
use crate::grpc::request::{FRAME_HEAD_BYTES, put_frame_head};
use crate::grpc::status::{Code, Status};
use bytes::Bytes;
use futures::StreamExt;
use prost::encoding::{encode_varint, encoded_len_varint};
use quorate_proto::etcdserverpb::ResponseHeader;
use quorate_store::reader::{RangeItems, RangeReply};

/// Answers up to this size are made in one piece.
const WHOLE_BYTES_MAX: u64 = 256 << 10;

/// Records read and handed to the connection at a time. One step's work is this much reading.
const PIECE_BYTES: usize = 64 << 10;

/// Records in one message of a stream of messages.
const MESSAGE_BYTES: usize = 1 << 20;

/// gRPC-Go's bound on what it sends.
const ANSWER_BYTES_MAX: u64 = i32::MAX as u64;

/// Tag of `RangeStreamResponse.range_response`.
const TAG_RANGE_RESPONSE: u8 = 0x0a;

/// Where an answer's records come from: the store's, or a test's.
trait Records: Send + 'static {
    /// Bytes of all of them that were not taken yet.
    fn encoded_bytes(&self) -> u64;
    /// As [`RangeItems::next_encoded`].
    fn next_encoded(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<bool, quorate_store::error::Error>;
}

impl Records for RangeItems {
    fn encoded_bytes(&self) -> u64 {
        Self::encoded_bytes(self)
    }

    fn next_encoded(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<bool, quorate_store::error::Error> {
        Self::next_encoded(self, out, bytes_max)
    }
}

/// `more` and `count`, the fields behind the records.
#[derive(Clone, Copy)]
struct Tail {
    more: bool,
    count: i64,
}

impl Tail {
    fn bytes(self) -> usize {
        let count = if self.count == 0 { 0 } else { 1 + encoded_len_varint(self.count as u64) };
        count + if self.more { 2 } else { 0 }
    }

    fn put(self, out: &mut Vec<u8>) {
        if self.more {
            out.extend_from_slice(&[0x18, 1]);
        }
        if self.count != 0 {
            out.push(0x20);
            encode_varint(self.count as u64, out);
        }
    }
}

/// The answer of a range.
pub(super) fn answer(header: &ResponseHeader, reply: RangeReply) -> Result<Reply, Status> {
    answer_records(header, reply.items, Tail { more: reply.more, count: reply.count })
}

fn answer_records<R: Records>(header: &ResponseHeader, mut records: R, tail: Tail) -> Result<Reply, Status> {
    let records_bytes = records.encoded_bytes();
    let total = header_bytes(header) as u64 + records_bytes + tail.bytes() as u64;
    if total > ANSWER_BYTES_MAX {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: trying to send message larger than max ({total} vs. {ANSWER_BYTES_MAX})"),
        ));
    }
    if records_bytes > WHOLE_BYTES_MAX {
        return Ok(Reply::Stream(in_pieces(header, records, tail, total as usize)));
    }
    let mut out = begin_framed(header, records_bytes as usize + tail.bytes());
    if records_bytes > 0 {
        records.next_encoded(&mut out, usize::MAX)?;
    }
    tail.put(&mut out);
    if out.len() != FRAME_HEAD_BYTES + total as usize {
        return Err(miscounted());
    }
    Ok(Reply::Message(Bytes::from(out)))
}

/// A length that was announced is not what was sent: an error of this program; the receiver must not take what follows
/// for another message.
fn miscounted() -> Status {
    Status::new(Code::DataLoss, "quorate: an answer's records are not of the size that the index says")
}

struct Pieces<R> {
    records: R,
    /// Frame head and header, until they are sent.
    head: Vec<u8>,
    tail: Tail,
    /// Bytes of the message not sent yet, the frame head included.
    left: usize,
    first: bool,
}

fn in_pieces<R: Records>(header: &ResponseHeader, records: R, tail: Tail, total: usize) -> ChunkStream {
    let mut head = Vec::with_capacity(PIECE_BYTES);
    put_frame_head(&mut head, total);
    put_header(&mut head, header);
    let pieces = Pieces { records, head, tail, left: FRAME_HEAD_BYTES + total, first: true };
    futures::stream::try_unfold(pieces, |mut pieces| async move {
        if pieces.left == 0 {
            return Ok(None);
        }
        if !pieces.first {
            // Other calls have their turn between pieces.
            tokio::task::yield_now().await;
        }
        pieces.first = false;
        let mut out = std::mem::take(&mut pieces.head);
        out.reserve(PIECE_BYTES.saturating_sub(out.len()));
        let more = pieces.records.next_encoded(&mut out, PIECE_BYTES)?;
        if !more {
            pieces.tail.put(&mut out);
        }
        pieces.left = pieces.left.checked_sub(out.len()).ok_or_else(miscounted)?;
        if more == (pieces.left == 0) {
            return Err(miscounted());
        }
        let messages = u64::from(pieces.left == 0);
        Ok(Some((Chunk { bytes: Bytes::from(out), messages }, pieces)))
    })
    .boxed()
}

/// The answer of a range as a stream of messages: header, count and `more` come with the last.
pub(super) fn answer_in_messages(header: ResponseHeader, reply: RangeReply) -> Reply {
    Reply::Stream(in_messages(header, reply.items, Tail { more: reply.more, count: reply.count }))
}

fn in_messages<R: Records>(header: ResponseHeader, records: R, tail: Tail) -> ChunkStream {
    futures::stream::try_unfold(Some((records, true)), move |state| async move {
        let Some((mut records, first)) = state else {
            return Ok(None);
        };
        if !first {
            tokio::task::yield_now().await;
        }
        let mut fields = Vec::new();
        let mut more = records.encoded_bytes() > 0;
        while more && fields.len() < MESSAGE_BYTES {
            let wanted = (fields.len() + PIECE_BYTES).min(MESSAGE_BYTES);
            more = records.next_encoded(&mut fields, wanted)?;
            if more && fields.len() < MESSAGE_BYTES {
                tokio::task::yield_now().await;
            }
        }
        let (header_bytes, tail_bytes) = if more { (0, 0) } else { (header_bytes(&header), tail.bytes()) };
        let response_bytes = header_bytes + fields.len() + tail_bytes;
        let message_bytes = 1 + encoded_len_varint(response_bytes as u64) + response_bytes;
        let mut out = Vec::with_capacity(FRAME_HEAD_BYTES + message_bytes);
        put_frame_head(&mut out, message_bytes);
        out.push(TAG_RANGE_RESPONSE);
        encode_varint(response_bytes as u64, &mut out);
        if !more {
            put_header(&mut out, &header);
        }
        out.extend_from_slice(&fields);
        if !more {
            tail.put(&mut out);
        }
        let next = more.then_some((records, false));
        Ok(Some((Chunk { bytes: Bytes::from(out), messages: 1 }, next)))
    })
    .boxed()
}

#[cfg(test)]
mod tests;
