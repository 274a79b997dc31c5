//! Taking messages out of a request's body.
//!
//! A message's announced length is judged before its bytes are read, so what a caller announces costs no memory. A
//! message that arrived in one piece is not copied.

use crate::grpc::gzip;
use crate::grpc::shape::{self, Malformed, Shape};
use crate::grpc::status::{Code, Status};
use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use prost::Message;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Flag byte and length in front of each message.
pub(crate) const FRAME_HEAD_BYTES: usize = 5;

/// The messages of one request.
pub(crate) struct MessageReader<B> {
    body: B,
    message_bytes_max: usize,
    encoding: Option<String>,
    /// Bytes not taken yet, as they arrived; empty while a message is put together in `partial`.
    buffered: Bytes,
    /// A message that arrives in pieces. Never holds more than its announced length and the piece that completed it.
    partial: BytesMut,
    ended: bool,
}

impl<B: Body<Data = Bytes> + Unpin> MessageReader<B> {
    /// `encoding`: what the request's head names for compressed messages.
    pub(crate) fn new(body: B, message_bytes_max: usize, encoding: Option<String>) -> Self {
        Self { body, message_bytes_max, encoding, buffered: Bytes::new(), partial: BytesMut::new(), ended: false }
    }

    /// The next message; `None`: the caller said all it had to say. After an error nothing more can be read.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.take_buffered() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            if self.ended {
                let whole = self.buffered.is_empty() && self.partial.is_empty();
                self.buffered.clear();
                self.partial.clear();
                return Poll::Ready((!whole).then(|| Err(Status::new(Code::Unknown, "unexpected EOF"))));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.ended = true,
                Some(Err(_)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(Status::new(Code::Canceled, "context canceled"))));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.push(data);
                    }
                }
            }
        }
    }

    /// The only message of a unary call.
    pub(crate) async fn unary(&mut self) -> Result<Bytes, Status> {
        poll_fn(|cx| self.poll_message(cx)).await.unwrap_or_else(|| {
            Err(Status::new(
                Code::Internal,
                "cardinality violation: received no request message from non-client-streaming RPC",
            ))
        })
    }

    fn push(&mut self, data: Bytes) {
        if self.partial.is_empty() && self.buffered.is_empty() {
            self.buffered = data;
            return;
        }
        if self.partial.is_empty() {
            let bytes = announced(&self.buffered).unwrap_or(0).min(self.message_bytes_max) + FRAME_HEAD_BYTES;
            self.partial.reserve(bytes.max(self.buffered.len() + data.len()));
            self.partial.extend_from_slice(&std::mem::take(&mut self.buffered));
        }
        self.partial.extend_from_slice(&data);
        let complete = announced(&self.partial)
            .is_some_and(|length| length > self.message_bytes_max || self.partial.len() >= FRAME_HEAD_BYTES + length);
        if complete {
            self.buffered = self.partial.split().freeze();
        }
    }

    fn take_buffered(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(length) = announced(&self.buffered) else {
            return Ok(None);
        };
        if length > self.message_bytes_max {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("grpc: received message larger than max ({length} vs. {})", self.message_bytes_max),
            ));
        }
        if self.buffered.len() < FRAME_HEAD_BYTES + length {
            // The flag is judged with the whole message, as grpc-go does: an end before it is what went wrong.
            return Ok(None);
        }
        match (self.buffered[0], &self.encoding) {
            (0, _) => {}
            (1, None) => {
                return Err(Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding"));
            }
            (1, Some(encoding)) if encoding == gzip::NAME => {}
            (1, Some(encoding)) => {
                return Err(Status::new(
                    Code::Unimplemented,
                    format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}"),
                ));
            }
            (flag, _) => {
                return Err(Status::new(Code::Internal, format!("grpc: received unexpected payload format {flag}")));
            }
        }
        let is_packed = self.buffered[0] == 1;
        self.buffered.advance(FRAME_HEAD_BYTES);
        let message = self.buffered.split_to(length);
        if is_packed { gzip::unpacked(&message, self.message_bytes_max).map(Some) } else { Ok(Some(message)) }
    }
}

/// The length in a frame's head, when all of the head is there.
fn announced(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..FRAME_HEAD_BYTES)?;
    Some(u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize)
}

/// Decodes a message, after a look at its shape.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes, shape: Shape, txn_levels_max: usize) -> Result<M, Status> {
    if let Err(malformed) = shape::check(&bytes, shape, txn_levels_max) {
        return Err(match malformed {
            Malformed::Wire => unparsable(),
            Malformed::TooDeep => Status::new(
                Code::Internal,
                "grpc: error unmarshalling request: proto: exceeded maximum recursion depth",
            ),
            Malformed::TooManyTxnLevels => {
                Status::new(Code::InvalidArgument, "etcdserver: too many operations in txn request")
            }
        });
    }
    M::decode(bytes).map_err(|error| {
        // The decoder names this one cause in its text only.
        if error.to_string().contains("UTF-8") {
            Status::new(Code::Internal, "grpc: error unmarshalling request: string field contains invalid UTF-8")
        } else {
            unparsable()
        }
    })
}

fn unparsable() -> Status {
    Status::new(Code::Internal, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data")
}

/// A message with its frame head, in a buffer of exactly its size.
pub(crate) fn framed<M: Message>(message: &M) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + length);
    put_frame_head(&mut bytes, length);
    message.encode_raw(&mut bytes);
    Bytes::from(bytes)
}

/// Appends the head of a message of `length` bytes.
pub(crate) fn put_frame_head(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("messages above gRPC's bound are refused before they are framed");
    out.push(0);
    out.extend_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use quorate_proto::etcdserverpb::{AuthUserGetRequest, PutRequest};
    use std::convert::Infallible;

    fn reader(pieces: Vec<&'static [u8]>, encoding: Option<&str>) -> MessageReader<impl Body<Data = Bytes> + Unpin> {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece))));
        MessageReader::new(StreamBody::new(futures::stream::iter(frames)), 10, encoding.map(str::to_owned))
    }

    async fn all(mut reader: MessageReader<impl Body<Data = Bytes> + Unpin>) -> Vec<Result<Bytes, Status>> {
        let mut messages = Vec::new();
        while let Some(message) = poll_fn(|cx| reader.poll_message(cx)).await {
            let failed = message.is_err();
            messages.push(message);
            if failed {
                break;
            }
        }
        messages
    }

    #[tokio::test]
    async fn messages_come_whole_in_whatever_pieces_they_arrive() {
        let wire: &'static [u8] = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01x";
        let expected: Vec<Result<Bytes, Status>> =
            [&b"abc"[..], b"", b"x"].map(|message| Ok(Bytes::from_static(message))).into();
        for cut in 0..=wire.len() {
            assert_eq!(all(reader(vec![&wire[..cut], &wire[cut..]], None)).await, expected, "cut at {cut}");
        }
        let bytes = (0..wire.len()).map(|at| &wire[at..=at]).collect();
        assert_eq!(all(reader(bytes, None)).await, expected, "byte by byte");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_frame_is_told_as_grpc_go_tells_it() {
        for (pieces, encoding, code, text) in [
            (
                vec![&b"\0\0\0\0\x0b"[..]],
                None,
                Code::ResourceExhausted,
                "grpc: received message larger than max (11 vs. 10)",
            ),
            (
                vec![&b"\0\xff\xff"[..], b"\xff\xffabc"],
                None,
                Code::ResourceExhausted,
                "grpc: received message larger than max (4294967295 vs. 10)",
            ),
            (vec![&b"\x02\0\0\0\0"[..]], None, Code::Internal, "grpc: received unexpected payload format 2"),
            (
                vec![&b"\x01\0\0\0\0"[..]],
                None,
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            ),
            (
                vec![&b"\x01\0\0\0\x05abcde"[..]],
                Some("snappy"),
                Code::Unimplemented,
                "grpc: Decompressor is not installed for grpc-encoding \"snappy\"",
            ),
            (
                vec![&b"\x01\0\0\0\x02ab"[..]],
                Some("gzip"),
                Code::Internal,
                "grpc: failed to decompress the message: gzip: invalid header",
            ),
            (vec![&b"\0\0\0\0\x05ab"[..]], None, Code::Unknown, "unexpected EOF"),
            (vec![&b"\0\0"[..], b"\0"], None, Code::Unknown, "unexpected EOF"),
            (vec![&b"\x03\0\0\0\x03"[..]], None, Code::Unknown, "unexpected EOF"),
            (vec![&b"\x03"[..], b"\0", b"\0", b"\0", b"\x03"], None, Code::Unknown, "unexpected EOF"),
        ] {
            assert_eq!(reader(pieces, encoding).unary().await, Err(Status::new(code, text)));
        }
        assert_eq!(reader(vec![], None).unary().await.unwrap_err().code, Code::Internal);
    }

    #[test]
    fn decoding_failures_have_their_texts() {
        let broken = decode::<PutRequest>(Bytes::from_static(b"\xff\xff"), Shape::Flat, 1).unwrap_err();
        assert_eq!(broken, unparsable());
        let wrong_type = decode::<PutRequest>(Bytes::from_static(b"\x08\x01"), Shape::Flat, 1).unwrap_err();
        assert_eq!(wrong_type, unparsable());
        let text = decode::<AuthUserGetRequest>(Bytes::from_static(b"\x0a\x02\xff\xfe"), Shape::Flat, 1).unwrap_err();
        assert_eq!(text.message, "grpc: error unmarshalling request: string field contains invalid UTF-8");
    }

    #[test]
    fn a_framed_message_fills_its_buffer() {
        let request = PutRequest { key: "k".into(), ..Default::default() };
        assert_eq!(framed(&request), &b"\0\0\0\0\x03\x0a\x01k"[..]);
        assert_eq!(framed(&PutRequest::default()), &b"\0\0\0\0\0"[..]);
    }
}
