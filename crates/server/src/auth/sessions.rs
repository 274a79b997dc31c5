//! Tokens that were checked lately, so that a call does not pay for its signature again.
//!
//! Owns when a token was last used. Invariant: an entry stands for a token whose signature was good under `key`; under
//! another key nothing is left of it.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens remembered at the most.
const SESSIONS_MAX: usize = 8_192;

/// Longer tokens are checked each time.
const TOKEN_BYTES_MAX: usize = 2_048;

/// Pause between two looks for tokens to forget, while the table is full.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// The user.
    pub(crate) name: Arc<str>,
    /// The auth store's revision that the token was issued at.
    pub(crate) revision: u64,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    until: Instant,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    key: Bytes,
    entries: HashMap<Box<[u8]>, Entry>,
    swept: Option<Instant>,
}

/// What a use does to a session's time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// It starts over.
    Renews(Duration),
    /// It goes on.
    Leaves,
}

impl Sessions {
    /// The session of a token that is in the table and not over.
    pub(crate) fn find(&mut self, key: &Bytes, token: &[u8], now: Instant, r#use: Use) -> Option<Session> {
        if self.key != *key {
            return None;
        }
        let entry = self.entries.get_mut(token)?;
        if entry.until <= now {
            self.entries.remove(token);
            return None;
        }
        if let Use::Renews(ttl) = r#use {
            entry.until = now + ttl;
        }
        Some(entry.session.clone())
    }

    /// Remembers a token that was found good, unless there is no room.
    pub(crate) fn enter(&mut self, key: &Bytes, token: &[u8], session: Session, now: Instant, until: Instant) {
        if self.key != *key {
            self.entries.clear();
            self.key = key.clone();
        }
        if token.len() > TOKEN_BYTES_MAX {
            return;
        }
        if self.entries.len() >= SESSIONS_MAX {
            if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_INTERVAL) {
                return;
            }
            self.swept = Some(now);
            self.entries.retain(|_, entry| entry.until > now);
            if self.entries.len() >= SESSIONS_MAX {
                return;
            }
        }
        self.entries.insert(token.into(), Entry { session, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn session(name: &str) -> Session {
        Session { name: name.into(), revision: 3 }
    }

    #[test]
    fn a_use_renews_and_silence_ends() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let key = Bytes::from_static(b"key");
        let mut sessions = Sessions::default();
        sessions.enter(&key, b"token", session("user"), at(0), at(300));
        assert_eq!(sessions.find(&key, b"token", at(299), Use::Renews(TTL)), Some(session("user")));
        assert_eq!(sessions.find(&key, b"token", at(598), Use::Leaves), Some(session("user")));
        assert_eq!(sessions.find(&key, b"token", at(599), Use::Renews(TTL)), None);
        assert!(sessions.entries.is_empty());
    }

    #[test]
    fn another_key_ends_all() {
        let now = Instant::now();
        let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
        let mut sessions = Sessions::default();
        sessions.enter(&old, b"1", session("a"), now, now + TTL);
        assert_eq!(sessions.find(&new, b"1", now, Use::Leaves), None);
        sessions.enter(&new, b"2", session("b"), now, now + TTL);
        assert_eq!(sessions.find(&old, b"1", now, Use::Leaves), None);
        assert_eq!(sessions.find(&new, b"1", now, Use::Leaves), None);
        assert_eq!(sessions.find(&new, b"2", now, Use::Leaves), Some(session("b")));
    }

    #[test]
    fn the_table_is_bounded() {
        let now = Instant::now();
        let key = Bytes::from_static(b"key");
        let mut sessions = Sessions::default();
        sessions.enter(&key, &[b'x'; TOKEN_BYTES_MAX + 1], session("long"), now, now + TTL);
        assert!(sessions.entries.is_empty());
        for number in 0..SESSIONS_MAX + 10 {
            sessions.enter(&key, number.to_string().as_bytes(), session("user"), now, now + TTL);
        }
        assert_eq!(sessions.entries.len(), SESSIONS_MAX);
        let later = now + TTL;
        sessions.enter(&key, b"fresh", session("user"), later, later + TTL);
        assert_eq!(sessions.entries.len(), 1, "what is over makes room");
    }
}
