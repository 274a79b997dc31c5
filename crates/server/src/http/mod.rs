//! Plain HTTP on the client port: health, version, metrics.

mod debug;
mod health;
pub(crate) mod process;
pub(crate) mod watching;

pub(crate) use debug::DebugPages;

use crate::api::ClientSurface;
use crate::grpc::body::ReplyBody;
use crate::{metrics, version};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_TYPE,
    HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode};
use serde_json::json;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METRICS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers a request that is not gRPC.
pub(crate) async fn answer(surface: &ClientSurface, method: &Method, path: &str, query: &str) -> Response<ReplyBody> {
    let found = match answer_watching(surface, method, path, query).await {
        Some(response) => Some(response),
        None if matches!(path, "/version" | "/debug/vars") && method != Method::GET => Some(method_not_allowed()),
        None if path == "/version" => Some(content(JSON, version_text(&surface.backend.reader().cluster_version()))),
        None => debug::answer(surface, path),
    };
    let mut response = found.unwrap_or_else(|| refusal(StatusCode::NOT_FOUND, "404 page not found\n"));
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
    response
}

/// Metrics and health, which `--listen-metrics-urls` serves as well; `None`: another page.
async fn answer_watching(
    surface: &ClientSurface,
    method: &Method,
    path: &str,
    query: &str,
) -> Option<Response<ReplyBody>> {
    if path == "/metrics" {
        return Some(content(METRICS_TEXT, metrics::page(surface)));
    }
    let probe = health::Probe::find(path);
    if probe.is_none() && path != "/health" {
        return None;
    }
    Some(match probe {
        _ if method != Method::GET => {
            tracing::warn!(path, "status-code" = 405_u64, "Health request error");
            method_not_allowed()
        }
        None => health::health(surface, query).await,
        Some((probe, only)) => health::check(surface, probe, only, query).await,
    })
}

fn version_text(cluster_version: &str) -> String {
    let cluster_version = if cluster_version.is_empty() { "not_decided" } else { cluster_version };
    // Written by hand: the order of the fields is part of the answer.
    format!(
        "{{\"etcdserver\":{},\"etcdcluster\":{},\"storage\":{}}}",
        json!(version::ETCD),
        json!(cluster_version),
        json!(version::STORAGE)
    )
}

/// An answer that went well.
pub(crate) fn content(content_type: HeaderValue, text: impl Into<Bytes>) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Content(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A failure in words.
pub(crate) fn refusal(status: StatusCode, text: impl Into<Bytes>) -> Response<ReplyBody> {
    let mut response = content(TEXT, text);
    *response.status_mut() = status;
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn method_not_allowed() -> Response<ReplyBody> {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The values of a query's parameter. Percent-encoding is not undone: no value that anybody looks for needs it.
fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_no_spaces_and_this_order() {
        assert_eq!(version_text("3.7.0"), r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#);
        assert_eq!(version_text(""), r#"{"etcdserver":"3.7.3","etcdcluster":"not_decided","storage":"3.7.0"}"#);
    }

    #[test]
    fn parameters_may_repeat() {
        assert_eq!(parameters("exclude=a&verbose&exclude=b", "exclude").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parameters("exclude=a&verbose", "verbose").collect::<Vec<_>>(), [""]);
        assert_eq!(parameters("", "verbose").count(), 0);
    }
}
