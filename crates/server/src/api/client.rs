//! The client behind a call: the one way from the services to the store.
//!
//! Owns how a call's credentials become an identity, and that every read and every command is judged by the store's
//! [`authorize`](quorate_store::auth::AuthView::authorize). Invariants: nothing of the store is shown, watched or changed
//! for a client but through here; a call that was answered without being judged is refused (see [`Call::must_be_judged`]);
//! with auth off, a call costs one atomic load.

use crate::api::error::INVALID_AUTH_TOKEN;
use crate::api::{Call, ClientSurface};
use crate::auth::{Credentials, Identity, Moment, Standing, Unidentified, fingerprint};
use crate::backend::CallError;
use crate::grpc::status::{Code, Status};
use futures::TryFutureExt;
use futures::future::Either;
use quorate_proto::quoratepb::Caller;
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::Act;
use quorate_store::error::Error;
use quorate_store::outcome::Reply;
use quorate_store::reader::StoreReader;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Who calls, as far as it matters.
#[derive(Clone, Debug)]
enum Who {
    /// It was not asked: auth was off a moment ago.
    Unasked,
    /// Somebody without credentials.
    Nobody,
    /// A user.
    User(Identity),
}

/// A client, for as long as a call goes on.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) surface: Arc<ClientSurface>,
    who: Who,
}

/// Who the credentials stand for, as of what this member applied.
fn identify(surface: &ClientSurface, credentials: Option<&Credentials>) -> Result<Who, Unidentified> {
    let Some(credentials) = credentials else {
        return Ok(Who::Nobody);
    };
    let view = surface.backend.reader().auth();
    if let Some(token) = credentials.token() {
        return surface.authenticator.tokens.identify(token, &view, Moment::now()).map(Who::User);
    }
    Ok(match credentials.common_name() {
        Some(name) => Who::User(Identity { name: name.clone(), proven: view.revision(), standing: Standing::Follows }),
        None => Who::Nobody,
    })
}

fn refused(credentials: Option<&Credentials>) -> Status {
    let token = credentials.and_then(Credentials::token).unwrap_or_default();
    tracing::warn!("token-fingerprint" = fingerprint(token), "invalid auth token");
    INVALID_AUTH_TOKEN
}

impl Call {
    /// The client, as of this moment: to be asked for after waiting for a linearizable read.
    pub(super) async fn client(&self) -> Result<Client, Status> {
        let who = if self.surface.backend.reader().auth_enabled() {
            // Boxed, so that a call's future does not hold what it needs with auth on.
            Box::pin(self.identify()).await?
        } else {
            self.judged.store(true, Relaxed);
            Who::Unasked
        };
        Ok(Client { surface: self.surface.clone(), who })
    }

    async fn identify(&self) -> Result<Who, Status> {
        self.judged.store(true, Relaxed);
        match identify(&self.surface, self.credentials.as_deref()) {
            Err(Unidentified::Ahead) => {
                // The token is of a log-in that this member has not heard of yet.
                self.surface.backend.read_barrier().await?;
                identify(&self.surface, self.credentials.as_deref())
            }
            known => known,
        }
        .map_err(|_| refused(self.credentials.as_deref()))
    }

    /// As [`Self::client`], without waiting. `None`: this member is behind the client's token, and must catch up first.
    pub(super) fn client_at_once(&self) -> Option<Result<Client, Status>> {
        self.judged.store(true, Relaxed);
        if !self.surface.backend.reader().auth_enabled() {
            return Some(Ok(Client { surface: self.surface.clone(), who: Who::Unasked }));
        }
        match identify(&self.surface, self.credentials.as_deref()) {
            Ok(who) => Some(Ok(Client { surface: self.surface.clone(), who })),
            Err(Unidentified::Ahead) => None,
            Err(Unidentified::Invalid) => Some(Err(refused(self.credentials.as_deref()))),
        }
    }

    /// Replicates a command on the client's behalf; it is judged where it is applied.
    pub(super) fn propose(&self, operation: Operation) -> impl Future<Output = Result<Reply, Status>> + Send + '_ {
        if !self.surface.backend.reader().auth_enabled() {
            self.judged.store(true, Relaxed);
            return Either::Left(self.surface.backend.propose(None, operation).map_err(Status::from));
        }
        let proposed = async move { Ok(self.client().await?.propose(operation).await?) };
        Either::Right(Box::pin(proposed))
    }

    /// Reads on the client's behalf. Whoever needs a linearizable answer waits for it before.
    pub(super) async fn read<T>(
        &self,
        act: Act<'_>,
        read: impl FnOnce(&StoreReader) -> Result<T, Error>,
    ) -> Result<T, Status> {
        let reader = self.surface.backend.reader();
        if !reader.auth_enabled() {
            self.judged.store(true, Relaxed);
            return Ok(read(reader)?);
        }
        Box::pin(self.client()).await?.read(act, read)
    }

    /// Judges the call, when nothing of the store is read at once.
    pub(super) async fn authorize(&self, act: Act<'_>) -> Result<(), Status> {
        self.read(act, |_| Ok(())).await
    }

    /// Judges a call that its method alone decides about.
    pub(super) async fn authorize_method(&self) -> Result<(), Status> {
        self.authorize(Act::Call(self.method.path())).await
    }

    /// For a call that everybody may make, with whatever credentials.
    pub(super) fn needs_no_judgement(&self) {
        self.judged.store(true, Relaxed);
    }

    /// Refuses an answer to a call that nobody judged: its method forgot to.
    pub(super) fn must_be_judged(&self) -> Result<(), Status> {
        if self.judged.load(Relaxed) || !self.surface.backend.reader().auth_enabled() {
            return Ok(());
        }
        tracing::error!(method = self.method.path(), "a call was answered without being authorised");
        Err(Status::new(Code::PermissionDenied, "etcdserver: permission denied"))
    }
}

impl Client {
    /// Whom the store is to judge now.
    fn caller(&self) -> Option<Caller> {
        match &self.who {
            Who::Unasked | Who::Nobody => None,
            Who::User(identity) => Some(identity.caller(&self.surface.backend.reader().auth())),
        }
    }

    /// Whether auth was on when the client was asked who it is.
    pub(super) fn is_judged(&self) -> bool {
        !matches!(self.who, Who::Unasked)
    }

    /// For a call that goes on for long: judged each time, also when auth was off as it began.
    pub(super) fn for_long(self) -> Self {
        let who = match self.who {
            Who::Unasked => Who::Nobody,
            who => who,
        };
        Self { who, ..self }
    }

    /// Replicates a command on the client's behalf; it is judged where it is applied.
    pub(super) async fn propose(&self, operation: Operation) -> Result<Reply, CallError> {
        self.surface.backend.propose(self.caller(), operation).await
    }

    /// Whether the client may do it, as of this moment.
    pub(super) fn authorize(&self, act: Act<'_>) -> Result<(), Status> {
        if matches!(self.who, Who::Unasked) {
            return Ok(());
        }
        Ok(self.surface.backend.reader().authorize(self.caller().as_ref(), act)?)
    }

    /// As [`Self::authorize`], for what was begun before: another password since then does not end it, a user that is
    /// gone or lost its right does.
    pub(super) fn authorize_user(&self, act: Act<'_>) -> Result<(), Status> {
        let reader = self.surface.backend.reader();
        let caller = self.caller().map(|caller| Caller { auth_revision: u64::MAX, ..caller });
        Ok(reader.authorize(caller.as_ref(), act)?)
    }

    /// Reads on the client's behalf, and judges again when users or roles changed meanwhile.
    pub(super) fn read<T>(
        &self,
        act: Act<'_>,
        read: impl FnOnce(&StoreReader) -> Result<T, Error>,
    ) -> Result<T, Status> {
        let reader = self.surface.backend.reader();
        if matches!(self.who, Who::Unasked) {
            return Ok(read(reader)?);
        }
        Ok(reader.read_as(self.caller().as_ref(), act, read)??)
    }
}
