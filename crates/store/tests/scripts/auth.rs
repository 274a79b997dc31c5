//! The scripts' commands about users and roles.
//!
//! `auth on`, `auth off`, `auth status`; `users`, `user add NAME PASSWORD` (`-`: a user without one), `user del NAME`,
//! `user pass NAME PASSWORD`, `user grant NAME ROLE`, `user take NAME ROLE`, `user show NAME`; `roles`, `role add NAME`,
//! `role del NAME`, `role grant NAME read|write|readwrite KEYS`, `role take NAME KEYS`, `role show NAME`. `""` is an
//! empty name.

use crate::machine::failed;
use crate::notation::{self, Words};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_proto::authpb::permission::Type;
use quorate_proto::authpb::{Permission, UserAddOptions};
use quorate_proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};
use quorate_proto::quoratepb::Caller;
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::{Act, AuthError, AuthView};
use quorate_store::reader::StoreReader;
use std::fmt::Write as _;

/// Any bytes will do: the store never looks at them.
fn hashed(password: &str) -> String {
    STANDARD.encode(format!("hash of {password}"))
}

fn name(words: &mut Words<'_>) -> String {
    let word = words.word();
    if word == "\"\"" { String::new() } else { word.to_owned() }
}

/// A command that changes something, if the words say one.
pub(crate) fn operation(words: &mut Words<'_>) -> Option<Operation> {
    let noun = words.peek().filter(|noun| matches!(*noun, "auth" | "user" | "role"))?;
    words.word();
    let operation = match (noun, words.word()) {
        ("auth", "on") => Operation::AuthEnable(AuthEnableRequest {}),
        ("auth", "off") => Operation::AuthDisable(AuthDisableRequest {}),
        ("user", "add") => {
            let (name, password) = (name(words), words.word());
            let no_password = password == "-";
            let hashed_password = if no_password { String::new() } else { hashed(password) };
            let options = Some(UserAddOptions { no_password });
            Operation::AuthUserAdd(AuthUserAddRequest { name, password: String::new(), options, hashed_password })
        }
        ("user", "del") => Operation::AuthUserDelete(AuthUserDeleteRequest { name: name(words) }),
        ("user", "pass") => {
            let (name, hashed_password) = (name(words), hashed(words.word()));
            let request = AuthUserChangePasswordRequest { name, password: String::new(), hashed_password };
            Operation::AuthUserChangePassword(request)
        }
        ("user", "grant") => {
            Operation::AuthUserGrantRole(AuthUserGrantRoleRequest { user: name(words), role: name(words) })
        }
        ("user", "take") => {
            Operation::AuthUserRevokeRole(AuthUserRevokeRoleRequest { name: name(words), role: name(words) })
        }
        ("role", "add") => Operation::AuthRoleAdd(AuthRoleAddRequest { name: name(words) }),
        ("role", "del") => Operation::AuthRoleDelete(AuthRoleDeleteRequest { role: name(words) }),
        ("role", "grant") => {
            let name = name(words);
            let perm_type = match words.word() {
                "read" => Type::Read,
                "write" => Type::Write,
                "readwrite" => Type::Readwrite,
                other => words.unknown(other),
            } as i32;
            let perm = words.peek().is_some().then(|| {
                let (key, range_end) = notation::keys(words.word());
                Permission { perm_type, key, range_end }
            });
            Operation::AuthRoleGrantPermission(AuthRoleGrantPermissionRequest { name, perm })
        }
        ("role", "take") => {
            let role = name(words);
            let (key, range_end) = notation::keys(words.word());
            Operation::AuthRoleRevokePermission(AuthRoleRevokePermissionRequest { role, key, range_end })
        }
        _ => {
            words.rewind();
            return None;
        }
    };
    Some(operation)
}

/// What a caller is shown of users and roles.
pub(crate) fn show(reader: &StoreReader, caller: Option<&Caller>, mut words: Words<'_>) -> String {
    let view = reader.auth();
    let authorize = |act: Act<'_>| reader.authorize(caller, act);
    let shown = match words.word() {
        "auth" => {
            assert_eq!(words.word(), "status");
            let is_on = if view.enabled() { "on" } else { "off" };
            authorize(Act::Call("/etcdserverpb.Auth/AuthStatus"))
                .map(|()| format!("{is_on}, auth revision {}\n", view.revision()))
        }
        "users" => authorize(Act::Call("/etcdserverpb.Auth/UserList"))
            .map(|()| view.users().map(|(name, _)| format!("{name}\n")).collect()),
        "roles" => authorize(Act::Call("/etcdserverpb.Auth/RoleList"))
            .map(|()| view.roles().map(|(name, _)| format!("{name}\n")).collect()),
        noun => {
            assert_eq!(words.word(), "show");
            let name = words.word();
            if noun == "user" {
                authorize(Act::UserGet(name)).and_then(|()| show_user(&view, name))
            } else {
                authorize(Act::RoleGet(name)).and_then(|()| show_role(&view, name))
            }
        }
    };
    shown.unwrap_or_else(|error| failed(&error.into()))
}

fn show_user(view: &AuthView, name: &str) -> Result<String, AuthError> {
    let user = view.user(name).ok_or(AuthError::UserNotFound)?;
    Ok(format!("roles: {}\n", user.roles().join(" ")))
}

fn show_role(view: &AuthView, name: &str) -> Result<String, AuthError> {
    let role = view.role(name).ok_or(AuthError::RoleNotFound)?;
    let mut text = String::new();
    for permission in role.shown(name) {
        let kind = Type::try_from(permission.perm_type).expect("a known type").as_str_name().to_lowercase();
        let _ = write!(text, "{kind} {}", notation::shown(&permission.key));
        if !permission.range_end.is_empty() {
            let _ = write!(text, "..{}", notation::shown(&permission.range_end));
        }
        text.push('\n');
    }
    Ok(text)
}
