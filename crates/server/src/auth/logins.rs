//! Log-ins that were verified lately, so that a client that logs in again and again costs one bcrypt and not hundreds.
//!
//! Invariant: holds no password, but a keyed digest of it together with the bcrypt hash that it was verified against; the
//! key is this process's own and random. So an entry is worth nothing for another hash, user or process.

use crate::auth::checks::Question;
use ring::hmac;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Users remembered at the most.
const LOGINS_MAX: usize = 1_024;

/// How long a log-in is remembered.
const LOGIN_AGE_MAX: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Login {
    hash: Box<[u8]>,
    digest: hmac::Tag,
    since: Instant,
}

/// The newest verified log-in of each user.
#[derive(Debug)]
pub(crate) struct Logins {
    key: hmac::Key,
    entries: HashMap<Box<str>, Login>,
}

fn digest(key: &hmac::Key, hash: &[u8], password: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&(hash.len() as u64).to_be_bytes());
    context.update(hash);
    context.update(password);
    context.sign()
}

impl Logins {
    /// An empty table with a key of 32 random bytes.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), entries: HashMap::new() }
    }

    /// Whether this password was verified for this user against this hash. Forgets what was verified against another.
    pub(crate) fn knows(&mut self, name: &str, hash: &[u8], password: &[u8], now: Instant) -> bool {
        let Some(login) = self.entries.get(name) else {
            return false;
        };
        if *login.hash != *hash || now.saturating_duration_since(login.since) >= LOGIN_AGE_MAX {
            self.entries.remove(name);
            return false;
        }
        let mut said = Vec::with_capacity(8 + hash.len() + password.len());
        said.extend_from_slice(&(hash.len() as u64).to_be_bytes());
        said.extend_from_slice(hash);
        said.extend_from_slice(password);
        let known = hmac::verify(&self.key, &said, login.digest.as_ref()).is_ok();
        said.fill(0);
        known
    }

    /// What stands for the question whether this is the password of a hash, in a table of questions.
    pub(crate) fn question(&self, name: &str, hash: Option<&[u8]>, password: &[u8]) -> Question {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), hash.unwrap_or_default(), password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let digest = context.sign();
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Remembers a verified log-in, unless there is no room.
    pub(crate) fn remember(&mut self, name: &str, hash: &[u8], password: &[u8], now: Instant) {
        if self.entries.len() >= LOGINS_MAX && !self.entries.contains_key(name) {
            self.entries.retain(|_, login| now.saturating_duration_since(login.since) < LOGIN_AGE_MAX);
            if self.entries.len() >= LOGINS_MAX {
                return;
            }
        }
        let login = Login { hash: hash.into(), digest: digest(&self.key, hash, password), since: now };
        self.entries.insert(name.into(), login);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_verified_is_known() {
        let now = Instant::now();
        let mut logins = Logins::new([3; 32]);
        logins.remember("user", b"hash", b"password", now);
        assert!(logins.knows("user", b"hash", b"password", now));
        assert!(!logins.knows("user", b"hash", b"Password", now));
        assert!(!logins.knows("other", b"hash", b"password", now));
        assert!(logins.knows("user", b"hash", b"password", now), "a wrong password ends nothing");
    }

    #[test]
    fn another_hash_ends_what_was_known() {
        let now = Instant::now();
        let mut logins = Logins::new([3; 32]);
        logins.remember("user", b"hash", b"password", now);
        assert!(!logins.knows("user", b"other", b"password", now));
        assert!(logins.entries.is_empty());
    }

    #[test]
    fn nothing_is_known_for_ever() {
        let now = Instant::now();
        let mut logins = Logins::new([3; 32]);
        logins.remember("user", b"hash", b"password", now);
        assert!(!logins.knows("user", b"hash", b"password", now + LOGIN_AGE_MAX));
        for number in 0..LOGINS_MAX + 5 {
            logins.remember(&number.to_string(), b"hash", b"password", now);
        }
        assert_eq!(logins.entries.len(), LOGINS_MAX);
        logins.remember("late", b"hash", b"password", now + LOGIN_AGE_MAX);
        assert_eq!(logins.entries.len(), 1);
    }

    #[test]
    fn the_table_shows_no_password() {
        let mut logins = Logins::new([3; 32]);
        logins.remember("user", b"hash", b"open sesame", Instant::now());
        assert!(!format!("{logins:?}").contains("sesame"));
    }
}
