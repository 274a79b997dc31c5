//! One connection over a pipe in memory, against a surface that echoes: framing, limits, stopping, and both HTTPs.

use super::*;
use crate::grpc::body::Chunk;
use crate::grpc::request::{FRAME_HEAD_BYTES, MessageReader};
use crate::grpc::status::{Code, GRPC_STATUS, Status};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

/// Answers `/echo` with its message, `/endless` with a stream until the server stops, `/counted` like `/endless` while
/// counting the chunks that were asked for, and all else with its path.
#[derive(Clone, Default)]
struct Echo {
    chunks: Arc<AtomicUsize>,
}

/// A message larger than this is refused.
const ECHO_BYTES_MAX: usize = 3 << 20;
const CHUNK_BYTES: usize = 64 << 10;

impl Echo {
    async fn answer(self, request: Request<Incoming>, mut stopping: watch::Receiver<bool>) -> Response<ReplyBody> {
        let path = request.uri().path().to_owned();
        let body = match path.as_str() {
            "/echo" => {
                let mut reader = MessageReader::new(request.into_body(), ECHO_BYTES_MAX, None);
                match reader.unary().await {
                    Ok(message) => {
                        let mut framed = Vec::with_capacity(FRAME_HEAD_BYTES + message.len());
                        crate::grpc::request::put_frame_head(&mut framed, message.len());
                        framed.extend_from_slice(&message);
                        ReplyBody::Message(framed.into())
                    }
                    Err(status) => {
                        let mut response = Response::new(ReplyBody::Empty);
                        status.write_to(response.headers_mut());
                        return response;
                    }
                }
            }
            "/endless" => {
                let stopped = async move {
                    let _ = stopping.wait_for(|stop| *stop).await;
                    Err(Status::new(Code::Unavailable, "etcdserver: server stopped"))
                };
                ReplyBody::Stream(futures::stream::once(stopped).boxed())
            }
            "/counted" => {
                let chunks = self.chunks.clone();
                let chunk = move || {
                    chunks.fetch_add(1, Ordering::SeqCst);
                    Ok(Chunk { bytes: vec![0; CHUNK_BYTES].into(), messages: 1 })
                };
                ReplyBody::Stream(futures::stream::repeat_with(chunk).boxed())
            }
            _ => ReplyBody::Content(path.into()),
        };
        Response::new(body)
    }
}

struct Server {
    task: JoinHandle<Result<(), ServeError>>,
    stop: watch::Sender<bool>,
    chunks: Arc<AtomicUsize>,
}

fn start() -> (DuplexStream, Server) {
    let (client, server) = duplex(64 << 10);
    let (stop, stopping) = watch::channel(false);
    let echo = Echo::default();
    let chunks = echo.chunks.clone();
    let answer = move |request, stopping| echo.clone().answer(request, stopping);
    (client, Server { task: tokio::spawn(serve(server, answer, stopping)), stop, chunks })
}

type Client = SendRequest<Full<Bytes>>;

async fn connect(stream: DuplexStream) -> (Client, JoinHandle<hyper::Result<()>>) {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn post(path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    Request::post(format!("http://server{path}"))
        .header(CONTENT_TYPE, "application/grpc")
        .body(Full::new(body.into()))
        .unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

async fn echo(client: &mut Client, message: &[u8]) -> (Bytes, Option<HeaderValue>) {
    let response = client.send_request(post("/echo", framed(message))).await.unwrap();
    let in_head = response.headers().get(GRPC_STATUS).cloned();
    let body = response.into_body().collect().await.unwrap();
    let in_trailers = body.trailers().and_then(|trailers| trailers.get(GRPC_STATUS).cloned());
    (body.to_bytes(), in_head.or(in_trailers))
}

#[tokio::test]
async fn a_unary_call_is_answered_with_message_and_status() {
    let (stream, _server) = start();
    let (mut client, _connection) = connect(stream).await;
    for message in [&b""[..], b"abc", &vec![7; 2_000_000]] {
        let (body, status) = echo(&mut client, message).await;
        assert_eq!(body, framed(message));
        assert_eq!(status.unwrap(), "0");
    }
}

/// h2 counts small DATA frames as an attack unless the windows are large: a client with thousands of small calls in
/// flight once lost its connection with GOAWAY `too_many_data_frames`.
#[tokio::test]
async fn two_thousand_small_calls_in_flight_do_not_cost_the_connection() {
    let (stream, _server) = start();
    let (client, _connection) = connect(stream).await;
    let mut calls: FuturesUnordered<_> = (0..2_000u32)
        .map(|number| {
            let mut client = client.clone();
            async move {
                let message = number.to_be_bytes();
                let (body, status) = echo(&mut client, &message).await;
                assert_eq!(body, framed(&message));
                assert_eq!(status.unwrap(), "0");
            }
        })
        .collect();
    let mut answered = 0;
    while calls.next().await.is_some() {
        answered += 1;
    }
    assert_eq!(answered, 2_000);
}

#[tokio::test]
async fn a_message_that_is_too_large_costs_its_call_only() {
    let (stream, _server) = start();
    let (mut client, _connection) = connect(stream).await;
    for _ in 0..3 {
        let (_, status) = echo(&mut client, &vec![0; 8 << 20]).await;
        assert_eq!(status.unwrap(), "8");
        let (body, status) = echo(&mut client, b"next").await;
        assert_eq!(body, framed(b"next"));
        assert_eq!(status.unwrap(), "0");
    }
}

#[tokio::test]
async fn a_call_without_a_message_is_answered_at_once() {
    let (stream, _server) = start();
    let (mut client, _connection) = connect(stream).await;
    let response = client.send_request(post("/echo", Vec::new())).await.unwrap();
    assert_eq!(response.headers()[GRPC_STATUS], "13");
    let response = client.send_request(post("/echo", framed(b"abc")[..6].to_vec())).await.unwrap();
    assert_eq!(response.headers()[GRPC_STATUS], "2");
}

#[tokio::test]
async fn stopping_ends_streams_and_then_the_connection() {
    let (stream, server) = start();
    let (mut client, connection) = connect(stream).await;
    let response = client.send_request(post("/endless", Vec::new())).await.unwrap();
    server.stop.send(true).unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()[GRPC_STATUS], "14");
    // Both ends close as soon as nothing is left to do; whose last words still reach the other is not determined.
    let _ = server.task.await.unwrap();
    let _ = connection.await.unwrap();
    assert!(client.send_request(post("/echo", framed(b"late"))).await.is_err());
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_stops_the_source() {
    let (stream, server) = start();
    let (mut client, _connection) = connect(stream).await;
    let mut response = client.send_request(post("/counted", Vec::new())).await.unwrap();
    // Nothing is taken from the body, so its window is not opened again: the source comes to rest.
    let mut seen = usize::MAX;
    while seen != server.chunks.load(Ordering::SeqCst) {
        seen = server.chunks.load(Ordering::SeqCst);
        // Each round lets every task that can run do so many times.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }
    let bound = ((1 << 20) + SEND_BUFFER_BYTES_MAX) / CHUNK_BYTES + 2;
    assert!(seen > 0 && seen <= bound, "{seen} chunks, at most {bound} expected");
    // Taking what is there sets it going again.
    let mut taken = 0;
    while taken < 8 << 20 {
        taken += response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    assert!(server.chunks.load(Ordering::SeqCst) > bound);
}

#[tokio::test]
async fn http_1_is_spoken_on_the_same_port() {
    let (mut stream, server) = start();
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n/hello"), "{answer}");
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_first_bytes_may_come_one_by_one() {
    for (wire, expected) in [
        (PREFACE, Version::Http2),
        (b"PRI * HTTP/1.1\r\n", Version::Http1),
        (b"P", Version::Http1),
        (b"GET / HTTP/1.1\r\n", Version::Http1),
    ] {
        let (mut client, mut server) = duplex(1);
        let writer = tokio::spawn(async move {
            // The reader may have seen enough before all is written.
            let _ = client.write_all(wire).await;
        });
        let (first, version) = first_bytes(&mut server).await.unwrap();
        assert_eq!(version, expected);
        assert!(wire.starts_with(&first));
        drop(server);
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_ends_with_the_server() {
    let (stream, server) = start();
    server.stop.send(true).unwrap();
    server.task.await.unwrap().unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (mut stream, server) = start();
    let wire = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 << 20));
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let write = async {
        // The server answers and closes before it has read all of it.
        let _ = write.write_all(wire.as_bytes()).await;
    };
    let mut answer = Vec::new();
    let (_, _) = tokio::join!(write, read.read_to_end(&mut answer));
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    let _ = server.task.await.unwrap();
}
