//! Where users and roles of the v2 API are kept: as in etcd, as documents in the replicated tree beside the keys.
//!
//! Owns their paths and the order of the steps of a change. Invariant: a document is replaced only as the one that the
//! change was made from, so that no grant or revocation of somebody else is lost.

use super::account::{GUEST, ROOT, Refused, Role, User};
use super::now_ns;
use crate::api::ClientSurface;
use crate::auth::PasswordError;
use crate::backend::CallError;
use bytes::Bytes;
use quorate_proto::quoratepb::V2Change;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::v2_change::Method;
use quorate_store::outcome::{Reply, ReplyBody as Outcome};
use quorate_store::v2::{Code, Fault, SECURITY};

/// How often a change is begun anew because somebody else changed the same document.
const CHANGES_MAX: usize = 8;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Told as `auth: …` with a status.
    Refused(u16, String),
    /// The tree's.
    Fault(Fault),
    /// Of this member or the cluster.
    Call(CallError),
    /// Of the threads that hash passwords, or a stored document that cannot be read.
    Internal(String),
}

impl From<Refused> for Failure {
    fn from((status, text): Refused) -> Self {
        Self::Refused(status, text)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        Self::Internal(error.to_string())
    }
}

fn refused(status: u16, text: String) -> Failure {
    Failure::Refused(status, text)
}

/// The two kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    User,
    Role,
}

impl Kind {
    fn folder(self) -> &'static [u8] {
        match self {
            Self::User => b"/2/users",
            Self::Role => b"/2/roles",
        }
    }

    /// A document's path; `None` for what is no name, so that none leads elsewhere.
    fn path(self, name: &str) -> Option<Vec<u8>> {
        let is_name = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
        is_name.then(|| [self.folder(), b"/", name.as_bytes()].concat())
    }
}

/// Users and roles, as this member knows them.
#[derive(Clone, Copy)]
pub(super) struct Accounts<'a>(pub(super) &'a ClientSurface);

impl Accounts<'_> {
    /// Whether auth is on.
    pub(super) fn enabled(self) -> bool {
        self.document(b"/2/enabled").is_ok_and(|(text, _)| &text[..] == b"true")
    }

    /// A file's content and index.
    fn document(self, path: &[u8]) -> Result<(Bytes, u64), Fault> {
        let (index, found) = self.0.backend.reader().v2_get(path, false, now_ns());
        let image = found?;
        let missing = Fault { code: Code::KeyNotFound, cause: path.to_vec(), index };
        image.value.map(|value| (value, image.modified_index)).ok_or(missing)
    }

    fn names(self, kind: Kind) -> Vec<String> {
        let (_, found) = self.0.backend.reader().v2_get(kind.folder(), false, now_ns());
        let children = found.map(|image| image.children).unwrap_or_default();
        let name = |path: &[u8]| String::from_utf8_lossy(&path[kind.folder().len() + 1..]).into_owned();
        children.iter().map(|child| name(&child.path)).collect()
    }

    /// Ascending.
    pub(super) fn users(self) -> Vec<String> {
        self.names(Kind::User)
    }

    /// Ascending, root's among them.
    pub(super) fn roles(self) -> Vec<String> {
        let mut names = self.names(Kind::Role);
        names.push(ROOT.to_owned());
        names.sort();
        names
    }

    fn read<T>(self, kind: Kind, name: &str, read: impl Fn(&[u8]) -> Option<T>) -> Result<(T, u64), Failure> {
        let noun = if kind == Kind::User { "User" } else { "Role" };
        let unknown = || refused(404, format!("{noun} {name} does not exist."));
        let (text, index) = kind.path(name).and_then(|path| self.document(&path).ok()).ok_or_else(unknown)?;
        let broken = || Failure::Internal(format!("the record of {noun} {name} cannot be read"));
        read(&text).map(|document| (document, index)).ok_or_else(broken)
    }

    fn user_at(self, name: &str) -> Result<(User, u64), Failure> {
        self.read(Kind::User, name, |text| User::read(text).ok().map(User::with_root_role))
    }

    /// A user; root holds root's role.
    pub(super) fn user(self, name: &str) -> Result<User, Failure> {
        Ok(self.user_at(name)?.0)
    }

    fn role_at(self, name: &str) -> Result<(Role, u64), Failure> {
        self.read(Kind::Role, name, |text| Role::read(text).ok())
    }

    /// A role; root's is always there.
    pub(super) fn role(self, name: &str) -> Result<Role, Failure> {
        if name == ROOT {
            return Ok(Role::root());
        }
        Ok(self.role_at(name)?.0)
    }

    async fn propose(self, change: V2Change, method: Method) -> Result<(), Failure> {
        let mut change = V2Change { time_ns: now_ns(), ..change };
        change.set_method(method);
        match self.0.backend.propose(None, Operation::V2Change(Box::new(change))).await? {
            Reply { body: Outcome::V2(answer), .. } => answer.outcome.map(drop).map_err(Failure::Fault),
            _ => Err(Failure::Call(CallError::TimedOut)),
        }
    }

    /// What all documents need: as in etcd four changes that count, before the first one.
    async fn prepare(self) -> Result<(), Failure> {
        if self.document(b"/2/enabled").is_ok() {
            return Ok(());
        }
        for path in [SECURITY, Kind::User.folder(), Kind::Role.folder(), b"/2/enabled"] {
            let dir = path != b"/2/enabled";
            let value = if dir { Bytes::new() } else { Bytes::from_static(b"false") };
            let path = Bytes::copy_from_slice(path);
            let change = V2Change { path, value, dir, prev_exist: Some(false), ..V2Change::default() };
            match self.propose(change, Method::Put).await {
                Err(Failure::Fault(Fault { code: Code::NodeExists, .. })) | Ok(()) => {}
                failed => return failed,
            }
        }
        Ok(())
    }

    /// Makes a document that is not there.
    async fn create(self, path: Vec<u8>, document: Vec<u8>) -> Result<(), Failure> {
        self.prepare().await?;
        let (path, value) = (path.into(), document.into());
        let change = V2Change { path, value, prev_exist: Some(false), ..V2Change::default() };
        self.propose(change, Method::Put).await
    }

    /// Replaces the document of an index.
    async fn replace(self, path: Vec<u8>, document: Vec<u8>, index: u64) -> Result<(), Failure> {
        self.prepare().await?;
        let (path, value) = (path.into(), document.into());
        let change = V2Change { path, value, prev_exist: Some(true), prev_index: index, ..V2Change::default() };
        self.propose(change, Method::Put).await
    }

    async fn delete(self, path: Vec<u8>) -> Result<(), Failure> {
        self.prepare().await?;
        self.propose(V2Change { path: path.into(), prev_exist: Some(true), ..V2Change::default() }, Method::Delete)
            .await
    }

    /// Makes a user; the password is hashed.
    pub(super) async fn create_user(self, user: User) -> Result<User, Failure> {
        let user = user.with_root_role();
        let name = user.name.clone();
        if user.password.is_empty() {
            return Err(refused(400, format!("Cannot create user {name} with an empty password")));
        }
        let path = Kind::User.path(&name).ok_or_else(|| refused(400, "Invalid path".to_owned()))?;
        let password = self.0.authenticator.passwords.hash(user.password.clone()).await?;
        let user = User { password, ..user };
        let mut document = Vec::new();
        user.put(&mut document, true);
        match self.create(path, document).await {
            Ok(()) => {
                tracing::info!("user-name" = name, "created a user");
                Ok(user)
            }
            Err(Failure::Fault(Fault { code: Code::NodeExists, .. })) => {
                Err(refused(409, format!("User {name} already exists.")))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Makes a user or, when there is one of that name, changes it: the user, and whether it was made.
    pub(super) async fn create_or_update_user(self, user: User) -> Result<(User, bool), Failure> {
        self.0.backend.read_barrier().await?;
        match self.user(&user.name) {
            Ok(_) => Ok((self.update_user(user).await?, false)),
            Err(_) => Ok((self.create_user(user).await?, true)),
        }
    }

    /// Grants, revokes, and sets another password.
    pub(super) async fn update_user(self, request: User) -> Result<User, Failure> {
        self.0.backend.read_barrier().await?;
        self.user(&request.name)?;
        let hash = match request.password.is_empty() {
            true => None,
            false => Some(self.0.authenticator.passwords.hash(request.password.clone()).await?),
        };
        for _ in 0..CHANGES_MAX {
            let (old, index) = self.user_at(&request.name)?;
            let new = old.merged(&request, hash.as_deref())?;
            let (path, mut document) = (Kind::User.path(&new.name).unwrap_or_default(), Vec::new());
            new.put(&mut document, true);
            match self.replace(path, document, index).await {
                Err(Failure::Fault(Fault { code: Code::TestFailed, .. })) => continue,
                Err(failure) => return Err(failure),
                Ok(()) => {
                    tracing::info!("user-name" = new.name, "updated a user");
                    return Ok(new);
                }
            }
        }
        Err(Failure::Call(CallError::TimedOut))
    }

    /// Removes a user.
    pub(super) async fn delete_user(self, name: &str) -> Result<(), Failure> {
        if name == ROOT && self.enabled() {
            return Err(refused(403, "Cannot delete root user while auth is enabled.".to_owned()));
        }
        let unknown = || refused(404, format!("User {name} does not exist"));
        match self.delete(Kind::User.path(name).ok_or_else(unknown)?).await {
            Err(Failure::Fault(Fault { code: Code::KeyNotFound, .. })) => Err(unknown()),
            failed @ Err(_) => failed,
            Ok(()) => {
                tracing::info!("user-name" = name, "deleted a user");
                Ok(())
            }
        }
    }

    fn not_root(name: &str) -> Result<(), Failure> {
        if name == ROOT {
            return Err(refused(403, format!("Cannot modify role {name}: is root role.")));
        }
        Ok(())
    }

    /// Makes a role.
    pub(super) async fn create_role(self, role: &Role) -> Result<(), Failure> {
        let name = &role.name;
        Self::not_root(name)?;
        let path = Kind::Role.path(name).ok_or_else(|| refused(400, "Invalid path".to_owned()))?;
        let mut document = Vec::new();
        role.put(&mut document);
        match self.create(path, document).await {
            Err(Failure::Fault(Fault { code: Code::NodeExists, .. })) => {
                Err(refused(409, format!("Role {name} already exists.")))
            }
            failed @ Err(_) => failed,
            Ok(()) => {
                tracing::info!("role-name" = name, "created a new role");
                Ok(())
            }
        }
    }

    /// Grants and revokes.
    pub(super) async fn update_role(self, request: &Role) -> Result<Role, Failure> {
        Self::not_root(&request.name)?;
        self.0.backend.read_barrier().await?;
        for _ in 0..CHANGES_MAX {
            let (old, index) = self.role_at(&request.name)?;
            let new = old.merged(request)?;
            let (path, mut document) = (Kind::Role.path(&new.name).unwrap_or_default(), Vec::new());
            new.put(&mut document);
            match self.replace(path, document, index).await {
                Err(Failure::Fault(Fault { code: Code::TestFailed, .. })) => continue,
                Err(failure) => return Err(failure),
                Ok(()) => {
                    tracing::info!("role-name" = new.name, "updated a new role");
                    return Ok(new);
                }
            }
        }
        Err(Failure::Call(CallError::TimedOut))
    }

    /// Removes a role.
    pub(super) async fn delete_role(self, name: &str) -> Result<(), Failure> {
        Self::not_root(name)?;
        let unknown = || refused(404, format!("Role {name} doesn't exist."));
        match self.delete(Kind::Role.path(name).ok_or_else(unknown)?).await {
            Err(Failure::Fault(Fault { code: Code::KeyNotFound, .. })) => Err(unknown()),
            failed @ Err(_) => failed,
            Ok(()) => {
                tracing::info!("role-name" = name, "delete a new role");
                Ok(())
            }
        }
    }

    async fn set_enabled(self, enabled: bool) -> Result<(), Failure> {
        self.prepare().await?;
        let (path, value) = (Bytes::from_static(b"/2/enabled"), enabled.to_string().into());
        self.propose(V2Change { path, value, prev_exist: Some(true), ..V2Change::default() }, Method::Put).await
    }

    /// Turns auth on; needs a root user, and makes the guest's role unless there is one.
    pub(super) async fn enable(self) -> Result<(), Failure> {
        if self.enabled() {
            return Err(refused(409, "already enabled".to_owned()));
        }
        self.0.backend.read_barrier().await?;
        if self.user(ROOT).is_err() {
            return Err(refused(409, "No root user available, please create one".to_owned()));
        }
        if self.role(GUEST).is_err() {
            tracing::info!("role-name" = GUEST, "no guest role access found; creating default");
            self.create_role(&Role::guest()).await?;
        }
        self.set_enabled(true).await?;
        tracing::info!("enabled auth");
        Ok(())
    }

    /// Turns auth off.
    pub(super) async fn disable(self) -> Result<(), Failure> {
        if !self.enabled() {
            return Err(refused(409, "already disabled".to_owned()));
        }
        self.set_enabled(false).await?;
        tracing::info!("disabled auth");
        Ok(())
    }
}
