//! Simple tokens: who logged in and when, sealed with the cluster's token key.
//!
//! The key is part of the replicated auth state, so each member accepts what any member issued: also one that was
//! restarted, or that joined after the log-in; and a log-in costs no entry in the log. A token lives for a TTL after it was
//! issued, or after the member that is asked saw it last. It ends sooner when its user's password changes or the user goes
//! (the caller compares [`Session::revision`] with the user's), and when authentication is turned off, which takes the key
//! away.

use crate::auth::moment::Moment;
use crate::auth::sessions::{Session, Sessions, Use};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::RngCore;
use ring::hmac;
use std::time::Duration;

/// Bytes of a token key.
pub(crate) const KEY_BYTES: usize = 32;

/// The first byte of what is sealed.
const FORMAT: u8 = 1;

/// Format, revision, time of issue (ms since 1970), a random number.
const HEAD_BYTES: usize = 1 + 8 + 8 + 8;

/// Issues and checks simple tokens.
#[derive(Debug)]
pub(crate) struct SimpleTokens {
    ttl: Duration,
    sessions: Mutex<Sessions>,
}

/// What a token's first part says, whether its seal is good or not.
struct Body<'a> {
    revision: u64,
    issued_ms: u64,
    name: &'a str,
}

impl SimpleTokens {
    /// Tokens that live for `ttl` after each use.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, sessions: Mutex::default() }
    }

    /// A new token for a user whose password was checked at an auth revision.
    pub(crate) fn issue(&self, key: &Bytes, session: &Session, now: Moment) -> String {
        let mut body = Vec::with_capacity(HEAD_BYTES + session.name.len());
        body.push(FORMAT);
        body.extend_from_slice(&session.revision.to_be_bytes());
        body.extend_from_slice(&now.wall_ms.to_be_bytes());
        body.extend_from_slice(&rand::rng().next_u64().to_be_bytes());
        body.extend_from_slice(session.name.as_bytes());
        let seal = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &body);
        let mut token = URL_SAFE_NO_PAD.encode(&body);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(seal.as_ref(), &mut token);
        token
    }

    /// What a good token says; `None`: forged, or over.
    pub(crate) fn check(&self, key: &Bytes, token: &[u8], now: Moment) -> Option<Session> {
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions.find(key, token, now.steady, Use::Renews(self.ttl)) {
            return Some(session);
        }
        let (body, seal) = split(token)?;
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &body, &seal).ok()?;
        let said = read(&body)?;
        // A member whose clock is behind may be shown a token from its future: that one is fresh.
        let age = Duration::from_millis(now.wall_ms.saturating_sub(said.issued_ms));
        if age >= self.ttl {
            return None;
        }
        let session = Session { name: said.name.into(), revision: said.revision };
        sessions.enter(key, token, session.clone(), now.steady + self.ttl);
        Some(session)
    }
}

/// The auth revision that a token claims, its seal unseen.
pub(crate) fn claimed_revision(token: &[u8]) -> Option<u64> {
    let (body, _) = split(token)?;
    read(&body).map(|body| body.revision)
}

fn split(token: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let dot = token.iter().position(|&byte| byte == b'.')?;
    let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).ok();
    Some((decode(&token[..dot])?, decode(&token[dot + 1..])?))
}

fn read(body: &[u8]) -> Option<Body<'_>> {
    if body.len() < HEAD_BYTES || body[0] != FORMAT {
        return None;
    }
    let number = |at: usize| body[at..at + 8].try_into().ok().map(u64::from_be_bytes);
    let name = std::str::from_utf8(&body[HEAD_BYTES..]).ok()?;
    Some(Body { revision: number(1)?, issued_ms: number(9)?, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const TTL: Duration = Duration::from_secs(300);

    fn moments() -> impl Fn(u64) -> Moment {
        let begin = Instant::now();
        move |seconds| Moment { steady: begin + Duration::from_secs(seconds), wall_ms: 1_000_000 + seconds * 1_000 }
    }

    fn session() -> Session {
        Session { name: "user".into(), revision: 9 }
    }

    #[test]
    fn every_member_with_the_key_accepts_a_token() {
        let at = moments();
        let key = Bytes::from_static(&[7; KEY_BYTES]);
        let token = SimpleTokens::new(TTL).issue(&key, &session(), at(0));
        let other = SimpleTokens::new(TTL);
        assert_eq!(other.check(&key, token.as_bytes(), at(299)), Some(session()));
        assert_eq!(claimed_revision(token.as_bytes()), Some(9));
        let wrong_key = Bytes::from_static(&[8; KEY_BYTES]);
        assert_eq!(other.check(&wrong_key, token.as_bytes(), at(1)), None);
    }

    #[test]
    fn a_token_lives_on_by_being_used() {
        let at = moments();
        let key = Bytes::from_static(&[7; KEY_BYTES]);
        let tokens = SimpleTokens::new(TTL);
        let token = tokens.issue(&key, &session(), at(0));
        for seconds in [200, 400, 600] {
            assert!(tokens.check(&key, token.as_bytes(), at(seconds)).is_some(), "{seconds}");
        }
        assert_eq!(tokens.check(&key, token.as_bytes(), at(900)), None);
        assert_eq!(SimpleTokens::new(TTL).check(&key, token.as_bytes(), at(300)), None);
    }

    /// Each of ten thousand clients uses its token once in two thirds of its time.
    #[test]
    fn ten_thousand_clients_stay_logged_in() {
        let at = moments();
        let key = Bytes::from_static(&[7; KEY_BYTES]);
        let tokens = SimpleTokens::new(TTL);
        let issued: Vec<String> = (0..10_000).map(|_| tokens.issue(&key, &session(), at(0))).collect();
        for round in 1..=5 {
            let thrown_out =
                issued.iter().filter(|token| tokens.check(&key, token.as_bytes(), at(200 * round)).is_none()).count();
            assert_eq!(thrown_out, 0, "round {round}");
        }
    }

    #[test]
    fn a_changed_token_is_none() {
        let at = moments();
        let key = Bytes::from_static(&[7; KEY_BYTES]);
        let tokens = SimpleTokens::new(TTL);
        let token = tokens.issue(&key, &session(), at(0)).into_bytes();
        assert_ne!(token, tokens.issue(&key, &session(), at(0)).into_bytes(), "two log-ins, two tokens");
        for position in 0..token.len() {
            let mut changed = token.clone();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            assert_eq!(tokens.check(&key, &changed, at(0)), None, "{position}");
        }
        for text in ["", ".", "nonsense", "nonsense.5", "AQ.AQ"] {
            assert_eq!(tokens.check(&key, text.as_bytes(), at(0)), None, "{text}");
            assert_eq!(claimed_revision(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn clocks_may_differ() {
        let at = moments();
        let key = Bytes::from_static(&[7; KEY_BYTES]);
        let ahead = SimpleTokens::new(TTL).issue(&key, &session(), at(100));
        assert!(SimpleTokens::new(TTL).check(&key, ahead.as_bytes(), at(0)).is_some());
    }
}
