//! What a call brings along to tell who calls: a token in its metadata, a certificate on its connection.

use http::HeaderMap;
use http::header::HeaderValue;
use std::fmt;
use std::sync::Arc;

/// Where etcd's clients put the token.
const TOKEN: &str = "token";

/// Where HTTP clients put it.
const AUTHORIZATION: &str = "authorization";

/// Present on what the JSON gateway passes on.
const GATEWAY: &str = "grpcgateway-accept";

/// In front of a token, or not.
const BEARER: &[u8] = b"Bearer ";

/// Of one call. Says nothing about whether it holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    token: Option<HeaderValue>,
    common_name: Option<Arc<str>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "[redacted]");
        out.debug_struct("Credentials").field("token", &token).field("common_name", &self.common_name).finish()
    }
}

impl Credentials {
    /// Takes a call's credentials. `common_name` is the verified client certificate's; it does not count for what a
    /// gateway passes on, since that certificate is the gateway's. `None`: the call brings nothing.
    pub(crate) fn read(headers: &HeaderMap, common_name: Option<&Arc<str>>) -> Option<Box<Self>> {
        let token = headers.get(TOKEN).or_else(|| headers.get(AUTHORIZATION)).cloned();
        let certified = common_name.filter(|name| !name.is_empty() && !headers.contains_key(GATEWAY));
        if token.is_none() && certified.is_none() {
            return None;
        }
        Some(Box::new(Self { token, common_name: certified.cloned() }))
    }

    /// The bare token.
    pub(crate) fn token(&self) -> Option<&[u8]> {
        let token = self.token.as_ref()?.as_bytes();
        Some(token.strip_prefix(BEARER).unwrap_or(token))
    }

    /// The name in the certificate; counts only without a token.
    pub(crate) fn common_name(&self) -> Option<&Arc<str>> {
        self.common_name.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderName;

    fn read(pairs: &[(&'static str, &'static str)]) -> Credentials {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        *Credentials::read(&headers, Some(&"certified".into())).expect("credentials")
    }

    #[test]
    fn a_token_is_bare_or_a_bearers_and_etcds_place_goes_first() {
        assert_eq!(read(&[("token", "abc.7")]).token(), Some(&b"abc.7"[..]));
        assert_eq!(read(&[("authorization", "Bearer abc.7")]).token(), Some(&b"abc.7"[..]));
        assert_eq!(read(&[("authorization", "x"), ("token", "y")]).token(), Some(&b"y"[..]));
        assert_eq!(read(&[("token", "")]).token(), Some(&b""[..]), "an empty token is a wrong one");
        assert_eq!(read(&[]).token(), None);
    }

    #[test]
    fn a_gateways_certificate_names_nobody() {
        assert_eq!(read(&[]).common_name().map(|name| &**name), Some("certified"));
        assert_eq!(read(&[("grpcgateway-accept", "*/*"), ("token", "x")]).common_name(), None);
        assert_eq!(Credentials::read(&HeaderMap::new(), Some(&"".into())), None);
        assert_eq!(Credentials::read(&HeaderMap::new(), None), None);
    }

    #[test]
    fn a_token_is_never_printed() {
        assert!(!format!("{:?}", read(&[("token", "secret")])).contains("secret"));
    }
}
