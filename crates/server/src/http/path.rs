//! A request's path: decoded, and in its plain form, as Go's `http.ServeMux` wants it.

use crate::grpc::body::ReplyBody;
use crate::http::content;
use http::header::{HeaderValue, LOCATION};
use http::{Method, Response, StatusCode};
use std::borrow::Cow;

/// Undoes percent-encoding. A path that is wrongly encoded stays as it is, and nobody serves it.
pub(super) fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(path), Cow::Owned)
}

/// The path without empty and dotted elements; `/v3`, whose content is below it, gets its slash.
pub(super) fn plain(path: &str) -> Cow<'_, str> {
    let dotted = |element: &str| matches!(element, "" | "." | "..");
    let elements = path.strip_prefix('/').unwrap_or(path);
    let ends_with_slash = elements.is_empty() || elements.ends_with('/');
    let inner = elements.strip_suffix('/').unwrap_or(elements);
    let is_plain = path.starts_with('/') && (inner.is_empty() && elements.is_empty() || !inner.split('/').any(dotted));
    if is_plain {
        return Cow::Borrowed(path);
    }
    let mut kept = Vec::new();
    for element in elements.split('/') {
        match element {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(element),
        }
    }
    let slash = if ends_with_slash && !kept.is_empty() { "/" } else { "" };
    Cow::Owned(format!("/{}{slash}", kept.join("/")))
}

/// Sends the caller to where the path leads.
pub(super) fn redirect(method: &Method, path: &str, query: &str) -> Response<ReplyBody> {
    let mut location = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!*'()".contains(&byte) {
            location.push(byte as char);
        } else {
            location.push_str(&format!("%{byte:02X}"));
        }
    }
    if !query.is_empty() {
        location.push('?');
        location.push_str(query);
    }
    let mut response = match *method {
        Method::GET | Method::HEAD => {
            let shown = location.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let shown = shown.replace('"', "&#34;").replace('\'', "&#39;");
            let text = format!("<a href=\"{shown}\">Temporary Redirect</a>.\n\n");
            content(HeaderValue::from_static("text/html; charset=utf-8"), text)
        }
        _ => Response::new(ReplyBody::Empty),
    };
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded() {
        for (path, text) in [("/a", "/a"), ("/%61%2fb", "/a/b"), ("/%", "/%"), ("/%zz%4", "/%zz%4"), ("/%ff", "/%ff")] {
            assert_eq!(decoded(path), text);
        }
    }

    #[test]
    fn paths_are_made_plain() {
        for (path, text) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/v3/", "/v3/"),
            ("//a", "/a"),
            ("/a//b/", "/a/b/"),
            ("/a/./b/../c", "/a/c"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("//", "/"),
            ("", "/"),
            ("*", "/*"),
        ] {
            assert_eq!(plain(path), text, "{path}");
        }
    }
}
