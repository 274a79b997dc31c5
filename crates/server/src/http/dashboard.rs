//! `/dashboard`: one self-contained page that shows the cluster.
//!
//! Owns the page and how browsers are told to treat it. Invariant: the page is the same for everybody and holds nothing of
//! the cluster; what it shows it reads through the JSON gateway and `/metrics`, with the rights of whoever logs in, and it
//! asks for nothing that changes anything.

use super::{content, method_not_allowed};
use crate::grpc::body::ReplyBody;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Response};
use ring::digest::{SHA256, digest};
use std::sync::LazyLock;

/// Where it is.
pub(super) const PATH: &str = "/dashboard";

const PAGE: &str = include_str!("dashboard.html");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Only the page's own script and style run, wherever a key's or a value's text may end up; the other members are asked at
/// addresses that only the cluster knows.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self' http: https:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source_hash("script"),
        source_hash("style")
    );
    HeaderValue::from_str(&policy).expect("visible ASCII")
});

/// The hash by which a policy names what stands between an element's tags (Content Security Policy level 3, section 2.3.1).
fn source_hash(element: &str) -> String {
    let (_, behind) = PAGE.split_once(&format!("<{element}>")).expect("the page has one");
    let (text, _) = behind.split_once(&format!("</{element}>")).expect("the page has its end");
    format!("sha256-{}", BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

/// Answers a request for the page.
pub(super) fn answer(method: &Method) -> Response<ReplyBody> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return method_not_allowed();
    }
    let mut response = content(HTML, Bytes::from_static(PAGE.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for outside in ["src=", "href=\"http", "@import", "url(", "innerHTML", "eval(", "style=\""] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        assert_eq!((PAGE.matches("<script>").count(), PAGE.matches("<style>").count()), (1, 1));
    }

    /// Every path that the page asks for, each of which only reads.
    #[test]
    fn the_page_only_reads() {
        let reads = [
            "/v3/auth/authenticate",
            "/v3/cluster/member/list",
            "/v3/kv/range",
            "/v3/lease/leases",
            "/v3/lease/timetolive",
            "/v3/maintenance/alarm",
            "/v3/maintenance/status",
        ];
        let asked = PAGE.match_indices("\"/v3/").map(|(at, _)| PAGE[at + 1..].split('"').next().expect("its end"));
        let asked: Vec<&str> = asked.collect();
        assert!(asked.len() >= reads.len(), "{asked:?}");
        for path in asked {
            assert!(reads.contains(&path), "{path}");
        }
        assert!(PAGE.contains("\"/v3/maintenance/alarm\", { action: \"GET\" }"));
    }
}
