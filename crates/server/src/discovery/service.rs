//! `--discovery`: the first members tell each other at one URL of etcd's v2 API, which any Quorate serves.
//!
//! Owns the protocol: `_config/size` below the URL says how many there are; each puts a key of its id, with its name and
//! URLs as value; the first of them by creation are the cluster. Invariant: a member's key is made once, and never changed.

use crate::config::{Address, Config, parse_cluster};
use crate::member_ids::member_id;
use crate::peer::ask;
use crate::tls::TlsDialer;
use anyhow::{anyhow, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How long the service may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long one question for the next member is left open.
const WAIT_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a service that could not be asked is asked again; it doubles up to the other.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(16);
/// Members at the most.
const SIZE_MAX: usize = 1_000;

/// Registers this member and waits for the others; all of them by name, each with its sorted peer URLs.
pub(super) async fn join(
    config: &Config,
    url: &str,
    dialer: &TlsDialer,
) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let service = Service { at: parse_service(url)?, dialer };
    let mut own_urls = config.initial_advertise_peer_urls.clone();
    own_urls.sort();
    let id = format!("{:x}", member_id(&own_urls, url));
    let own = own_urls.iter().map(|url| format!("{}={url}", config.name)).collect::<Vec<_>>().join(",");
    service.check(&id).await?;
    service.register(&id, &own).await?;
    tracing::info!("discovery-url" = url, "member-id" = id, "registered with the discovery service");
    loop {
        let Registered { size, members, index } = service.check(&id).await?;
        if members.len() >= size {
            let listed = members.into_iter().take(size).collect::<Vec<_>>().join(",");
            let cluster = parse_cluster(&listed).map_err(|_| anyhow!("discovery: invalid peer URL: {listed}"))?;
            ensure!(cluster.len() == size, "discovery: found duplicate name: {listed}");
            tracing::info!("found-cluster" = listed, "found all members by the discovery service");
            return Ok(cluster);
        }
        tracing::info!(
            "found-peers" = members.len() as u64,
            "needed-peers" = size as u64,
            "waiting for the other members"
        );
        service.wait_for_change(index).await;
    }
}

/// Where the service is.
struct Place {
    address: Address,
    /// Without a slash at its end.
    path: String,
}

fn parse_service(url: &str) -> anyhow::Result<Place> {
    let invalid = || anyhow!("--discovery: {url:?} is no URL of the form http://host:port/v2/keys/PATH");
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    ensure!(matches!(scheme, "http" | "https"), invalid());
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let usual_port = if scheme == "https" { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| invalid())?),
        _ => (authority, usual_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ensure!(!host.is_empty() && !path.trim_matches('/').is_empty(), invalid());
    ensure!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)), invalid());
    let address = Address { scheme: scheme.to_owned(), host, port };
    Ok(Place { address, path: path.trim_end_matches('/').to_owned() })
}

/// What the service knows.
struct Registered {
    size: usize,
    /// By creation.
    members: Vec<String>,
    /// The v2 tree's index.
    index: u64,
}

struct Answer {
    /// Whether an earlier try may have been heard.
    is_repeated: bool,
    status: StatusCode,
    index: u64,
    body: Value,
}

struct Service<'a> {
    at: Place,
    dialer: &'a TlsDialer,
}

impl Service<'_> {
    /// Who is registered; an error when all places are taken by others.
    async fn check(&self, id: &str) -> anyhow::Result<Registered> {
        let config = self.ask(Method::GET, "/_config/size", None).await;
        ensure!(
            config.status != StatusCode::NOT_FOUND,
            "discovery: size key not found: put the number of members at _config/size"
        );
        let size = config.body.pointer("/node/value").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let size: usize =
            size.filter(|size| (1..=SIZE_MAX).contains(size)).ok_or_else(|| anyhow!("discovery: size key is bad"))?;
        let listing = self.ask(Method::GET, "", None).await;
        let text = |node: &Value, name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let nodes = listing.body.pointer("/node/nodes").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut nodes: Vec<(u64, String, String)> = nodes
            .iter()
            .map(|node| {
                let created = node.get("createdIndex").and_then(Value::as_u64).unwrap_or_default();
                let key = text(node, "key");
                (created, key.rsplit('/').next().unwrap_or_default().to_owned(), text(node, "value"))
            })
            .filter(|(_, key, _)| key != "_config")
            .collect();
        nodes.sort();
        let is_among_first = nodes.iter().take(size).any(|(_, key, _)| key == id);
        ensure!(nodes.len() < size || is_among_first, "discovery: cluster is full");
        let members = nodes.into_iter().map(|(_, _, value)| value).collect();
        Ok(Registered { size, members, index: listing.index })
    }

    async fn register(&self, id: &str, value: &str) -> anyhow::Result<()> {
        let mut form = String::from("prevExist=false&value=");
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => form.push(char::from(byte)),
                _ => write!(form, "%{byte:02X}").expect("a string grows"),
            }
        }
        let answer = self.ask(Method::PUT, &format!("/{id}"), Some(form)).await;
        match answer.status {
            status if status.is_success() => Ok(()),
            // The answer to an earlier try was lost.
            StatusCode::PRECONDITION_FAILED if answer.is_repeated => Ok(()),
            StatusCode::PRECONDITION_FAILED => bail!(
                "discovery: found duplicate id: this member was registered before and lost its data. Make a new \
                 discovery URL"
            ),
            status => bail!("discovery: the service answers {status}: {}", answer.body),
        }
    }

    /// Returns when somebody came, or after a while.
    async fn wait_for_change(&self, index: u64) {
        let path = format!("{}?wait=true&recursive=true&waitIndex={}", self.at.path, index + 1);
        let request = Request::get(path).body(Full::default()).expect("checked when it was read");
        if ask(&self.at.address, request, self.dialer, WAIT_PATIENCE).await.is_err() {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Asks until there is an answer: the service may start later than its members.
    async fn ask(&self, method: Method, below: &str, form: Option<String>) -> Answer {
        let mut pause = RETRY_PAUSE;
        let mut is_repeated = false;
        loop {
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("{}{below}", self.at.path))
                .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from(form.clone().unwrap_or_default())))
                .expect("checked when it was read");
            let reason = match ask(&self.at.address, request, self.dialer, ANSWER_PATIENCE).await {
                Ok(answer) if !answer.status.is_server_error() => {
                    let index = answer.headers.get("x-etcd-index").and_then(|value| value.to_str().ok()?.parse().ok());
                    let body = serde_json::from_slice(&answer.body).unwrap_or_default();
                    return Answer { is_repeated, status: answer.status, index: index.unwrap_or_default(), body };
                }
                Ok(answer) => format!("it answers {}", answer.status),
                Err(error) => error.to_string(),
            };
            let seconds = pause.as_secs();
            tracing::warn!(reason, "retry-in-seconds" = seconds, "cannot ask the discovery service");
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(RETRY_PAUSE_MAX);
            is_repeated = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_services_are_taken_apart() {
        let place = parse_service("http://127.0.0.1:2379/v2/keys/discovery/abc/").expect("a URL");
        assert_eq!((place.address.host.as_str(), place.address.port), ("127.0.0.1", 2379));
        assert_eq!(place.path, "/v2/keys/discovery/abc");
        assert_eq!(parse_service("https://[::1]/t").expect("a URL").address.port, 443);
        for wrong in [
            "",
            "abc",
            "ftp://a/b",
            "http://a",
            "http://a/",
            "http:///t",
            "http://a:b/c",
            "http://a/b?c",
            "http://a/b c",
        ] {
            assert!(parse_service(wrong).is_err(), "{wrong}");
        }
    }
}
