//! The client: one connection to whichever endpoint can be reached, and the calls over it.
//!
//! Not here: what is called and what is shown of it. The invariant: a call that may have changed something is never
//! sent twice; a call that only reads is repeated, at the next endpoint, until its deadline.

mod call;
mod connect;
mod dial;
mod session;
mod srv;
mod target;
mod tls;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use quorate_proto::etcdserverpb as pb;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

pub(crate) use call::Call;
pub(crate) use connect::{Route, connect};
pub(crate) use dial::dial;
pub(crate) use quorate_dns::look_up;
pub(crate) use session::{KeepAlive, Session};
pub(crate) use srv::Discovery;
pub(crate) use tls::{Tls, TlsFiles, Verification};
pub(crate) use watch::{Watch, WatchReply};

use self::call::Repeat;
use self::dial::DialError;
use super::failure::{self, CallError, Failure};
use super::settings::{Identity, Settings};
use crate::command_line::go_text::quote;

/// How long to wait before a reading call is repeated.
const REPEAT_PAUSE: Duration = Duration::from_millis(25);
/// The metadata key under which etcd looks for a token.
pub(crate) const TOKEN_KEY: &str = "token";
/// The metadata by which a stream asks to be ended when its member loses the leader.
const LEADER_KEY: &str = "hasleader";
/// What a server says of a login while it asks nobody for a name.
pub(crate) const AUTH_IS_OFF: &str = "etcdserver: authentication is not enabled";
/// What a server says of a token that it does not know or no longer takes.
const TOKEN_IS_STALE: [&str; 2] = ["etcdserver: invalid auth token", "etcdserver: revision of auth store is old"];

/// The time at which a call gives up; None is never.
pub(crate) type Deadline = Option<Instant>;

/// A connection to the cluster. Clones share nothing but the settings: each makes its own connection when it must.
#[derive(Clone)]
pub(crate) struct Client {
    settings: Arc<Settings>,
    route: Arc<Route>,
    /// The endpoint to try first.
    preferred: usize,
    channel: Option<Channel>,
    token: Option<MetadataValue<Ascii>>,
    /// Why there is no connection; for the user, if there is none to the end.
    unreachable: Option<DialError>,
}

impl Client {
    /// A client of the endpoints of the settings, logged in if they name a user.
    ///
    /// # Errors
    /// No endpoint, one that cannot be reached whatever runs there, or a login that failed.
    pub(crate) async fn new(settings: &Arc<Settings>) -> Result<Self, Failure> {
        Self::of_endpoints(settings, settings.endpoints.clone()).await
    }

    /// A client of other endpoints than those of the settings.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(crate) async fn of_endpoints(settings: &Arc<Settings>, endpoints: Vec<String>) -> Result<Self, Failure> {
        if endpoints.is_empty() {
            return Err(Failure::new(failure::CONNECTION, "etcdclient: no available endpoints"));
        }
        let route = Route::read(&endpoints, settings.tls.as_ref());
        let route = route.map_err(|message| Failure::new(failure::SERVER, message))?;
        let mut client = Self {
            settings: Arc::clone(settings),
            route: Arc::new(route),
            preferred: 0,
            channel: None,
            token: None,
            unreachable: None,
        };
        match &settings.identity {
            Identity::Nobody => {}
            Identity::Token(token) => client.token = Some(ascii(token)?),
            Identity::Login { name, password } => {
                let deadline = deadline_after(settings.dial_timeout).filter(|_| !settings.dial_timeout.is_zero());
                client
                    .log_in(name, password, deadline)
                    .await
                    .map_err(|error| Failure::new(failure::CONNECTION, error.to_string()))?;
            }
        }
        Ok(client)
    }

    /// The deadline of a command that starts at this moment.
    pub(crate) fn command_deadline(&self) -> Deadline {
        deadline_after(self.settings.command_timeout)
    }

    /// The settings that the client was made with.
    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// What the server said, or that the deadline passed.
    pub(crate) async fn call<Request: Call>(
        &mut self,
        request: Request,
        deadline: Deadline,
    ) -> Result<Request::Reply, CallError> {
        let length = request.encoded_len();
        if length > self.settings.request_bytes_max {
            let limit = self.settings.request_bytes_max;
            return Err(CallError {
                code: tonic::Code::ResourceExhausted,
                message: format!("trying to send message larger than max ({length} vs. {limit})"),
            });
        }
        let mut logged_in_again = false;
        loop {
            let channel = self.connection(deadline).await?;
            let request = self.request(request.clone(), deadline);
            let receive_bytes_max = self.settings.receive_bytes_max;
            let status = match before(deadline, Request::send(channel, request, receive_bytes_max)).await? {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => status,
            };
            let error = self.judge(&status);
            if TOKEN_IS_STALE.contains(&error.message.as_str()) && !logged_in_again {
                logged_in_again = true;
                self.renew_token(error).await?;
                continue;
            }
            if error.code != tonic::Code::Unavailable || Request::REPEAT == Repeat::Never {
                return Err(error);
            }
            self.leave_endpoint();
            before(deadline, tokio::time::sleep(REPEAT_PAUSE)).await?;
        }
    }

    /// The connection, made if there is none.
    pub(crate) async fn connection(&mut self, deadline: Deadline) -> Result<Channel, CallError> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let connecting = connect::connect_any(&self.settings, &self.route, self.preferred, &mut self.unreachable);
        let connected = before(deadline, connecting).await;
        if let (Err(_), Some(DialError(reason))) = (&connected, &self.unreachable) {
            self.tell_unreachable(reason);
        }
        let (endpoint, channel) = connected?;
        self.unreachable = None;
        self.preferred = endpoint;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Says why nothing could be reached, in the form of the log lines of etcd's client: the error that follows says
    /// only that the time is over.
    fn tell_unreachable(&self, reason: &str) {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let endpoints: Vec<String> = self.route.targets.iter().map(|target| text(&target.name)).collect();
        let error = text(&format!("connection error: desc = {}", quote(reason.as_bytes())));
        eprintln!(
            "{{\"level\":\"warn\",\"logger\":\"etcd-client\",\"msg\":\"no endpoint can be reached\",\"endpoints\":[{}],\
             \"error\":{error}}}",
            endpoints.join(",")
        );
    }

    /// Wraps a message into a request that carries the token and the time that is left.
    pub(crate) fn request<Message>(&self, message: Message, deadline: Deadline) -> tonic::Request<Message> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN_KEY, token.clone());
        }
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        request
    }

    /// Wraps the messages of a stream, which is to end when its member has no leader: another member may have one.
    pub(crate) fn stream_request<Messages>(&self, messages: Messages) -> tonic::Request<Messages> {
        let mut request = self.request(messages, None);
        request.metadata_mut().insert(LEADER_KEY, MetadataValue::from_static("true"));
        request
    }

    /// Reads a status; a connection that broke is given up, so that the next call makes another.
    pub(crate) fn judge(&mut self, status: &tonic::Status) -> CallError {
        let (error, connection_broke) = call::read_status(status);
        if connection_broke {
            self.leave_endpoint();
        }
        error
    }

    /// Makes the next call connect anew, to another endpoint if there are several.
    pub(crate) fn leave_endpoint(&mut self) {
        self.channel = None;
        self.preferred = (self.preferred + 1) % self.route.targets.len();
    }

    /// Logs in anew if an error says that the token is too old and there is a name to log in with.
    ///
    /// # Errors
    /// The error itself, or that of the login.
    pub(crate) async fn renew_token(&mut self, error: CallError) -> Result<(), CallError> {
        match &Arc::clone(&self.settings).identity {
            Identity::Login { name, password } if TOKEN_IS_STALE.contains(&error.message.as_str()) => {
                self.log_in(name, password, self.command_deadline()).await
            }
            _ => Err(error),
        }
    }

    async fn log_in(&mut self, name: &str, password: &str, deadline: Deadline) -> Result<(), CallError> {
        self.token = None;
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        // Boxed because a call may log in again.
        match Box::pin(self.call(request, deadline)).await {
            Ok(reply) => {
                let token = ascii(&reply.token)
                    .map_err(|failure| CallError { code: tonic::Code::Internal, message: failure.message })?;
                self.token = Some(token);
                Ok(())
            }
            Err(error) if error.message == AUTH_IS_OFF => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn ascii(token: &str) -> Result<MetadataValue<Ascii>, Failure> {
    token.parse().map_err(|_| Failure::new(failure::CONNECTION, "the token has characters that cannot be sent"))
}

/// The deadline that lies this far ahead.
fn deadline_after(duration: Duration) -> Deadline {
    Some(Instant::now() + duration)
}

/// Waits for something until a deadline.
pub(crate) async fn before<Output>(
    deadline: Deadline,
    future: impl Future<Output = Output>,
) -> Result<Output, CallError> {
    match deadline {
        None => Ok(future.await),
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.map_err(|_| CallError::deadline()),
    }
}
