//! Who calls: passwords, tokens, certificates.
//!
//! Owns how an identity is proven: the hashing and checking of passwords, the two kinds of tokens, what is taken from a
//! call's metadata and its connection. Does not own users, roles and permissions, nor the decision who may do what: those
//! are the store's (`quorate_store::auth`). Invariants: a password is in memory only while it is hashed or checked; no
//! password, token or key is ever logged or replicated, but for the key that seals simple tokens, which is part of the
//! auth state.

mod checks;
mod credentials;
mod ecdsa;
mod identity;
mod jwt;
mod jwt_key;
mod logins;
mod moment;
pub mod options;
mod passwords;
mod sessions;
mod simple;
mod tokens;

pub(crate) use credentials::Credentials;
pub(crate) use identity::{Identity, Standing};
pub(crate) use jwt::IssueError;
pub(crate) use moment::Moment;
pub(crate) use passwords::{PasswordError, Passwords};
pub(crate) use sessions::Session;
pub(crate) use simple::KEY_BYTES as TOKEN_KEY_BYTES;
pub(crate) use tokens::{Tokens, Unidentified, fingerprint};

use options::TokenOptions;

/// What proves identities on this member.
#[derive(Debug)]
pub struct Authenticator {
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
}

impl Authenticator {
    /// Reads the keys that the options name and starts the threads that hash passwords. `bcrypt_cost`:
    /// `--bcrypt-cost`.
    pub fn start(options: &TokenOptions, bcrypt_cost: u64) -> anyhow::Result<Self> {
        Ok(Self { tokens: Tokens::load(options)?, passwords: Passwords::start(bcrypt_cost)? })
    }
}
