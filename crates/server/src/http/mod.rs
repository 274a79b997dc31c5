//! Plain HTTP on the client port: health, version, metrics, and the way to the JSON gateway.

mod access;
mod dashboard;
mod debug;
mod health;
mod path;
pub(crate) mod process;
pub(crate) mod watching;

pub(crate) use access::{Allowed, HttpSettings};
pub(crate) use debug::DebugPages;

use crate::api::{ClientSurface, Stopping};
use crate::cluster_version;
use crate::connection::ConnectionInfo;
use crate::gateway;
use crate::grpc::body::ReplyBody;
use crate::{metrics, v2, version};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METRICS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What etcd's older clients put in front of the gateway's paths instead of [`GATEWAY`].
const GATEWAY_BETA: &str = "/v3beta/";
const GATEWAY: &str = "/v3/";

/// Answers a request that is not gRPC.
pub(crate) async fn answer<B>(
    surface: &Arc<ClientSurface>,
    info: &ConnectionInfo,
    request: Request<B>,
    stopping: Stopping,
) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    if let Some(refusal) = refuse(surface, info, &request) {
        return refusal;
    }
    let opened_to = surface.http.opened_to(request.headers());
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(ReplyBody::Empty)
    } else {
        route(surface, info, request, stopping).await
    };
    if let Some(origin) = opened_to {
        access::open(response.headers_mut(), origin);
    }
    response
}

/// Why a request is not answered at all, if it is not.
fn refuse<B>(surface: &ClientSurface, info: &ConnectionInfo, request: &Request<B>) -> Option<Response<ReplyBody>> {
    if !info.is_encrypted {
        // With TLS, the certificate proves the name by which the server was called.
        return surface.http.refuse_host(request);
    }
    let names_user = info.common_name.as_deref().is_some_and(|name| !name.is_empty());
    let is_gateway = [GATEWAY, GATEWAY_BETA].iter().any(|root| request.uri().path().starts_with(root));
    let ignored = names_user && is_gateway && surface.http.gateway && surface.backend.reader().auth_enabled();
    ignored.then(|| {
        refusal(
            StatusCode::BAD_REQUEST,
            "CommonName of client sending a request against gateway will be ignored and not used as expected\n",
        )
    })
}

async fn route<B>(
    surface: &Arc<ClientSurface>,
    info: &ConnectionInfo,
    request: Request<B>,
    stopping: Stopping,
) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    if surface.http.v2 && v2::is_v2(request.uri().path()) {
        return v2::answer(surface, info, request, stopping).await;
    }
    let uri = request.uri().clone();
    let mut path = path::decoded(uri.path());
    if let Some(rest) = path.strip_prefix(GATEWAY_BETA) {
        path = Cow::Owned(format!("{GATEWAY}{rest}"));
    }
    let query = uri.query().unwrap_or("");
    let plain = path::plain(&path);
    let gateway = surface.http.gateway;
    if plain != path || (gateway && plain == GATEWAY[..GATEWAY.len() - 1]) {
        let slash = if plain == GATEWAY[..GATEWAY.len() - 1] && gateway { "/" } else { "" };
        return path::redirect(request.method(), &format!("{plain}{slash}"), query);
    }
    if gateway && path.starts_with(GATEWAY) {
        return gateway::answer(surface, &path, request, stopping).await;
    }
    page(surface, request.method(), &path, query).await
}

async fn page(surface: &ClientSurface, method: &Method, path: &str, query: &str) -> Response<ReplyBody> {
    let found = match answer_watching(surface, method, path, query).await {
        Some(response) => Some(response),
        None if matches!(path, "/version" | "/debug/vars") && method != Method::GET => Some(method_not_allowed()),
        None if path == dashboard::PATH && surface.http.gateway => Some(dashboard::answer(method)),
        None if path == "/version" => Some(content(JSON, version_text(&surface.backend.reader().cluster_version()))),
        None => debug::answer(surface, path),
    };
    found.unwrap_or_else(|| refusal(StatusCode::NOT_FOUND, "404 page not found\n"))
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

/// `/version`, of clients and of peers.
pub(crate) fn version_text(cluster_version: &str) -> String {
    let decided = if cluster_version.is_empty() { "not_decided" } else { cluster_version };
    // Written by hand: the order of the fields is part of the answer.
    format!(
        "{{\"etcdserver\":{},\"etcdcluster\":{},\"storage\":{}}}",
        json!(version::ETCD),
        json!(decided),
        json!(cluster_version::storage(cluster_version))
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
