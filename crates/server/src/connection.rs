//! One client connection: HTTP/1 or HTTP/2, told apart by its first bytes, until it closes or the server stops.
//!
//! Knows nothing of what is served; see [`crate::api`].

mod frames;
mod guard;
mod half_close;

use crate::api::{self, ClientSurface};
use crate::grpc::body::ReplyBody;
use crate::tls::{Accepted, Stream};
use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use guard::Guard;
use half_close::{HalfClose, InFlight};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may stay silent before its first bytes.
const FIRST_BYTES_SECONDS_MAX: u64 = 60;

/// Bytes a client may send on one stream ahead of being read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes a client may send on all streams ahead of being read. Far above what 1,000 small calls in flight take: with a
/// small window, h2 takes many small calls for an attack and closes the connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes of an answer that wait for the client to take them.
const SEND_BUFFER_BYTES_MAX: usize = 1 << 20;

/// Bytes of a request's head.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// How clients' connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Streams of one connection at a time; further ones are refused.
    pub concurrent_streams_max: u32,
    /// How long a connection may be silent before it is asked whether it lives.
    pub keep_alive_interval: Duration,
    /// How long it may take to answer.
    pub keep_alive_timeout: Duration,
    /// The shortest time between a client's pings.
    pub ping_interval_min: Duration,
}

impl Default for ConnectionSettings {
    /// gRPC-Go's.
    fn default() -> Self {
        Self {
            concurrent_streams_max: u32::MAX,
            keep_alive_interval: Duration::from_secs(2 * 3600),
            keep_alive_timeout: Duration::from_secs(20),
            ping_interval_min: Duration::from_secs(5 * 60),
        }
    }
}

/// What a listener for clients serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Traffic {
    #[default]
    All,
    /// gRPC alone: HTTP has a listener of its own (`--listen-client-http-urls`).
    Grpc,
    /// Pages and the JSON gateway; without TLS over HTTP/1 alone.
    Http,
}

impl Traffic {
    /// As the log names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "grpc+http",
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }

    /// Whether a connection that begins like this is served at all.
    fn takes(self, version: Version, is_encrypted: bool) -> bool {
        match (self, version) {
            (Self::Grpc, Version::Http1) => false,
            (Self::Http, Version::Http2) => is_encrypted,
            _ => true,
        }
    }
}

/// What is known of who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionInfo {
    /// The common name (which may be empty) of the certificate that the client showed, verified. Only with
    /// `--client-cert-auth`: then it may stand for a user's name.
    pub common_name: Option<Arc<str>>,
    /// Whether nobody on the way can read or change what is said.
    pub is_encrypted: bool,
    /// What is served here.
    pub(crate) traffic: Traffic,
    /// Where the connection comes from, in words.
    pub(crate) remote: Option<Arc<String>>,
}

impl ConnectionInfo {
    pub(crate) fn new(accepted: &Accepted, traffic: Traffic) -> Self {
        let is_encrypted = matches!(accepted.stream, Stream::Tls(_));
        let remote = Some(Arc::new(accepted.remote.to_string()));
        Self { common_name: accepted.common_name.clone(), is_encrypted, traffic, remote }
    }
}

/// Serves a client until it closes the connection, or until calls in flight are done after `shutdown` turned true.
pub(crate) async fn serve_client(
    stream: Stream,
    info: ConnectionInfo,
    shared: Arc<ClientSurface>,
    shutdown: watch::Receiver<bool>,
) {
    shared.metrics.client_connections.add(1);
    let (metrics, settings) = (shared.metrics.clone(), shared.connection);
    let closed = scopeguard(move || metrics.client_connections.add(-1));
    let (traffic, is_encrypted) = (info.traffic, info.is_encrypted);
    let is_taken = move |version| traffic.takes(version, is_encrypted);
    let answer = move |request, stopping| api::answer(&shared, &info, request, stopping);
    if let Err(error) = serve_with(settings, stream, is_taken, answer, shutdown).await {
        tracing::debug!(error = %error, "client connection ended");
    }
    drop(closed);
}

/// Runs `end` when dropped, also when the connection's task is.
fn scopeguard<F: FnMut()>(end: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(end)
}

/// Serves a connection with gRPC-Go's settings. `answer` is given each request, and what turns true when the server stops:
/// answers without an end must end then.
pub(crate) async fn serve<A, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: A,
    shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError>
where
    A: Fn(Request<Incoming>, watch::Receiver<bool>) -> F + Send + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    serve_with(ConnectionSettings::default(), stream, |_| true, answer, shutdown).await
}

async fn serve_with<A, F>(
    settings: ConnectionSettings,
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_taken: impl FnOnce(Version) -> bool,
    answer: A,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError>
where
    A: Fn(Request<Incoming>, watch::Receiver<bool>) -> F + Send + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let begin = tokio::time::timeout(Duration::from_secs(FIRST_BYTES_SECONDS_MAX), first_bytes(&mut stream));
    let (first, version) = tokio::select! {
        begun = begin => match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Ok(()),
        },
        _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
    };
    if !is_taken(version) {
        return Ok(());
    }
    let stream = Rewound { first, stream, is_write_vectored: version == Version::Http1 };
    let stopping = shutdown.clone();
    let stop = shutdown.wait_for(|stop| *stop);
    match version {
        Version::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_concurrent_streams(settings.concurrent_streams_max)
                .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
                .max_header_list_size(HEADER_BYTES_MAX)
                .keep_alive_interval(settings.keep_alive_interval)
                .keep_alive_timeout(settings.keep_alive_timeout)
                .auto_date_header(false);
            let io = TokioIo::new(Guard::new(stream, settings.ping_interval_min));
            let service = service_fn(move |request| answer(request, stopping.clone()).map(Ok::<_, Infallible>));
            let mut connection = pin!(builder.serve_connection(io, service));
            tokio::select! {
                result = connection.as_mut() => return Ok(result?),
                _ = stop => connection.as_mut().graceful_shutdown(),
            }
            Ok(connection.await?)
        }
        Version::Http1 => {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new());
            let in_flight = InFlight::default();
            let io = TokioIo::new(HalfClose::new(stream, in_flight.clone()));
            let service = service_fn(move |request| {
                in_flight.fetch_add(1, Ordering::Relaxed);
                let in_flight = in_flight.clone();
                answer(request, stopping.clone()).map(move |response| {
                    in_flight.fetch_sub(1, Ordering::Relaxed);
                    Ok::<_, Infallible>(response)
                })
            });
            let mut connection = pin!(builder.serve_connection(io, service));
            tokio::select! {
                result = connection.as_mut() => return Ok(result?),
                _ = stop => connection.as_mut().graceful_shutdown(),
            }
            Ok(connection.await?)
        }
    }
}

/// Why a connection ended early. Nobody but the log wants to know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Reads until it is clear what the client speaks.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Bytes, Version)> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    loop {
        if first.len() >= PREFACE.len() || !PREFACE.starts_with(&first) {
            let version = if first.starts_with(PREFACE) { Version::Http2 } else { Version::Http1 };
            return Ok((first.freeze(), version));
        }
        let room = PREFACE.len() - first.len();
        if (&mut *stream).take(room as u64).read_buf(&mut first).await? == 0 {
            return Ok((first.freeze(), Version::Http1));
        }
    }
}

/// A stream whose first bytes were read already and are given again.
struct Rewound<S> {
    first: Bytes,
    stream: S,
    /// What h2 is told of the stream: for one that can write several pieces at once it makes a system call of its own for
    /// each message of 256 bytes or more; else it joins those below 1 KiB with what else there is to send.
    is_write_vectored: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let bytes = self.first.len().min(out.remaining());
        out.put_slice(&self.first[..bytes]);
        self.first.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
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
        self.is_write_vectored && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
