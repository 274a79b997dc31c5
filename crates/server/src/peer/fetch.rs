//! Asking the peer port of a member over plain HTTP: its members, its version.

use super::dial::{DialError, open};
use crate::config::Address;
use crate::tls::TlsDialer;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;

/// Bytes of an answer at the most.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// An answer.
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// GETs a path of a member.
pub(crate) async fn fetch(
    address: &Address,
    path: &str,
    dialer: &TlsDialer,
    patience: Duration,
) -> Result<Fetched, FetchError> {
    let request = Request::get(path).body(Full::default()).expect("a path of this program");
    ask(address, request, dialer, patience).await
}

/// Sends a request whose URI is a path to a server.
pub(crate) async fn ask(
    address: &Address,
    mut request: Request<Full<Bytes>>,
    dialer: &TlsDialer,
    patience: Duration,
) -> Result<Fetched, FetchError> {
    timeout(patience, async {
        let (stream, _) = open(std::slice::from_ref(address), dialer).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer, or with this future, which drops the sender.
        let running = tokio::spawn(connection);
        if let Ok(host) = HeaderValue::try_from(format!("{}:{}", address.host, address.port)) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let response = sender.send_request(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(FetchError::Body)?;
        drop(sender);
        running.abort();
        Ok(Fetched { status, headers, body: body.to_bytes() })
    })
    .await?
}
