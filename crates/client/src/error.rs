//! The one error of all recipes. It owns the words: each says what happened and what to do about it.
//!
//! Invariant: an error is cheap to clone, so that a task can leave it for every caller that waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::session::Loss;

/// The result of every recipe.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, and what to do about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The session is over. Stop what it guarded, then open another session.
    SessionLost {
        /// The lease of the session.
        lease: i64,
        /// Why it is over.
        loss: Loss,
    },
    /// The key that proves the claim is gone or is somebody else's. Stop what it guarded, then claim again.
    NotHeld {
        /// The key that was compared.
        key: String,
    },
    /// This session holds the key already, or waits for it. Use another session, or what is held.
    InUse {
        /// The key.
        key: String,
    },
    /// What is stored contradicts the request.
    Conflict {
        /// The key.
        key: String,
        /// What is stored, and what to do.
        reason: String,
    },
    /// A name that no key can be made of. Choose another.
    InvalidName {
        /// The name.
        name: String,
        /// Which rule it breaks.
        rule: &'static str,
    },
    /// A setting out of its bounds. Choose another.
    InvalidSetting(&'static str),
    /// A stored value that is not what this recipe writes. Somebody else writes there: use another path.
    InvalidValue {
        /// The key.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// The call failed on its way; it may have been executed or not. Read before repeating it.
    OutcomeUnknown(Arc<etcd_client::Error>),
    /// No member answered in time. Nothing depends on this call any more: repeat it when you like.
    Unavailable {
        /// How long it was tried.
        tried: Duration,
        /// The last failure; none if no answer came at all.
        cause: Option<Arc<etcd_client::Error>>,
    },
    /// The store refused. Repeating is useless until its reason is gone.
    Refused(Arc<etcd_client::Error>),
    /// The watch was ended by the store for good.
    WatchCancelled(String),
    /// A transaction met others in all its attempts. Repeat it later, or touch fewer keys.
    Contended {
        /// How many attempts were made.
        attempts: u32,
    },
    /// The recipe was stopped.
    Stopped,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionLost { lease, loss } => {
                write!(out, "the session with lease {lease:x} is over ({loss}): stop what it guarded, open another")
            }
            Self::NotHeld { key } => {
                write!(out, "{key} is not held any more: stop what it guarded, then claim it again")
            }
            Self::InUse { key } => write!(out, "this session holds {key} or waits for it: use another session"),
            Self::Conflict { key, reason } => write!(out, "{key}: {reason}"),
            Self::InvalidName { name, rule } => write!(out, "the name {name:?} cannot be used: {rule}"),
            Self::InvalidSetting(rule) => write!(out, "a setting cannot be used: {rule}"),
            Self::InvalidValue { key, reason } => {
                write!(out, "the value of {key} is not of this recipe ({reason}): use another path")
            }
            Self::OutcomeUnknown(cause) => {
                write!(out, "the call may have been executed or not ({cause}): read before repeating it")
            }
            Self::Unavailable { tried, cause: Some(cause) } => {
                write!(out, "no member answered within {:.1} s ({cause}): repeat it later", tried.as_secs_f64())
            }
            Self::Unavailable { tried, cause: None } => {
                write!(out, "no member answered within {:.1} s: repeat it later", tried.as_secs_f64())
            }
            Self::Refused(cause) => write!(out, "the store refused: {cause}"),
            Self::WatchCancelled(reason) => write!(out, "the store ended the watch: {reason}"),
            Self::Contended { attempts } => {
                write!(out, "the transaction met others in {attempts} attempts: repeat it later")
            }
            Self::Stopped => out.write_str("the recipe was stopped"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::OutcomeUnknown(cause) | Self::Refused(cause) | Self::Unavailable { cause: Some(cause), .. } => {
                Some(&**cause)
            }
            _ => None,
        }
    }
}

/// Whether the same call may succeed when it is repeated, at another member or later.
pub(crate) fn is_transient(error: &etcd_client::Error) -> bool {
    use etcd_client::Error as Client;
    // The codes of gRPC, by number: naming them needs the crate `tonic` in the version of the published client.
    const CANCELLED: i32 = 1;
    const UNKNOWN: i32 = 2;
    const DEADLINE_EXCEEDED: i32 = 4;
    const RESOURCE_EXHAUSTED: i32 = 8;
    const INTERNAL: i32 = 13;
    const UNAVAILABLE: i32 = 14;
    match error {
        Client::GRpcStatus(status) => match status.code() as i32 {
            CANCELLED | DEADLINE_EXCEEDED | INTERNAL | UNAVAILABLE => true,
            // A connection that breaks is `Unknown`, as is a server's error without a code.
            UNKNOWN => !status.message().starts_with("etcdserver:"),
            RESOURCE_EXHAUSTED => status.message().contains("too many requests"),
            _ => false,
        },
        Client::IoError(_) | Client::TransportError(_) | Client::EndpointError(_) | Client::WatchError(_) => true,
        Client::LeaseKeepAliveError(message) => message != LEASE_NOT_FOUND,
        _ => false,
    }
}

/// What the published client says when the first answer to a keep-alive has no time to live.
pub(crate) const LEASE_NOT_FOUND: &str = "lease not found";

/// Whether the store's answer is larger than the client takes.
pub(crate) fn is_too_large(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("message length too large"))
}

/// Whether the revision that was asked for is compacted.
pub(crate) fn is_compacted(error: &Error) -> bool {
    matches!(error, Error::Refused(cause)
        if matches!(&**cause, etcd_client::Error::GRpcStatus(status) if status.message().contains("compacted")))
}
