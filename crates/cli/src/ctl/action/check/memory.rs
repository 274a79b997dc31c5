//! How much memory a server has, by its metrics.
//!
//! Not here: any other metric. The invariant: the page is asked for over the same kind of connection as calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;

use crate::ctl::client::{Route, dial};
use crate::ctl::settings::Settings;

const METRIC: &str = "process_resident_memory_bytes";
/// The largest page of metrics that is read.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// How long the page may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The memory that the server at an endpoint has in use.
///
/// # Errors
/// Why it is not known, for the user.
pub(super) async fn resident_bytes(settings: &Arc<Settings>, endpoint: &str) -> Result<f64, String> {
    let page = tokio::time::timeout(PATIENCE, page(settings, endpoint)).await;
    let page = page.map_err(|_| "i/o timeout".to_owned()).and_then(|page| page);
    value(&page.map_err(|reason| format!("fetch error: {reason}"))?)
}

async fn page(settings: &Settings, endpoint: &str) -> Result<String, String> {
    let route = Route::read(&[endpoint.to_owned()], settings.tls.as_ref())?;
    let target = route.targets.first().expect("one endpoint was read");
    let tls = route.tls.as_ref().map(|tls| tls.for_http1());
    let stream = dial(target, tls.as_ref()).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends when the answer has been read.
    tokio::spawn(connection);
    let request = Request::get("/metrics").header(header::HOST, &target.name).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let reply = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let body = Limited::new(reply.into_body(), PAGE_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("reading {endpoint}/metrics: {error}"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// Finds the metric on a page.
fn value(page: &str) -> Result<f64, String> {
    let text = page.lines().find_map(|line| line.strip_prefix(METRIC)).map(str::trim).unwrap_or_default();
    match text.parse::<f64>() {
        _ if text.is_empty() => Err(format!("could not find: {METRIC}")),
        Ok(bytes) if bytes > 0.0 => Ok(bytes),
        _ => Err(format!("parse error: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metric_is_found() {
        let page = "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 2.5e+07\nx 1\n";
        assert_eq!(value(page), Ok(2.5e7));
        assert_eq!(value("x 1\n"), Err("could not find: process_resident_memory_bytes".to_owned()));
        assert!(value("process_resident_memory_bytes nothing\n").is_err());
    }
}
