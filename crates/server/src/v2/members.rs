//! `/v2/members` and `/v2/machines`.

use super::{Sent, TEXT, check_method, json_content, message, method_not_allowed, set_cluster_id};
use crate::api::ClientSurface;
use crate::grpc::body::ReplyBody;
use crate::http::content;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use quorate_proto::etcdserverpb::Member;
use serde::Serialize;
use serde_json::Value;

/// Bytes of a request about members at the most.
const BODY_BYTES_MAX: usize = 64 << 10;

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
pub(super) async fn answer(surface: &ClientSurface, request: Request<Sent>, name: &str) -> Response<ReplyBody> {
    if let Some(response) = check_method(request.method(), "GET,POST,DELETE,PUT") {
        return response;
    }
    let mut response = match *request.method() {
        Method::GET => get(surface, name),
        Method::POST => match peer_urls(surface, request).await {
            Ok(urls) => add(surface, &urls),
            Err(response) => response,
        },
        _ if name.is_empty() => method_not_allowed(),
        Method::PUT => match find(surface, name) {
            Ok(_) => match peer_urls(surface, request).await {
                Ok(_) => not_served(surface),
                Err(response) => response,
            },
            Err(response) => response,
        },
        _ => match find(surface, name) {
            Ok(_) => not_served(surface),
            Err(response) => response,
        },
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

/// The member that a path names.
fn find(surface: &ClientSurface, name: &str) -> Result<u64, Response<ReplyBody>> {
    let reader = surface.backend.reader();
    let id = u64::from_str_radix(name, 16).ok();
    match id {
        Some(id) if reader.members().iter().any(|member| member.id == id) => Ok(id),
        Some(id) if reader.is_removed(id) => {
            Err(message(surface, StatusCode::GONE, &format!("Member permanently removed: {name}")))
        }
        _ => Err(message(surface, StatusCode::NOT_FOUND, &format!("No such member: {name}"))),
    }
}

fn add(surface: &ClientSurface, urls: &[String]) -> Response<ReplyBody> {
    let members = surface.backend.reader().members();
    if members.iter().flat_map(|member| &member.peer_ur_ls).any(|taken| urls.contains(taken)) {
        return message(surface, StatusCode::CONFLICT, "membership: peerURL exists");
    }
    not_served(surface)
}

fn not_served(surface: &ClientSurface) -> Response<ReplyBody> {
    message(surface, StatusCode::NOT_IMPLEMENTED, "members are not changed over the v2 API: use the v3 API")
}

/// The URLs that a request's body names.
async fn peer_urls(surface: &ClientSurface, request: Request<Sent>) -> Result<Vec<String>, Response<ReplyBody>> {
    let (parts, body) = request.into_parts();
    let bad = |text: &str| message(surface, StatusCode::BAD_REQUEST, text);
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
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
    let urls: Vec<String> = given.iter().filter_map(|url| Some(url.as_str()?.trim().to_owned())).collect();
    if urls.is_empty() {
        return Err(bad("no valid URLs given"));
    }
    for url in &urls {
        check_url(url).map_err(|text| bad(&text))?;
    }
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
    if !host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']')) {
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
