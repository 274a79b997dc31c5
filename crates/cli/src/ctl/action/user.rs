//! `user`: add, delete, get, list, passwd, grant-role, revoke-role.
//!
//! Not here: what a user may do (`role`). The invariant: a password given on the command line is the whole of what
//! stands behind the first colon.

use quorate_proto::authpb::UserAddOptions;
use quorate_proto::etcdserverpb as pb;

use super::password;
use crate::ctl::entry::Invocation;
use crate::ctl::failure::Failure;
use crate::ctl::print::{Reply, write_out};

/// `user add`
pub(crate) async fn add(mut run: Invocation) -> Result<(), Failure> {
    let [word] = run.words() else {
        return Err(Failure::arguments("user add command requires user name as its argument"));
    };
    let no_password = run.values.is_set("no-password");
    let new_password = run.values.text("new-user-password");
    let (user, password) = match word.split_once(':') {
        _ if no_password => (word.clone(), Some(String::new())),
        _ if !new_password.is_empty() => (word.clone(), Some(new_password.to_owned())),
        Some(("", _)) => return Err(Failure::arguments("empty user name is not allowed")),
        Some((user, password)) => (user.to_owned(), Some(password.to_owned())),
        None => (word.clone(), None),
    };
    // The new user's password comes before that of the user who adds it.
    let password = match password {
        Some(password) => password,
        None if run.values.is_set("interactive") => password::ask_new(&user)?,
        None => password::read()?,
    };
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let options = Some(UserAddOptions { no_password });
    let request = pb::AuthUserAddRequest { name: user.clone(), password, options, ..Default::default() };
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::UserAdd { user: &user, reply: &reply })
}

/// `user delete`
pub(crate) async fn delete(mut run: Invocation) -> Result<(), Failure> {
    let [user] = run.words() else {
        return Err(Failure::arguments("user delete command requires user name as its argument"));
    };
    let user = user.clone();
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::AuthUserDeleteRequest { name: user.clone() }, deadline).await?;
    printer.print(Reply::UserDelete { user: &user, reply: &reply })
}

/// `user get`
pub(crate) async fn get(mut run: Invocation) -> Result<(), Failure> {
    let [user] = run.words() else {
        return Err(Failure::arguments("user get command requires user name as its argument"));
    };
    let user = user.clone();
    let with_detail = run.values.is_set("detail");
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::AuthUserGetRequest { name: user.clone() }, deadline).await?;
    if !with_detail {
        return printer.print(Reply::UserGet { user: &user, reply: &reply });
    }
    write_out(format!("User: {user}\n").as_bytes())?;
    for role in &reply.roles {
        write_out(b"\n")?;
        let reply = client.call(pb::AuthRoleGetRequest { role: role.clone() }, deadline).await?;
        printer.print(Reply::RoleGet { role, reply: &reply })?;
    }
    Ok(())
}

/// `user list`
pub(crate) async fn list(mut run: Invocation) -> Result<(), Failure> {
    if !run.words().is_empty() {
        return Err(Failure::arguments("user list command requires no arguments"));
    }
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::AuthUserListRequest {}, deadline).await?;
    printer.print(Reply::UserList(&reply))
}

/// `user passwd`
pub(crate) async fn change_password(mut run: Invocation) -> Result<(), Failure> {
    let [user] = run.words() else {
        return Err(Failure::arguments("user passwd command requires user name as its argument"));
    };
    let user = user.clone();
    let password = if run.values.is_set("interactive") { password::ask_new(&user)? } else { password::read()? };
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let request = pb::AuthUserChangePasswordRequest { name: user, password, ..Default::default() };
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::UserChangePassword(&reply))
}

/// `user grant-role`
pub(crate) async fn grant_role(mut run: Invocation) -> Result<(), Failure> {
    let [user, role] = run.words() else {
        let message = "user grant command requires user name and role name as its argument";
        return Err(Failure::arguments(message));
    };
    let (user, role) = (user.clone(), role.clone());
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let request = pb::AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::UserGrantRole { user: &user, role: &role, reply: &reply })
}

/// `user revoke-role`
pub(crate) async fn revoke_role(mut run: Invocation) -> Result<(), Failure> {
    let [user, role] = run.words() else {
        let message = "user revoke-role requires user name and role name as its argument";
        return Err(Failure::arguments(message));
    };
    let (user, role) = (user.clone(), role.clone());
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let request = pb::AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::UserRevokeRole { user: &user, role: &role, reply: &reply })
}
