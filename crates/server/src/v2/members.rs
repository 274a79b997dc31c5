//! `/v2/members` and `/v2/machines`.

use super::gate::Asker;
use super::{Sent, TEXT, check_method, json_content, message, method_not_allowed, set_cluster_id, unauthorized};
use crate::api::{ClientSurface, cluster};
use crate::grpc::body::ReplyBody;
use crate::grpc::status::Status;
use crate::http::content;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use quorate_proto::etcdserverpb::Member;
use quorate_store::error::Error;
use serde::Serialize;
use serde_json::Value;

/// Bytes of a request about members at the most.
const BODY_BYTES_MAX: usize = 64 << 10;

/// All that etcd tells of what it has no words for.
pub(super) const INTERNAL: &str = "Internal Server Error";

/// A member as the API shows it; the order of the fields is part of the answer.
#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
}

impl From<Member> for Shown {
    fn from(member: Member) -> Self {
        let Member { id, name, peer_ur_ls: peer_urls, client_ur_ls: client_urls, .. } = member;
        Self { id: format!("{id:x}"), name, peer_urls, client_urls }
    }
}

#[derive(Serialize)]
struct List {
    members: Vec<Shown>,
}

/// `/v2/machines`.
pub(super) fn machines(surface: &ClientSurface, method: &Method) -> Response<ReplyBody> {
    if let Some(response) = check_method(method, "GET,HEAD") {
        return response;
    }
    let members = surface.backend.reader().members();
    let mut urls: Vec<String> = members.into_iter().flat_map(|member| member.client_ur_ls).collect();
    urls.sort();
    content(TEXT, urls.join(", "))
}

/// `/v2/members` and below; `name` is what follows, "" for the list.
pub(super) async fn answer(
    surface: &ClientSurface,
    asker: &Asker,
    request: Request<Sent>,
    name: &str,
) -> Response<ReplyBody> {
    if let Some(response) = check_method(request.method(), "GET,POST,DELETE,PUT") {
        return response;
    }
    if !asker.may_change(surface).await {
        return unauthorized();
    }
    let mut response = match *request.method() {
        Method::GET => get(surface, name),
        Method::POST => add(surface, request).await,
        _ if name.is_empty() => method_not_allowed(),
        Method::PUT => update(surface, request, name).await,
        _ => remove(surface, name).await,
    };
    set_cluster_id(surface, &mut response);
    response
}

fn get(surface: &ClientSurface, name: &str) -> Response<ReplyBody> {
    let members = surface.backend.reader().members();
    let line = |value: serde_json::Result<String>| value.expect("strings are JSON") + "\n";
    match name {
        "" => {
            let list = List { members: members.into_iter().map(Shown::from).collect() };
            json_content(surface, StatusCode::OK, line(serde_json::to_string(&list)))
        }
        "leader" => {
            let leader = surface.backend.status().leader;
            match members.into_iter().find(|member| member.id == leader) {
                Some(member) => {
                    json_content(surface, StatusCode::OK, line(serde_json::to_string(&Shown::from(member))))
                }
                None => message(surface, StatusCode::SERVICE_UNAVAILABLE, "During election"),
            }
        }
        _ => message(surface, StatusCode::NOT_FOUND, "Not found"),
    }
}

/// The id that a path names.
fn parse_id(name: &str) -> Option<u64> {
    let digits = Some(name).filter(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    u64::from_str_radix(digits?, 16).ok()
}

fn no_such_member(surface: &ClientSurface, name: &str) -> Response<ReplyBody> {
    message(surface, StatusCode::NOT_FOUND, &format!("No such member: {name}"))
}

async fn add(surface: &ClientSurface, request: Request<Sent>) -> Response<ReplyBody> {
    let urls = match peer_urls(surface, request).await {
        Ok(urls) => urls,
        Err(response) => return response,
    };
    match cluster::add(surface, urls, false, false).await {
        Ok((member, _)) => {
            let shown = serde_json::to_string(&Shown::from(member)).expect("strings are JSON");
            json_content(surface, StatusCode::CREATED, shown + "\n")
        }
        Err(status) => refused(surface, 0, &status),
    }
}

async fn update(surface: &ClientSurface, request: Request<Sent>, name: &str) -> Response<ReplyBody> {
    let Some(id) = parse_id(name) else {
        return no_such_member(surface, name);
    };
    let urls = match peer_urls(surface, request).await {
        Ok(urls) => urls,
        Err(response) => return response,
    };
    if surface.backend.reader().is_removed(id) {
        return message(surface, StatusCode::INTERNAL_SERVER_ERROR, INTERNAL);
    }
    match cluster::update(surface, id, urls).await {
        Ok(_) => no_content(),
        Err(status) => refused(surface, id, &status),
    }
}

async fn remove(surface: &ClientSurface, name: &str) -> Response<ReplyBody> {
    let Some(id) = parse_id(name) else {
        return no_such_member(surface, name);
    };
    match cluster::remove(surface, id).await {
        Ok(_) => no_content(),
        Err(_) if surface.backend.reader().is_removed(id) => {
            message(surface, StatusCode::GONE, &format!("Member permanently removed: {id:x}"))
        }
        Err(status) => refused(surface, id, &status),
    }
}

fn no_content() -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Tells a refusal as etcd does: two of them in words, all others as its own failure.
fn refused(surface: &ClientSurface, id: u64, status: &Status) -> Response<ReplyBody> {
    let is = |error: Error| Status::from(error).message == status.message;
    if is(Error::PeerUrlExists) {
        message(surface, StatusCode::CONFLICT, "membership: peerURL exists")
    } else if is(Error::MemberExists) {
        message(surface, StatusCode::CONFLICT, "membership: ID exists")
    } else if is(Error::MemberNotFound) {
        no_such_member(surface, &format!("{id:x}"))
    } else {
        tracing::warn!(reason = &*status.message, "v2 response error");
        message(surface, StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
    }
}

/// The URLs that a request's body names.
async fn peer_urls(surface: &ClientSurface, request: Request<Sent>) -> Result<Vec<String>, Response<ReplyBody>> {
    let (parts, body) = request.into_parts();
    let bad = |text: &str| message(surface, StatusCode::BAD_REQUEST, text);
    let given = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    // As etcd reads it: without its parameters, and in small letters only if it has some.
    let content_type = match given.split_once(';') {
        Some((kind, _)) => kind.trim().to_lowercase(),
        None => given.to_owned(),
    };
    if content_type != "application/json" {
        let text = format!("Bad Content-Type {content_type}, accept application/json");
        return Err(message(surface, StatusCode::UNSUPPORTED_MEDIA_TYPE, &text));
    }
    let Ok(collected) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Err(bad("http: request body too large"));
    };
    let body = collected.to_bytes();
    let value: Value = serde_json::from_slice(&body).map_err(|error| bad(&syntax(&body, &error)))?;
    let given = match value.get("peerURLs") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => list.clone(),
        Some(other) => {
            let kind = match other {
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "bool",
                Value::Array(_) => "array",
                _ => "object",
            };
            return Err(bad(&format!("json: cannot unmarshal {kind} into Go struct field .peerURLs of type []string")));
        }
    };
    let mut urls: Vec<String> = given.iter().filter_map(|url| Some(url.as_str()?.trim().to_owned())).collect();
    if urls.is_empty() {
        return Err(bad("no valid URLs given"));
    }
    for url in &urls {
        check_url(url).map_err(|text| bad(&text))?;
    }
    urls.sort();
    Ok(urls)
}

/// Go's words for a body that is no JSON.
fn syntax(body: &[u8], error: &serde_json::Error) -> String {
    match std::str::from_utf8(body).unwrap_or("").trim_start().chars().next() {
        Some(first) if !error.is_eof() && error.column() <= 1 => {
            format!("invalid character {first:?} looking for beginning of value")
        }
        _ => "unexpected end of JSON input".to_owned(),
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let parts = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https" | "unix" | "unixs"));
    let Some((scheme, rest)) = parts else {
        return Err(format!("URL scheme must be http, https, unix, or unixs: {url}"));
    };
    if scheme.starts_with("unix") {
        return Ok(());
    }
    let (host, path) = rest.split_once('/').map_or((rest, false), |(host, _)| (host, true));
    if host.rsplit_once(':').is_none_or(|(_, port)| port.contains(']')) {
        return Err(format!("URL address does not have the form \"host:port\": {url}"));
    }
    if path {
        return Err(format!("URL must not contain a path: {url}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_judged_in_etcds_words() {
        assert_eq!(check_url("http://a:1"), Ok(()));
        assert!(check_url("foo").unwrap_err().starts_with("URL scheme must be"));
        assert!(check_url("http://a/b").unwrap_err().starts_with("URL address does not have the form"));
        assert!(check_url("http://[::1]").unwrap_err().starts_with("URL address does not have the form"));
        assert!(check_url("http://a:1/b").unwrap_err().starts_with("URL must not contain a path"));
    }
}
