//! Further addresses for whoever watches (`--listen-metrics-urls`): `/metrics` and health, nothing else.
//!
//! The invariant: however many connect here, the client port keeps its own room.

use crate::api::ClientSurface;
use crate::connection;
use crate::grpc::body::ReplyBody;
use crate::http::{answer_watching, refusal};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Connections to one of these addresses at the most.
const CONNECTIONS_MAX: usize = 256;
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves a listener until the server stops.
pub(crate) async fn serve(listener: TcpListener, surface: Arc<ClientSurface>, stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopping = stopped.clone();
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopped| *stopped) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = error.to_string(), "cannot accept a connection for metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (surface, stopped) = (surface.clone(), stopped.clone());
        tokio::spawn(async move {
            let answer = move |request, _| answer(surface.clone(), request);
            // A broken connection is its client's own matter.
            let _ = connection::serve(stream, answer, stopped).await;
            drop(permit);
        });
    }
}

async fn answer(surface: Arc<ClientSurface>, request: Request<Incoming>) -> Response<ReplyBody> {
    let query = request.uri().query().unwrap_or("");
    match answer_watching(&surface, request.method(), request.uri().path(), query).await {
        Some(response) => response,
        None => refusal(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}
