//! The way to the collector: OTLP over gRPC, on a connection that is made when it is needed.
//!
//! The invariant: spans that the collector does not take in time are dropped and counted; nothing waits for it but this
//! task.

use super::{Span, otlp};
use crate::config::TracingConfig;
use crate::grpc::request::framed;
use crate::metrics::Metrics;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::timeout;

/// Spans of one request at the most.
const BATCH_SPANS_MAX: usize = 512;
/// How long spans gather.
const GATHER: Duration = Duration::from_secs(5);
/// Longest wait for the collector, from the connection to its answer.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for what is left when the server stops.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_millis(150);

/// Sends spans until the server stops; then what is left, if that is quick.
pub(crate) async fn run(
    config: TracingConfig,
    mut spans: Receiver<Span>,
    metrics: Arc<Metrics>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut exporter = Exporter { config, metrics, connection: None, last_error: String::new() };
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            count = spans.recv_many(&mut batch, BATCH_SPANS_MAX) => {
                if count == 0 {
                    return;
                }
            }
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        tokio::select! {
            () = gather(&mut spans, &mut batch) => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        exporter.export(&mut batch, EXPORT_TIMEOUT).await;
    }
    while batch.len() < BATCH_SPANS_MAX
        && let Ok(span) = spans.try_recv()
    {
        batch.push(span);
    }
    if !batch.is_empty() {
        exporter.export(&mut batch, LAST_EXPORT_TIMEOUT).await;
    }
}

/// Waits for more until a request is full or time is up.
async fn gather(spans: &mut Receiver<Span>, batch: &mut Vec<Span>) {
    let deadline = tokio::time::Instant::now() + GATHER;
    while batch.len() < BATCH_SPANS_MAX {
        match tokio::time::timeout_at(deadline, spans.recv()).await {
            Ok(Some(span)) => batch.push(span),
            Ok(None) | Err(_) => return,
        }
    }
}

struct Exporter {
    config: TracingConfig,
    metrics: Arc<Metrics>,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// What is told once, not with each request.
    last_error: String,
}

impl Exporter {
    /// Sends the batch and empties it.
    async fn export(&mut self, batch: &mut Vec<Span>, patience: Duration) {
        let count = batch.len() as u64;
        let request = framed(&otlp::request(&self.config, batch));
        batch.clear();
        let result = match timeout(patience, self.send(request)).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("no answer within {patience:?}")),
        };
        match result {
            Ok(()) => {
                self.metrics.spans.sent.add(count);
                self.last_error.clear();
            }
            Err(error) => {
                self.connection = None;
                self.metrics.spans.dropped.add(count);
                let error = format!("{error:#}");
                if error != self.last_error {
                    tracing::warn!(
                        address = self.config.address.as_str(),
                        error,
                        "the collector of traces does not take spans; they are dropped"
                    );
                    self.last_error = error;
                }
            }
        }
    }

    async fn send(&mut self, body: Bytes) -> anyhow::Result<()> {
        let connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => self.connection.insert(connection),
            _ => self.connection.insert(connect(&self.config.address).await?),
        };
        connection.ready().await.context("the connection broke")?;
        let request = Request::post(format!("http://{}{}", self.config.address, otlp::PATH))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(TE, HeaderValue::from_static("trailers"))
            .body(Full::new(body))
            .context("the address makes no URL")?;
        let response = connection.send_request(request).await.context("the request broke")?;
        ensure!(response.status() == StatusCode::OK, "HTTP status {}", response.status());
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("the answer broke")?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let field = |name: &str| trailers.get(name).or_else(|| head.headers.get(name)).and_then(|it| it.to_str().ok());
        match field("grpc-status") {
            Some("0") => Ok(()),
            status => bail!("gRPC status {}: {}", status.unwrap_or("missing"), field("grpc-message").unwrap_or("")),
        }
    }
}

async fn connect(address: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.context("it does not speak HTTP/2")?;
    // Ends with the sender, or when it breaks, which the next request meets.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
