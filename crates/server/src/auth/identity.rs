//! A proven identity, and what it is worth as users change.

use quorate_proto::quoratepb::Caller;
use quorate_store::auth::AuthView;
use std::sync::Arc;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user; nobody may be called so.
    pub(crate) name: Arc<str>,
    /// The auth revision at which it was proven.
    pub(crate) proven: u64,
    /// Whether it follows the user's grants by itself.
    pub(crate) standing: Standing,
}

/// What a change of the user's grants does to an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing: the next call is judged by the new grants. So it is with simple tokens and certificates, as in etcd.
    Follows,
    /// The token is old, and a new one is to be fetched. So it is with JSON Web Tokens, as in etcd.
    Pinned,
}

impl Identity {
    /// Whom the store is to judge, as of a view. Another password, or another user of the same name, ends it.
    pub(crate) fn caller(&self, view: &AuthView) -> Caller {
        let holds = || view.user(&self.name).is_none_or(|user| user.identity_revision() <= self.proven);
        let auth_revision = match self.standing {
            Standing::Follows if holds() => view.revision().max(self.proven),
            Standing::Follows | Standing::Pinned => self.proven,
        };
        Caller { user: self.name.as_ref().to_owned(), auth_revision, cluster: false }
    }
}
