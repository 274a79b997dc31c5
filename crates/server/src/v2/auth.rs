//! `/v2/auth`: users, roles, and whether they count. Requests judged in etcd's order, and their answers.

use super::account::{List, Malformed, Patterns, Role, User};
use super::accounts::{Accounts, Failure};
use super::gate::Asker;
use super::json::put_string;
use super::keys::failure as tree_failure;
use super::members::INTERNAL;
use super::{Sent, check_method, json_content, message, not_found, plain_message, set_cluster_id, unauthorized};
use crate::api::ClientSurface;
use crate::grpc::body::ReplyBody;
use crate::grpc::status::Status;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};

/// Bytes of a document at the most.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What a path asks for.
enum Page<'a> {
    Users,
    User(&'a str),
    Roles,
    Role(&'a str),
    Enable,
}

/// A request that is not answered as it asks.
enum Refusal {
    /// A status and a text that are this page's own.
    Request(&'static str),
    /// What became of it.
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// An answer that went well: its status and its line.
type Told = Result<(StatusCode, Vec<u8>), Refusal>;

/// Answers a page; `rest` is what follows `/v2/auth/`.
pub(super) async fn answer(
    surface: &ClientSurface,
    asker: &Asker,
    request: Request<Sent>,
    rest: &str,
) -> Response<ReplyBody> {
    let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
    let name = name.strip_suffix('/').unwrap_or(name);
    let page = match (kind, name) {
        ("enable", "") if rest == kind => Page::Enable,
        ("users", "") => Page::Users,
        ("roles", "") => Page::Roles,
        ("users" | "roles", name) if name.contains('/') => {
            return plain_message(StatusCode::BAD_REQUEST, "Invalid path");
        }
        ("users", name) => Page::User(name),
        ("roles", name) => Page::Role(name),
        _ => return not_found(),
    };
    let allowed = if matches!(page, Page::Users | Page::Roles) { "GET" } else { "GET,PUT,DELETE" };
    if let Some(response) = check_method(request.method(), allowed) {
        return response;
    }
    let may = match page {
        Page::Enable => asker.may_change(surface).await,
        _ => asker.is_root(surface).await,
    };
    if !may {
        return unauthorized();
    }
    let told = match page {
        Page::Enable => enable(surface, request.method()).await,
        Page::Users => users(surface),
        Page::Roles => roles(surface),
        Page::User(name) => user(surface, request, name).await,
        Page::Role(name) => role(surface, request, name).await,
    };
    match told {
        Ok((status, line)) => json_content(surface, status, line),
        Err(Refusal::Request(text)) => message(surface, StatusCode::BAD_REQUEST, text),
        Err(Refusal::Failure(failure)) => refused(surface, failure),
    }
}

fn refused(surface: &ClientSurface, failure: Failure) -> Response<ReplyBody> {
    let internal = |reason: String| {
        tracing::warn!(reason, "unexpected v2 response error");
        message(surface, StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
    };
    match failure {
        Failure::Refused(status, text) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            message(surface, status, &format!("auth: {text}"))
        }
        Failure::Fault(fault) => {
            let mut response = tree_failure(&fault);
            set_cluster_id(surface, &mut response);
            response
        }
        Failure::Call(error) => internal(Status::from(error).message.into_owned()),
        Failure::Internal(reason) => internal(reason),
    }
}

async fn enable(surface: &ClientSurface, method: &Method) -> Told {
    let accounts = Accounts(surface);
    let line = match *method {
        Method::GET => format!("{{\"enabled\":{}}}\n", accounts.enabled()),
        Method::PUT => accounts.enable().await.map(|()| String::new())?,
        _ => accounts.disable().await.map(|()| String::new())?,
    };
    Ok((StatusCode::OK, line.into()))
}

/// Writes a list with commas.
fn put_all<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        put(out, item);
    }
    out.push(b']');
}

fn put_user(out: &mut Vec<u8>, user: &User, roles: &[Role]) {
    out.extend_from_slice(b"{\"user\":");
    put_string(out, user.name.as_bytes());
    if !roles.is_empty() {
        out.extend_from_slice(b",\"roles\":");
        put_all(out, roles, |out, role| role.put(out));
    }
    out.push(b'}');
}

/// All users with their roles; as in etcd, roles that are not there are left out.
fn users(surface: &ClientSurface) -> Told {
    let accounts = Accounts(surface);
    let mut users = Vec::new();
    for name in accounts.users() {
        let user = accounts.user(&name)?;
        let roles: Vec<Role> = user.roles.iter().flatten().filter_map(|role| accounts.role(role).ok()).collect();
        users.push((user, roles));
    }
    let mut out = b"{\"users\":".to_vec();
    if users.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        put_all(&mut out, &users, |out, (user, roles)| put_user(out, user, roles));
    }
    out.extend_from_slice(b"}\n");
    Ok((StatusCode::OK, out))
}

fn roles(surface: &ClientSurface) -> Told {
    let accounts = Accounts(surface);
    let roles: Vec<Role> = accounts.roles().iter().map(|name| accounts.role(name)).collect::<Result<_, _>>()?;
    let mut out = b"{\"roles\":".to_vec();
    put_all(&mut out, &roles, |out, role| role.put(out));
    out.extend_from_slice(b"}\n");
    Ok((StatusCode::OK, out))
}

async fn body(request: Request<Sent>) -> Result<Bytes, Refusal> {
    let collected = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    collected.map(|collected| collected.to_bytes()).map_err(|_| Refusal::Request(NO_JSON))
}

const NO_JSON: &str = "Invalid JSON in request body.";

async fn user(surface: &ClientSurface, request: Request<Sent>, name: &str) -> Told {
    let accounts = Accounts(surface);
    let method = request.method().clone();
    let mut out = Vec::new();
    if method == Method::GET {
        let user = accounts.user(name)?;
        let roles: Vec<Role> = user.roles.iter().flatten().map(|role| accounts.role(role)).collect::<Result<_, _>>()?;
        put_user(&mut out, &user, &roles);
        out.push(b'\n');
        return Ok((StatusCode::OK, out));
    }
    if method == Method::DELETE {
        accounts.delete_user(name).await?;
        return Ok((StatusCode::OK, out));
    }
    let asked = User::read(&body(request).await?).map_err(|Malformed| Refusal::Request(NO_JSON))?;
    if asked.name != name {
        return Err(Refusal::Request("User JSON name does not match the name in the URL"));
    }
    let is_empty = |list: &List| list.as_ref().is_none_or(Vec::is_empty);
    let (user, created) = if !is_empty(&asked.grant) || !is_empty(&asked.revoke) {
        if !is_empty(&asked.roles) {
            return Err(Refusal::Request("User JSON contains both roles and grant/revoke"));
        }
        (accounts.update_user(asked).await?, false)
    } else if !is_empty(&asked.roles) {
        // As in etcd not told as made, though it was.
        (accounts.create_user(asked).await?, false)
    } else {
        accounts.create_or_update_user(asked).await?
    };
    user.put(&mut out, false);
    out.push(b'\n');
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, out))
}

async fn role(surface: &ClientSurface, request: Request<Sent>, name: &str) -> Told {
    let accounts = Accounts(surface);
    let method = request.method().clone();
    let mut out = Vec::new();
    if method == Method::GET {
        accounts.role(name)?.put(&mut out);
        out.push(b'\n');
        return Ok((StatusCode::OK, out));
    }
    if method == Method::DELETE {
        accounts.delete_role(name).await?;
        return Ok((StatusCode::OK, out));
    }
    let asked = Role::read(&body(request).await?).map_err(|Malformed| Refusal::Request(NO_JSON))?;
    if asked.name != name {
        return Err(Refusal::Request("Role JSON name does not match the name in the URL"));
    }
    let is_empty = |patterns: &Option<Patterns>| patterns.as_ref().is_none_or(Patterns::is_empty);
    let status = if is_empty(&asked.grant) && is_empty(&asked.revoke) {
        accounts.create_role(&asked).await?;
        asked.put(&mut out);
        StatusCode::CREATED
    } else {
        if !asked.held.is_empty() {
            return Err(Refusal::Request("Role JSON contains both permissions and grant/revoke"));
        }
        accounts.update_role(&asked).await?.put(&mut out);
        StatusCode::OK
    };
    out.push(b'\n');
    Ok((status, out))
}
