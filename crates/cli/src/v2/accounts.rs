//! `user`, `role` and `auth`.

use super::Exit;
use super::http::{Answer, Asked, Client, escaped};
use super::run::{Context, expect_json, name_and_password};
use super::show::{print, text};
use serde_json::{Value, json};

fn page(kind: &str, name: &str) -> String {
    format!("/v2/auth/{kind}/{}", escaped(name.as_bytes()).replace('+', "%20"))
}

/// The document of an answer that has one of the statuses, else what it says.
fn judged(answer: &Answer, statuses: &[u16]) -> Result<Value, Exit> {
    let document = match serde_json::from_slice(&answer.body) {
        Ok(document) => document,
        Err(_) if answer.body.is_empty() => Value::Null,
        Err(error) => return Err(Exit::usage(error)),
    };
    if statuses.contains(&answer.status) { Ok(document) } else { Err(Exit::usage(text(&document, "message"))) }
}

async fn ask(context: &Context, client: &Client, asked: Asked, statuses: &[u16]) -> Result<Value, Exit> {
    let answer = client.ask(&asked, context.deadline()).await.map_err(Exit::usage)?;
    judged(&answer, statuses)
}

/// A client, for users, roles and auth with its endpoints told once more.
async fn client(context: &Context) -> Result<Client, Exit> {
    let client = context.client().await?;
    if client.debug {
        eprintln!("Cluster-Endpoints: {}", client.endpoints.join(", "));
    }
    Ok(client)
}

async fn named(context: &Context, missing: &str) -> Result<(Client, String), Exit> {
    let [name] = context.words() else { return Err(Exit::usage(missing)) };
    Ok((client(context).await?, name.clone()))
}

async fn user(context: &Context) -> Result<(Client, String), Exit> {
    named(context, "Please provide a username").await
}

async fn role(context: &Context) -> Result<(Client, String), Exit> {
    named(context, "Please provide a role name").await
}

async fn all(context: Context, kind: &str, name: &str) -> Result<(), Exit> {
    if !context.words().is_empty() {
        return Err(Exit::usage("No arguments accepted"));
    }
    let client = client(&context).await?;
    let asked = Asked::new("GET", format!("/v2/auth/{kind}"));
    let answer = client.ask(&asked, context.deadline()).await.map_err(Exit::usage)?;
    // As etcdctl: why users are not listed is told, why roles are not is a number.
    let listed = match kind {
        "roles" => expect_json(&answer, &[200]).map_err(Exit::usage)?,
        _ => judged(&answer, &[200])?,
    };
    let entries = listed[kind].as_array().into_iter().flatten();
    print(&entries.map(|entry| format!("{}\n", text(entry, name))).collect::<String>())
}

pub(super) async fn user_list(context: Context) -> Result<(), Exit> {
    all(context, "users", "user").await
}

pub(super) async fn user_add(context: Context) -> Result<(), Exit> {
    let (client, given) = user(&context).await?;
    let (name, password) = name_and_password(&given, "New password: ")?;
    let body = json!({"user": name, "password": password, "roles": null});
    ask(&context, &client, Asked::new("PUT", page("users", &name)).json(&body), &[200, 201]).await?;
    print(&format!("User {name} created\n"))
}

pub(super) async fn user_remove(context: Context) -> Result<(), Exit> {
    let (client, name) = user(&context).await?;
    ask(&context, &client, Asked::new("DELETE", page("users", &name)), &[200, 201]).await?;
    print(&format!("User {name} removed\n"))
}

pub(super) async fn user_passwd(context: Context) -> Result<(), Exit> {
    let (client, name) = user(&context).await?;
    let (_, password) = name_and_password("", "New password: ")?;
    let body = json!({"user": name, "password": password, "roles": null});
    ask(&context, &client, Asked::new("PUT", page("users", &name)).json(&body), &[200]).await?;
    print("Password updated\n")
}

async fn user_change(context: Context, kind: &str) -> Result<(), Exit> {
    let roles = context.given.texts("roles");
    if roles.is_empty() {
        return Err(Exit::usage("No roles specified; please use `--roles`"));
    }
    let (client, name) = user(&context).await?;
    let body = json!({"user": name, "roles": null, kind: roles});
    ask(&context, &client, Asked::new("PUT", page("users", &name)).json(&body), &[200]).await?;
    print(&format!("User {name} updated\n"))
}

pub(super) async fn user_grant(context: Context) -> Result<(), Exit> {
    user_change(context, "grant").await
}

pub(super) async fn user_revoke(context: Context) -> Result<(), Exit> {
    user_change(context, "revoke").await
}

pub(super) async fn user_get(context: Context) -> Result<(), Exit> {
    let (client, name) = user(&context).await?;
    let user = ask(&context, &client, Asked::new("GET", page("users", &name)), &[200]).await?;
    let roles: Vec<&str> = user["roles"].as_array().into_iter().flatten().map(|role| text(role, "role")).collect();
    // etcdctl shows an empty name in front for each role.
    let empty = " ".repeat(roles.len());
    print(&format!("User: {}\nRoles: {empty}{}\n", text(&user, "user"), roles.join(" ")))
}

pub(super) async fn role_list(context: Context) -> Result<(), Exit> {
    all(context, "roles", "role").await
}

pub(super) async fn role_add(context: Context) -> Result<(), Exit> {
    let (client, name) = role(&context).await?;
    if ask(&context, &client, Asked::new("GET", page("roles", &name)), &[200]).await.is_ok() {
        return Err(Exit::usage(format!("Role {name} already exists")));
    }
    let body = json!({"role": name, "permissions": {"kv": {"read": null, "write": null}}});
    ask(&context, &client, Asked::new("PUT", page("roles", &name)).json(&body), &[200, 201]).await?;
    print(&format!("Role {name} created\n"))
}

pub(super) async fn role_remove(context: Context) -> Result<(), Exit> {
    let (client, name) = role(&context).await?;
    ask(&context, &client, Asked::new("DELETE", page("roles", &name)), &[200, 201]).await?;
    print(&format!("Role {name} removed\n"))
}

pub(super) async fn role_get(context: Context) -> Result<(), Exit> {
    let (client, name) = role(&context).await?;
    let role = ask(&context, &client, Asked::new("GET", page("roles", &name)), &[200]).await?;
    let mut out = format!("Role: {}\n", text(&role, "role"));
    for (title, kind) in [("KV Read", "read"), ("KV Write", "write")] {
        out += &format!("{title}:\n");
        let patterns = role["permissions"]["kv"][kind].as_array().into_iter().flatten();
        patterns.for_each(|pattern| out += &format!("\t{}\n", pattern.as_str().unwrap_or_default()));
    }
    print(&out)
}

/// A path as Go cleans it: absolute, a slash at its end stays.
fn canonical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

async fn role_change(context: Context, kind: &str, unchanged: &str) -> Result<(), Exit> {
    let path = context.given.text("path").to_owned();
    if path.is_empty() {
        return Err(Exit::usage("No path specified; please use `--path`"));
    }
    if canonical(&path) != path {
        return Err(Exit::usage(format!("Not canonical path; please use `--path={}`", canonical(&path))));
    }
    let [read, write, both] = ["read", "write", "readwrite"].map(|flag| context.given.is_set(flag));
    if [read, write, both].into_iter().filter(|&is_set| is_set).count() != 1 {
        return Err(Exit::usage("Please specify exactly one of --read, --write or --readwrite"));
    }
    let (client, name) = role(&context).await?;
    let before = ask(&context, &client, Asked::new("GET", page("roles", &name)), &[200]).await?;
    let list = |is_meant: bool| if is_meant { vec![path.clone()] } else { Vec::new() };
    let body = json!({
        "role": name,
        "permissions": {"kv": {"read": null, "write": null}},
        kind: {"kv": {"read": list(read || both), "write": list(write || both)}},
    });
    let after = ask(&context, &client, Asked::new("PUT", page("roles", &name)).json(&body), &[200]).await?;
    let told = if before == after { unchanged } else { "" };
    print(&format!("{told}Role {name} updated\n"))
}

pub(super) async fn role_grant(context: Context) -> Result<(), Exit> {
    role_change(context, "grant", "Role unchanged; already granted").await
}

pub(super) async fn role_revoke(context: Context) -> Result<(), Exit> {
    role_change(context, "revoke", "Role unchanged; already revoked").await
}

async fn auth(context: Context, method: &'static str, told: &str) -> Result<(), Exit> {
    if !context.words().is_empty() {
        return Err(Exit::usage("No arguments accepted"));
    }
    let client = client(&context).await?;
    ask(&context, &client, Asked::new(method, "/v2/auth/enable"), &[200, 201]).await?;
    print(told)
}

pub(super) async fn auth_enable(context: Context) -> Result<(), Exit> {
    auth(context, "PUT", "Authentication Enabled\n").await
}

pub(super) async fn auth_disable(context: Context) -> Result<(), Exit> {
    auth(context, "DELETE", "Authentication Disabled\n").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_canonical() {
        for (path, want) in [("/a", "/a"), ("a", "/a"), ("/a//b/", "/a/b/"), ("/", "/"), ("/a/..", "/"), ("/a*", "/a*")]
        {
            assert_eq!(canonical(path), want);
        }
        assert_eq!(page("users", "a b/c"), "/v2/auth/users/a%20b%2Fc");
    }
}
