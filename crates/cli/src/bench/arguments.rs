//! The options of `quorate bench` and their checks.
//!
//! It owns what a user may write and turns it into [`Action`], which cannot be wrong; nothing behind it checks again.
//! The invariant: whatever the options say, the generator's own memory and connections stay below the bounds here.

use super::compare::{Clusters, Pair, Plan, Sides};
use super::payload::{STAMP_BYTES, Shape, digits};
use super::schedule::{Limit, Pace};
use crate::ctl::client::{TlsFiles, Verification};
use clap::builder::RangedU64ValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const CONNECTIONS_MAX: u64 = 10_000;
const CLIENTS_MAX: u64 = 100_000;
const WATCHERS_MAX: u64 = 1_000_000;
const TOTAL_MAX: u64 = 1_000_000_000_000;
const KEY_SPACE_MAX: u64 = 100_000_000;
const KEY_SIZE_MAX: u64 = 64 << 10;
const VALUE_SIZE_MAX: u64 = 64 << 20;
const RATE_MAX: f64 = 1e8;
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

const CLIENTS_DEFAULT: u64 = 64;
const CONNECTIONS_DEFAULT_MAX: u64 = 8;
const TOTAL_DEFAULT: u64 = 10_000;
const ENDPOINT_DEFAULT: &str = "127.0.0.1:2379";

const EXAMPLES: &str = "\
Examples:
  Ten thousand puts from 64 clients (the default) on a server of this machine:
    quorate bench put

  Linearizable reads of single keys, for 30 seconds, after writing every key once:
    quorate bench range --fill --key-space 100000 --duration 30s

  The latency of puts at a load that the server can carry, rather than at its limit:
    quorate bench put --rate 2000 --duration 1m

  Four reads to each write, as JSON:
    quorate bench mixed --reads 4 --writes 1 --fill -w json

  1,000 watchers over 20 connections, each to be told of 200 puts:
    quorate bench watch --watchers 1000 --connections 20 --total 200

  A cluster with TLS and users:
    quorate bench put --endpoints https://10.0.0.1:2379 --cacert ca.pem --user root:secret

  Two server programs on the same work, each on three fresh members, three times in turn:
    quorate bench compare --binary-a ./etcd --binary-b ./quorate --members 3 --rounds 3 put --total 100000

Latencies are those of the calls that succeeded. With --rate they count from when a call was due, so that a server which
stalls for a second shows as such in all calls of that second. Calls that failed are counted by the text of their
status, and after an Unavailable the client waits 10 ms before its next call.

Exit code: 0 measured, 1 nothing succeeded or watch events were lost, 2 wrong usage.";

const COMPARE_EXAMPLES: &str = "\
Examples:
  Two running servers:
    quorate bench compare --a 10.0.0.1:2379 --b 10.0.0.2:2379 put --total 50000

  Two programs on one fresh member each, five times in turn, as a Markdown table:
    quorate bench compare --binary-a ./etcd --binary-b ./quorate --rounds 5 -w markdown put --total 100000

  The options of the work come after its name. How noisy is this machine? Compare a program with itself:
    quorate bench compare --binary-a ./etcd --binary-b ./etcd range --consistency s

Each round runs the work on A, then on B. The table gives the median of the rounds with the lowest and the highest in
brackets, and the median of the ratios A / B of each round. With --binary-a and --binary-b each run has a fresh cluster
on loopback; range and mixed then write every key once before they are measured. CPU time is that of all members while
the work runs, from /proc; memory (the peak since start) and disk are those of the largest member. A program named
`quorate` is started as `quorate server`.";

/// Measures a server that speaks etcd's v3 API.
#[derive(Parser, Debug)]
#[command(name = "bench", bin_name = "quorate bench", no_binary_name = true, after_help = EXAMPLES)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    action: ActionArguments,
    /// How to print the result; markdown is for compare
    #[arg(short = 'w', long, global = true, value_enum, default_value_t = Format::Simple)]
    write_out: Format,
    /// Show no progress line (there is none unless stderr is a terminal)
    #[arg(long, global = true)]
    no_progress: bool,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Simple,
    Json,
    Markdown,
}

#[derive(Subcommand, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each process")]
enum ActionArguments {
    #[command(flatten)]
    Work(WorkArguments),
    /// Run the same work in turn on two servers or two server programs and print the ratios
    #[command(after_help = COMPARE_EXAMPLES, subcommand_value_name = "WORK", subcommand_help_heading = "Work")]
    Compare(CompareArguments),
}

#[derive(Subcommand, Clone, Debug)]
enum WorkArguments {
    /// Write single keys
    Put {
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Read single keys, or all keys of the prefix
    Range {
        #[command(flatten)]
        consistency: ConsistencyArguments,
        /// Read all keys that start with --key-prefix in each call
        #[arg(long)]
        prefix: bool,
        /// With --prefix: return at most this many keys (0: all)
        #[arg(long, value_name = "N", requires = "prefix", default_value_t = 0, value_parser = ranged(0, i64::MAX as u64))]
        limit: u64,
        /// Ask for the number of keys only
        #[arg(long)]
        count_only: bool,
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Guarded updates: if the key's mod revision is the one last seen then put, else get
    Txn {
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Watchers of one prefix: how fast are events delivered to all of them
    Watch {
        /// Watchers, spread over the connections; the writers (--clients) have connections of their own
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = ranged(1, WATCHERS_MAX))]
        watchers: u64,
        #[command(flatten)]
        load: LoadArguments,
    },
    /// The time from sending a put to seeing its event; each client watches one key of its own
    WatchLatency {
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Lease cycles: grant, keep alive once, revoke (three calls; --total and --rate count cycles)
    Lease {
        /// The time to live to ask for, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = ranged(1, 9_000_000_000))]
        ttl: u64,
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Reads and writes of single keys in a given ratio
    Mixed {
        /// Parts of the calls that read
        #[arg(long, value_name = "PARTS", default_value_t = 4, value_parser = ranged(0, 1_000_000))]
        reads: u64,
        /// Parts of the calls that write
        #[arg(long, value_name = "PARTS", default_value_t = 1, value_parser = ranged(0, 1_000_000))]
        writes: u64,
        #[command(flatten)]
        consistency: ConsistencyArguments,
        #[command(flatten)]
        load: LoadArguments,
    },
}

#[derive(Args, Clone, Debug)]
struct ConsistencyArguments {
    /// l: linearizable reads; s: serializable reads, which one member answers alone
    #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
    consistency: Consistency,
}

/// What a read may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consistency {
    #[value(name = "l")]
    Linearizable,
    #[value(name = "s")]
    Serializable,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
struct LoadArguments {
    /// Client URLs of the servers, separated by commas [default: 127.0.0.1:2379]
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// Connections, spread over the endpoints [default: as many as clients (watch: watchers), at most 8]
    #[arg(long, value_name = "N", value_parser = ranged(1, CONNECTIONS_MAX))]
    connections: Option<u64>,
    /// Clients, spread over the connections; each has one call under way at a time [default: 64; watch 8, watch-latency 1]
    #[arg(long, value_name = "N", value_parser = ranged(1, CLIENTS_MAX))]
    clients: Option<u64>,
    /// End after this many calls over all clients [default: 10000]
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = ranged(1, TOTAL_MAX))]
    total: Option<u64>,
    /// End after this time, such as 500ms, 30s or 2m
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Begin this many calls each second over all clients (0: as fast as possible)
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0.0, value_parser = parse_rate)]
    rate: f64,
    /// Bytes of each key
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = ranged(1, KEY_SIZE_MAX))]
    key_size: u64,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = ranged(0, VALUE_SIZE_MAX))]
    value_size: u64,
    /// How many different keys are used, chosen evenly
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = ranged(1, KEY_SPACE_MAX))]
    key_space: u64,
    /// What every key starts with
    #[arg(long, value_name = "TEXT", default_value = "bench/")]
    key_prefix: String,
    /// Write every key of the key space once before measuring
    #[arg(long)]
    fill: bool,
    /// Where the choice of keys and values starts; the same seed makes the same requests
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Count a call as failed that has no answer within this time
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Threads of the generator [default: half of the processors]
    #[arg(long, value_name = "N", value_parser = ranged(1, 1024))]
    threads: Option<u64>,
    #[command(flatten)]
    access: AccessArguments,
}

/// How a server is spoken to, as of `quorate ctl`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
struct AccessArguments {
    /// File of the authorities whose servers are trusted (TLS)
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    cacert: String,
    /// File of this client's certificate (TLS)
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true, requires = "key")]
    cert: String,
    /// File of the certificate's key
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true, requires = "cert")]
    key: String,
    /// Do not verify the servers' certificates (TLS); for tests only
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// As whom to call
    #[arg(long, value_name = "NAME[:PASSWORD]", default_value = "", hide_default_value = true)]
    user: String,
    /// The user's password
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    password: String,
}

/// How a server is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) files: TlsFiles,
    /// Name and password; neither is empty.
    pub(crate) user: Option<(String, String)>,
}

impl AccessArguments {
    fn checked(&self) -> Result<Access, String> {
        let verification = if self.insecure_skip_tls_verify { Verification::Skipped } else { Verification::Required };
        let files = TlsFiles {
            cert: self.cert.clone(),
            key: self.key.clone(),
            cacert: self.cacert.clone(),
            verification,
            ..TlsFiles::default()
        };
        let (name, password) = match self.user.split_once(':') {
            _ if !self.password.is_empty() => (self.user.as_str(), self.password.as_str()),
            Some(both) => both,
            None => (self.user.as_str(), ""),
        };
        let user = match (name, password) {
            ("", "") => None,
            ("", _) | (_, "") => return Err("--user takes NAME:PASSWORD, or --password beside it".to_owned()),
            (name, password) => Some((name.to_owned(), password.to_owned())),
        };
        Ok(Access { files, user })
    }
}

#[derive(Args, Debug)]
struct CompareArguments {
    /// Client URLs of running server A, separated by commas
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    a: Vec<String>,
    /// Client URLs of running server B, separated by commas
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    b: Vec<String>,
    /// Server program A
    #[arg(long, value_name = "FILE")]
    binary_a: Option<PathBuf>,
    /// Server program B
    #[arg(long, value_name = "FILE")]
    binary_b: Option<PathBuf>,
    /// What the table calls A [default: the program's or the server's name]
    #[arg(long, value_name = "TEXT")]
    name_a: Option<String>,
    /// What the table calls B
    #[arg(long, value_name = "TEXT")]
    name_b: Option<String>,
    /// Members of each cluster that is started: 1 or 3 [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_members)]
    members: Option<u64>,
    /// How many times the work runs on each side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = ranged(1, 1000))]
    rounds: u64,
    /// One more argument for both server programs; may be repeated
    #[arg(long = "server-argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arguments: Vec<String>,
    /// Where the clusters' temporary folders are made: choose a folder on the disk to measure [default: the system's]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Leave the data and the logs of the servers where they are
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    work: WorkArguments,
}

/// What each call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Put,
    /// Writes key number `n` in call number `n`.
    Fill,
    Range {
        consistency: Consistency,
        extent: Extent,
        answer: Answer,
    },
    Txn,
    /// At least as many watchers as connections.
    Watch {
        watchers: usize,
    },
    WatchLatency,
    Lease {
        ttl_s: i64,
    },
    /// Not both are 0.
    Mixed {
        reads: u64,
        writes: u64,
        consistency: Consistency,
    },
}

/// What one range call covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Key,
    /// All keys of the prefix, at most `limit` of them unless that is 0.
    Prefix {
        limit: i64,
    },
}

/// What one range call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Pairs,
    Count,
}

/// Whether the key space is written before the measured part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preparation {
    None,
    Fill,
}

/// How much of the work there is and how it is offered. All numbers are at least 1, and `clients >= connections` unless
/// the work is [`Work::Watch`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) clients: usize,
    pub(crate) limit: Limit,
    pub(crate) pace: Pace,
    pub(crate) shape: Shape,
    pub(crate) preparation: Preparation,
    pub(crate) timeout: Duration,
    pub(crate) threads: usize,
    pub(crate) access: Access,
}

/// What the user asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) action: Action,
    pub(crate) format: Format,
    /// Whether a progress line is wanted where it can be shown.
    pub(crate) progress_wanted: bool,
    pub(crate) threads: usize,
}

#[derive(Debug)]
pub(crate) enum Action {
    Measure { work: Work, load: Load, endpoints: Vec<String> },
    Compare(Plan),
}

/// Reads the arguments after `quorate bench`.
///
/// # Errors
/// Wrong usage, and the help texts, both ready to be printed.
pub(crate) fn parse(arguments: &[String]) -> Result<Request, clap::Error> {
    let line = CommandLine::try_parse_from(arguments)?;
    let refuse = |reason| CommandLine::command().error(clap::error::ErrorKind::ValueValidation, reason);
    let (action, threads) = match &line.action {
        ActionArguments::Work(arguments) => {
            let (work, load) = checked_work(arguments).map_err(refuse)?;
            let threads = load.threads;
            let endpoints = match &arguments.load().endpoints[..] {
                [] => vec![endpoint_url(ENDPOINT_DEFAULT, &load.access).map_err(refuse)?],
                some => endpoint_urls(some, &load.access).map_err(refuse)?,
            };
            (Action::Measure { work, load, endpoints }, threads)
        }
        ActionArguments::Compare(arguments) => {
            let plan = checked_compare(arguments).map_err(refuse)?;
            let threads = plan.load.threads;
            (Action::Compare(plan), threads)
        }
    };
    if line.write_out == Format::Markdown && matches!(action, Action::Measure { .. }) {
        return Err(refuse("-w markdown is for compare".to_owned()));
    }
    Ok(Request { action, format: line.write_out, progress_wanted: !line.no_progress, threads })
}

impl WorkArguments {
    fn load(&self) -> &LoadArguments {
        match self {
            Self::Put { load }
            | Self::Range { load, .. }
            | Self::Txn { load }
            | Self::Watch { load, .. }
            | Self::WatchLatency { load }
            | Self::Lease { load, .. }
            | Self::Mixed { load, .. } => load,
        }
    }

    fn work(&self) -> Work {
        match self {
            Self::Put { .. } => Work::Put,
            Self::Range { consistency, prefix, limit, count_only, .. } => Work::Range {
                consistency: consistency.consistency,
                extent: if *prefix { Extent::Prefix { limit: *limit as i64 } } else { Extent::Key },
                answer: if *count_only { Answer::Count } else { Answer::Pairs },
            },
            Self::Txn { .. } => Work::Txn,
            Self::Watch { watchers, .. } => Work::Watch { watchers: *watchers as usize },
            Self::WatchLatency { .. } => Work::WatchLatency,
            Self::Lease { ttl, .. } => Work::Lease { ttl_s: *ttl as i64 },
            Self::Mixed { reads, writes, consistency, .. } => {
                Work::Mixed { reads: *reads, writes: *writes, consistency: consistency.consistency }
            }
        }
    }
}

fn checked_work(arguments: &WorkArguments) -> Result<(Work, Load), String> {
    let (work, load) = (arguments.work(), arguments.load());
    let clients = load.clients.unwrap_or(match work {
        Work::Watch { .. } => 8,
        Work::WatchLatency => 1,
        _ => CLIENTS_DEFAULT,
    });
    let (users, users_name) = match work {
        Work::Watch { watchers } => (watchers as u64, "watchers"),
        _ => (clients, "clients"),
    };
    let connections = load.connections.unwrap_or(users.min(CONNECTIONS_DEFAULT_MAX));
    if connections > users {
        return Err(format!("{connections} connections but only {users} {users_name}: some would carry nothing"));
    }
    let (prefix, number_digits) = (&load.key_prefix, digits(load.key_space - 1));
    if prefix.is_empty() {
        return Err("--key-prefix must not be empty: what other users keep in the cluster must stay apart".to_owned());
    }
    if (prefix.len() + number_digits) as u64 > load.key_size {
        return Err(format!(
            "--key-size {} is too small for the prefix {prefix:?} and {number_digits} digits",
            load.key_size
        ));
    }
    let stamped = matches!(work, Work::Watch { .. } | Work::WatchLatency);
    if stamped && load.value_size < STAMP_BYTES {
        return Err(format!("--value-size must be at least {STAMP_BYTES}: values carry the time they were sent"));
    }
    if work == Work::WatchLatency && clients > load.key_space {
        return Err(format!("{clients} clients need as many keys, but --key-space is {}", load.key_space));
    }
    if matches!(work, Work::Mixed { reads: 0, writes: 0, .. }) {
        return Err("--reads and --writes must not both be 0".to_owned());
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let load = Load {
        connections: connections as usize,
        clients: clients as usize,
        limit: match load.duration {
            Some(duration) => Limit::Time(duration),
            None => Limit::Calls(load.total.unwrap_or(TOTAL_DEFAULT)),
        },
        pace: if load.rate > 0.0 { Pace::PerSecond(load.rate) } else { Pace::Unpaced },
        shape: Shape {
            key_prefix: prefix.clone(),
            key_size: load.key_size as usize,
            key_space: load.key_space,
            value_size: load.value_size as usize,
            seed: load.seed,
        },
        preparation: if load.fill { Preparation::Fill } else { Preparation::None },
        timeout: load.timeout,
        threads: load.threads.map_or((processors / 2).max(1), |threads| threads as usize),
        access: load.access.checked()?,
    };
    Ok((work, load))
}

fn checked_compare(arguments: &CompareArguments) -> Result<Plan, String> {
    let (work, mut load) = checked_work(&arguments.work)?;
    if !arguments.work.load().endpoints.is_empty() {
        return Err("compare takes its servers from --a and --b, not from --endpoints".to_owned());
    }
    let sides = match (&arguments.a[..], &arguments.b[..], &arguments.binary_a, &arguments.binary_b) {
        (a @ [_, ..], b @ [_, ..], None, None) => {
            let of_clusters = arguments.members.is_some()
                || arguments.folder.is_some()
                || arguments.keep
                || !arguments.server_arguments.is_empty();
            if of_clusters {
                return Err(
                    "--members, --folder, --keep and --server-argument go with --binary-a and --binary-b".into()
                );
            }
            Sides::Running(Pair { a: endpoint_urls(a, &load.access)?, b: endpoint_urls(b, &load.access)? })
        }
        ([], [], Some(a), Some(b)) => {
            for binary in [a, b] {
                if !binary.is_file() {
                    return Err(format!("{} is not a file", binary.display()));
                }
            }
            if matches!(work, Work::Range { .. } | Work::Mixed { .. }) {
                load.preparation = Preparation::Fill;
            }
            Sides::Started(Clusters {
                binaries: Pair { a: a.clone(), b: b.clone() },
                members: arguments.members.unwrap_or(1) as usize,
                server_arguments: arguments.server_arguments.clone(),
                folder: arguments.folder.clone().unwrap_or_else(std::env::temp_dir),
                keep: arguments.keep,
            })
        }
        _ => return Err("give either --a and --b or --binary-a and --binary-b".to_owned()),
    };
    let names = match &sides {
        Sides::Running(endpoints) => Pair { a: endpoints.a.join(","), b: endpoints.b.join(",") },
        Sides::Started(Clusters { binaries, .. }) => Pair { a: file_name(&binaries.a), b: file_name(&binaries.b) },
    };
    let names = Pair { a: arguments.name_a.clone().unwrap_or(names.a), b: arguments.name_b.clone().unwrap_or(names.b) };
    Ok(Plan { sides, names, rounds: arguments.rounds as usize, work, load })
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn endpoint_urls(endpoints: &[String], access: &Access) -> Result<Vec<String>, String> {
    endpoints.iter().map(|endpoint| endpoint_url(endpoint, access)).collect()
}

/// `host:port`, which is spoken to over TLS if anything is said about TLS, or a URL.
fn endpoint_url(endpoint: &str, access: &Access) -> Result<String, String> {
    let endpoint = endpoint.trim().trim_end_matches('/');
    let (scheme, address) = match endpoint.split_once("://") {
        Some((scheme @ ("http" | "https"), address)) => (scheme, address),
        _ if access.files.are_given() => ("https", endpoint),
        _ => ("http", endpoint),
    };
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) if !address.contains('/') => Ok(format!("{scheme}://{address}")),
        _ => Err(format!("{endpoint:?} is no endpoint: write host:port")),
    }
}

fn ranged(from: u64, to: u64) -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(from..=to)
}

fn parse_members(text: &str) -> Result<u64, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("a cluster has 1 or 3 members here".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    // Slower than one call in a thousand seconds is a slip, and would overflow the clock.
    if rate == 0.0 || (0.001..=RATE_MAX).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("must be 0 or from 0.001 to {RATE_MAX}"))
    }
}

/// A number and its unit, as in `500ms`, `1.5s`, `2m` or `1h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit: ms, s, m or h".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let number: f64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let unit_s = match &text[unit_at..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let duration = Duration::try_from_secs_f64(number * unit_s).map_err(|_| wrong())?;
    if duration < Duration::from_millis(1) || duration > DURATION_MAX {
        return Err("must be from 1ms to 720h".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests;
