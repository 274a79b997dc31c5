//! Listening sockets, and the clients that come through them.
//!
//! Knows which address asks for TLS, not what is served. The invariant: connections are bounded, and one that is slow to
//! say who it is keeps no other from being served.

use crate::api::ClientSurface;
use crate::config::Address;
use crate::connection::{ConnectionInfo, Traffic, serve_client};
use crate::socket::{Bound, ListeningSocket, UnixSocketFile};
use crate::tls::{Accepted, Security, TlsAcceptor};
use anyhow::Context;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};

/// Connections waiting to be accepted.
const LISTEN_BACKLOG: u32 = 4_096;
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// `--socket-reuse-port`: whether several processes may listen on one port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReusePort {
    Yes,
    No,
}

/// A bound socket.
pub(crate) struct Listener {
    pub(crate) address: Bound,
    pub(crate) socket: ListeningSocket,
    pub(crate) security: Security,
}

impl Listener {
    /// How to reach it; over TLS only if there is no other way.
    pub(crate) fn url(&self) -> String {
        let (plain, encrypted) = match self.address {
            Bound::Ip(_) => ("http", "https"),
            Bound::Unix(_) => ("unix", "unixs"),
        };
        let scheme = if matches!(self.security, Security::Tls(_)) { encrypted } else { plain };
        format!("{scheme}://{}", self.address)
    }
}

/// Binds every address; an error names the one that failed. The same host and port may be given with http and with https:
/// one socket serves both. `acceptor` is there when a scheme is https.
pub(crate) fn bind_all(
    addresses: &[Address],
    acceptor: Option<&Arc<TlsAcceptor>>,
    reuse_port: ReusePort,
) -> anyhow::Result<Vec<Listener>> {
    let mut wanted: Vec<(&Address, Security)> = Vec::new();
    for address in addresses {
        let security = match address.scheme.as_str() {
            "https" | "unixs" => Security::Tls(acceptor.context("an https URL without a certificate")?.clone()),
            _ => Security::Plain,
        };
        let is_same = |(known, _): &&mut (&Address, Security)| known.is_same_place(address);
        match wanted.iter_mut().find(is_same) {
            Some((known, both)) if known.scheme != address.scheme => {
                *both = Security::Either(acceptor.context("an https URL without a certificate")?.clone());
            }
            Some(_) => {}
            None => wanted.push((address, security)),
        }
    }
    let bind = |(address, security): (&Address, Security)| {
        let (bound, socket) = bind(address, reuse_port).with_context(|| format!("cannot listen on {address}"))?;
        Ok(Listener { address: bound, socket, security })
    };
    wanted.into_iter().map(bind).collect()
}

fn bind(address: &Address, reuse_port: ReusePort) -> anyhow::Result<(Bound, ListeningSocket)> {
    if address.is_unix() {
        let path = Path::new(&address.host);
        return Ok((Bound::Unix(path.to_owned()), ListeningSocket::Unix(UnixSocketFile::bind(path)?)));
    }
    let (address, listener) = bind_tcp(address, reuse_port)?;
    Ok((Bound::Ip(address), ListeningSocket::Tcp(listener)))
}

fn bind_tcp(address: &Address, reuse_port: ReusePort) -> anyhow::Result<(SocketAddr, TcpListener)> {
    let host = if address.host.is_empty() { "::" } else { address.host.as_str() };
    let mut candidates: Vec<SocketAddr> = (host, address.port).to_socket_addrs()?.collect();
    // Like Go: a name is bound at its IPv4 address if it has one.
    candidates.sort_by_key(SocketAddr::is_ipv6);
    if address.host.is_empty() {
        candidates.push(SocketAddr::from(([0, 0, 0, 0], address.port)));
    }
    let mut result = Err(anyhow::anyhow!("no address"));
    for candidate in candidates {
        let listen = || {
            let socket = if candidate.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(reuse_port == ReusePort::Yes)?;
            socket.bind(candidate)?;
            socket.listen(LISTEN_BACKLOG)
        };
        match listen() {
            Ok(listener) => return Ok((listener.local_addr()?, listener)),
            Err(error) => result = Err(anyhow::Error::from(error)),
        }
    }
    result
}

/// Accepts clients until the server stops. `room` bounds how many are served at a time.
pub(crate) async fn accept_clients(
    listener: Listener,
    traffic: Traffic,
    surface: Arc<ClientSurface>,
    room: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
) {
    let stopping = stopped.clone();
    let serve = move |accepted: Accepted| {
        let info = ConnectionInfo::new(&accepted, traffic);
        serve_client(accepted.stream, info, surface.clone(), stopped.clone())
    };
    accept_all(listener, room, stopping, serve).await;
}

/// Accepts connections until the server stops, and has each that is let in served in a task of its own.
pub(crate) async fn accept_all<F>(
    listener: Listener,
    room: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
    serve: impl Fn(Accepted) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let Listener { address, socket, security } = listener;
    loop {
        // Handshakes are bounded by themselves: whoever is slow at that takes nobody's room.
        let held = match security.is_plain() {
            true => Some(room.clone().acquire_owned().await.expect("the semaphore is never closed")),
            false => None,
        };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let (connection, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(
                    address = address.to_string(),
                    error = error.to_string(),
                    "cannot accept a connection of a client"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without it a call takes 44 ms; a socket that refuses it is broken and tells so soon.
        let _ = connection.set_nodelay();
        let (serve, security, room) = (serve.clone(), security.clone(), room.clone());
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let accepted = tokio::select! {
                accepted = security.accept(connection, remote) => accepted,
                _ = stopped.wait_for(|stopped| *stopped) => None,
            };
            let Some(accepted) = accepted else { return };
            let Some(permit) = held.or_else(|| room.try_acquire_owned().ok()) else {
                tracing::debug!("remote-addr" = remote.to_string(), "closed a connection: too many clients");
                return;
            };
            serve(accepted).await;
            drop(permit);
        });
    }
}
