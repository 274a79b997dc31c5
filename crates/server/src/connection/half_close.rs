//! A client that closed its sending side while it waits for an HTTP/1 answer.
//!
//! Most often it is gone altogether, and a call that waits for long, or a stream, must end with it; but a client may also
//! have said all it had to say. So the end of the stream is told a little late while a request is being answered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long an answer may still take once its client closed its sending side.
const ANSWER_WAIT: Duration = Duration::from_millis(500);

/// Requests whose answer has not begun.
pub(super) type InFlight = Arc<AtomicUsize>;

/// A stream whose end comes late while requests are in flight.
pub(super) struct HalfClose<S> {
    stream: S,
    in_flight: InFlight,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> HalfClose<S> {
    pub(super) fn new(stream: S, in_flight: InFlight) -> Self {
        Self { stream, in_flight, waiting: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HalfClose<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(waiting) = &mut self.waiting {
            return waiting.as_mut().poll(cx).map(Ok);
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let ended = out.filled().len() == before && out.remaining() > 0;
        if ended && self.in_flight.load(Ordering::Relaxed) > 0 {
            let mut waiting = Box::pin(tokio::time::sleep(ANSWER_WAIT));
            let passed = waiting.as_mut().poll(cx);
            self.waiting = Some(waiting);
            return passed.map(Ok);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HalfClose<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
