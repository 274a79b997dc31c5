//! Changes of users and roles, in etcd's order of checks, with etcd's answers.
//!
//! Invariant: a change that is refused, or that finds everything as it should be, leaves the view as it was. Every other
//! one, but for enabling and the key of tokens, counts the auth revision up by one, and gives that revision to the users
//! whom it concerns.

use super::ROOT;
use super::error::AuthError;
use super::role::{Role, is_grantable};
use super::user::User;
use super::view::AuthView;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use quorate_proto::etcdserverpb::{
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
};
use quorate_proto::quoratepb::command::Operation;
use std::sync::Arc;

/// What a change that is not refused came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// The view is another.
    Yes,
    /// Everything was so already.
    No,
}

/// A password's hash as a request carries it. The password itself is never hashed here: each member would draw another
/// salt.
fn password_hash(hashed_password: &str) -> Result<Bytes, AuthError> {
    STANDARD.decode(hashed_password).map(Bytes::from).map_err(|_| AuthError::NoPasswordUser)
}

impl AuthView {
    /// Makes a change; the caller was authorised. Other operations change nothing here.
    pub(crate) fn change(&mut self, operation: &Operation) -> Result<Changed, AuthError> {
        match operation {
            Operation::AuthEnable(_) => self.enable(),
            Operation::AuthDisable(_) => Ok(self.disable()),
            Operation::AuthUserAdd(request) => self.add_user(request),
            Operation::AuthUserDelete(request) => self.delete_user(&request.name),
            Operation::AuthUserChangePassword(request) => self.change_password(request),
            Operation::AuthUserGrantRole(request) => self.grant_role(&request.user, &request.role),
            Operation::AuthUserRevokeRole(request) => self.revoke_role(&request.name, &request.role),
            Operation::AuthRoleAdd(request) => self.add_role(&request.name),
            Operation::AuthRoleDelete(request) => self.delete_role(&request.role),
            Operation::AuthRoleGrantPermission(request) => self.grant_permission(request),
            Operation::AuthRoleRevokePermission(request) => self.revoke_permission(request),
            Operation::AuthTokenKeySet(request) => Ok(self.set_token_key(&request.key)),
            _ => Ok(Changed::No),
        }
    }

    fn enable(&mut self) -> Result<Changed, AuthError> {
        if self.enabled {
            return Ok(Changed::No);
        }
        let root = self.users.get(ROOT).ok_or(AuthError::RootUserNotExist)?;
        if !root.is_root() {
            return Err(AuthError::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(Changed::Yes)
    }

    /// Tokens from before are void when auth is enabled again, as in etcd.
    fn disable(&mut self) -> Changed {
        if !self.enabled {
            return Changed::No;
        }
        self.enabled = false;
        self.token_key = Bytes::new();
        self.revision += 1;
        for user in self.users.values_mut() {
            Arc::make_mut(user).identity_revision = self.revision;
        }
        Changed::Yes
    }

    /// The first key stands. No user and no role changes, so the auth revision stays.
    fn set_token_key(&mut self, key: &Bytes) -> Changed {
        if !self.enabled || !self.token_key.is_empty() || key.is_empty() {
            return Changed::No;
        }
        self.token_key = key.clone();
        Changed::Yes
    }

    fn add_user(&mut self, request: &AuthUserAddRequest) -> Result<Changed, AuthError> {
        if request.name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.users.contains_key(&request.name) {
            return Err(AuthError::UserAlreadyExist);
        }
        let no_password = request.options.as_ref().is_some_and(|options| options.no_password);
        let password_hash = if no_password { Bytes::new() } else { password_hash(&request.hashed_password)? };
        self.revision += 1;
        let (identity_revision, grants_revision) = (self.revision, self.revision);
        let user = User { password_hash, no_password, identity_revision, grants_revision, ..User::default() };
        self.users.insert(request.name.clone(), Arc::new(user));
        Ok(Changed::Yes)
    }

    fn delete_user(&mut self, name: &str) -> Result<Changed, AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        self.revision += 1;
        Ok(Changed::Yes)
    }

    /// As in etcd a user without a password stays one.
    fn change_password(&mut self, request: &AuthUserChangePasswordRequest) -> Result<Changed, AuthError> {
        let user = self.users.get_mut(&request.name).ok_or(AuthError::UserNotFound)?;
        let hash = if user.no_password { Bytes::new() } else { password_hash(&request.hashed_password)? };
        self.revision += 1;
        let user = Arc::make_mut(user);
        user.password_hash = hash;
        user.identity_revision = self.revision;
        Ok(Changed::Yes)
    }

    /// The role root can be granted without being there.
    fn grant_role(&mut self, name: &str, role: &str) -> Result<Changed, AuthError> {
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        if role != ROOT && !self.roles.contains_key(role) {
            return Err(AuthError::RoleNotFound);
        }
        let Err(place) = user.roles.binary_search_by(|held| held.as_str().cmp(role)) else {
            return Ok(Changed::No);
        };
        self.revision += 1;
        let user = Arc::make_mut(user);
        user.roles.insert(place, role.to_owned());
        user.grants_revision = self.revision;
        user.compile(&self.roles);
        Ok(Changed::Yes)
    }

    fn revoke_role(&mut self, name: &str, role: &str) -> Result<Changed, AuthError> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        if !user.holds(role) {
            return Err(AuthError::RoleNotGranted);
        }
        self.revision += 1;
        let user = Arc::make_mut(user);
        user.roles.retain(|held| held != role);
        user.grants_revision = self.revision;
        user.compile(&self.roles);
        Ok(Changed::Yes)
    }

    fn add_role(&mut self, name: &str) -> Result<Changed, AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(AuthError::RoleAlreadyExist);
        }
        self.roles.insert(name.to_owned(), Arc::new(Role::default()));
        self.revision += 1;
        // The role root may have been granted before it was there.
        self.recompile(name);
        Ok(Changed::Yes)
    }

    fn delete_role(&mut self, name: &str) -> Result<Changed, AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        self.revision += 1;
        for user in self.users.values_mut().filter(|user| user.holds(name)) {
            let user = Arc::make_mut(user);
            user.roles.retain(|held| held != name);
            user.grants_revision = self.revision;
            user.compile(&self.roles);
        }
        Ok(Changed::Yes)
    }

    fn grant_permission(&mut self, request: &AuthRoleGrantPermissionRequest) -> Result<Changed, AuthError> {
        let permission = request.perm.as_ref().ok_or(AuthError::PermissionNotGiven)?;
        if !is_grantable(&permission.key, &permission.range_end) {
            return Err(AuthError::InvalidAuthManagement);
        }
        let role = self.roles.get_mut(&request.name).ok_or(AuthError::RoleNotFound)?;
        Arc::make_mut(role).grant(permission);
        self.revision += 1;
        self.recompile(&request.name);
        Ok(Changed::Yes)
    }

    fn revoke_permission(&mut self, request: &AuthRoleRevokePermissionRequest) -> Result<Changed, AuthError> {
        let role = self.roles.get_mut(&request.role).ok_or(AuthError::RoleNotFound)?;
        if !Arc::make_mut(role).revoke(&request.key, &request.range_end) {
            return Err(AuthError::PermissionNotGranted);
        }
        self.revision += 1;
        self.recompile(&request.role);
        Ok(Changed::Yes)
    }

    /// A role is another: so is what its holders may do.
    fn recompile(&mut self, role: &str) {
        for user in self.users.values_mut().filter(|user| user.holds(role)) {
            let user = Arc::make_mut(user);
            user.grants_revision = self.revision;
            user.compile(&self.roles);
        }
    }
}
