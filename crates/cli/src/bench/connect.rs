//! Connections to the servers.
//!
//! It owns what every call of a run shares: the channel, and the token of the user. The invariant: each channel is one
//! connection of its own, and it is up and logged in before the run starts, so that no measured call pays for a
//! handshake.

use super::arguments::Access;
use crate::ctl::client::{AUTH_IS_OFF, Route, TOKEN_KEY, Tls, connect as connect_to};
use anyhow::{Context as _, anyhow};
use quorate_proto::etcdserverpb::AuthenticateRequest;
use quorate_proto::etcdserverpb::auth_client::AuthClient;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderValue, Request};
use tonic::transport::Channel;

/// The largest answer that is accepted: what etcd's own client accepts. A range over the whole prefix may be large.
pub(crate) const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// A connection that says with each call who calls.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    channel: Channel,
    token: Option<HeaderValue>,
}

impl Service<Request<Body>> for Connection {
    type Response = <Channel as Service<Request<Body>>>::Response;
    type Error = <Channel as Service<Request<Body>>>::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(TOKEN_KEY, token.clone());
        }
        self.channel.call(request)
    }
}

/// Opens `number` connections, spread over the endpoints in turn.
pub(crate) async fn connect(
    endpoints: &[String],
    access: &Access,
    number: usize,
    timeout: Duration,
) -> anyhow::Result<Vec<Connection>> {
    let tls = match access.files.are_given() {
        true => Some(Tls::read(&access.files).map_err(|reason| anyhow!("{reason}"))?),
        false => None,
    };
    let route = Route::read(endpoints, tls.as_ref()).map_err(|reason| anyhow!("{reason}"))?;
    let mut connections = Vec::with_capacity(number);
    for (target, url) in route.targets.iter().zip(endpoints).cycle().take(number) {
        let channel = connect_to(target, route.tls.as_ref(), None, timeout).await;
        let channel = channel.with_context(|| format!("connecting to {url}"))?;
        connections.push(Connection { channel, token: None });
    }
    if let (Some((name, password)), Some(first)) = (&access.user, connections.first()) {
        let token = log_in(first.channel.clone(), name, password, timeout).await.context("logging in")?;
        connections.iter_mut().for_each(|connection| connection.token.clone_from(&token));
    }
    Ok(connections)
}

/// The user's token; None of a cluster that asks nobody who he is.
async fn log_in(
    channel: Channel,
    name: &str,
    password: &str,
    timeout: Duration,
) -> anyhow::Result<Option<HeaderValue>> {
    let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
    let mut client = AuthClient::new(channel);
    match tokio::time::timeout(timeout, client.authenticate(request)).await.context("no answer")? {
        Ok(reply) => Ok(Some(reply.into_inner().token.parse().context("the token cannot be sent")?)),
        Err(status) if status.message() == AUTH_IS_OFF => Ok(None),
        Err(status) => Err(anyhow!("{}", status.message())),
    }
}
