//! `/v2/auth`: answers as etcd does while it is off. It cannot be turned on: nobody can make the root user that it needs.

use super::{check_method, json_content, message, not_found};
use crate::api::ClientSurface;
use crate::grpc::body::ReplyBody;
use http::{Method, Response, StatusCode};

const ROOT: &str = "{\"role\":\"root\",\"permissions\":{\"kv\":{\"read\":[\"/*\"],\"write\":[\"/*\"]}}}";
const NOT_SERVED: &str = "auth: users and roles are not served over the v2 API: use the v3 API";

/// Answers a page; `rest` is what follows `/v2/auth/`.
pub(super) fn answer(surface: &ClientSurface, method: &Method, rest: &str) -> Response<ReplyBody> {
    let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
    match kind {
        "enable" if !rest.contains('/') => enable(surface, method),
        "users" | "roles" if name.is_empty() => {
            if let Some(response) = check_method(method, "GET") {
                return response;
            }
            let text =
                if kind == "users" { "{\"users\":null}\n".to_owned() } else { format!("{{\"roles\":[{ROOT}]}}\n") };
            json_content(surface, StatusCode::OK, text)
        }
        "users" | "roles" => one(surface, method, kind, name),
        _ => not_found(),
    }
}

fn enable(surface: &ClientSurface, method: &Method) -> Response<ReplyBody> {
    if let Some(response) = check_method(method, "GET,PUT,DELETE") {
        return response;
    }
    match *method {
        Method::GET => json_content(surface, StatusCode::OK, "{\"enabled\":false}\n"),
        Method::PUT => message(surface, StatusCode::CONFLICT, "auth: No root user available, please create one"),
        _ => message(surface, StatusCode::CONFLICT, "auth: already disabled"),
    }
}

fn one(surface: &ClientSurface, method: &Method, kind: &str, name: &str) -> Response<ReplyBody> {
    if let Some(response) = check_method(method, "GET,PUT,DELETE") {
        return response;
    }
    let noun = if kind == "users" { "User" } else { "Role" };
    match *method {
        Method::GET if kind == "roles" && name == "root" => json_content(surface, StatusCode::OK, format!("{ROOT}\n")),
        Method::GET => message(surface, StatusCode::NOT_FOUND, &format!("auth: {noun} {name} does not exist.")),
        Method::DELETE => message(surface, StatusCode::NOT_FOUND, &format!("auth: {noun} {name} does not exist")),
        _ => message(surface, StatusCode::NOT_IMPLEMENTED, NOT_SERVED),
    }
}
