//! A connection's bytes: a socket, protected or not, to one target.
//!
//! Not here: what is spoken over it. The invariant: a failure is told in one line that says what was tried, in the words
//! that etcd's client has for it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tonic::codegen::{BoxFuture, Service, http::Uri};

use super::target::{Place, Target};
use super::tls::Tls;
use crate::ctl::settings::io_error_text;

/// Bytes in both directions.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Any: AsyncRead + AsyncWrite + Send + Unpin> Transport for Any {}

/// A stream to a server, of whichever kind.
pub(crate) type Stream = Box<dyn Transport>;

/// Why a server could not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DialError(pub(crate) String);

impl std::fmt::Display for DialError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for DialError {}

/// Connects to a target.
///
/// # Errors
/// Why it could not be reached, or the handshake's failure.
pub(crate) async fn dial(target: &Target, tls: Option<&Tls>) -> Result<Stream, DialError> {
    let failed = |what: String, error: &io::Error| {
        DialError(format!("transport: Error while dialing: dial {what}: {}", dial_text(error)))
    };
    match &target.place {
        Place::Tcp(address) => {
            let stream = TcpStream::connect(tcp_address(address)).await;
            let stream = stream.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => failed(format!("tcp: address {address}"), &error),
                _ => failed(format!("tcp {address}"), &error),
            })?;
            // A socket that cannot take the option is slower, no more.
            let _ = stream.set_nodelay(true);
            protect(stream, target, tls).await
        }
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            let stream = stream.map_err(|error| failed(format!("unix {}", path.display()), &error))?;
            protect(stream, target, tls).await
        }
    }
}

async fn protect(stream: impl Transport + 'static, target: &Target, tls: Option<&Tls>) -> Result<Stream, DialError> {
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => {
            let stream = tls.protect(stream, target.host_name()).await;
            stream.map_err(|reason| DialError(format!("transport: {reason}")))
        }
    }
}

/// Go takes an address without a host for this machine.
fn tcp_address(address: &str) -> String {
    if address.starts_with(':') { format!("localhost{address}") } else { address.to_owned() }
}

fn dial_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::InvalidInput => "missing port in address".to_owned(),
        _ if error.raw_os_error().is_some() => format!("connect: {}", io_error_text(error)),
        _ => error.to_string(),
    }
}

/// Connects for a gRPC channel, as often as the channel needs a connection.
#[derive(Clone)]
pub(crate) struct Connector {
    target: Target,
    tls: Option<Tls>,
    /// Taken by the first connection.
    greeting: Arc<Mutex<Option<Greeting>>>,
}

/// Tells whether a server has said something.
type Greeting = oneshot::Sender<Result<(), DialError>>;

impl Connector {
    /// A connector to a target, and what tells when the first connection's server has said something: only then is
    /// there a server of the right kind, and one that has accepted this client's certificate.
    pub(crate) fn new(target: Target, tls: Option<Tls>) -> (Self, oneshot::Receiver<Result<(), DialError>>) {
        let (greeting, greeted) = oneshot::channel();
        (Self { target, tls, greeting: Arc::new(Mutex::new(Some(greeting))) }, greeted)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Greeted>;
    type Error = DialError;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { target, tls, greeting } = self.clone();
        Box::pin(async move {
            let stream = dial(&target, tls.as_ref()).await?;
            let greeting = greeting.lock().map(|mut greeting| greeting.take()).unwrap_or_default();
            Ok(TokioIo::new(Greeted { stream, greeting }))
        })
    }
}

/// A stream that tells of the first bytes it receives, or of its end before them.
pub(crate) struct Greeted {
    stream: Stream,
    greeting: Option<Greeting>,
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(result) = &polled
            && let Some(greeting) = self.greeting.take()
        {
            let failed = |reason: &str| Err(DialError(format!("error reading server preface: {reason}")));
            // Whoever waited for it may have given up.
            let _ = greeting.send(match result {
                Ok(()) if buffer.filled().len() > before => Ok(()),
                Ok(()) => failed("EOF"),
                Err(error) => failed(&remote_error_text(error)),
            });
        }
        polled
    }
}

/// Why a read failed: the server's alert, or the system's word.
fn remote_error_text(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => {
            let name: String = format!("{alert:?}").chars().fold(String::new(), |mut name, letter| {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push(' ');
                }
                name.extend(letter.to_lowercase());
                name
            });
            format!("remote error: tls: {name}")
        }
        Some(other) => format!("tls: {other}"),
        None => io_error_text(error),
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn target(endpoint: &str) -> Target {
        Target::read(endpoint).expect("readable")
    }

    #[tokio::test]
    async fn failures_say_what_was_tried() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let failed = async |endpoint: &str| dial(&target(endpoint), None).await.err().map(|error| error.0);
        let start = "transport: Error while dialing: dial";
        let refused = format!("{start} tcp {address}: connect: connection refused");
        assert_eq!(failed(&address).await, Some(refused));
        let missing = format!("{start} unix /nosuch/s: connect: no such file or directory");
        assert_eq!(failed("unix:///nosuch/s").await, Some(missing));
        assert_eq!(failed("127.0.0.1").await, Some(format!("{start} tcp: address 127.0.0.1: missing port in address")));
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_has_not_greeted() {
        let (near, far) = tokio::io::duplex(16);
        let (greeting, greeted) = oneshot::channel();
        let mut stream = Greeted { stream: Box::new(near), greeting: Some(greeting) };
        drop(far);
        assert_eq!(stream.read(&mut [0; 4]).await.expect("an end"), 0);
        assert_eq!(greeted.await, Ok(Err(DialError("error reading server preface: EOF".to_owned()))));
    }
}
