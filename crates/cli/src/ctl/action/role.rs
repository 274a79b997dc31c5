//! `role`: add, delete, get, list, grant-permission, revoke-permission.
//!
//! Not here: who has a role (`user`). The invariant: granting and revoking read a range by the same function, so that
//! what was granted by some words is revoked by the same words.

use quorate_proto::authpb::{Permission, permission::Type};
use quorate_proto::etcdserverpb as pb;

use crate::command_line::flag::Values;
use crate::command_line::word;
use crate::ctl::entry::Invocation;
use crate::ctl::failure::Failure;
use crate::ctl::print::{Reply, prefix_end};

/// `role add`
pub(crate) async fn add(mut run: Invocation) -> Result<(), Failure> {
    let role = role_word(&run, "add")?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::AuthRoleAddRequest { name: role.clone() }, deadline).await?;
    printer.print(Reply::RoleAdd { role: &role, reply: &reply })
}

/// `role delete`
pub(crate) async fn delete(mut run: Invocation) -> Result<(), Failure> {
    let role = role_word(&run, "delete")?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::AuthRoleDeleteRequest { role: role.clone() }, deadline).await?;
    printer.print(Reply::RoleDelete { role: &role, reply: &reply })
}

/// `role get`
pub(crate) async fn get(mut run: Invocation) -> Result<(), Failure> {
    let role = role_word(&run, "get")?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::AuthRoleGetRequest { role: role.clone() }, deadline).await?;
    printer.print(Reply::RoleGet { role: &role, reply: &reply })
}

/// `role list`
pub(crate) async fn list(mut run: Invocation) -> Result<(), Failure> {
    if !run.words().is_empty() {
        return Err(Failure::arguments("role list command requires no arguments"));
    }
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::AuthRoleListRequest {}, deadline).await?;
    printer.print(Reply::RoleList(&reply))
}

/// `role grant-permission`
pub(crate) async fn grant(mut run: Invocation) -> Result<(), Failure> {
    let [role, kind, key, range_end @ ..] = run.words() else {
        let message = "role grant command requires role name, permission type, and key [endkey] as its argument";
        return Err(Failure::arguments(message));
    };
    let allowed = match kind.to_uppercase().as_str() {
        "READ" => Type::Read,
        "WRITE" => Type::Write,
        "READWRITE" => Type::Readwrite,
        _ => return Err(Failure::arguments(format!("invalid permission type: {kind}"))),
    };
    let (key, range_end) = range(&run.values, key, range_end.first())?;
    let permission = Permission { perm_type: allowed.into(), key: key.into(), range_end: range_end.into() };
    let role = role.clone();
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let request = pb::AuthRoleGrantPermissionRequest { name: role.clone(), perm: Some(permission) };
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::RoleGrant { role: &role, reply: &reply })
}

/// `role revoke-permission`
pub(crate) async fn revoke(mut run: Invocation) -> Result<(), Failure> {
    let [role, key, range_end @ ..] = run.words() else {
        let message = "role revoke-permission command requires role name and key [endkey] as its argument";
        return Err(Failure::arguments(message));
    };
    let typed_key = word::bytes(key);
    let (key, range_end) = range(&run.values, key, range_end.first())?;
    let role = role.clone();
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let request = pb::AuthRoleRevokePermissionRequest {
        role: role.clone(),
        key: key.into(),
        range_end: range_end.clone().into(),
    };
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::RoleRevoke { role: &role, key: &typed_key, range_end: &range_end, reply: &reply })
}

fn role_word(run: &Invocation, name: &str) -> Result<String, Failure> {
    match run.words() {
        [role] => Ok(role.clone()),
        _ => Err(Failure::arguments(format!("role {name} command requires role name as its argument"))),
    }
}

/// Reads the range of a permission. No key at all stands for the lowest key.
fn range(values: &Values, key: &str, range_end: Option<&String>) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (prefix, from_key) = (values.is_set("prefix"), values.is_set("from-key"));
    if prefix && from_key {
        return Err(Failure::arguments("--from-key and --prefix flags are mutually exclusive"));
    }
    if range_end.is_some() && (prefix || from_key) {
        let flag = if prefix { "--prefix" } else { "--from-key" };
        return Err(Failure::arguments(format!("unexpected endkey argument with {flag} flag")));
    }
    let range_end = match range_end {
        Some(range_end) => word::bytes(range_end),
        None if from_key || (prefix && key.is_empty()) => b"\0".to_vec(),
        None if prefix => prefix_end(&word::bytes(key)),
        None => Vec::new(),
    };
    let key = if key.is_empty() { b"\0".to_vec() } else { word::bytes(key) };
    Ok((key, range_end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::flag::{Flag, Kind};

    static FLAGS: [Flag; 2] = [Flag::new("prefix", Kind::Bool, ""), Flag::new("from-key", Kind::Bool, "")];

    fn read(line: &str) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let values = Values::read(&[&FLAGS[0], &FLAGS[1]], &words).expect("readable flags");
        let key = values.words.first().cloned().unwrap_or_default();
        range(&values, &key, values.words.get(1))
    }

    #[test]
    fn ranges_of_permissions() {
        let is = |key: &[u8], range_end: &[u8]| Ok((key.to_vec(), range_end.to_vec()));
        assert_eq!(read("k"), is(b"k", b""));
        assert_eq!(read("k z"), is(b"k", b"z"));
        assert_eq!(read("pre --prefix"), is(b"pre", b"prf"));
        assert_eq!(read("q --from-key"), is(b"q", b"\0"));
        assert_eq!(read("--prefix"), is(b"\0", b"\0"));
        assert_eq!(read(""), is(b"\0", b""));
        let mutual = "--from-key and --prefix flags are mutually exclusive";
        assert_eq!(read("a --prefix --from-key"), Err(Failure::arguments(mutual)));
        let unexpected = "unexpected endkey argument with --prefix flag";
        assert_eq!(read("a b --prefix"), Err(Failure::arguments(unexpected)));
    }
}
