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
use quorate_store::error::Error;
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
    /// Bytes of all of them, before any was taken.
    fn encoded_bytes(&self) -> u64;
    /// As [`RangeItems::next_encoded`].
    fn next_encoded(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<bool, Error>;
}

impl Records for RangeItems {
    fn encoded_bytes(&self) -> u64 {
        Self::encoded_bytes(self)
    }

    fn next_encoded(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<bool, Error> {
        Self::next_encoded(self, out, bytes_max)
    }
}

/// Records that were not sent yet, and how many bytes they must come to.
struct Left<R> {
    records: R,
    bytes: u64,
}

impl<R: Records> Left<R> {
    fn new(records: R) -> Self {
        Self { bytes: records.encoded_bytes(), records }
    }

    /// Appends records until `out` holds `bytes_max` or all are sent.
    fn take(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Status> {
        let before = out.len();
        if self.bytes > 0 && before < bytes_max {
            self.records.next_encoded(out, bytes_max)?;
            let taken = (out.len() - before) as u64;
            self.bytes = self.bytes.checked_sub(taken).filter(|_| taken > 0).ok_or_else(miscounted)?;
        }
        Ok(())
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

fn answer_records<R: Records>(header: &ResponseHeader, records: R, tail: Tail) -> Result<Reply, Status> {
    let mut records = Left::new(records);
    let total = header_bytes(header) as u64 + records.bytes + tail.bytes() as u64;
    if total > ANSWER_BYTES_MAX {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: trying to send message larger than max ({total} vs. {ANSWER_BYTES_MAX})"),
        ));
    }
    if records.bytes > WHOLE_BYTES_MAX {
        return Ok(Reply::Stream(in_pieces(header, records, tail, total as usize)));
    }
    let mut out = begin_framed(header, records.bytes as usize + tail.bytes());
    records.take(&mut out, usize::MAX)?;
    if records.bytes > 0 {
        return Err(miscounted());
    }
    tail.put(&mut out);
    Ok(Reply::Message(Bytes::from(out)))
}

/// A length that was announced is not what was sent: an error of this program; the receiver must not take what follows
/// for another message.
fn miscounted() -> Status {
    Status::new(Code::DataLoss, "quorate: an answer's records are not of the size that the index says")
}

fn in_pieces<R: Records>(header: &ResponseHeader, records: Left<R>, tail: Tail, total: usize) -> ChunkStream {
    let mut head = Vec::with_capacity(PIECE_BYTES);
    put_frame_head(&mut head, total);
    put_header(&mut head, header);
    let is_first = |head: &Vec<u8>| !head.is_empty();
    futures::stream::try_unfold(Some((records, head)), move |state| async move {
        let Some((mut records, head)) = state else {
            return Ok(None);
        };
        if !is_first(&head) {
            // Other calls have their turn between pieces.
            tokio::task::yield_now().await;
        }
        let mut out = head;
        out.reserve(PIECE_BYTES.saturating_sub(out.len()));
        records.take(&mut out, PIECE_BYTES)?;
        let done = records.bytes == 0;
        if done {
            tail.put(&mut out);
        }
        let next = (!done).then(|| (records, Vec::new()));
        Ok(Some((Chunk { bytes: Bytes::from(out), messages: u64::from(done) }, next)))
    })
    .boxed()
}

/// The answer of a range as a stream of messages: header, count and `more` come with the last.
pub(super) fn answer_in_messages(header: ResponseHeader, reply: RangeReply) -> Reply {
    Reply::Stream(in_messages(header, reply.items, Tail { more: reply.more, count: reply.count }))
}

fn in_messages<R: Records>(header: ResponseHeader, records: R, tail: Tail) -> ChunkStream {
    futures::stream::try_unfold(Some(Left::new(records)), move |state| async move {
        let Some(mut records) = state else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        while records.bytes > 0 && fields.len() < MESSAGE_BYTES {
            let wanted = (fields.len() + PIECE_BYTES).min(MESSAGE_BYTES);
            records.take(&mut fields, wanted)?;
            tokio::task::yield_now().await;
        }
        let more = records.bytes > 0;
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
        let next = more.then_some(records);
        Ok(Some((Chunk { bytes: Bytes::from(out), messages: 1 }, next)))
    })
    .boxed()
}

#[cfg(test)]
mod tests;
