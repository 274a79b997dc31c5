//! `/v2/keys`: requests judged in etcd's order, and their answers.

use super::form::Form;
use super::gate::Asker;
use super::{INSUFFICIENT, JSON, Sent, check_method, json, now_ns, set_cluster_id, watch};
use crate::api::{ClientSurface, Stopping};
use crate::backend::CallError;
use crate::grpc::body::ReplyBody;
use crate::grpc::status::Status;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{V2Change, v2_change};
use quorate_store::outcome::{Reply, ReplyBody as Outcome};
use quorate_store::v2::{Action, Code, Fault, KEYS, WatchSpec, clean};
use std::sync::Arc;

const ETCD_INDEX: HeaderName = HeaderName::from_static("x-etcd-index");
const RAFT_INDEX: HeaderName = HeaderName::from_static("x-raft-index");
const RAFT_TERM: HeaderName = HeaderName::from_static("x-raft-term");
const PREFIX: &[u8] = b"/v2/keys";
const NS_PER_S: i64 = 1_000_000_000;

/// A form that is refused: code, message, cause.
type Refused = (u16, &'static str, String);

/// What a request asks for.
enum Asked {
    Read { path: Vec<u8>, recursive: bool, quorum: bool },
    Watch(WatchSpec),
    Change { change: Box<V2Change>, with_nodes: bool },
}

impl Asked {
    /// Whether it says that it is about everything below its path, too.
    fn is_recursive(&self) -> bool {
        match self {
            Self::Read { recursive, .. } => *recursive,
            Self::Watch(spec) => spec.recursive,
            Self::Change { change, .. } => change.recursive,
        }
    }
}

/// Answers a request; `path` is unescaped and clean.
pub(super) async fn answer(
    surface: &Arc<ClientSurface>,
    asker: &Asker,
    request: Request<Sent>,
    path: &[u8],
    stopping: Stopping,
) -> Response<ReplyBody> {
    if let Some(response) = check_method(request.method(), "HEAD,GET,PUT,POST,DELETE") {
        return response;
    }
    let asked = read(surface, request, path).await;
    let mut response = match asked {
        Ok(asked) if !asker.may_use(surface, &path[PREFIX.len()..], asked.is_recursive()).await => {
            let text = "The request requires user authentication";
            refuse(StatusCode::UNAUTHORIZED, json::failure(110, text, INSUFFICIENT.as_bytes(), 0), 0)
        }
        Ok(Asked::Read { path, recursive, quorum }) => answer_read(surface, &path, recursive, quorum).await,
        Ok(Asked::Watch(spec)) => match watch::begin(surface, &spec, stopping) {
            Ok((index, body)) => success(surface, index, StatusCode::OK, body),
            Err(fault) => failure(&fault),
        },
        Ok(Asked::Change { change, with_nodes }) => answer_change(surface, change, with_nodes).await,
        Err((code, text, cause)) => refuse(StatusCode::BAD_REQUEST, json::failure(code, text, cause.as_bytes(), 0), 0),
    };
    set_cluster_id(surface, &mut response);
    response
}

async fn read(surface: &ClientSurface, request: Request<Sent>, path: &[u8]) -> Result<Asked, Refused> {
    let (parts, body) = request.into_parts();
    let invalid_form = |cause: String| (210, "Invalid POST form", cause);
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let bytes = match Limited::new(body, surface.backend.limits().request_bytes_max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => return Err(invalid_form("http: POST too large".to_owned())),
    };
    let form =
        Form::read(&parts.method, content_type, parts.uri.query().unwrap_or(""), &bytes).map_err(invalid_form)?;
    ask(&parts.method, &form, path, now_ns())
}

/// Judges a form's fields in etcd's order.
fn ask(method: &Method, form: &Form, path: &[u8], now_ns: i64) -> Result<Asked, Refused> {
    let index_refused = |name: &str| (203, "The given index in POST form is not a number", invalid(name));
    let field_refused = |cause: String| (209, "Invalid field", cause);
    let number = |name: &str| form.number(name).map_err(|()| index_refused(name));
    let switch = |name: &str| match form.switch(name) {
        Ok(value) => Ok(value.unwrap_or(false)),
        Err(()) => Err(field_refused(invalid(name))),
    };
    let optional = |name: &str| form.switch(name).map_err(|()| field_refused(format!("invalid value for {name}")));
    let prev_index = number("prevIndex")?;
    let since = number("waitIndex")?;
    let recursive = switch("recursive")?;
    switch("sorted")?;
    let wait = switch("wait")?;
    let dir = switch("dir")?;
    let quorum = switch("quorum")?;
    let stream = switch("stream")?;
    if wait && *method != Method::GET {
        return Err(field_refused("\"wait\" can only be used with GET requests".to_owned()));
    }
    let prev_value = Bytes::copy_from_slice(form.text("prevValue"));
    if prev_value.is_empty() && form.get("prevValue").is_some() {
        return Err((201, "PrevValue is Required in POST form", "\"prevValue\" cannot be empty".to_owned()));
    }
    let without_value = switch("noValueOnSuccess")?;
    let ttl_s = if form.text("ttl").is_empty() {
        None
    } else {
        let refused = |()| (202, "The given TTL in POST form is not a number", invalid("ttl"));
        Some(form.number("ttl").map_err(refused)?)
    };
    let prev_exist = optional("prevExist")?;
    let refresh = optional("refresh")?.unwrap_or(false);
    if refresh && !form.text("value").is_empty() {
        return Err((211, "Value provided on refresh", "A value was provided on a refresh".to_owned()));
    }
    if refresh && ttl_s.is_none() {
        return Err((212, "A TTL must be provided on refresh", "No TTL value set".to_owned()));
    }
    let path = clean(&[KEYS, b"/", &path[PREFIX.len()..]].concat());
    let method = match *method {
        Method::PUT => v2_change::Method::Put,
        Method::POST => v2_change::Method::Post,
        Method::DELETE => v2_change::Method::Delete,
        _ if wait => return Ok(Asked::Watch(WatchSpec { path, recursive, stream, since })),
        _ => return Ok(Asked::Read { path, recursive, quorum }),
    };
    // As in etcd what overflows is long past, and counts as no time at all.
    let expiration_ns = ttl_s.map_or(0, |ttl_s| now_ns.wrapping_add(ttl_s.cast_signed().wrapping_mul(NS_PER_S)));
    let mut change = V2Change {
        path: path.into(),
        value: Bytes::copy_from_slice(form.text("value")),
        dir,
        recursive,
        refresh,
        prev_value,
        prev_index,
        prev_exist,
        expiration_ns,
        time_ns: now_ns,
        ..V2Change::default()
    };
    change.set_method(method);
    Ok(Asked::Change { change: Box::new(change), with_nodes: !without_value })
}

fn invalid(name: &str) -> String {
    format!("invalid value for \"{name}\"")
}

async fn answer_read(surface: &ClientSurface, path: &[u8], recursive: bool, quorum: bool) -> Response<ReplyBody> {
    if quorum && let Err(error) = surface.backend.read_barrier().await {
        return call_failure(error);
    }
    let (index, found) = surface.backend.reader().v2_get(path, recursive, now_ns());
    match found {
        Ok(image) => success(surface, index, StatusCode::OK, ReplyBody::Content(json::read(&image).into())),
        Err(fault) => failure(&fault),
    }
}

async fn answer_change(surface: &ClientSurface, change: Box<V2Change>, with_nodes: bool) -> Response<ReplyBody> {
    let answer = match surface.backend.propose(None, Operation::V2Change(change)).await {
        Ok(Reply { body: Outcome::V2(answer), .. }) => answer,
        Ok(_) => return call_failure(CallError::TimedOut),
        Err(error) => return call_failure(error),
    };
    match answer.outcome {
        Ok(event) => {
            let status = if event.is_creation() { StatusCode::CREATED } else { StatusCode::OK };
            let is_removal = matches!(event.action, Action::Delete | Action::CompareAndDelete);
            let body = ReplyBody::Content(json::event(&event, with_nodes || is_removal).into());
            success(surface, event.index(), status, body)
        }
        Err(fault) => failure(&fault),
    }
}

fn success(surface: &ClientSurface, index: u64, status: StatusCode, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ETCD_INDEX, HeaderValue::from(index));
    headers.insert(RAFT_INDEX, HeaderValue::from(surface.backend.reader().applied_index()));
    headers.insert(RAFT_TERM, HeaderValue::from(surface.backend.status().term));
    response
}

/// The tree's refusal.
pub(super) fn failure(fault: &Fault) -> Response<ReplyBody> {
    let (status, text) = match fault.code {
        Code::KeyNotFound => (StatusCode::NOT_FOUND, "Key not found"),
        Code::TestFailed => (StatusCode::PRECONDITION_FAILED, "Compare failed"),
        Code::NotFile => (StatusCode::FORBIDDEN, "Not a file"),
        Code::NotDirectory => (StatusCode::BAD_REQUEST, "Not a directory"),
        Code::NodeExists => (StatusCode::PRECONDITION_FAILED, "Key already exists"),
        Code::RootReadOnly => (StatusCode::BAD_REQUEST, "Root is read only"),
        Code::DirectoryNotEmpty => (StatusCode::FORBIDDEN, "Directory not empty"),
        Code::EventIndexCleared => (StatusCode::BAD_REQUEST, "The event in requested index is outdated and cleared"),
        Code::TooManyWatchers => (StatusCode::INTERNAL_SERVER_ERROR, RAFT_INTERNAL),
    };
    refuse(status, json::failure(fault.code.number(), text, json::cause(fault), fault.index), fault.index)
}

const RAFT_INTERNAL: &str = "Raft Internal Error";

fn call_failure(error: CallError) -> Response<ReplyBody> {
    let text = Status::from(error).message;
    let body = json::failure(300, RAFT_INTERNAL, text.as_bytes(), 0);
    refuse(StatusCode::INTERNAL_SERVER_ERROR, body, 0)
}

fn refuse(status: StatusCode, body: Vec<u8>, index: u64) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Content(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(ETCD_INDEX, HeaderValue::from(index));
    response
}
