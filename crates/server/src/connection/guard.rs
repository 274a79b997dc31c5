//! Between a client's socket and the HTTP/2 library: what the library does not judge, and what it judges too hard.
//!
//! - A client that pings more often than it may is told GOAWAY, as by gRPC-Go: ENHANCE_YOUR_CALM, `too_many_pings`.
//! - A URL in place of an authority, which etcd's old clients send, is mended before the library refuses it.
//!
//! Bytes pass in place; only a HEADERS frame that arrives in pieces, and a frame's head that does, are held until they are
//! complete. At most one frame of the size that the library accepts is held.

use super::PREFACE;
use super::frames::{
    ACK, DATA, END_STREAM, Follower, GOAWAY, HEAD_BYTES, HEADERS, Head, PING, RST_STREAM, mend_authority,
};
use bytes::{Buf, BytesMut};
use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A larger HEADERS frame is the library's to refuse: its default bound on frames.
const FRAME_BYTES_MAX: usize = 16_384;

/// Pings that come too soon before the client is told off (gRPC-Go's figure).
const STRIKES_MAX: u32 = 2;

/// Without a stream, pings further apart than this are fine (gRPC-Go's figure).
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 3600);

const ENHANCE_YOUR_CALM: u32 = 0xb;
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";

/// A stream of HTTP/2 frames under guard.
pub(super) struct Guard<S> {
    stream: S,
    inbound: Inbound,
    outbound: Follower,
    /// Read, and not given on: at first what is complete, then the beginning of a frame.
    held: BytesMut,
    /// How much of `held` is complete.
    complete: usize,
    refusal: Option<Refusal>,
}

/// What is known from the frames that came.
struct Inbound {
    /// Bytes of the current frame that need no look.
    skip: usize,
    pings: PingPolicy,
}

/// The client is being told off.
struct Refusal {
    goaway: BytesMut,
    /// The reader, who waits until the frame that is being written is complete.
    waiting: Option<Waker>,
}

/// gRPC-Go's count of pings that come too soon.
struct PingPolicy {
    interval_min: Duration,
    last_ping: Option<Instant>,
    strikes: u32,
    /// Whether data or headers were sent since the last ping: then the next is the client's good right.
    sent: bool,
    /// Streams that are open. Bounded by the library, which refuses more than `--max-concurrent-streams`.
    streams: BTreeSet<u32>,
    last_stream: u32,
}

impl PingPolicy {
    fn new(interval_min: Duration) -> Self {
        Self { interval_min, last_ping: None, strikes: 0, sent: false, streams: BTreeSet::new(), last_stream: 0 }
    }

    /// Whether the client may go on after a ping at `now`.
    fn allows(&mut self, now: Instant) -> bool {
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.sent) {
            self.strikes = 0;
            return true;
        }
        let interval = if self.streams.is_empty() { IDLE_PING_INTERVAL } else { self.interval_min };
        // The first ping of a connection comes after nothing.
        if last.is_some_and(|last| last + interval > now) {
            self.strikes += 1;
        }
        self.strikes <= STRIKES_MAX
    }

    fn received(&mut self, head: Head) {
        match head.kind {
            HEADERS if head.stream > self.last_stream => {
                self.last_stream = head.stream;
                self.streams.insert(head.stream);
            }
            RST_STREAM => {
                self.streams.remove(&head.stream);
            }
            _ => {}
        }
    }

    fn was_sent(&mut self, head: Head) {
        if matches!(head.kind, DATA | HEADERS) {
            self.sent = true;
            if head.has(END_STREAM) {
                self.streams.remove(&head.stream);
            }
        } else if head.kind == RST_STREAM {
            self.streams.remove(&head.stream);
        }
    }
}

impl Inbound {
    /// Looks at bytes, mends what needs it, and tells how many of them are complete. `None`: the client pings too much.
    fn look(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            let Some(head) = bytes[at..].first_chunk::<HEAD_BYTES>().map(Head::read) else {
                return Some(at);
            };
            let content = at + HEAD_BYTES;
            if head.kind == HEADERS && head.length <= FRAME_BYTES_MAX {
                let Some(content) = bytes.get_mut(content..content + head.length) else {
                    return Some(at);
                };
                mend_authority(head, content);
            }
            self.pings.received(head);
            if head.kind == PING && !head.has(ACK) && !self.pings.allows(Instant::now()) {
                return None;
            }
            self.skip = head.length;
            at = content;
        }
    }
}

impl<S> Guard<S> {
    /// `ping_interval_min`: the shortest time between pings of a client with open streams.
    pub(super) fn new(stream: S, ping_interval_min: Duration) -> Self {
        Self {
            stream,
            inbound: Inbound { skip: PREFACE.len(), pings: PingPolicy::new(ping_interval_min) },
            outbound: Follower::default(),
            held: BytesMut::new(),
            complete: 0,
            refusal: None,
        }
    }

    fn refuse(&mut self) {
        let mut goaway = BytesMut::new();
        goaway.extend_from_slice(&(8 + TOO_MANY_PINGS.len() as u32).to_be_bytes()[1..]);
        goaway.extend_from_slice(&[GOAWAY, 0, 0, 0, 0, 0]);
        goaway.extend_from_slice(&self.inbound.pings.last_stream.to_be_bytes());
        goaway.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        goaway.extend_from_slice(TOO_MANY_PINGS);
        self.refusal = Some(Refusal { goaway, waiting: None });
    }

    /// Notes what was written; wakes the reader who waits for a frame's end.
    fn wrote(&mut self, bytes: &[u8]) {
        let pings = &mut self.inbound.pings;
        self.outbound.follow(bytes, |head| pings.was_sent(head));
        if self.outbound.is_between_frames()
            && let Some(waiting) = self.refusal.as_mut().and_then(|refusal| refusal.waiting.take())
        {
            waiting.wake();
        }
    }

    /// Whether the client was told off: what the library still has to say goes nowhere.
    fn is_over(&self) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.goaway.is_empty())
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    /// Writes the GOAWAY once the frame before it is complete.
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let refusal = self.refusal.as_mut().expect("asked for while there is one");
        while !refusal.goaway.is_empty() {
            if !self.outbound.is_between_frames() {
                refusal.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &refusal.goaway))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            refusal.goaway.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        loop {
            if guard.refusal.is_some() {
                // The end of the stream is all that the library is told.
                return guard.poll_refusal(cx);
            }
            if guard.complete > 0 {
                let given = guard.complete.min(out.remaining());
                out.put_slice(&guard.held[..given]);
                guard.held.advance(given);
                guard.complete -= given;
                return Poll::Ready(Ok(()));
            }
            let before = out.filled().len();
            ready!(Pin::new(&mut guard.stream).poll_read(cx, out))?;
            let new = &mut out.filled_mut()[before..];
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let looked = if guard.held.is_empty() {
                let looked = guard.inbound.look(new);
                if let Some(complete) = looked {
                    guard.held.extend_from_slice(&new[complete..]);
                    out.set_filled(before + complete);
                    if complete > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                looked
            } else {
                guard.held.extend_from_slice(new);
                out.set_filled(before);
                let looked = guard.inbound.look(&mut guard.held);
                guard.complete = looked.unwrap_or(0);
                looked
            };
            if looked.is_none() {
                out.set_filled(before);
                guard.refuse();
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        if guard.is_over() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut guard.stream).poll_write(cx, bytes))?;
        guard.wrote(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        if guard.is_over() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = ready!(Pin::new(&mut guard.stream).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            guard.wrote(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, flags: u8, stream: u32) -> Head {
        Head { length: 0, kind, flags, stream }
    }

    #[test]
    fn pings_are_counted_as_grpc_go_counts_them() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut idle = PingPolicy::new(Duration::from_secs(5));
        let allowed: Vec<bool> = (0..5).map(|number| idle.allows(at(100 * number))).collect();
        assert_eq!(allowed, [true, true, true, false, false], "without a stream, pings hours apart are fine only");

        let mut busy = PingPolicy::new(Duration::from_secs(5));
        busy.received(head(HEADERS, 4, 1));
        assert!((0..100).all(|number| busy.allows(at(5 * number))));
        assert!(busy.allows(at(496)) && busy.allows(at(497)), "two strikes");
        busy.was_sent(head(DATA, 0, 1));
        assert!(busy.allows(at(498)) && busy.allows(at(499)) && busy.allows(at(500)), "what was sent forgives");
        assert!(!busy.allows(at(501)));

        let mut ended = PingPolicy::new(Duration::from_secs(5));
        ended.received(head(HEADERS, 4, 1));
        ended.received(head(HEADERS, 5, 1));
        ended.received(head(HEADERS, 5, 3));
        ended.received(head(RST_STREAM, 0, 3));
        ended.was_sent(head(HEADERS, END_STREAM, 1));
        assert!(ended.streams.is_empty());
    }

    #[test]
    fn what_is_incomplete_is_held() {
        let headers = [0, 0, 2, HEADERS, 4, 0, 0, 0, 1, 0x83, 0x82];
        let data = [0, 0, 4, DATA, 0, 0, 0, 0, 1, 1, 2, 3, 4];
        let mut wire = [PREFACE, &headers[..], &data[..]].concat();
        let (headers_at, data_at) = (PREFACE.len(), PREFACE.len() + headers.len());
        for (cut, complete) in [
            (10, 10),
            (headers_at, headers_at),
            (headers_at + 5, headers_at),
            (headers_at + 10, headers_at),
            (data_at, data_at),
            (data_at + 8, data_at),
            (data_at + 9, data_at + 9),
            (data_at + 11, data_at + 11),
        ] {
            let mut inbound = Inbound { skip: PREFACE.len(), pings: PingPolicy::new(Duration::ZERO) };
            assert_eq!(inbound.look(&mut wire[..cut]), Some(complete), "cut at {cut}");
            let rest = wire.len() - complete;
            assert_eq!(inbound.look(&mut wire[complete..]), Some(rest), "cut at {cut}");
        }
    }
}
