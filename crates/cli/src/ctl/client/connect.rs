//! Reaching a cluster: from endpoints to a channel that is up.
//!
//! Not here: what is said over it. The invariant: every connection has windows of 16 MiB and no delay on small
//! packets; with smaller windows a server that answers many small calls ends the connection, and with the delay every
//! second call takes 40 ms.

use std::error::Error;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use super::dial::{Connector, DialError};
use super::target::{Place, Protection, Target};
use super::tls::Tls;
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
/// What requests call a server whose own name is no host's, such as a socket's path.
const NAMELESS: &str = "localhost";

/// The endpoints of one client, and how they are protected: as the first of them asks, all are.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) targets: Vec<Target>,
    pub(crate) tls: Option<Tls>,
}

impl Route {
    /// Reads endpoints, of which there is at least one; `tls` is what the settings say of TLS.
    ///
    /// # Errors
    /// An endpoint that can never be reached, whatever runs there.
    pub(crate) fn read(endpoints: &[String], tls: Option<&Tls>) -> Result<Self, String> {
        let targets: Vec<Target> =
            endpoints.iter().map(|endpoint| Target::read(endpoint)).collect::<Result<_, String>>()?;
        let tls = match targets.first().map(|target| target.protection) {
            Some(Protection::Never) | None => None,
            Some(Protection::IfConfigured) => tls.cloned(),
            Some(Protection::Always) => {
                Some(tls.map_or_else(|| Tls::read(&Default::default()), |tls| Ok(tls.clone()))?)
            }
        };
        Ok(Self { targets, tls })
    }
}

/// Connects to the first target that answers, beginning at `preferred`, for as long as it takes. What failed last is
/// left in `failed`.
///
/// A target that refuses gives way at once, one that stays silent after [`HEAD_START`].
pub(crate) async fn connect_any(
    settings: &Settings,
    route: &Route,
    preferred: usize,
    failed: &mut Option<DialError>,
) -> (usize, Channel) {
    let mut pause = ROUND_PAUSE_MIN;
    loop {
        match connect_round(settings, route, preferred).await {
            Ok(connected) => return connected,
            Err(error) => *failed = Some(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ROUND_PAUSE_MAX);
    }
}

async fn connect_round(settings: &Settings, route: &Route, preferred: usize) -> Result<(usize, Channel), DialError> {
    let number = route.targets.len();
    let mut waiting = (0..number).map(|offset| (preferred + offset) % number);
    let mut attempts = FuturesUnordered::new();
    let mut failed = DialError("no endpoint".to_owned());
    loop {
        match waiting.next() {
            Some(next) => attempts.push(async move {
                let pings = Some((settings.keepalive_time.max(KEEPALIVE_TIME_MIN), settings.keepalive_timeout));
                let target = &route.targets[next];
                (next, connect(target, route.tls.as_ref(), pings, settings.dial_timeout).await)
            }),
            None if attempts.is_empty() => return Err(failed),
            None => {}
        }
        tokio::select! {
            attempt = attempts.select_next_some() => match attempt {
                (endpoint, Ok(channel)) => return Ok((endpoint, channel)),
                (_, Err(error)) => failed = error,
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

/// Connects to one target and waits until its server has greeted. `pings` are how often an idle call is made sure of,
/// and how long an answer may take.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn connect(
    target: &Target,
    tls: Option<&Tls>,
    pings: Option<(Duration, Duration)>,
    timeout: Duration,
) -> Result<Channel, DialError> {
    let (connector, greeted) = Connector::new(target.clone(), tls.cloned());
    let mut endpoint = Endpoint::from(origin(target, "http"))
        .origin(origin(target, if tls.is_some() { "https" } else { "http" }))
        .tcp_nodelay(true)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES);
    if let Some((interval, answer)) = pings {
        endpoint = endpoint.http2_keep_alive_interval(interval).keep_alive_timeout(answer);
    }
    let connecting = async {
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| innermost(&error))?;
        match greeted.await {
            Ok(greeting) => greeting.map(|()| channel),
            Err(_) => Err(DialError("error reading server preface: EOF".to_owned())),
        }
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(DialError(format!("transport: Error while dialing: dial {}: i/o timeout", address(target)))),
    }
}

fn address(target: &Target) -> String {
    match &target.place {
        Place::Tcp(address) => format!("tcp {address}"),
        Place::Unix(path) => format!("unix {}", path.display()),
    }
}

/// What requests say they are addressed to.
fn origin(target: &Target, scheme: &'static str) -> Uri {
    let uri = |name: &str| Uri::builder().scheme(scheme).authority(name).path_and_query("/").build();
    uri(&target.name).or_else(|_| uri(NAMELESS)).expect("a scheme, a host and a path make a URI")
}

/// What lies at the bottom of a transport's error.
fn innermost(error: &tonic::transport::Error) -> DialError {
    let mut deepest: &(dyn Error + 'static) = error;
    loop {
        if let Some(found) = deepest.downcast_ref::<DialError>() {
            return found.clone();
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => return DialError(deepest.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(endpoints: &[&str], tls: Option<&Tls>) -> Result<Route, String> {
        let endpoints: Vec<String> = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
        Route::read(&endpoints, tls)
    }

    #[test]
    fn the_first_endpoint_says_how_all_are_protected() {
        let tls = Tls::read(&Default::default()).expect("nothing to read");
        let is_protected = |endpoints: &[&str], tls| route(endpoints, tls).expect("readable").tls.is_some();
        assert!(!is_protected(&["a:1", "https://b:1"], None));
        assert!(is_protected(&["https://b:1", "a:1"], None));
        assert!(is_protected(&["a:1", "http://b:1"], Some(&tls)));
        assert!(!is_protected(&["http://b:1", "a:1"], Some(&tls)));
        assert!(route(&["a:1", "ftp://b"], None).is_err());
    }

    #[test]
    fn a_servers_name_in_requests() {
        let authority = |endpoint: &str| {
            let target = Target::read(endpoint).expect("readable");
            origin(&target, "https").to_string()
        };
        assert_eq!(authority("https://a.b:1"), "https://a.b:1/");
        assert_eq!(authority("[::1]:7"), "https://[::1]:7/");
        assert_eq!(authority("unix:///run/a b"), "https://localhost/");
    }
}
