//! Who may ask over HTTP: the host that a request names (`--host-whitelist`), and the origins of browsers (`--cors`).
//!
//! gRPC calls pass by: no browser can make one without asking first.

use crate::grpc::body::ReplyBody;
use crate::http::refusal;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST, HeaderMap,
    HeaderValue, ORIGIN,
};
use http::{Request, Response, StatusCode};
use std::collections::BTreeSet;

/// Names that are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// All of them.
    Any,
    /// These.
    Only(BTreeSet<String>),
}

impl Allowed {
    /// From a comma-separated list; `*` among the names lets everybody in.
    pub(crate) fn parse(list: &str) -> Self {
        let names: BTreeSet<String> = list.split(',').map(str::to_owned).collect();
        if names.contains("*") { Self::Any } else { Self::Only(names) }
    }

    fn lets_in(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// What HTTP serves, and to whom.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Origins of pages that may read answers.
    pub(crate) origins: Allowed,
    /// Hosts by which this server may be called.
    pub(crate) hosts: Allowed,
    /// Whether the JSON gateway is served.
    pub(crate) gateway: bool,
    /// Whether etcd's v2 API is served.
    pub(crate) v2: bool,
}

impl HttpSettings {
    /// The refusal of a request that calls this server by a foreign name: a page that had its own name point here.
    pub(super) fn refuse_host<B>(&self, request: &Request<B>) -> Option<Response<ReplyBody>> {
        let host = host_name(request);
        if self.hosts.lets_in(host) {
            return None;
        }
        tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
        Some(refusal(StatusCode::MISDIRECTED_REQUEST, refusal_text(host)))
    }

    /// The origin that an answer is opened to, if any.
    pub(super) fn opened_to(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let any = HeaderValue::from_static("*");
        if self.origins == Allowed::Any {
            return Some(any);
        }
        let origin = headers.get(ORIGIN).cloned().unwrap_or_else(|| HeaderValue::from_static(""));
        origin.to_str().is_ok_and(|name| self.origins.lets_in(name)).then_some(origin)
    }
}

/// Opens an answer to pages of an origin.
pub(super) fn open(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
}

/// The host without its port; brackets of an address go with the port, as in Go's `net.SplitHostPort`.
fn host_name<B>(request: &Request<B>) -> &str {
    let named = request.uri().authority().map(|authority| authority.as_str());
    let named = named.or_else(|| request.headers().get(HOST).and_then(|host| host.to_str().ok())).unwrap_or("");
    match named.rsplit_once(':') {
        Some((host, _)) => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address,
            None if host.contains(':') => named,
            None => host,
        },
        None => named,
    }
}

fn refusal_text(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\nTo fix this, choose one of the following \
         options:\n- Enable TLS, then any HTTPS request will be allowed.\n- Add the hostname you want to use to the \
         whitelist in settings.\n  - e.g. etcd --host-whitelist {host:?}\n\nThis requirement has been added to help \
         prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(origins: &str, hosts: &str) -> HttpSettings {
        HttpSettings { origins: Allowed::parse(origins), hosts: Allowed::parse(hosts), gateway: true, v2: true }
    }

    #[test]
    fn hosts_lose_their_ports() {
        for (given, name) in [
            ("localhost:2379", "localhost"),
            ("localhost", "localhost"),
            ("localhost.:1", "localhost."),
            ("[::1]:2379", "::1"),
            ("localhost:::::", "localhost:::::"),
            ("", ""),
        ] {
            let request = Request::builder().header(HOST, given).body(()).unwrap();
            assert_eq!(host_name(&request), name, "{given}");
        }
    }

    #[test]
    fn only_listed_hosts_are_answered() {
        let request = Request::builder().header(HOST, "evil.example:80").body(()).unwrap();
        assert!(settings("*", "*").refuse_host(&request).is_none());
        assert!(settings("*", "good,evil.example").refuse_host(&request).is_none());
        let refused = settings("*", "good").refuse_host(&request).unwrap();
        assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST);
        assert!(refusal_text("evil.example").contains("  - e.g. etcd --host-whitelist \"evil.example\"\n"));
    }

    #[test]
    fn answers_are_opened_to_listed_origins() {
        let mut headers = HeaderMap::new();
        assert_eq!(settings("*", "*").opened_to(&headers).unwrap(), "*");
        assert_eq!(settings("http://a:1", "*").opened_to(&headers), None);
        headers.insert(ORIGIN, HeaderValue::from_static("http://a:1"));
        assert_eq!(settings("http://a:1,http://b:1", "*").opened_to(&headers).unwrap(), "http://a:1");
        assert_eq!(settings("http://b:1", "*").opened_to(&headers), None);
    }
}
