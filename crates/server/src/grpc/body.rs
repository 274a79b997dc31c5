//! What a response carries: one message, a stream of them, or plain HTTP content.

use crate::grpc::status::{Status, ok_trailers};
use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Framed messages, or a part of one, sent in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The bytes, gRPC's frame heads included.
    pub bytes: Bytes,
    /// How many messages end in it, for the counters.
    pub messages: u64,
}

/// Where a streamed answer comes from. It is asked for a chunk only when the one before it was handed to the connection,
/// so a slow receiver slows the source down.
pub(crate) type ChunkStream = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

/// A response's body.
pub(crate) enum ReplyBody {
    /// Nothing: the head says it all.
    Empty,
    /// One framed message, then trailers that say OK.
    Message(Bytes),
    /// What is left of [`Self::Message`] when the message is out.
    OkTrailers,
    /// Chunks as they come; then trailers with the outcome.
    Stream(ChunkStream),
    /// Content of a plain HTTP response.
    Content(Bytes),
    /// Content that comes in pieces, without trailers.
    Text(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        let trailers: HeaderMap = match body {
            Self::Empty => return Poll::Ready(None),
            Self::Message(bytes) => {
                let bytes = std::mem::take(bytes);
                *body = Self::OkTrailers;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Self::Content(bytes) => {
                let bytes = std::mem::take(bytes);
                *body = Self::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Self::Text(stream) => match ready!(stream.as_mut().poll_next(cx)) {
                Some(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => {
                    *body = Self::Empty;
                    return Poll::Ready(None);
                }
            },
            Self::OkTrailers => ok_trailers(),
            Self::Stream(stream) => match ready!(stream.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => return Poll::Ready(Some(Ok(Frame::data(chunk.bytes)))),
                Some(Err(status)) => status.trailers(),
                None => ok_trailers(),
            },
        };
        *body = Self::Empty;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Content(bytes) => bytes.is_empty(),
            Self::Message(_) | Self::OkTrailers | Self::Stream(_) | Self::Text(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Content(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // Exact sizes would make hyper write a content-length, which says nothing to a gRPC client.
            Self::Message(bytes) => {
                let mut hint = SizeHint::new();
                hint.set_lower(bytes.len() as u64);
                hint
            }
            Self::OkTrailers | Self::Stream(_) | Self::Text(_) => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::status::{Code, GRPC_STATUS};
    use futures::StreamExt;
    use http_body_util::BodyExt;

    async fn frames(mut body: ReplyBody) -> (Vec<Bytes>, Option<HeaderMap>) {
        let (mut data, mut trailers) = (Vec::new(), None);
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_data() {
                Ok(bytes) => data.push(bytes),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        assert!(body.is_end_stream());
        (data, trailers)
    }

    #[tokio::test]
    async fn a_message_is_one_data_frame_and_trailers() {
        let body = ReplyBody::Message(Bytes::from_static(b"abc"));
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), None);
        let (data, trailers) = frames(body).await;
        assert_eq!(data, [&b"abc"[..]]);
        assert_eq!(trailers.unwrap()[GRPC_STATUS], "0");
    }

    #[tokio::test]
    async fn a_stream_that_fails_says_so_in_its_trailers() {
        let chunks = futures::stream::iter([
            Ok(Chunk { bytes: Bytes::from_static(b"1"), messages: 1 }),
            Err(Status::new(Code::DataLoss, "etcdserver: corrupt cluster")),
            Ok(Chunk { bytes: Bytes::from_static(b"never sent"), messages: 1 }),
        ]);
        let (data, trailers) = frames(ReplyBody::Stream(chunks.boxed())).await;
        assert_eq!(data, [&b"1"[..]]);
        assert_eq!(trailers.unwrap()[GRPC_STATUS], "15");
    }

    #[tokio::test]
    async fn content_has_its_length_and_no_trailers() {
        let body = ReplyBody::Content(Bytes::from_static(b"ok\n"));
        assert_eq!(body.size_hint().exact(), Some(3));
        let (data, trailers) = frames(body).await;
        assert_eq!(data, [&b"ok\n"[..]]);
        assert!(trailers.is_none());
    }
}
