//! From a request to its answer: finding the method, making the call, writing what it gave.

use super::print::{Html, Malformed, Printer, print, status_text};
use super::requests::{Messages, Taken, Values};
use super::{decode, metadata, routes};
use crate::api::method::{Kind, Method};
use crate::api::{ClientSurface, Reply, Stopping, call};
use crate::grpc::body::{ChunkStream, ReplyBody};
use crate::grpc::head::CallHead;
use crate::grpc::request::{FRAME_HEAD_BYTES, put_frame_head};
use crate::grpc::status::{Code, Status};
use crate::http::JSON;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use quorate_proto::descriptor::{self, MessageDescriptor};
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much longer than the largest message its JSON may be. Base64 takes a third more; the rest is room for names,
/// blanks and escapes.
const JSON_FACTOR: usize = 4;

/// `X-HTTP-Method-Override`, heeded in forms.
const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// What a call's answer says of itself, as grpc-gateway hands it on.
const METADATA_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");
const GRPC_CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");

/// Answers a request whose path, as decoded, lies under [`routes::ROOT`].
pub(crate) async fn answer<B>(
    surface: &Arc<ClientSurface>,
    path: &str,
    request: Request<B>,
    stopping: Stopping,
) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let outcome = async {
        let method = routes::find(path).ok_or_else(|| Status::new(Code::NotFound, "Not Found"))?;
        if !is_post(&parts) {
            return Err(Status::new(Code::Unimplemented, "Method Not Allowed"));
        }
        let metadata = metadata::of_headers(&parts.headers)?;
        let full_name = format!("/{}/{}", method.service(), method.name());
        let (input, output) = descriptor::method(&full_name).expect("every route's method has its messages");
        let timeout = CallHead::read(&metadata)?.timeout;
        let exchange = Exchange { surface, method, metadata, output, stopping, started, timeout };
        let values = Values::new(body, JSON_FACTOR * surface.message_bytes_max());
        match method.kind() {
            Kind::Unary => {
                let message = exchange.read(values, input).await?;
                exchange.unary(Full::new(message)).await
            }
            Kind::ServerStream => {
                let message = exchange.read(values, input).await?;
                exchange.stream(Full::new(message)).await
            }
            Kind::BidiStream => exchange.stream(Messages::new(values, input)).await,
        }
    };
    outcome.await.unwrap_or_else(|status| refused(&status))
}

fn is_post(parts: &http::request::Parts) -> bool {
    let overridden = parts
        .headers
        .get(METHOD_OVERRIDE)
        .filter(|_| parts.headers.get(CONTENT_TYPE).is_some_and(|content| content.as_bytes() == FORM))
        .is_some_and(|method| !method.is_empty() && !method.as_bytes().eq_ignore_ascii_case(b"POST"));
    parts.method == http::Method::POST && !overridden
}

/// A call on its way.
struct Exchange<'a> {
    surface: &'a Arc<ClientSurface>,
    method: Method,
    metadata: HeaderMap,
    output: &'static MessageDescriptor,
    stopping: Stopping,
    started: Instant,
    timeout: Option<Duration>,
}

const DEADLINE_EXCEEDED: Status =
    Status { code: Code::DeadlineExceeded, message: Cow::Borrowed("context deadline exceeded") };

/// A deadline that a caller of the gateway set is the gateway's, and told in its words.
fn in_own_words(status: Status) -> Status {
    if status.code == Code::DeadlineExceeded { DEADLINE_EXCEEDED } else { status }
}

impl Exchange<'_> {
    /// The request's only message, framed. A body without a value is an empty message.
    async fn read<B>(&self, values: Values<B>, input: &'static MessageDescriptor) -> Result<Bytes, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let invalid = |reason: String| Status::new(Code::InvalidArgument, reason);
        let message = match values.only().await {
            Taken::Value(json) => decode::decode(&json, input).map_err(invalid)?,
            Taken::End => Vec::new(),
            Taken::Broken(reason) => return Err(invalid(reason)),
            Taken::TooLong(length) => {
                let bytes_max = self.surface.message_bytes_max();
                let text = format!("grpc: received message larger than max ({length} vs. {bytes_max})");
                return Err(Status::new(Code::ResourceExhausted, text));
            }
        };
        let mut framed = Vec::with_capacity(FRAME_HEAD_BYTES + message.len());
        put_frame_head(&mut framed, message.len());
        framed.extend_from_slice(&message);
        Ok(framed.into())
    }

    /// A call whose time is over is not made.
    fn check_deadline(&self) -> Result<(), Status> {
        let over = self.timeout.is_some_and(|timeout| self.started.elapsed() >= timeout);
        if over { Err(DEADLINE_EXCEEDED) } else { Ok(()) }
    }

    async fn unary(self, body: Full<Bytes>) -> Result<Response<ReplyBody>, Status> {
        self.check_deadline()?;
        let outcome = call(self.surface, self.method, &self.metadata, body, self.stopping).await;
        let answered = match outcome.map_err(in_own_words)? {
            Reply::Message(framed) => {
                let text = print(self.output, &framed[FRAME_HEAD_BYTES..], Html::Plain)?;
                ReplyBody::Content(text.into())
            }
            // A large answer, in pieces. Should it break off, what was sent is no JSON, and its receiver knows.
            Reply::Stream(chunks) => ReplyBody::Text(Box::pin(texts(chunks, Frames::new(self.output, Wrapped::No)))),
        };
        Ok(succeeded(answered))
    }

    async fn stream<B>(self, body: B) -> Result<Response<ReplyBody>, Status>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
    {
        self.check_deadline()?;
        let chunks = match call(self.surface, self.method, &self.metadata, body, self.stopping).await {
            Ok(Reply::Stream(chunks)) => chunks,
            Ok(Reply::Message(_)) => unreachable!("methods that stream answer with streams"),
            Err(status) => return Ok(failed_stream(&in_own_words(status))),
        };
        // The head waits for the first item, which may be a failure.
        let mut chunks = chunks.map_err(in_own_words).peekable();
        let head = match Pin::new(&mut chunks).peek().await {
            Some(Ok(_)) => succeeded(()),
            Some(Err(status)) => return Ok(failed_stream(status)),
            None => Response::new(()),
        };
        let texts = texts(Box::pin(chunks), Frames::new(self.output, Wrapped::AsResult));
        Ok(head.map(|()| ReplyBody::Text(Box::pin(texts))))
    }
}

/// An answer that went well.
fn succeeded<T>(body: T) -> Response<T> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(METADATA_CONTENT_TYPE, GRPC_CONTENT);
    response
}

/// A failure before anything was answered.
fn refused(status: &Status) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Content(status_text(status, Html::Plain).into()));
    *response.status_mut() = http_status(status.code);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    if status.code == Code::Unauthenticated
        && let Ok(text) = HeaderValue::from_str(&status.message)
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, text);
    }
    response
}

/// A stream whose first item is a failure.
fn failed_stream(status: &Status) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Content(error_line(status).into()));
    *response.status_mut() = http_status(status.code);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn error_line(status: &Status) -> Vec<u8> {
    let mut line = b"{\"error\":".to_vec();
    line.extend_from_slice(&status_text(status, Html::Escaped));
    line.extend_from_slice(b"}\n");
    line
}

/// The HTTP status for a code, as grpc-gateway maps them.
fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Canceled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(number).expect("three digits")
}

/// The text of framed messages as they come. A failure is the last line of a stream of results, and cuts a bare message
/// off.
fn texts(chunks: ChunkStream, frames: Frames) -> impl Stream<Item = Bytes> + Send {
    futures::stream::unfold(Some((chunks, frames)), |state| async move {
        let (mut chunks, mut frames) = state?;
        loop {
            let mut out = Vec::new();
            let printed = match chunks.next().await? {
                Ok(chunk) => frames.push(&chunk.bytes, &mut out).map_err(Status::from),
                Err(status) => Err(status),
            };
            if let Err(status) = printed {
                if frames.wrapped == Wrapped::AsResult {
                    out.extend_from_slice(&error_line(&status));
                }
                return Some((out.into(), None));
            }
            if !out.is_empty() {
                return Some((Bytes::from(out), Some((chunks, frames))));
            }
        }
    })
}

/// Whether each message is a line `{"result":...}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrapped {
    No,
    AsResult,
}

/// Takes framed messages in pieces of any size and prints them.
struct Frames {
    message: &'static MessageDescriptor,
    wrapped: Wrapped,
    /// The beginning of a frame's head.
    head: Vec<u8>,
    /// The message that is being printed, and how many of its bytes are to come.
    current: Option<(Printer, usize)>,
}

impl Frames {
    fn new(message: &'static MessageDescriptor, wrapped: Wrapped) -> Self {
        Self { message, wrapped, head: Vec::with_capacity(FRAME_HEAD_BYTES), current: None }
    }

    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            if self.current.is_none() {
                let missing = FRAME_HEAD_BYTES - self.head.len();
                let (head, rest) = bytes.split_at(missing.min(bytes.len()));
                self.head.extend_from_slice(head);
                bytes = rest;
                let Ok([_, length @ ..]) = <[u8; FRAME_HEAD_BYTES]>::try_from(&self.head[..]) else {
                    return Ok(());
                };
                self.head.clear();
                let length = u32::from_be_bytes(length);
                let html = match self.wrapped {
                    Wrapped::No => Html::Plain,
                    Wrapped::AsResult => {
                        out.extend_from_slice(b"{\"result\":");
                        Html::Escaped
                    }
                };
                self.current = Some((Printer::new(self.message, length.into(), html, out), length as usize));
            }
            let (printer, left) = self.current.as_mut().expect("it was just begun");
            let (piece, rest) = bytes.split_at((*left).min(bytes.len()));
            printer.push(piece, out)?;
            *left -= piece.len();
            bytes = rest;
            if *left == 0 {
                if !printer.is_done() {
                    return Err(Malformed);
                }
                self.current = None;
                if self.wrapped == Wrapped::AsResult {
                    out.extend_from_slice(b"}\n");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::body::Chunk;
    use crate::grpc::request::framed;
    use quorate_proto::etcdserverpb::{LeaseKeepAliveResponse, WatchResponse};

    fn wire() -> Vec<u8> {
        let reason = "<".to_owned();
        let watch = WatchResponse { watch_id: 1, cancel_reason: reason, ..Default::default() };
        [framed(&watch), framed(&WatchResponse::default()), framed(&watch)].concat()
    }

    #[test]
    fn frames_are_lines_however_they_are_cut() {
        let one = "{\"result\":{\"watch_id\":\"1\",\"cancel_reason\":\"\\u003c\"}}\n";
        let expected = format!("{one}{{\"result\":{{}}}}\n{one}");
        for size in 1..=wire().len() {
            let mut frames = Frames::new(&descriptor::ETCDSERVERPB_WATCHRESPONSE, Wrapped::AsResult);
            let mut out = Vec::new();
            for piece in wire().chunks(size) {
                frames.push(piece, &mut out).unwrap();
            }
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{size} bytes at a time");
        }
    }

    #[tokio::test]
    async fn a_failure_is_the_last_line() {
        let answer = framed(&LeaseKeepAliveResponse { id: 5, ..Default::default() });
        let chunks = futures::stream::iter([
            Ok(Chunk { bytes: answer.clone(), messages: 1 }),
            Err(Status::new(Code::Unavailable, "etcdserver: no leader")),
            Ok(Chunk { bytes: answer, messages: 1 }),
        ]);
        let frames = Frames::new(&descriptor::ETCDSERVERPB_LEASEKEEPALIVERESPONSE, Wrapped::AsResult);
        let lines: Vec<Bytes> = texts(chunks.boxed(), frames).collect().await;
        assert_eq!(
            lines,
            [
                &b"{\"result\":{\"ID\":\"5\"}}\n"[..],
                b"{\"error\":{\"code\":14,\"message\":\"etcdserver: no leader\"}}\n"
            ]
        );
    }

    #[test]
    fn a_token_that_is_refused_is_asked_for() {
        let response = refused(&Status::new(Code::Unauthenticated, "etcdserver: invalid auth token"));
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "etcdserver: invalid auth token");
    }
}
