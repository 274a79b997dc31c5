//! JSON Web Tokens with etcd's claims: `username`, `revision`, `exp`.
//!
//! Whoever holds the private key may issue them; members without it check only. Owns the compact form and the claims, not
//! the keys ([`super::jwt_key`]). Invariant: nothing of a token is believed before its signature is good under the one
//! method that was configured.

use crate::auth::jwt_key::JwtKey;
use crate::auth::moment::Moment;
use crate::auth::sessions::{Session, Sessions, Use};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a token that names no end is remembered before its signature is checked again.
const REMEMBERED_MAX: Duration = Duration::from_secs(300);

/// Issues and checks JSON Web Tokens.
#[derive(Debug)]
pub(crate) struct JwtTokens {
    key: JwtKey,
    ttl: Duration,
    sessions: Mutex<Sessions>,
}

/// Why a token can't be issued, in etcd's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IssueError {
    /// This member has the public key only.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    /// No kind of token was chosen.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    NoTokens,
    /// The library refused.
    #[error("quorate: a token could not be signed")]
    Failed,
}

impl JwtTokens {
    /// Tokens under a key that live for `ttl`.
    pub(crate) fn new(key: JwtKey, ttl: Duration) -> Self {
        Self { key, ttl, sessions: Mutex::default() }
    }

    /// A new token.
    pub(crate) fn issue(&self, session: &Session, now: Moment) -> Result<String, IssueError> {
        let header = json!({ "alg": self.key.method().name(), "typ": "JWT" });
        let expires_ms = now.wall_ms.saturating_add(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX));
        let claims = json!({ "exp": expires_ms / 1_000, "revision": session.revision, "username": &*session.name });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// What a good token says; `None`: forged, malformed, or not valid at this moment.
    pub(crate) fn check(&self, token: &[u8], now: Moment) -> Option<Session> {
        let key = Bytes::new();
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions.find(&key, token, now.steady, Use::Leaves) {
            return Some(session);
        }
        let (session, left) = self.read(token, now)?;
        sessions.enter(&key, token, session.clone(), now.steady + left);
        Some(session)
    }

    /// A token's claims, and for how long they hold at the least.
    fn read(&self, token: &[u8], now: Moment) -> Option<(Session, Duration)> {
        let last = token.iter().rposition(|&byte| byte == b'.')?;
        let (message, signature) = (&token[..last], URL_SAFE_NO_PAD.decode(&token[last + 1..]).ok()?);
        let first = message.iter().position(|&byte| byte == b'.')?;
        let part = |bytes: &[u8]| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(bytes).ok()?).ok();
        let header = part(&message[..first])?;
        if header.get("alg").and_then(Value::as_str) != Some(self.key.method().name()) || header.get("crit").is_some() {
            return None;
        }
        if !self.key.verify(message, &signature) {
            return None;
        }
        let claims = part(&message[first + 1..])?;
        let name = claims.get("username").and_then(Value::as_str)?;
        let revision = claims.get("revision").and_then(Value::as_f64)?;
        let seconds = now.wall_ms as f64 / 1_000.0;
        if moment(&claims, "nbf")?.is_some_and(|begin| seconds < begin) {
            return None;
        }
        let left = match moment(&claims, "exp")? {
            None => REMEMBERED_MAX,
            Some(end) if seconds < end => {
                Duration::try_from_secs_f64(end - seconds).unwrap_or(REMEMBERED_MAX).min(REMEMBERED_MAX)
            }
            Some(_) => return None,
        };
        Some((Session { name: name.into(), revision: revision as u64 }, left))
    }
}

/// A claim that is a time, seconds since 1970. `None`: it is there and no number.
fn moment(claims: &Value, name: &str) -> Option<Option<f64>> {
    match claims.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_f64().map(Some),
    }
}

#[cfg(test)]
mod tests;
