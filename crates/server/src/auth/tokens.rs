//! The kind of tokens that was chosen, and who a token stands for.

use crate::auth::identity::{Identity, Standing};
use crate::auth::jwt::{IssueError, JwtTokens};
use crate::auth::jwt_key::JwtKey;
use crate::auth::moment::Moment;
use crate::auth::options::TokenOptions;
use crate::auth::sessions::Session;
use crate::auth::simple::{SimpleTokens, claimed_revision};
use bytes::Bytes;
use quorate_store::auth::AuthView;
use ring::digest;

/// Issues and checks tokens.
#[derive(Debug)]
pub(crate) enum Tokens {
    Simple(SimpleTokens),
    Jwt(Box<JwtTokens>),
    /// No token is ever good.
    None,
}

/// Why a token stands for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unidentified {
    /// It is forged, over, or its user's password changed.
    Invalid,
    /// It says that it was issued at an auth revision that this member has not applied: to be asked again when it has.
    Ahead,
}

impl Tokens {
    /// Reads what keys there are to read.
    pub(crate) fn load(options: &TokenOptions) -> anyhow::Result<Self> {
        match options {
            TokenOptions::Simple { ttl } => Ok(Self::Simple(SimpleTokens::new(*ttl))),
            TokenOptions::Jwt(options) => Ok(Self::Jwt(Box::new(JwtTokens::new(JwtKey::load(options)?, options.ttl)))),
            TokenOptions::None => Ok(Self::None),
        }
    }

    /// Whether the auth state must hold a key before a token can be issued.
    pub(crate) fn need_key(&self) -> bool {
        matches!(self, Self::Simple(_))
    }

    /// A new token for a user whose password was checked. `key` is the auth state's, where one is needed.
    pub(crate) fn issue(&self, key: Option<&Bytes>, session: &Session, now: Moment) -> Result<String, IssueError> {
        match self {
            Self::Simple(tokens) => Ok(tokens.issue(key.ok_or(IssueError::Failed)?, session, now)),
            Self::Jwt(tokens) => tokens.issue(session, now),
            Self::None => Err(IssueError::NoTokens),
        }
    }

    /// Who a token stands for.
    pub(crate) fn identify(&self, token: &[u8], view: &AuthView, now: Moment) -> Result<Identity, Unidentified> {
        match self {
            Self::Simple(tokens) => {
                let checked = view.token_key().and_then(|key| tokens.check(key, token, now));
                let claimed = checked.as_ref().map(|session| session.revision).or_else(|| claimed_revision(token));
                if claimed.is_some_and(|revision| revision > view.revision()) {
                    return Err(Unidentified::Ahead);
                }
                let session = checked.ok_or(Unidentified::Invalid)?;
                let user = view.user(&session.name).ok_or(Unidentified::Invalid)?;
                if session.revision < user.identity_revision() {
                    return Err(Unidentified::Invalid);
                }
                Ok(Identity { name: session.name, proven: session.revision, standing: Standing::Follows })
            }
            Self::Jwt(tokens) => {
                let session = tokens.check(token, now).ok_or(Unidentified::Invalid)?;
                Ok(Identity { name: session.name, proven: session.revision, standing: Standing::Pinned })
            }
            Self::None => Err(Unidentified::Invalid),
        }
    }
}

/// What may be logged of a token: enough to find it again, nothing to use it with.
pub(crate) fn fingerprint(token: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, token);
    hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
