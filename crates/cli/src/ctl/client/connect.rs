//! Reaching an endpoint: from the text of the command line to a connection.
//!
//! Not here: what is said over it. The invariant: every connection has windows of 16 MiB and no delay on small
//! packets; with smaller windows a server that answers many small calls ends the connection, and with the delay every
//! second call takes 40 ms.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tonic::transport::{Channel, Endpoint};

use crate::command_line::go_text::quote;
use crate::ctl::settings::Settings;

/// HTTP/2 flow control windows, of a stream and of the connection, in bytes.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// How long one endpoint is waited for before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);
/// The pauses between rounds through all endpoints.
const ROUND_PAUSE_MIN: Duration = Duration::from_millis(50);
const ROUND_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Servers end connections that are pinged more often than this.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

/// Says what is wrong with an endpoint that can never be reached, whatever runs there.
///
/// # Errors
/// The reason, for the user.
pub(crate) fn check(endpoint: &str, transport_is_secure: bool) -> Result<(), String> {
    let scheme = scheme(endpoint);
    let quoted = quote(endpoint.as_bytes());
    match scheme {
        Some("https" | "unixs") => Err(format!("endpoint {quoted} needs TLS, which this build does not speak")),
        None if transport_is_secure => Err(format!("endpoint {quoted} needs TLS, which this build does not speak")),
        Some("http" | "unix") | None => Ok(()),
        Some(_) => Err(format!("endpoint {quoted}: the scheme must be http, https, unix, or unixs")),
    }
}

/// The scheme that an endpoint names. A socket's path may follow its scheme without slashes of its own.
fn scheme(endpoint: &str) -> Option<&str> {
    let (scheme, rest) = endpoint.split_once(':')?;
    (rest.starts_with("//") || matches!(scheme, "unix" | "unixs")).then_some(scheme)
}

/// Connects to the first endpoint that answers, beginning at `preferred`, for as long as it takes.
///
/// An endpoint that refuses gives way at once, one that stays silent after [`HEAD_START`].
pub(crate) async fn connect_any(settings: &Settings, endpoints: &[String], preferred: usize) -> (usize, Channel) {
    let mut pause = ROUND_PAUSE_MIN;
    loop {
        if let Some(connected) = connect_round(settings, endpoints, preferred).await {
            return connected;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ROUND_PAUSE_MAX);
    }
}

async fn connect_round(settings: &Settings, endpoints: &[String], preferred: usize) -> Option<(usize, Channel)> {
    let mut waiting = (0..endpoints.len()).map(|offset| (preferred + offset) % endpoints.len());
    let mut attempts = FuturesUnordered::new();
    loop {
        match waiting.next() {
            Some(next) => attempts.push(async move { (next, connect(settings, &endpoints[next]).await) }),
            None if attempts.is_empty() => return None,
            None => {}
        }
        tokio::select! {
            attempt = attempts.select_next_some() => {
                if let (endpoint, Some(channel)) = attempt {
                    return Some((endpoint, channel));
                }
            }
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

async fn connect(settings: &Settings, endpoint: &str) -> Option<Channel> {
    let endpoint = if scheme(endpoint).is_some() { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let endpoint = Endpoint::from_shared(endpoint).ok()?;
    let connecting = endpoint
        .tcp_nodelay(true)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(settings.keepalive_time.max(KEEPALIVE_TIME_MIN))
        .keep_alive_timeout(settings.keepalive_timeout)
        .connect_timeout(settings.dial_timeout)
        .connect()
        .await;
    connecting.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        for good in ["127.0.0.1:2379", "localhost:1", "[::1]:2379", "http://a:1", "unix:///s.sock", "unix:/s.sock"] {
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
        for needs_tls in ["https://a:1", "unixs:///s.sock"] {
            assert!(check(needs_tls, false).expect_err("no TLS").contains("needs TLS"), "{needs_tls}");
        }
        assert!(check("a:1", true).is_err());
        assert_eq!(check("http://a:1", true), Ok(()));
        assert!(check("ftp://a", false).expect_err("no such scheme").contains("the scheme must be"));
        assert_eq!((scheme("a:1"), scheme("unix:s"), scheme("http://a")), (None, Some("unix"), Some("http")));
    }
}
