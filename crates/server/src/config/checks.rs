//! From given values to a consistent [`Config`]: defaults, derived values, and every rule between settings.

use super::duration;
use super::integrity::{self, IntegritySettings};
use super::operability::{self, Operability};
use super::parse::{Values, parse_bool};
use super::security::{self, Listening};
use super::table::find;
use super::urls::{self, Address};
use crate::auth::options::{self, TokenOptions};
use crate::connection::ConnectionSettings;
use crate::http::{Allowed, HttpSettings};
use crate::tls::TlsSettings;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `--quota-backend-bytes=0` means this many.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// Longer election timeouts are refused, as in etcd.
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
/// Larger requests are refused: one must fit a segment of the log and a frame between members, several times.
const REQUEST_BYTES_MAX: u64 = 16 << 20;

/// What a member is told when it starts. Consistent: nothing below checks it again.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--name`.
    pub name: String,
    /// `--data-dir`, resolved.
    pub data_dir: PathBuf,
    /// `--wal-dir`.
    pub wal_dir: Option<PathBuf>,
    /// Where clients connect.
    pub listen_client_urls: Vec<Address>,
    /// Where pages and the JSON gateway are served; empty: where clients connect.
    pub listen_client_http_urls: Vec<Address>,
    /// Where clients are told to connect.
    pub advertise_client_urls: Vec<String>,
    /// Where members connect.
    pub listen_peer_urls: Vec<Address>,
    /// Where members are told to connect.
    pub initial_advertise_peer_urls: Vec<String>,
    /// Names and peer URLs (sorted) of the first members.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    /// How a member without data learns of the first members.
    pub finding: Finding,
    /// Whether the cluster is new.
    pub initial_cluster_state: InitialClusterState,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// `--heartbeat-interval`, ms.
    pub heartbeat_interval_ms: u64,
    /// `--election-timeout`, ms.
    pub election_timeout_ms: u64,
    /// `--snapshot-count`.
    pub snapshot_count: u64,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--quota-backend-bytes`, resolved; 0: no limit.
    pub quota_bytes: u64,
    /// What is done for the data.
    pub integrity: IntegritySettings,
    /// `--watch-progress-notify-interval`.
    pub progress_interval: Duration,
    /// What HTTP serves on the client port, and to whom.
    pub http: HttpSettings,
    /// How clients' connections are kept.
    pub connection: ConnectionSettings,
    /// `--log-level`.
    pub log_level: String,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `--log-outputs`.
    pub log_outputs: Vec<String>,
    /// `--auth-token`, with `--auth-token-ttl`.
    pub tokens: TokenOptions,
    /// `--bcrypt-cost`, unchecked.
    pub bcrypt_cost: u64,
    /// `--unsafe-no-fsync`.
    pub unsafe_no_fsync: bool,
    /// How it is watched over.
    pub operability: Operability,
    /// TLS of the listeners for clients.
    pub client_tls: TlsSettings,
    /// TLS among members.
    pub peer_tls: TlsSettings,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// `--max-learners`.
    pub max_learners: usize,
    /// `--force-new-cluster`.
    pub force_new_cluster: bool,
    /// What is to be logged about the settings themselves.
    pub notes: Vec<Note>,
}

/// How a member without data learns of the first members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// By `--initial-cluster`.
    Listed,
    /// `--discovery`: they tell each other at this URL of a v2 store.
    Service(String),
    /// `--discovery-srv` and `--discovery-srv-name`.
    Dns {
        /// Whose records count.
        domain: String,
        /// What follows the service's usual name; empty: nothing.
        service_name: String,
    },
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    /// The members of `--initial-cluster` make it together.
    New,
    /// This member was added to it.
    Existing,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Console,
}

/// A remark about the settings, logged once the log is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is more than information.
    pub is_warning: bool,
    /// What.
    pub text: String,
    /// Which flag, variable, key or file.
    pub subject: String,
}

impl Note {
    pub(crate) fn warning(text: &str, subject: String) -> Self {
        Self { is_warning: true, text: text.to_owned(), subject }
    }
    pub(crate) fn information(text: &str, subject: String) -> Self {
        Self { is_warning: false, text: text.to_owned(), subject }
    }
}

/// Values by the names of their flags, defaults filled in.
pub(super) struct Lookup<'a>(&'a Values);

impl Lookup<'_> {
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|text| !text.is_empty())
    }
    pub(super) fn text(&self, name: &'static str) -> &str {
        let default = find(name).expect("a flag of the table").default;
        self.0.get(name).map_or(default, String::as_str)
    }
    pub(super) fn number(&self, name: &'static str) -> i128 {
        self.text(name).parse().expect("checked by the flag's kind")
    }
    pub(super) fn unsigned(&self, name: &'static str) -> u64 {
        u64::try_from(self.number(name)).expect("checked by the flag's kind")
    }
    pub(super) fn switch(&self, name: &'static str) -> bool {
        parse_bool(self.text(name)).expect("checked by the flag's kind")
    }
    /// What is below zero counts as zero.
    pub(super) fn duration(&self, name: &'static str) -> Duration {
        let nanoseconds = duration::parse_nanoseconds(self.text(name)).expect("checked by the flag's kind");
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
    }
    /// Refuses a duration that is not above zero.
    fn check_above_zero(&self, name: &'static str) -> Result<(), String> {
        let nanoseconds = duration::parse_nanoseconds(self.text(name)).expect("checked by the flag's kind");
        if nanoseconds > 0 {
            return Ok(());
        }
        let sign = if nanoseconds < 0 { "-" } else { "" };
        let amount = duration::text(Duration::from_nanos(nanoseconds.unsigned_abs()));
        Err(format!("--{name} must be >0 (set to {sign}{amount})"))
    }
    pub(super) fn urls(&self, name: &'static str) -> Vec<String> {
        match self.text(name) {
            "" => Vec::new(),
            text => urls::parse_list(text).expect("checked by the flag's kind"),
        }
    }
}

/// Applies defaults and rules; the error is in etcd's words where etcd has the rule.
pub(crate) fn resolve(values: &Values, mut notes: Vec<Note>) -> Result<Config, String> {
    let given = Lookup(values);
    let name = given.text("name").to_owned();
    let data_dir = match given.text("data-dir") {
        "" => format!("{name}.etcd"),
        folder => folder.to_owned(),
    };
    let heartbeat_interval_ms = given.unsigned("heartbeat-interval");
    let election_timeout_ms = given.unsigned("election-timeout");
    if heartbeat_interval_ms == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election_timeout_ms == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if heartbeat_interval_ms.saturating_mul(5) > election_timeout_ms {
        return Err(format!(
            "--election-timeout[{election_timeout_ms}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat_interval_ms}ms]"
        ));
    }
    if election_timeout_ms > ELECTION_TIMEOUT_MS_MAX {
        return Err(format!(
            "--election-timeout[{election_timeout_ms}ms] is too long, and should be set less than \
             {ELECTION_TIMEOUT_MS_MAX}ms"
        ));
    }
    let max_request_bytes = given.unsigned("max-request-bytes");
    if max_request_bytes > REQUEST_BYTES_MAX {
        return Err(format!("--max-request-bytes[{max_request_bytes}] must be at most {REQUEST_BYTES_MAX}"));
    }
    let listen_client_urls = listen(&given.urls("listen-client-urls"))?;
    let listen_client_http_urls = listen(&given.urls("listen-client-http-urls"))?;
    if let Some(url) =
        listen_client_http_urls.iter().find(|url| listen_client_urls.iter().any(|it| it.is_same_place(url)))
    {
        return Err(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
        ));
    }
    let listen_peer_urls = listen(&given.urls("listen-peer-urls"))?;
    if listen_client_urls.is_empty() || listen_peer_urls.is_empty() {
        return Err("no valid URLs given".to_owned());
    }
    if given.is_given("listen-client-urls") && !given.is_given("advertise-client-urls") {
        return Err("--advertise-client-urls is required when --listen-client-urls is set explicitly".to_owned());
    }
    let initial_advertise_peer_urls = given.urls("initial-advertise-peer-urls");
    let initial_cluster_text = if given.is_given("initial-cluster") {
        given.text("initial-cluster").to_owned()
    } else {
        initial_advertise_peer_urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    };
    if given.text("discovery-fallback") == "proxy" {
        return Err("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"".to_owned());
    }
    given.check_above_zero("compact-hash-check-time")?;
    let quota_bytes = match given.number("quota-backend-bytes") {
        0 => QUOTA_BYTES_DEFAULT,
        bytes => u64::try_from(bytes).unwrap_or(0),
    };
    let progress_interval = match given.duration("watch-progress-notify-interval") {
        Duration::ZERO => return Err("--watch-progress-notify-interval must be >0".to_owned()),
        interval => interval,
    };
    let operability = operability::resolve(&given, &mut notes)?;
    let data_dir = PathBuf::from(data_dir);
    let for_clients: Vec<Address> = listen_client_urls.iter().chain(&listen_client_http_urls).cloned().collect();
    let listening =
        Listening { client: &for_clients, peer: &listen_peer_urls, metrics: &operability.listen_metrics_urls };
    let (client_tls, peer_tls) = security::resolve(&given, &data_dir, &listening, &mut notes)?;
    let mut unknown = Vec::new();
    let tokens = options::parse(given.text("auth-token"), given.unsigned("auth-token-ttl"), &mut unknown)?;
    notes.extend(unknown.into_iter().map(|setting| Note::warning("unknown JWT option", setting)));
    Ok(Config {
        data_dir,
        wal_dir: Some(given.text("wal-dir")).filter(|folder| !folder.is_empty()).map(PathBuf::from),
        listen_client_urls,
        listen_client_http_urls,
        advertise_client_urls: given.urls("advertise-client-urls"),
        listen_peer_urls,
        initial_advertise_peer_urls,
        initial_cluster: parse_cluster(&initial_cluster_text)?,
        finding: finding(&given)?,
        initial_cluster_state: match given.text("initial-cluster-state") {
            "existing" => InitialClusterState::Existing,
            _ => InitialClusterState::New,
        },
        initial_cluster_token: given.text("initial-cluster-token").to_owned(),
        heartbeat_interval_ms,
        election_timeout_ms,
        snapshot_count: given.unsigned("snapshot-count"),
        max_request_bytes: usize::try_from(max_request_bytes).expect("bounded above"),
        max_txn_ops: usize::try_from(given.unsigned("max-txn-ops")).unwrap_or(usize::MAX),
        quota_bytes,
        integrity: integrity::resolve(&given, &operability.features),
        progress_interval,
        tokens,
        bcrypt_cost: given.unsigned("bcrypt-cost"),
        http: HttpSettings {
            origins: match given.text("cors") {
                "*" => Allowed::Any,
                _ => Allowed::parse(&given.urls("cors").join(",")),
            },
            hosts: Allowed::parse(given.text("host-whitelist")),
            gateway: given.switch("enable-grpc-gateway"),
            v2: given.switch("enable-v2"),
        },
        connection: connection_settings(&given),
        log_level: given.text("log-level").to_owned(),
        log_format: if given.text("log-format") == "console" { LogFormat::Console } else { LogFormat::Json },
        log_outputs: operability::log_outputs(given.text("log-outputs"))?,
        unsafe_no_fsync: given.switch("unsafe-no-fsync"),
        strict_reconfig_check: given.switch("strict-reconfig-check"),
        max_learners: usize::try_from(given.number("max-learners")).unwrap_or(0),
        force_new_cluster: given.switch("force-new-cluster"),
        operability,
        client_tls,
        peer_tls,
        name,
        notes,
    })
}

/// There is one way to find the others.
fn finding(given: &Lookup<'_>) -> Result<Finding, String> {
    let (service, domain) = (given.text("discovery"), given.text("discovery-srv"));
    let ways = [given.is_given("initial-cluster"), !service.is_empty(), !domain.is_empty()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        let other = if service.is_empty() { "discovery-endpoints" } else { "discovery" };
        return Err(format!(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"{other}\" or \
             \"discovery-srv\""
        ));
    }
    Ok(match (service, domain) {
        ("", "") => Finding::Listed,
        ("", domain) => {
            Finding::Dns { domain: domain.to_owned(), service_name: given.text("discovery-srv-name").to_owned() }
        }
        (service, _) => Finding::Service(service.to_owned()),
    })
}

/// As gRPC-Go reads them: what is not above zero leaves its defaults.
fn connection_settings(given: &Lookup<'_>) -> ConnectionSettings {
    let defaults = ConnectionSettings::default();
    let streams = u32::try_from(given.unsigned("max-concurrent-streams")).expect("checked by the flag's kind");
    let above_zero = |name| Some(given.duration(name)).filter(|duration| !duration.is_zero());
    let keep_alive = above_zero("grpc-keepalive-interval").zip(above_zero("grpc-keepalive-timeout"));
    let (keep_alive_interval, keep_alive_timeout) =
        keep_alive.unwrap_or((defaults.keep_alive_interval, defaults.keep_alive_timeout));
    ConnectionSettings {
        concurrent_streams_max: if streams == 0 { u32::MAX } else { streams },
        keep_alive_interval: keep_alive_interval.max(Duration::from_secs(1)),
        keep_alive_timeout,
        ping_interval_min: above_zero("grpc-keepalive-min-time").unwrap_or(defaults.ping_interval_min),
    }
}

fn listen(list: &[String]) -> Result<Vec<Address>, String> {
    list.iter()
        .map(|url| {
            let address = urls::parse(url)?;
            if address.is_bindable() { Ok(address) } else { Err(format!("expected IP in URL for binding ({url})")) }
        })
        .collect()
}

/// `a=http://x:1,a=http://x:2,b=http://y:1` to names with sorted URLs.
pub(crate) fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, url) = (name.trim(), url.trim());
        if name.is_empty() || url.is_empty() {
            return Err(format!("error setting up initial cluster: empty URL given for {name:?}"));
        }
        urls::parse(url).map_err(|reason| format!("error setting up initial cluster: {reason}"))?;
        members.entry(name.to_owned()).or_default().push(url.to_owned());
    }
    for urls in members.values_mut() {
        urls.sort();
    }
    Ok(members)
}

impl Config {
    /// What a member without data must fulfil to help make a new cluster; etcd's words.
    pub fn verify_bootstrap(&self) -> Result<(), String> {
        if self.initial_cluster.is_empty() {
            return Err("initial cluster unset and no discovery URL found".to_owned());
        }
        let Some(own) = self.initial_cluster.get(&self.name) else {
            return Err(format!("couldn't find local name {:?} in the initial cluster configuration", self.name));
        };
        let named = |urls: Vec<&String>| urls.iter().map(|url| format!("{}={url}", self.name)).collect::<Vec<_>>();
        let advertised = &self.initial_advertise_peer_urls;
        let missing: Vec<&String> = own.iter().filter(|url| !advertised.contains(url)).collect();
        if !missing.is_empty() {
            return Err(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
                named(missing).join(","),
                advertised.join(",")
            ));
        }
        let missing: Vec<&String> = advertised.iter().filter(|url| !own.contains(url)).collect();
        if !missing.is_empty() {
            return Err(format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                missing.iter().map(|url| url.as_str()).collect::<Vec<_>>().join(","),
                named(own.iter().collect()).join(",")
            ));
        }
        self.verify_distinct_urls()
    }

    /// What a member without data must fulfil to join a running cluster; etcd's words.
    pub fn verify_join(&self) -> Result<(), String> {
        if !self.initial_cluster.contains_key(&self.name) {
            return Err(format!("couldn't find local name {:?} in the initial cluster configuration", self.name));
        }
        self.verify_distinct_urls()
    }

    fn verify_distinct_urls(&self) -> Result<(), String> {
        let mut seen = std::collections::BTreeSet::new();
        if !self.initial_cluster.values().flatten().all(|url| seen.insert(url)) {
            let pairs: Vec<String> = self
                .initial_cluster
                .iter()
                .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
                .collect();
            return Err(format!("initial cluster {} has duplicate url", pairs.join(",")));
        }
        Ok(())
    }
}
