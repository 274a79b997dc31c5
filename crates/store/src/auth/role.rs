//! A role: a name and what it permits.
//!
//! Invariant: permissions are in the order of their keys; those of one key in the order in which they were first
//! granted; no two have the same key and range end.

use super::ROOT;
use bytes::Bytes;
use quorate_proto::authpb;
use quorate_proto::authpb::permission::Type;

/// One role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Role {
    pub(super) permissions: Vec<authpb::Permission>,
}

impl Role {
    pub(super) fn load(record: &authpb::Role) -> Self {
        Self { permissions: record.key_permission.clone() }
    }

    pub(super) fn record(&self, name: &str) -> authpb::Role {
        authpb::Role { name: Bytes::copy_from_slice(name.as_bytes()), key_permission: self.permissions.clone() }
    }

    /// What was granted, ascending keys. Of the role root it says nothing: see [`Self::shown`].
    pub fn permissions(&self) -> &[authpb::Permission] {
        &self.permissions
    }

    /// What RoleGet answers: the role root permits everything, whatever was granted to it.
    pub fn shown(&self, name: &str) -> Vec<authpb::Permission> {
        if name == ROOT {
            let all = Bytes::from_static(&[0]);
            return vec![authpb::Permission { perm_type: Type::Readwrite as i32, key: Bytes::new(), range_end: all }];
        }
        self.permissions.clone()
    }

    /// Grants; a permission on exactly the same range is replaced.
    pub(super) fn grant(&mut self, permission: &authpb::Permission) {
        let same =
            |held: &&mut authpb::Permission| held.key == permission.key && held.range_end == permission.range_end;
        if let Some(held) = self.permissions.iter_mut().find(same) {
            held.perm_type = permission.perm_type;
            return;
        }
        let place = self.permissions.partition_point(|held| held.key <= permission.key);
        self.permissions.insert(place, permission.clone());
    }

    /// Takes the permission on exactly this range away; answers whether there was one.
    pub(super) fn revoke(&mut self, key: &[u8], range_end: &[u8]) -> bool {
        let before = self.permissions.len();
        self.permissions.retain(|held| held.key != key || held.range_end != range_end);
        self.permissions.len() < before
    }
}

/// Whether a range may be granted: a key, and an end that is empty, a single zero byte, or above the key.
pub(super) fn is_grantable(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == [0] || key < range_end)
}

/// Whether a permission lets read.
pub(super) fn reads(permission: &authpb::Permission) -> bool {
    matches!(Type::try_from(permission.perm_type), Ok(Type::Read | Type::Readwrite))
}

/// Whether a permission lets write.
pub(super) fn writes(permission: &authpb::Permission) -> bool {
    matches!(Type::try_from(permission.perm_type), Ok(Type::Write | Type::Readwrite))
}
