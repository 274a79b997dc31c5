//! A user: a password hash, roles, and, compiled from the roles, what it may read and write.
//!
//! Invariants: role names are sorted, each once; `read` and `write` are what the roles permit at this auth revision.

use super::ROOT;
use super::role::{Role, reads, writes};
use super::spans::Spans;
use bytes::Bytes;
use quorate_proto::authpb;
use quorate_proto::quoratepb::UserRecord;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    pub(super) password_hash: Bytes,
    pub(super) no_password: bool,
    pub(super) roles: Vec<String>,
    pub(super) identity_revision: u64,
    pub(super) grants_revision: u64,
    pub(super) read: Spans,
    pub(super) write: Spans,
}

impl User {
    /// As a checkpoint recorded it; compiled by the caller.
    pub(super) fn load(record: &UserRecord) -> Self {
        let user = record.user.clone().unwrap_or_default();
        Self {
            password_hash: user.password,
            no_password: user.options.is_some_and(|options| options.no_password),
            roles: user.roles,
            identity_revision: record.identity_revision,
            grants_revision: record.grants_revision,
            ..Self::default()
        }
    }

    pub(super) fn record(&self, name: &str) -> UserRecord {
        UserRecord {
            user: Some(authpb::User {
                name: Bytes::copy_from_slice(name.as_bytes()),
                password: self.password_hash.clone(),
                roles: self.roles.clone(),
                options: Some(authpb::UserAddOptions { no_password: self.no_password }),
            }),
            identity_revision: self.identity_revision,
            grants_revision: self.grants_revision,
        }
    }

    /// The bcrypt hash; empty for a user without a password.
    pub fn password_hash(&self) -> &Bytes {
        &self.password_hash
    }

    /// Whether the user can log in by certificate only.
    pub fn no_password(&self) -> bool {
        self.no_password
    }

    /// Its roles, sorted.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// Whether it holds the role root, and so may do everything.
    pub fn is_root(&self) -> bool {
        self.holds(ROOT)
    }

    /// Whether it holds a role.
    pub fn holds(&self, role: &str) -> bool {
        self.roles.binary_search_by(|held| held.as_str().cmp(role)).is_ok()
    }

    /// The auth revision below which a token or login of this user is void for everything: the user was created, its
    /// password changed or auth was disabled then.
    pub fn identity_revision(&self) -> u64 {
        self.identity_revision
    }

    /// The auth revision at which its roles, or what they permit, changed last: an older token must be renewed before it
    /// reads or writes keys.
    pub fn grants_revision(&self) -> u64 {
        self.grants_revision
    }

    pub(super) fn compile(&mut self, roles: &BTreeMap<String, Arc<Role>>) {
        let permissions = || {
            let held = self.roles.iter().filter_map(|role| roles.get(role));
            held.flat_map(|role| &role.permissions)
        };
        let range = |permission: &'_ authpb::Permission| (permission.key.clone(), permission.range_end.clone());
        let readable: Vec<_> = permissions().filter(|permission| reads(permission)).map(range).collect();
        let writable: Vec<_> = permissions().filter(|permission| writes(permission)).map(range).collect();
        self.read = Spans::union(readable.iter().map(|(key, end)| (key, end)));
        self.write = Spans::union(writable.iter().map(|(key, end)| (key, end)));
    }
}
