//! JSON values out of a request's body, one after the other, and the same as framed messages.
//!
//! What waits in memory is one value and the piece of the body that completed it; a value is refused as soon as it is longer
//! than its bound.

use super::decode;
use super::scan::{Scanner, Step};
use crate::grpc::request::{FRAME_HEAD_BYTES, put_frame_head};
use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use quorate_proto::descriptor::MessageDescriptor;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Bytes of a body that are read and thrown away, so that its sender takes the answer and the connection can go on.
const DISCARDED_BYTES_MAX: usize = 64 << 20;

/// What a body holds next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A value.
    Value(Bytes),
    /// Nothing more.
    End,
    /// Something that is no JSON; why, in Go's words.
    Broken(String),
    /// A value that is longer than its bound; how long it is at least.
    TooLong(usize),
}

/// The values of a body.
pub(super) struct Values<B> {
    body: B,
    value_bytes_max: usize,
    buffer: BytesMut,
    /// How many bytes of the buffer the scanner saw.
    scanned: usize,
    scanner: Scanner,
    ended: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Values<B> {
    pub(super) fn new(body: B, value_bytes_max: usize) -> Self {
        let scanner = Scanner::default();
        Self { body, value_bytes_max, buffer: BytesMut::new(), scanned: 0, scanner, ended: false }
    }

    /// The next value. After anything but a value nothing more comes.
    pub(super) fn poll_value(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
        loop {
            while let Some(&byte) = self.buffer.get(self.scanned) {
                match self.scanner.step(byte) {
                    Step::More => self.scanned += 1,
                    Step::EndsWith => {
                        self.scanned += 1;
                        return Poll::Ready(self.take());
                    }
                    Step::EndedBefore => return Poll::Ready(self.take()),
                    Step::Failed(reason) => {
                        self.ended = true;
                        return Poll::Ready(Taken::Broken(reason));
                    }
                }
            }
            if self.scanner.is_at_start() {
                // Nothing but blanks so far.
                self.buffer.clear();
                self.scanned = 0;
            }
            if self.buffer.len() > self.value_bytes_max {
                self.ended = true;
                let length = self.buffer.len() + usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
                self.buffer.clear();
                return Poll::Ready(Taken::TooLong(length));
            }
            if self.ended {
                return Poll::Ready(self.at_end());
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                // A body that breaks off ends there.
                Some(Err(_)) | None => self.ended = true,
            }
        }
    }

    fn take(&mut self) -> Taken {
        let mut value = self.buffer.split_to(std::mem::take(&mut self.scanned)).freeze();
        self.scanner = Scanner::default();
        let blanks = value.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        value.advance(blanks);
        if value.len() > self.value_bytes_max {
            self.ended = true;
            self.buffer.clear();
            return Taken::TooLong(value.len());
        }
        Taken::Value(value)
    }

    fn at_end(&mut self) -> Taken {
        if self.scanner.is_at_start() {
            return Taken::End;
        }
        // A bare value may end with the body.
        match self.scanner.step(b' ') {
            Step::EndedBefore => self.take(),
            _ => {
                self.scanner = Scanner::default();
                self.buffer.clear();
                Taken::Broken("unexpected EOF".to_owned())
            }
        }
    }

    /// The first value, with the rest of the body thrown away.
    pub(super) async fn only(mut self) -> Taken {
        let announced = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > DISCARDED_BYTES_MAX {
            return Taken::TooLong(announced);
        }
        let first = poll_fn(|cx| self.poll_value(cx)).await;
        let mut discarded = 0;
        while discarded < DISCARDED_BYTES_MAX {
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                Some(Ok(frame)) => discarded += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => break,
            }
        }
        first
    }
}

/// A stream of JSON values as gRPC's body: framed messages. It ends where the values do, or at the first that is no
/// message.
pub(super) struct Messages<B> {
    values: Option<Values<B>>,
    message: &'static MessageDescriptor,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    pub(super) fn new(values: Values<B>, message: &'static MessageDescriptor) -> Self {
        Self { values: Some(values), message }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Messages<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(values) = &mut self.values else {
            return Poll::Ready(None);
        };
        let mut framed = Vec::new();
        match ready!(values.poll_value(cx)) {
            Taken::Value(json) => {
                if let Ok(message) = decode::decode(&json, self.message) {
                    framed.reserve(FRAME_HEAD_BYTES + message.len());
                    put_frame_head(&mut framed, message.len());
                    framed.extend_from_slice(&message);
                    return Poll::Ready(Some(Ok(Frame::data(framed.into()))));
                }
                self.values = None;
                Poll::Ready(None)
            }
            Taken::TooLong(length) => {
                // The head alone: who reads it refuses the message by its length.
                put_frame_head(&mut framed, length.min(u32::MAX as usize));
                self.values = None;
                Poll::Ready(Some(Ok(Frame::data(framed.into()))))
            }
            Taken::End | Taken::Broken(_) => {
                self.values = None;
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full, StreamBody};
    use quorate_proto::descriptor;

    fn body(pieces: Vec<&'static [u8]>) -> impl Body<Data = Bytes> + Unpin {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece))));
        StreamBody::new(futures::stream::iter(frames))
    }

    async fn all(mut values: Values<impl Body<Data = Bytes> + Unpin>) -> Vec<Taken> {
        let mut taken = Vec::new();
        loop {
            taken.push(poll_fn(|cx| values.poll_value(cx)).await);
            if !matches!(taken.last(), Some(Taken::Value(_))) {
                return taken;
            }
        }
    }

    fn value(text: &'static str) -> Taken {
        Taken::Value(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn values_come_whole_in_whatever_pieces_they_arrive() {
        let wire: &'static [u8] = b" {\"a\" : 1}{}\r\n\t12 [true]3";
        let expected = vec![value("{\"a\" : 1}"), value("{}"), value("12"), value("[true]"), value("3"), Taken::End];
        for cut in 0..=wire.len() {
            assert_eq!(all(Values::new(body(vec![&wire[..cut], &wire[cut..]]), 100)).await, expected, "cut at {cut}");
        }
        let bytes = (0..wire.len()).map(|at| &wire[at..=at]).collect();
        assert_eq!(all(Values::new(body(bytes), 100)).await, expected);
    }

    #[tokio::test]
    async fn what_is_no_value_ends_the_values() {
        for (wire, expected) in [
            (&b""[..], vec![Taken::End]),
            (b" \n", vec![Taken::End]),
            (b"{", vec![Taken::Broken("unexpected EOF".to_owned())]),
            (b"{} -", vec![value("{}"), Taken::Broken("unexpected EOF".to_owned())]),
            (
                b"{}}",
                vec![value("{}"), Taken::Broken("invalid character '}' looking for beginning of value".to_owned())],
            ),
            (b"[1,2,3,4,5,6,7,8,9]", vec![Taken::TooLong(19)]),
        ] {
            assert_eq!(all(Values::new(body(vec![wire]), 10)).await, expected, "{}", wire.escape_ascii());
        }
    }

    #[tokio::test]
    async fn blanks_cost_no_memory() {
        let blanks: &'static [u8] = &[b' '; 1000];
        let mut pieces = vec![blanks; 100];
        pieces.push(b"{}");
        assert_eq!(all(Values::new(body(pieces), 1000)).await, [value("{}"), Taken::End]);
    }

    #[tokio::test]
    async fn a_value_without_its_bound_is_refused_by_what_is_announced() {
        let whole = Full::new(Bytes::from(vec![b'['; 1000]));
        assert_eq!(Values::new(whole, 10).only().await, Taken::TooLong(1000));
        let announced = Full::new(Bytes::from_static(&[b' '; DISCARDED_BYTES_MAX + 1]));
        assert_eq!(Values::new(announced, 10).only().await, Taken::TooLong(DISCARDED_BYTES_MAX + 1));
        assert_eq!(Values::new(body(vec![b"{} trai", b"ling"]), 100).only().await, value("{}"));
    }

    #[tokio::test]
    async fn messages_are_framed_until_one_is_none() {
        let wire = b"{\"ID\":5} {\"ID\":\"6\"}[]{\"ID\":7}";
        let values = Values::new(body(vec![wire]), 100);
        let messages = Messages::new(values, &descriptor::ETCDSERVERPB_LEASEKEEPALIVEREQUEST);
        assert_eq!(messages.collect().await.unwrap().to_bytes(), &b"\0\0\0\0\x02\x08\x05\0\0\0\0\x02\x08\x06"[..]);
        let long = Values::new(body(vec![b"{\"ID\":5}     {\"ID\":66}"]), 8);
        let messages = Messages::new(long, &descriptor::ETCDSERVERPB_LEASEKEEPALIVEREQUEST);
        assert_eq!(messages.collect().await.unwrap().to_bytes(), &b"\0\0\0\0\x02\x08\x05\0\0\0\0\x09"[..]);
    }
}
