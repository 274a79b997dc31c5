//! etcd's v2 API on the client port: `/v2/keys` and what stands beside it.
//!
//! Owns the paths, methods, forms and texts, which are those of etcd 3.4. Does not own the tree (`quorate_store::v2`).
//! Invariant: a request that is not below `/v2` costs one look at its path.

mod account;
mod accounts;
mod auth;
mod expiry;
mod form;
mod gate;
mod json;
mod keys;
mod members;
mod stats;
mod watch;

pub(crate) use expiry::run as run_expiry;

use crate::api::{ClientSurface, Stopping};
use crate::connection::ConnectionInfo;
use crate::grpc::body::ReplyBody;
use crate::http::{content, refusal};
use bytes::Bytes;
use form::unescape_path;
use gate::Asker;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use quorate_store::v2::clean;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");

/// What a request brings, whatever connection it came over.
type Sent = UnsyncBoxBody<Bytes, std::io::Error>;

/// Whether a path is this module's.
pub(crate) fn is_v2(path: &str) -> bool {
    path.starts_with("/v2/") || path.starts_with("//") && clean(path.as_bytes()).starts_with(b"/v2/")
}

/// Answers a request whose path is below `/v2`.
pub(crate) async fn answer<B>(
    surface: &Arc<ClientSurface>,
    info: &ConnectionInfo,
    request: Request<B>,
    stopping: Stopping,
) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let asker = Asker::read(request.method(), request.headers(), info.common_name.as_ref());
    let request = request.map(|body| body.map_err(|_| ErrorKind::UnexpectedEof.into()).boxed_unsync());
    if request.method() == Method::OPTIONS {
        return Response::new(ReplyBody::Empty);
    }
    if surface.backend.reader().is_quarantined() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "etcdserver: corrupt cluster");
    }
    let Some(path) = unescape_path(request.uri().path()) else {
        return refusal(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    if let Some(response) = redirect(&request, &path) {
        return response;
    }
    let Ok(text) = std::str::from_utf8(&path) else {
        return match path.starts_with(b"/v2/keys/") {
            true => keys::answer(surface, &asker, request, &path, stopping).await,
            false => not_found(),
        };
    };
    match text {
        "/v2/keys" => keys::answer(surface, &asker, request, &path, stopping).await,
        _ if text.starts_with("/v2/keys/") => keys::answer(surface, &asker, request, &path, stopping).await,
        "/v2/machines" | "/v2/stats/self" | "/v2/stats/leader" | "/v2/stats/store"
            if !asker.may_look(surface).await =>
        {
            unauthorized()
        }
        "/v2/machines" => members::machines(surface, request.method()),
        "/v2/members" => members::answer(surface, &asker, request, "").await,
        _ if text.starts_with("/v2/members/") => {
            members::answer(surface, &asker, request, &text["/v2/members/".len()..]).await
        }
        "/v2/stats/self" => stats::answer(surface, request.method(), stats::Page::Own),
        "/v2/stats/leader" => stats::answer(surface, request.method(), stats::Page::Leader),
        "/v2/stats/store" => stats::answer(surface, request.method(), stats::Page::Store),
        _ => match text.strip_prefix("/v2/auth/") {
            Some(rest) => auth::answer(surface, &asker, request, rest).await,
            None => not_found(),
        },
    }
}

fn not_found() -> Response<ReplyBody> {
    refusal(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// As Go's router: a path with empty names or dots is asked for again without them.
fn redirect(request: &Request<Sent>, path: &[u8]) -> Option<Response<ReplyBody>> {
    let mut wanted = clean(path);
    if path.ends_with(b"/") && wanted != b"/" {
        wanted.push(b'/');
    }
    if wanted == path {
        return None;
    }
    let mut location = form::escape_path(&wanted);
    if let Some(query) = request.uri().query() {
        location.push('?');
        location.push_str(query);
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let body = if is_read {
        let shown = location.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
        format!("<a href=\"{}\">Moved Permanently</a>.\n\n", shown.replace('\'', "&#39;"))
    } else {
        String::new()
    };
    let mut response = Response::new(ReplyBody::Content(body.into()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if is_read {
        response.headers_mut().insert(CONTENT_TYPE, HTML);
    }
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(&location).ok()?);
    Some(response)
}

/// `None` when the method is among those allowed.
fn check_method(method: &Method, allowed: &'static str) -> Option<Response<ReplyBody>> {
    if allowed.split(',').any(|name| name == method.as_str()) {
        return None;
    }
    let mut response = method_not_allowed();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    Some(response)
}

fn method_not_allowed() -> Response<ReplyBody> {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

fn json_content(surface: &ClientSurface, status: StatusCode, text: impl Into<Bytes>) -> Response<ReplyBody> {
    let mut response = content(JSON, text);
    *response.status_mut() = status;
    set_cluster_id(surface, &mut response);
    response
}

/// `{"message":…}`, as everything but keys tells its failures.
fn message(surface: &ClientSurface, status: StatusCode, text: &str) -> Response<ReplyBody> {
    let mut response = plain_message(status, text);
    set_cluster_id(surface, &mut response);
    response
}

fn plain_message(status: StatusCode, text: &str) -> Response<ReplyBody> {
    let mut body = b"{\"message\":".to_vec();
    json::put_string(&mut body, text.as_bytes());
    body.push(b'}');
    let mut response = content(JSON, body);
    *response.status_mut() = status;
    response
}

const INSUFFICIENT: &str = "Insufficient credentials";

/// As everything but keys tells that somebody may not.
fn unauthorized() -> Response<ReplyBody> {
    plain_message(StatusCode::UNAUTHORIZED, INSUFFICIENT)
}

fn set_cluster_id(surface: &ClientSurface, response: &mut Response<ReplyBody>) {
    let id = format!("{:x}", surface.backend.identity().cluster_id);
    response.headers_mut().insert(CLUSTER_ID, HeaderValue::from_str(&id).expect("hex digits"));
}

/// The clock that times to live are counted by, ns since 1970.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
