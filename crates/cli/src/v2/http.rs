//! Requests over HTTP/1.1: one endpoint after the other until one answers, in the words of etcd's Go client for v2.
//!
//! Not here: what is asked for. The invariant: credentials are sent only to endpoints that flags or the cluster named.

use crate::ctl::client::{Route, Tls, dial};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom;
use serde_json::Value;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes of an answer at the most.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Redirections at the most.
const REDIRECTS_MAX: usize = 10;

/// Why an endpoint did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    text: String,
    /// Whether nobody was there at all.
    is_connection: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No endpoint answered.
    Cluster(Vec<Miss>),
    /// The time for the whole command is over.
    Deadline,
    /// The cluster publishes no endpoints.
    NoEndpoints,
    /// The server's refusal, or an answer that cannot be understood.
    Refusal(String),
}

impl Display for Fault {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(misses) => {
                out.write_str("client: etcd cluster is unavailable or misconfigured")?;
                misses.iter().enumerate().try_for_each(|(at, miss)| writeln!(out, "; error #{at}: {}", miss.text))
            }
            Self::Deadline => out.write_str("context deadline exceeded"),
            Self::NoEndpoints => out.write_str("client: no endpoints available"),
            Self::Refusal(text) => out.write_str(text),
        }
    }
}

impl Fault {
    /// What etcdctl says in addition.
    pub(crate) fn detail(&self) -> Option<String> {
        let Self::Cluster(misses) = self else { return None };
        Some(misses.iter().enumerate().map(|(at, miss)| format!("error #{at}: {}\n", miss.text)).collect())
    }

    /// Whether nobody could be reached.
    pub(crate) fn is_connection(&self) -> bool {
        match self {
            Self::Cluster(misses) => misses.iter().all(|miss| miss.is_connection),
            Self::Deadline => true,
            _ => false,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    /// With its query.
    pub(crate) path: String,
    /// Kind and text.
    pub(crate) body: Option<(&'static str, String)>,
    /// Whether the answer may take as long as it likes.
    pub(crate) is_wait: bool,
}

impl Asked {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, is_wait: false }
    }

    /// With a document.
    pub(crate) fn json(self, value: &Value) -> Self {
        Self { body: Some(("application/json", value.to_string())), ..self }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `X-Etcd-Index`.
    pub(crate) index: u64,
    pub(crate) body: Bytes,
}

/// The client.
pub(crate) struct Client {
    pub(super) endpoints: Vec<String>,
    pub(super) tls: Option<Tls>,
    /// A name and a password.
    pub(super) credentials: Option<(String, String)>,
    /// For the head of each answer.
    pub(super) timeout: Duration,
    pub(super) debug: bool,
}

/// Bytes as a part of a URL or a form, as Go escapes them in queries.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b' ' => out.push('+'),
            _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Client {
    /// Shuffles the endpoints, as etcd's client does to spread its load.
    pub(super) fn shuffle(&mut self) {
        self.endpoints.shuffle(&mut rand::rng());
    }

    /// Asks one endpoint after the other; `deadline` is for all of it.
    ///
    /// # Errors
    /// No endpoint answered in time.
    pub(crate) async fn ask(&self, asked: &Asked, deadline: Option<Instant>) -> Result<Answer, Fault> {
        let mut misses = Vec::new();
        for endpoint in &self.endpoints {
            if self.debug {
                let data = asked.body.as_ref().map(|(_, text)| format!(" -d {text:?}")).unwrap_or_default();
                eprintln!("cURL Command: curl -X {} {endpoint}{}{data}", asked.method, asked.path);
            }
            let head = (!asked.is_wait && !self.timeout.is_zero()).then(|| Instant::now() + self.timeout);
            let far = Instant::now() + Duration::from_secs(86_400 * 365);
            let until = [head, deadline].into_iter().flatten().min().unwrap_or(far);
            match timeout_at(until, self.follow(endpoint, asked)).await {
                Ok(Ok(answer)) if answer.status / 100 == 5 => {
                    let text = match answer.status {
                        500 | 503 => format!("client: etcd member {endpoint} has no leader"),
                        status => {
                            let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
                            let reason = reason.unwrap_or_default();
                            format!("client: etcd member {endpoint} returns server error [{reason}]")
                        }
                    };
                    misses.push(Miss { text, is_connection: false });
                }
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(miss)) => misses.push(miss),
                Err(_) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return Err(Fault::Deadline),
                Err(_) => {
                    let text = format!("client: endpoint {endpoint} exceeded header timeout");
                    misses.push(Miss { text, is_connection: false });
                }
            }
        }
        Err(Fault::Cluster(misses))
    }

    /// Asks the first endpoint and takes whatever it answers.
    ///
    /// # Errors
    /// Why it did not answer in time.
    pub(crate) async fn ask_raw(&self, asked: &Asked, deadline: Option<Instant>) -> Result<Answer, String> {
        let Some(endpoint) = self.endpoints.first() else { return Err(Fault::NoEndpoints.to_string()) };
        let asking = self.follow(endpoint, asked);
        let answered = match deadline {
            Some(deadline) => timeout_at(deadline, asking).await.map_err(|_| Fault::Deadline.to_string())?,
            None => asking.await,
        };
        answered.map_err(|miss| miss.text)
    }

    async fn follow(&self, endpoint: &str, asked: &Asked) -> Result<Answer, Miss> {
        let mut path = asked.path.clone();
        for _ in 0..=REDIRECTS_MAX {
            match self.once(endpoint, asked, &path).await? {
                Ok(answer) => return Ok(answer),
                Err(location) => path = location,
            }
        }
        Err(Miss { text: "client: too many redirects".to_owned(), is_connection: false })
    }

    /// The answer, or where on the same server it is.
    async fn once(&self, endpoint: &str, asked: &Asked, path: &str) -> Result<Result<Answer, String>, Miss> {
        let other = |text: String| Miss { text, is_connection: false };
        if !endpoint.contains("://") {
            let scheme = endpoint.split(':').next().unwrap_or_default();
            return Err(other(format!("unsupported protocol scheme {scheme:?}")));
        }
        let route = Route::read(&[endpoint.to_owned()], self.tls.as_ref()).map_err(other)?;
        let target = route.targets.first().expect("one endpoint was read");
        let tls = route.tls.as_ref().map(Tls::for_http1);
        let stream = dial(target, tls.as_ref()).await.map_err(|error| {
            let text = error.to_string();
            let text = text.strip_prefix("transport: ").unwrap_or(&text);
            let text = text.strip_prefix("Error while dialing: ").unwrap_or(text);
            Miss { text: text.to_owned(), is_connection: text.starts_with("dial ") }
        })?;
        let read = |error: hyper::Error| Miss {
            text: if error.is_incomplete_message() { "EOF".to_owned() } else { error.to_string() },
            is_connection: !error.is_incomplete_message(),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(read)?;
        // It ends when the answer has been read.
        tokio::spawn(connection);
        let mut request = Request::builder().method(asked.method).uri(path).header(HOST, &target.name);
        if let Some((name, password)) = &self.credentials {
            request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))));
        }
        let mut body = Bytes::new();
        if let Some((kind, text)) = &asked.body {
            request = request.header(CONTENT_TYPE, *kind);
            body = text.clone().into();
        }
        let request = request.body(Full::new(body)).map_err(|error| other(error.to_string()))?;
        let reply = sender.send_request(request).await.map_err(read)?;
        if reply.status().is_redirection() {
            let location = reply.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !location.starts_with('/') {
                return Err(other("location header not set".to_owned()));
            }
            return Ok(Err(location.to_owned()));
        }
        let status = reply.status().as_u16();
        let index = reply.headers().get("x-etcd-index").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(reply.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| other(error.to_string()))?.to_bytes();
        Ok(Ok(Answer { status, index: index.unwrap_or(0), body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_the_clients_words() {
        let miss = |text: &str| Miss { text: text.to_owned(), is_connection: true };
        let fault = Fault::Cluster(vec![miss("a"), miss("b")]);
        let text = "client: etcd cluster is unavailable or misconfigured; error #0: a\n; error #1: b\n";
        assert_eq!(fault.to_string(), text);
        assert_eq!(fault.detail().as_deref(), Some("error #0: a\nerror #1: b\n"));
        assert!(fault.is_connection() && !Fault::NoEndpoints.is_connection());
        assert_eq!(escaped(b"a b/\xff~"), "a+b%2F%FF~");
    }
}
