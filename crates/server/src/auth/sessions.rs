//! Tokens that were checked lately, so that a call does not pay for its signature again.
//!
//! Owns when a token was last used. Invariant: an entry stands for a token whose signature was good under `key`; under
//! another key nothing is left of it.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens of one generation at the most: two generations are remembered.
const GENERATION_TOKENS_MAX: usize = 32_768;

/// Bytes of the tokens of one generation at the most.
const GENERATION_BYTES_MAX: usize = 8 << 20;

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

type Generation = HashMap<Box<[u8]>, Entry>;

/// The table: what was used since the last turn, and what was used before that. When the first is full it becomes the
/// second, and what was not used in all that time is forgotten. So the tokens that are used most recently are kept, as many
/// as one generation holds at the least.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    key: Bytes,
    young: Generation,
    young_bytes: usize,
    old: Generation,
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
        if !self.young.contains_key(token) {
            let (token, entry) = self.old.remove_entry(token)?;
            self.keep(token, entry);
        }
        let entry = self.young.get_mut(token)?;
        if entry.until <= now {
            self.young.remove(token);
            self.young_bytes -= token.len();
            return None;
        }
        if let Use::Renews(ttl) = r#use {
            entry.until = now + ttl;
        }
        Some(entry.session.clone())
    }

    /// Remembers a token that was found good.
    pub(crate) fn enter(&mut self, key: &Bytes, token: &[u8], session: Session, until: Instant) {
        if self.key != *key {
            *self = Self { key: key.clone(), ..Self::default() };
        }
        self.old.remove(token);
        if self.young.remove(token).is_some() {
            self.young_bytes -= token.len();
        }
        self.keep(token.into(), Entry { session, until });
    }

    /// Puts an entry that is in neither generation into the young one.
    fn keep(&mut self, token: Box<[u8]>, entry: Entry) {
        if self.young.len() >= GENERATION_TOKENS_MAX || self.young_bytes + token.len() > GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += token.len();
        self.young.insert(token, entry);
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
        sessions.enter(&key, b"token", session("user"), at(300));
        assert_eq!(sessions.find(&key, b"token", at(299), Use::Renews(TTL)), Some(session("user")));
        assert_eq!(sessions.find(&key, b"token", at(598), Use::Leaves), Some(session("user")));
        assert_eq!(sessions.find(&key, b"token", at(599), Use::Renews(TTL)), None);
        assert!(sessions.young.is_empty() && sessions.young_bytes == 0);
    }

    #[test]
    fn another_key_ends_all() {
        let now = Instant::now();
        let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
        let mut sessions = Sessions::default();
        sessions.enter(&old, b"1", session("a"), now + TTL);
        assert_eq!(sessions.find(&new, b"1", now, Use::Leaves), None);
        sessions.enter(&new, b"2", session("b"), now + TTL);
        assert_eq!(sessions.find(&old, b"1", now, Use::Leaves), None);
        assert_eq!(sessions.find(&new, b"1", now, Use::Leaves), None);
        assert_eq!(sessions.find(&new, b"2", now, Use::Leaves), Some(session("b")));
    }

    /// Whoever goes on using a token keeps it, whatever many others do with theirs.
    #[test]
    fn what_is_used_is_kept_and_the_table_is_bounded() {
        let now = Instant::now();
        let key = Bytes::from_static(b"key");
        let mut sessions = Sessions::default();
        sessions.enter(&key, b"used", session("user"), now + TTL);
        sessions.enter(&key, b"silent", session("silent"), now + TTL);
        for number in 0..10 * GENERATION_TOKENS_MAX {
            sessions.enter(&key, number.to_string().as_bytes(), session("crowd"), now + TTL);
            if number % 1_000 == 0 {
                assert!(sessions.find(&key, b"used", now, Use::Renews(TTL)).is_some(), "{number}");
            }
            assert!(sessions.young.len() <= GENERATION_TOKENS_MAX && sessions.old.len() <= GENERATION_TOKENS_MAX);
        }
        assert_eq!(sessions.find(&key, b"silent", now, Use::Leaves), None);
        let bytes: usize = sessions.young.keys().map(|token| token.len()).sum();
        assert_eq!(sessions.young_bytes, bytes);
    }

    #[test]
    fn long_tokens_take_the_room_of_many() {
        let now = Instant::now();
        let key = Bytes::from_static(b"key");
        let mut sessions = Sessions::default();
        for number in 0..3 * GENERATION_BYTES_MAX / 32_768 {
            let token = format!("{number:032768}");
            sessions.enter(&key, token.as_bytes(), session("long"), now + TTL);
            assert!(sessions.young_bytes <= GENERATION_BYTES_MAX);
        }
        assert!(sessions.young.len() + sessions.old.len() <= 2 * GENERATION_BYTES_MAX / 32_768);
    }
}
