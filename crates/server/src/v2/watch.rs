//! `?wait=true`: the head at once, the events as they come, one a line.

use super::json;
use crate::api::{ClientSurface, Stopping};
use crate::grpc::body::ReplyBody;
use bytes::Bytes;
use futures::stream;
use quorate_store::v2::{Fault, Taken, WatchSpec, Watcher};
use std::sync::Arc;
use tokio::sync::Notify;

struct Waiting {
    watcher: Watcher,
    woken: Arc<Notify>,
    stopping: Stopping,
}

/// Begins to watch: the tree's index, and the body that ends with the watcher or when the server stops.
pub(super) fn begin(surface: &ClientSurface, spec: &WatchSpec, stopping: Stopping) -> Result<(u64, ReplyBody), Fault> {
    let woken = Arc::new(Notify::new());
    let wake = woken.clone();
    let watcher = surface.backend.reader().v2_watch(spec, Box::new(move || wake.notify_one()))?;
    let index = watcher.index;
    let lines = stream::unfold(Waiting { watcher, woken, stopping }, |mut waiting| async move {
        let line = waiting.next().await?;
        Some((line, waiting))
    });
    Ok((index, ReplyBody::Text(Box::pin(lines))))
}

impl Waiting {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.watcher.take() {
                Taken::Event(event) => return Some(json::event(&event, true).into()),
                Taken::End => return None,
                Taken::Nothing => {}
            }
            tokio::select! {
                () = self.woken.notified() => {}
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
    }
}
