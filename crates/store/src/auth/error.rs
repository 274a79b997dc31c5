//! What can be wrong with a change of users and roles, or with who asks for something. Texts are etcd's.

use thiserror::Error;

/// An outcome that `server` maps to etcd's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// Auth cannot be enabled without a user root.
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    /// Auth cannot be enabled unless the user root holds the role root.
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    /// A user of that name exists.
    #[error("etcdserver: user name already exists")]
    UserAlreadyExist,
    /// A user needs a name; also the answer to whoever gives no credentials while auth is on.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// No such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// A role of that name exists.
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExist,
    /// No such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// A role needs a name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// Wrong name or password.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    /// The hash of a password cannot be read. etcd has no status of its own for it (code Unknown).
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// A grant without a permission.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// The caller may not do it.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// The user does not hold the role.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// The role does not hold the permission.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// Only possible while auth is on.
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    /// A token that nobody gave out, or that ended.
    #[error("etcdserver: invalid auth token")]
    InvalidAuthToken,
    /// Would take root's power away while auth is on, or a permission's range is none.
    #[error("etcdserver: invalid auth management")]
    InvalidAuthManagement,
    /// The caller's user, its password or its grants changed after the caller was identified.
    #[error("etcdserver: revision of auth store is old")]
    AuthOldRevision,
}
