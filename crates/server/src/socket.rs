//! What bytes go through: TCP, or a unix socket of this machine.
//!
//! Owns addresses of listeners and of who connects, and the file of a unix socket. Knows no TLS. The invariant: the file of
//! a unix socket is gone when its listener is.

use rustix::net::RecvFlags;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    Ip(SocketAddr),
    /// Somebody on this machine: whoever connects to a unix socket has no address.
    Unix,
}

impl fmt::Display for Remote {
    /// As Go writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Unix => formatter.write_str("@"),
        }
    }
}

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// A bound socket that connections come from.
#[derive(Debug)]
pub(crate) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixSocketFile),
}

/// A unix socket's listener with its file.
#[derive(Debug)]
pub(crate) struct UnixSocketFile {
    listener: UnixListener,
    path: PathBuf,
}

impl UnixSocketFile {
    /// Makes the file anew: the one of a process that was killed is still there.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { listener: UnixListener::bind(path)?, path: path.to_owned() })
    }
}

impl Drop for UnixSocketFile {
    fn drop(&mut self) {
        // One that cannot be removed hinders nobody: the next start replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ListeningSocket {
    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Remote)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Remote::Ip(remote)))
            }
            Self::Unix(file) => {
                let (stream, _) = file.listener.accept().await?;
                Ok((Socket::Unix(stream), Remote::Unix))
            }
        }
    }
}

impl Socket {
    /// Has small pieces sent at once.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    /// The first byte, which stays to be read; `None`: the other side closed the connection.
    pub(crate) async fn peek(&self) -> io::Result<Option<u8>> {
        let mut first = [0; 1];
        let count = match self {
            Self::Tcp(stream) => stream.peek(&mut first).await?,
            Self::Unix(stream) => {
                let peek = || Ok(rustix::net::recv(stream, &mut first[..], RecvFlags::PEEK)?.0);
                stream.async_io(Interest::READABLE, peek).await?
            }
        };
        Ok((count > 0).then_some(first[0]))
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
