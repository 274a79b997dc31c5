//! The auth service: log-ins, users and roles.
//!
//! Owns the way of a password from the request to its hash, which alone is replicated. Who may change what, and what a
//! change comes to, is the store's.

use crate::api::error::{NAME_TOO_LONG, TOO_MANY_REQUESTS};
use crate::api::kv::done;
use crate::api::method::Method;
use crate::api::{Call, ClientSurface};
use crate::auth::{IssueError, Moment, PasswordError, Session, TOKEN_KEY_BYTES};
use crate::grpc::request::framed;
use crate::grpc::status::{Code, Status};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use quorate_proto::Message;
use quorate_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleListRequest, AuthRoleListResponse,
    AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserGetRequest,
    AuthUserGetResponse, AuthUserListRequest, AuthUserListResponse, AuthenticateRequest, AuthenticateResponse,
};
use quorate_proto::quoratepb::AuthTokenKeySet;
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::{Act, AuthError, AuthView};
use quorate_store::error::Error;

/// The longest name of a user or a role, bytes (etcd's bound for a key of its database, beyond which its members end).
const NAME_BYTES_MAX: usize = 32_768;

/// How often a log-in is begun anew because the user's password changed meanwhile.
const LOG_INS_MAX: usize = 8;

impl From<PasswordError> for Status {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::TooLong => Self::new(Code::Unknown, error.to_string()),
            PasswordError::Full => TOO_MANY_REQUESTS,
            PasswordError::Failed => Self::new(Code::Internal, error.to_string()),
        }
    }
}

impl From<IssueError> for Status {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::NoTokens => AuthError::AuthFailed.into(),
            IssueError::VerifyOnly => Self::new(Code::Unknown, error.to_string()),
            IssueError::Failed => Self::new(Code::Internal, error.to_string()),
        }
    }
}

/// What is known of the auth state once everything that was acknowledged before is applied here.
async fn read<T>(call: &Call, act: Act<'_>, read: impl FnOnce(&AuthView) -> Result<T, AuthError>) -> Result<T, Status> {
    call.surface.backend.read_barrier().await?;
    call.read(act, |reader| read(&reader.auth()).map_err(Error::Auth)).await
}

fn header(surface: &ClientSurface) -> Option<quorate_proto::etcdserverpb::ResponseHeader> {
    Some(surface.header(surface.backend.reader().revision()))
}

pub(super) async fn status(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let AuthStatusRequest {} = call.surface.decode(Method::AuthStatus, bytes)?;
    let seen = |view: &AuthView| Ok((view.enabled(), view.revision()));
    let (enabled, auth_revision) = read(call, Act::Call(Method::AuthStatus.path()), seen).await?;
    Ok(framed(&AuthStatusResponse { header: header(&call.surface), enabled, auth_revision }))
}

/// Checks a password and issues a token.
pub(super) async fn authenticate(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let surface = &call.surface;
    let mut request: AuthenticateRequest = surface.decode(Method::Authenticate, bytes)?;
    surface.backend.read_barrier().await?;
    for _ in 0..LOG_INS_MAX {
        let checked = check_password(surface, &request).await?;
        if surface.authenticator.tokens.need_key() {
            provide_token_key(surface).await?;
        }
        let view = surface.backend.reader().auth();
        let current = view.user(&request.name).is_some_and(|user| user.identity_revision() == checked);
        if !view.enabled() || !current {
            tracing::info!("revision when password checked became stale; retrying");
            continue;
        }
        let session = Session { name: std::mem::take(&mut request.name).into(), revision: view.revision() };
        let token = surface.authenticator.tokens.issue(view.token_key(), &session, Moment::now())?;
        return Ok(framed(&AuthenticateResponse { header: header(surface), token }));
    }
    Err(AuthError::AuthOldRevision.into())
}

/// Whether the password is the user's. Answers the revision of the identity that it proves.
async fn check_password(surface: &ClientSurface, request: &AuthenticateRequest) -> Result<u64, Status> {
    let view = surface.backend.reader().auth();
    if !view.enabled() {
        return Err(AuthError::AuthNotEnabled.into());
    }
    let user = view.user(&request.name);
    let failed = |error: AuthError| {
        tracing::warn!(user = request.name.as_str(), error = %error, "invalid authentication was requested");
        Status::from(error)
    };
    if user.is_some_and(|user| user.no_password()) {
        return Err(failed(AuthError::NoPasswordUser));
    }
    let hash = user.map(|user| &user.password_hash()[..]);
    let matches = surface.authenticator.passwords.verify(&request.name, hash, request.password.clone()).await?;
    match user {
        Some(user) if matches => Ok(user.identity_revision()),
        _ => Err(failed(AuthError::AuthFailed)),
    }
}

/// Sees to it that the cluster has a key for its tokens: the first log-in brings one, and the first one stands.
async fn provide_token_key(surface: &ClientSurface) -> Result<(), Status> {
    if surface.backend.reader().auth().token_key().is_some() {
        return Ok(());
    }
    let key: [u8; TOKEN_KEY_BYTES] = rand::random();
    let command = Operation::AuthTokenKeySet(AuthTokenKeySet { key: key.to_vec().into() });
    surface.backend.propose(None, command).await?;
    Ok(())
}

fn check_name(name: &str) -> Result<(), Status> {
    if name.len() > NAME_BYTES_MAX { Err(NAME_TOO_LONG) } else { Ok(()) }
}

/// A password's hash as it is replicated.
async fn hashed(surface: &ClientSurface, password: &mut String) -> Result<String, Status> {
    let hash = surface.authenticator.passwords.hash(std::mem::take(password)).await?;
    Ok(STANDARD.encode(hash))
}

pub(super) async fn user_add(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let mut request: AuthUserAddRequest = call.surface.decode(Method::UserAdd, bytes)?;
    check_name(&request.name)?;
    if request.options.is_some_and(|options| options.no_password) {
        request.password.clear();
    } else {
        may_manage(call).await?;
        request.hashed_password = hashed(&call.surface, &mut request.password).await?;
    }
    change(call, Operation::AuthUserAdd(request)).await
}

pub(super) async fn user_change_password(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let mut request: AuthUserChangePasswordRequest = call.surface.decode(Method::UserChangePassword, bytes)?;
    may_manage(call).await?;
    request.hashed_password = hashed(&call.surface, &mut request.password).await?;
    change(call, Operation::AuthUserChangePassword(request)).await
}

/// Whoever may not change users is told so before a password is hashed, which is dear.
async fn may_manage(call: &Call) -> Result<(), Status> {
    if !call.surface.backend.reader().auth_enabled() {
        return Ok(());
    }
    call.surface.backend.read_barrier().await?;
    call.authorize(Act::AuthChange).await
}

/// Any change that answers with its header only.
async fn change(call: &Call, operation: Operation) -> Result<Bytes, Status> {
    let applied = call.propose(operation).await?;
    Ok(done(&call.surface, &applied))
}

/// A change whose request goes on as it is.
pub(super) async fn change_as_asked<M: Message + Default>(
    call: &Call,
    bytes: Bytes,
    operation: impl FnOnce(M) -> Operation,
) -> Result<Bytes, Status> {
    let request = call.surface.decode(call.method, bytes)?;
    change(call, operation(request)).await
}

pub(super) async fn role_add(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: AuthRoleAddRequest = call.surface.decode(Method::RoleAdd, bytes)?;
    check_name(&request.name)?;
    change(call, Operation::AuthRoleAdd(request)).await
}

pub(super) async fn user_get(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: AuthUserGetRequest = call.surface.decode(Method::UserGet, bytes)?;
    let seen =
        |view: &AuthView| view.user(&request.name).map(|user| user.roles().to_vec()).ok_or(AuthError::UserNotFound);
    let roles = read(call, Act::UserGet(&request.name), seen).await?;
    Ok(framed(&AuthUserGetResponse { header: header(&call.surface), roles }))
}

pub(super) async fn user_list(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let AuthUserListRequest {} = call.surface.decode(Method::UserList, bytes)?;
    let seen = |view: &AuthView| Ok(view.users().map(|(name, _)| name.to_owned()).collect());
    let users = read(call, Act::Call(Method::UserList.path()), seen).await?;
    Ok(framed(&AuthUserListResponse { header: header(&call.surface), users }))
}

pub(super) async fn role_get(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let request: AuthRoleGetRequest = call.surface.decode(Method::RoleGet, bytes)?;
    let seen =
        |view: &AuthView| view.role(&request.role).map(|role| role.shown(&request.role)).ok_or(AuthError::RoleNotFound);
    let perm = read(call, Act::RoleGet(&request.role), seen).await?;
    Ok(framed(&AuthRoleGetResponse { header: header(&call.surface), perm }))
}

pub(super) async fn role_list(call: &Call, bytes: Bytes) -> Result<Bytes, Status> {
    let AuthRoleListRequest {} = call.surface.decode(Method::RoleList, bytes)?;
    let seen = |view: &AuthView| Ok(view.roles().map(|(name, _)| name.to_owned()).collect());
    let roles = read(call, Act::Call(Method::RoleList.path()), seen).await?;
    Ok(framed(&AuthRoleListResponse { header: header(&call.surface), roles }))
}
