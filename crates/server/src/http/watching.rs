//! Further addresses for whoever watches (`--listen-metrics-urls`): `/metrics` and health, nothing else.
//!
//! The invariant: however many connect here, the client port keeps its own room.

use crate::api::ClientSurface;
use crate::connection;
use crate::grpc::body::ReplyBody;
use crate::http::{answer_watching, refusal};
use crate::listen::{Listener, accept_all};
use crate::tls::Accepted;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// Connections to one of these addresses at the most.
const CONNECTIONS_MAX: usize = 256;

/// Serves a listener until the server stops.
pub(crate) async fn serve(listener: Listener, surface: Arc<ClientSurface>, stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stopping = stopped.clone();
    let serve = move |accepted: Accepted| {
        let (surface, stopped) = (surface.clone(), stopped.clone());
        async move {
            let answer = move |request, _| answer(surface.clone(), request);
            // A broken connection is its client's own matter.
            let _ = connection::serve(accepted.stream, answer, stopped).await;
        }
    };
    accept_all(listener, room, stopping, serve).await;
}

async fn answer(surface: Arc<ClientSurface>, request: Request<Incoming>) -> Response<ReplyBody> {
    let query = request.uri().query().unwrap_or("");
    match answer_watching(&surface, request.method(), request.uri().path(), query).await {
        Some(response) => response,
        None => refusal(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}
