//! The auth state at one auth revision. Immutable once it is shared; a change makes the next one.

use super::role::Role;
use super::user::User;
use bytes::Bytes;
use quorate_proto::quoratepb::AuthRecord;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The auth revision of a cluster whose users and roles were never changed, as in etcd.
const FIRST_REVISION: u64 = 1;

/// Users, roles, and whether they count.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthView {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    pub(super) users: BTreeMap<String, Arc<User>>,
    pub(super) roles: BTreeMap<String, Arc<Role>>,
    pub(super) token_key: Bytes,
}

impl Default for AuthView {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: FIRST_REVISION,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            token_key: Bytes::new(),
        }
    }
}

impl AuthView {
    /// As a checkpoint recorded it; `None`: auth was never touched.
    pub(crate) fn load(record: Option<&AuthRecord>) -> Self {
        let Some(record) = record else {
            return Self::default();
        };
        let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let roles: BTreeMap<_, _> =
            record.roles.iter().map(|role| (name(&role.name), Arc::new(Role::load(role)))).collect();
        let users = record.users.iter().map(|user| {
            let mut loaded = User::load(user);
            loaded.compile(&roles);
            (name(user.user.as_ref().map_or(&[], |user| &user.name)), Arc::new(loaded))
        });
        Self {
            enabled: record.enabled,
            revision: record.revision.max(FIRST_REVISION),
            users: users.collect(),
            roles: roles.clone(),
            token_key: record.token_key.clone(),
        }
    }

    /// For a checkpoint; `None` as long as auth was never touched.
    pub(crate) fn record(&self) -> Option<AuthRecord> {
        if *self == Self::default() {
            return None;
        }
        Some(AuthRecord {
            enabled: self.enabled,
            revision: self.revision,
            users: self.users.iter().map(|(name, user)| user.record(name)).collect(),
            roles: self.roles.iter().map(|(name, role)| role.record(name)).collect(),
            token_key: self.token_key.clone(),
        })
    }

    /// Whether auth is on.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Counts the changes of users, roles and permissions, and the disabling of auth.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What seals the tokens of users who log in; `None`: nobody did since auth was enabled.
    pub fn token_key(&self) -> Option<&Bytes> {
        Some(&self.token_key).filter(|key| !key.is_empty())
    }

    /// A user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|user| &**user)
    }

    /// A role.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(|role| &**role)
    }

    /// All users, ascending names.
    pub fn users(&self) -> impl ExactSizeIterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (name.as_str(), &**user))
    }

    /// All roles, ascending names.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = (&str, &Role)> {
        self.roles.iter().map(|(name, role)| (name.as_str(), &**role))
    }
}
