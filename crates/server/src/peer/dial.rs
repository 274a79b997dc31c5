//! Connecting to a peer: TCP, the upgrade request, the socket's settings.

use super::{CLUSTER_HEADER, FROM_HEADER, PROTOCOL, TO_HEADER, URLS_HEADER};
use crate::config::Address;
use crate::membership::REMOVED;
use crate::socket::Socket;
use crate::tls::{Stream, TlsDialer, handshake_text};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the answer to the upgrade request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are sent but not confirmed for this long end the connection.
const UNCONFIRMED_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which a connection is checked, and between checks.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Bytes of the answer's head at the most.
const ANSWER_BYTES_MAX: usize = 4096;
/// What is known of a peer that checks more than TLS does: its list of revocations, and where certificates come from.
const ENDED: &str = "the peer ended the connection as soon as hands were shaken; its log says why";

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// Another failure on the way.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side answered, but does not want us.
    #[error("{status}: {body}")]
    Rejected {
        /// The status line.
        status: String,
        /// Its words.
        body: String,
    },
    /// The certificate of one side is not what the other wants.
    #[error("{0}")]
    Handshake(String),
    /// The other side knows that this member was removed.
    #[error("{REMOVED}")]
    Removed,
    /// The member has no address that could be reached.
    #[error("no usable peer URL")]
    NoAddress,
}

/// Who connects to whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub(crate) cluster_id: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) own_urls: OwnUrls,
}

/// Where this member is reached, as it tells those that do not know it yet; changes with its entry in the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnUrls(Arc<Mutex<String>>);

impl OwnUrls {
    pub(crate) fn set(&self, urls: &[String]) {
        *self.0.lock() = urls.join(",");
    }
}

/// Settings that every connection between members has.
pub(crate) fn settle(socket: &Socket) -> io::Result<()> {
    let Socket::Tcp(stream) = socket else { return Ok(()) };
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNCONFIRMED_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
}

/// A connection to the first address that accepts one, and that address.
pub(crate) async fn connect(addresses: &[Address]) -> Result<(Socket, &Address), DialError> {
    let mut result = Err(DialError::NoAddress);
    for address in addresses {
        result = match timeout(CONNECT_TIMEOUT, connect_to(address)).await {
            Ok(Ok(socket)) => {
                settle(&socket)?;
                return Ok((socket, address));
            }
            Ok(Err(error)) if is_refusal(&error, address) => Err(DialError::Refused),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        };
    }
    result
}

/// The same, encrypted where the address says so.
pub(super) async fn open<'a>(addresses: &'a [Address], dialer: &TlsDialer) -> Result<(Stream, &'a Address), DialError> {
    let (socket, address) = connect(addresses).await?;
    if !is_encrypted(address) {
        return Ok((Stream::Plain(socket), address));
    }
    let connecting = timeout(ANSWER_TIMEOUT, dialer.connect(socket, host_name(address)));
    Ok((connecting.await.map_err(|_| timed_out())?.map_err(judged)?, address))
}

async fn connect_to(address: &Address) -> io::Result<Socket> {
    if address.is_unix() {
        return UnixStream::connect(&address.host).await.map(Socket::Unix);
    }
    TcpStream::connect((address.host.as_str(), address.port)).await.map(Socket::Tcp)
}

/// Whether nobody listens: of a unix socket, the file may be gone with who did.
fn is_refusal(error: &io::Error, address: &Address) -> bool {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => true,
        io::ErrorKind::NotFound => address.is_unix(),
        _ => false,
    }
}

/// The name in an address that a certificate must be valid for, and that a request is addressed to.
fn host_name(address: &Address) -> &str {
    if !address.is_unix() {
        return &address.host;
    }
    let file = address.host.rsplit('/').next().unwrap_or_default();
    file.split(':').next().filter(|name| !name.is_empty()).unwrap_or("localhost")
}

fn is_encrypted(address: &Address) -> bool {
    matches!(address.scheme.as_str(), "https" | "unixs")
}

/// A connection that the peer upgraded for frames.
pub(crate) async fn dial(
    addresses: &[Address],
    path: &str,
    route: &Route,
    dialer: &TlsDialer,
) -> Result<Stream, DialError> {
    let (mut stream, address) = open(addresses, dialer).await?;
    let host = host_name(address);
    let is_encrypted = is_encrypted(address);
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\
         {CLUSTER_HEADER}: {:x}\r\n{FROM_HEADER}: {:x}\r\n{TO_HEADER}: {:x}\r\n{URLS_HEADER}: {}\r\n\
         Content-Length: 0\r\n\r\n",
        route.cluster_id,
        route.from,
        route.to,
        route.own_urls.0.lock(),
    );
    let answer = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        let end = loop {
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if head.len() >= ANSWER_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer without end").into());
            }
            let mut piece = [0; 512];
            match stream.read(&mut piece).await.map_err(judged)? {
                0 if is_encrypted && head.is_empty() => return Err(DialError::Handshake(ENDED.to_owned())),
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => head.extend_from_slice(&piece[..count]),
            }
        };
        let text = String::from_utf8_lossy(&head[..end]);
        let status = text.lines().next().unwrap_or_default();
        if status.starts_with("HTTP/1.1 101") {
            return Ok(());
        }
        if status.starts_with("HTTP/1.1 410") {
            return Err(DialError::Removed);
        }
        Err(DialError::Rejected {
            status: status.to_owned(),
            body: String::from_utf8_lossy(&head[end + 4..]).trim().to_owned(),
        })
    };
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(result) => result?,
        Err(_) => return Err(timed_out()),
    }
    Ok(stream)
}

fn timed_out() -> DialError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Tells what TLS found wrong from what is wrong with the connection.
fn judged(error: io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Other => DialError::Handshake(handshake_text(&error)),
        _ => error.into(),
    }
}
