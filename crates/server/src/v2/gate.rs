//! Who may do what over the v2 API.
//!
//! Owns how a request tells who asks (Basic auth, else the certificate's name), and the decision. Invariants: while v2
//! auth is on, its roles decide, as in etcd; while it is off but v3 auth is on, only v3's root may do anything; nothing
//! counts as allowed that could not be looked up.

use super::account::{GUEST, ROOT, User};
use super::accounts::Accounts;
use crate::api::ClientSurface;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use quorate_proto::quoratepb::Caller;
use quorate_store::auth::Act;
use std::sync::Arc;

/// What keeps the log-ins of v2 users apart from those of v3 users.
const LOGIN_PREFIX: &str = "v2/";

/// What a request says about who asks. Holds a password: never printed.
pub(super) struct Asker {
    authorization: Said,
    /// Of the verified certificate; not empty.
    common_name: Option<Arc<str>>,
    writes: bool,
}

/// The `Authorization` header.
enum Said {
    Nothing,
    Nonsense,
    Basic { name: String, password: String },
}

fn basic(header: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

impl Asker {
    /// Takes what a request brings.
    pub(super) fn read(method: &Method, headers: &HeaderMap, common_name: Option<&Arc<str>>) -> Self {
        let authorization = match headers.get(AUTHORIZATION).filter(|value| !value.is_empty()) {
            None => Said::Nothing,
            Some(value) => match basic(value.as_bytes()) {
                Some((name, password)) => Said::Basic { name, password },
                None => Said::Nonsense,
            },
        };
        let common_name = common_name.filter(|name| !name.is_empty()).cloned();
        Self { authorization, common_name, writes: !matches!(*method, Method::GET | Method::HEAD) }
    }

    /// The v2 user that the request proves to come from.
    async fn user(&self, surface: &ClientSurface) -> Option<User> {
        let accounts = Accounts(surface);
        match &self.authorization {
            Said::Nonsense => {
                tracing::warn!("malformed basic auth encoding");
                None
            }
            Said::Nothing => accounts.user(self.common_name.as_deref()?).ok(),
            Said::Basic { name, password } => {
                let user = accounts.user(name).ok();
                let hash = user.as_ref().map(|user| user.password.as_bytes());
                let login = format!("{LOGIN_PREFIX}{name}");
                let checked = surface.authenticator.passwords.verify(&login, hash, password.clone()).await;
                let user = user.filter(|_| checked == Ok(true));
                if user.is_none() {
                    tracing::warn!("user-name" = name, "incorrect password");
                }
                user
            }
        }
    }

    /// Whether it is v3's root.
    async fn is_v3_root(&self, surface: &ClientSurface) -> bool {
        let view = surface.backend.reader().auth();
        let name = match &self.authorization {
            Said::Nonsense => return false,
            Said::Nothing => match &self.common_name {
                Some(name) => &**name,
                None => return false,
            },
            Said::Basic { name, password } => {
                let user = view.user(name).filter(|user| !user.no_password());
                let hash = user.map(|user| &user.password_hash()[..]);
                match surface.authenticator.passwords.verify(name, hash, password.clone()).await {
                    Ok(true) => name,
                    _ => return false,
                }
            }
        };
        // Of the users as they were when the password was checked: whoever changed since then has to ask again.
        let caller = Caller { user: name.to_owned(), auth_revision: view.revision(), cluster: false };
        surface.backend.reader().authorize(Some(&caller), Act::AuthChange).is_ok()
    }

    /// What holds while v2 auth is off.
    async fn v3_allows(&self, surface: &ClientSurface) -> bool {
        !surface.backend.reader().auth_enabled() || self.is_v3_root(surface).await
    }

    /// Whether a page may be asked that v2's rules leave to everybody.
    pub(super) async fn may_look(&self, surface: &ClientSurface) -> bool {
        Accounts(surface).enabled() || self.v3_allows(surface).await
    }

    /// Whether users, roles and members may be looked at and changed.
    pub(super) async fn is_root(&self, surface: &ClientSurface) -> bool {
        if !Accounts(surface).enabled() {
            return self.v3_allows(surface).await;
        }
        let user = self.user(surface).await;
        user.is_some_and(|user| user.holds(ROOT))
    }

    /// As [`Self::is_root`] for changes; whoever only reads may look.
    pub(super) async fn may_change(&self, surface: &ClientSurface) -> bool {
        if self.writes { self.is_root(surface).await } else { self.may_look(surface).await }
    }

    /// Whether a key may be read or written, or all keys below.
    pub(super) async fn may_use(&self, surface: &ClientSurface, key: &[u8], recursive: bool) -> bool {
        let accounts = Accounts(surface);
        if !accounts.enabled() {
            return self.v3_allows(surface).await;
        }
        let allows = |role: &str, recursive: bool| {
            accounts.role(role).is_ok_and(|role| role.allows(key, self.writes, recursive))
        };
        match self.user(surface).await {
            Some(user) => user.roles.iter().flatten().any(|role| allows(role, recursive)),
            // As in etcd a guest who may use a directory's own path may use what is below it.
            None if matches!(self.authorization, Said::Nothing) => allows(GUEST, false),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_auth_is_read_as_go_does() {
        let read = |text: &str| basic(text.as_bytes());
        assert_eq!(read("Basic cm9vdDpwOnc="), Some(("root".to_owned(), "p:w".to_owned())));
        assert_eq!(read("bAsIc Og=="), Some((String::new(), String::new())));
        for refused in ["", "Basic", "Basic ", "Basic cm9vdA==", "Bearer cm9vdDpwOnc=", "Basic cm9vdDpwOnc", "Basic *"]
        {
            assert_eq!(read(refused), None, "{refused}");
        }
    }
}
