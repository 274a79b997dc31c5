//! The settings as a user meets them: every form of a flag, every error, every source.

use super::checks::resolve;
use super::parse::{Parsed, Values, check, parse_bool};
use super::{Config, ConfigError, FLAGS, InitialClusterState, Kind, LogFormat, Standing, help_text, parse};
use crate::tls::TlsVersion;
use std::time::Duration;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Parsed, ConfigError> {
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(&strings(arguments), &environment)
}

fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
    match read(arguments, environment) {
        Ok(Parsed::Run(config)) => *config,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn error(arguments: &[&str]) -> ConfigError {
    match read(arguments, &[]) {
        Err(error) => error,
        Ok(parsed) => panic!("{arguments:?}: {parsed:?}"),
    }
}

fn usage(text: &str) -> ConfigError {
    ConfigError::Usage(text.to_owned())
}

fn settings(text: &str) -> ConfigError {
    ConfigError::Settings(text.to_owned())
}

#[test]
fn without_flags_it_is_etcds_default_member() {
    let config = config(&[], &[]);
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("default", Some("default.etcd")));
    assert_eq!(config.listen_client_urls[0].to_string(), "http://localhost:2379");
    assert_eq!(config.listen_peer_urls[0].to_string(), "http://localhost:2380");
    assert_eq!(config.initial_cluster["default"], ["http://localhost:2380"]);
    assert_eq!((config.heartbeat_interval_ms, config.election_timeout_ms), (100, 1000));
    assert_eq!((config.snapshot_count, config.max_txn_ops, config.max_request_bytes), (10_000, 128, 1_572_864));
    assert_eq!((config.quota_bytes, config.progress_interval), (2 << 30, Duration::from_secs(600)));
    assert_eq!(config.initial_cluster_state, InitialClusterState::New);
    assert_eq!(config.log_format, LogFormat::Json);
    assert!(!config.unsafe_no_fsync && config.notes.is_empty());
    assert_eq!(config.verify_bootstrap(), Ok(()));
}

#[test]
fn every_default_is_a_value_of_its_kind() {
    for flag in FLAGS {
        assert_eq!(check(flag, flag.default), Ok(()), "--{}", flag.name);
        assert!(flag.help.ends_with('.'), "--{}", flag.name);
        assert_eq!(FLAGS.iter().filter(|other| other.name == flag.name).count(), 1, "--{}", flag.name);
    }
}

#[test]
fn flags_are_written_as_gos() {
    for arguments in
        [&["--name", "m0"][..], &["-name", "m0"], &["--name=m0"], &["-name=m0"], &["--name=x", "--name", "m0"]]
    {
        assert_eq!(config(arguments, &[]).name, "m0", "{arguments:?}");
    }
    for (arguments, expected) in [
        (&["--unsafe-no-fsync"][..], true),
        (&["--unsafe-no-fsync=true"], true),
        (&["-unsafe-no-fsync=T"], true),
        (&["--unsafe-no-fsync=false"], false),
        (&["--unsafe-no-fsync=0"], false),
        (&["--unsafe-no-fsync", "--name", "false"], true),
    ] {
        assert_eq!(config(arguments, &[]).unsafe_no_fsync, expected, "{arguments:?}");
    }
}

#[test]
fn errors_are_in_etcds_words() {
    for (arguments, expected) in [
        (&["--nosuchflag"][..], "flag provided but not defined: -nosuchflag"),
        (&["-x=1"], "flag provided but not defined: -x"),
        (&["--name"], "flag needs an argument: -name"),
        (&["---name=x"], "bad flag syntax: ---name=x"),
        (&["--=x"], "bad flag syntax: --=x"),
        (&["--snapshot-count=abc"], "invalid value \"abc\" for flag -snapshot-count: parse error"),
        (&["--snapshot-count=-1"], "invalid value \"-1\" for flag -snapshot-count: parse error"),
        (
            &["--snapshot-count=99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -snapshot-count: value out of range",
        ),
        (&["--quota-backend-bytes="], "invalid value \"\" for flag -quota-backend-bytes: parse error"),
        (&["--unsafe-no-fsync=maybe"], "invalid boolean value \"maybe\" for -unsafe-no-fsync: parse error"),
        (
            &["--watch-progress-notify-interval=5"],
            "invalid value \"5\" for flag -watch-progress-notify-interval: parse error",
        ),
        (
            &["--v2-deprecation=not-yet"],
            "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"",
        ),
        (&["--initial-cluster-state=old"], "invalid value \"old\" for flag -initial-cluster-state: invalid value"),
        (
            &["--listen-client-urls=foo"],
            "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo",
        ),
        (
            &["--listen-client-urls=http://localhost"],
            "invalid value \"http://localhost\" for flag -listen-client-urls: URL address does not have the form \
             \"host:port\": http://localhost",
        ),
        (
            &["--listen-peer-urls=http://localhost:1/x"],
            "invalid value \"http://localhost:1/x\" for flag -listen-peer-urls: URL must not contain a path: \
             http://localhost:1/x",
        ),
        (
            &["--feature-gates=Nonsense=true"],
            "invalid value \"Nonsense=true\" for flag -feature-gates: unrecognized feature gate: Nonsense",
        ),
    ] {
        assert_eq!(error(arguments), usage(expected), "{arguments:?}");
    }
    for (arguments, expected) in [
        (&["extra"][..], "\"extra\" is not a valid flag"),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (
            &["--heartbeat-interval=300"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
        ),
        (&["--election-timeout=50001"], "--election-timeout[50001ms] is too long, and should be set less than 50000ms"),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (&["--listen-peer-urls=http://example.com:1"], "expected IP in URL for binding (http://example.com:1)"),
        (&["--tls-min-version=x"], "unexpected TLS version \"x\" (must be one of: TLS1.2, TLS1.3)"),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (&["--cipher-suites=x"], "unexpected TLS cipher suite \"x\""),
        (
            &["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            &["--listen-peer-urls=https://127.0.0.1:1"],
            "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
        ),
        (&["--listen-client-http-urls=http://x:1"], "expected IP in URL for binding (http://x:1)"),
        (
            &["--listen-client-http-urls=https://localhost:2379"],
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url https://localhost:2379",
        ),
        (
            &["--listen-client-http-urls=unixs://x"],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url unixs://x with HTTPS scheme",
        ),
        (&["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (&["--compact-hash-check-time=-90s"], "--compact-hash-check-time must be >0 (set to -1m30s)"),
        (
            &["--discovery=http://a/b", "--discovery-srv=c"],
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\" or \"discovery-srv\"",
        ),
        (
            &["--initial-cluster=default=http://a:1", "--discovery-srv=c"],
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        (
            &["--discovery-fallback=proxy"],
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        (
            &["--auto-tls", "--self-signed-cert-validity=0"],
            "selfSignedCertValidity is invalid,it should be greater than 0",
        ),
    ] {
        assert_eq!(error(arguments), settings(expected), "{arguments:?}");
    }
}

#[test]
fn what_is_dangerous_to_ignore_stops_the_start() {
    let ConfigError::Settings(text) = error(&["--discovery-endpoints=http://x"]) else { panic!("taken") };
    assert!(text.starts_with("--discovery-endpoints is not served"), "{text}");
    for flag in FLAGS.iter().filter(|flag| flag.standing == Standing::Refused) {
        config(&[&format!("--{}={}", flag.name, flag.default)], &[]);
    }
}

#[test]
fn certificates_reach_the_settings() {
    let config = config(
        &[
            "--listen-client-urls=https://127.0.0.1:1,http://127.0.0.1:2",
            "--advertise-client-urls=https://127.0.0.1:1",
            "--cert-file=c",
            "--key-file=k",
            "--trusted-ca-file=a",
            "--client-cert-auth",
            "--client-crl-file=r",
            "--client-cert-allowed-hostname=x,y",
            "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "--tls-max-version=TLS1.2",
            "--listen-peer-urls=https://127.0.0.1:3",
            "--peer-auto-tls",
            "--peer-cert-allowed-cn=z",
            "--self-signed-cert-validity=3",
        ],
        &[],
    );
    let client = &config.client_tls;
    assert_eq!(
        client.to_string(),
        "cert = c, key = k, client-cert=, client-key=, trusted-ca = a, client-cert-auth = true, crl-file = r"
    );
    assert_eq!(client.allowed_hostnames, ["x", "y"]);
    assert_eq!(client.cipher_suites, ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(client.version_max, TlsVersion::Tls12);
    let peer = &config.peer_tls;
    let generated = peer.generated.as_ref().expect("self-made");
    assert!(generated.folder.is_absolute() && generated.folder.ends_with("default.etcd/fixtures/peer"));
    assert_eq!((generated.hosts.as_slice(), generated.validity_years), (&["127.0.0.1".to_owned()][..], 3));
    assert_eq!((peer.allowed_common_names.len(), &peer.cipher_suites), (0, &client.cipher_suites));
    let warnings: Vec<(&str, &str)> = config
        .notes
        .iter()
        .filter(|note| note.is_warning)
        .map(|note| (note.subject.as_str(), note.text.split(" while ").nth(1).unwrap_or("")))
        .collect();
    assert_eq!(
        warnings,
        [
            ("--peer-auto-tls", ""),
            ("http://127.0.0.1:2", "key and cert files are present; ignoring key and cert files"),
            ("http://127.0.0.1:2", "--client-cert-auth is enabled; ignoring client cert auth for this URL"),
        ]
    );
}

#[test]
fn what_has_no_effect_is_said_once() {
    let config = config(&["--backend-batch-limit=5", "--max-snapshots=3", "--pre-vote=true", "--max-wals=5"], &[]);
    let notes: Vec<(bool, &str)> = config.notes.iter().map(|note| (note.is_warning, note.subject.as_str())).collect();
    assert_eq!(notes, [(true, "--max-snapshots"), (false, "--backend-batch-limit")]);
}

#[test]
fn a_flag_beats_its_variable() {
    let config = config(
        &["--name=flag"],
        &[("ETCD_NAME", "variable"), ("ETCD_SNAPSHOT_COUNT", "7"), ("ETCD_VERIFY", "all"), ("ETCD_DATA_DIR", "")],
    );
    assert_eq!((config.name.as_str(), config.snapshot_count), ("flag", 7));
    assert_eq!(config.data_dir.to_str(), Some("flag.etcd"));
    assert!(config.notes.iter().any(|note| note.is_warning && note.subject == "ETCD_VERIFY"));
    let bad = read(&[], &[("ETCD_SNAPSHOT_COUNT", "abc")]).expect_err("bad");
    assert_eq!(bad, settings("invalid value \"abc\" for ETCD_SNAPSHOT_COUNT: parse error"));
}

struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("quorate-config-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("write");
        Self(path)
    }
    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_beats_flags_and_variables() {
    let file = File::new(
        "yaml",
        "name: 'filed'\ndata-dir:\nheartbeat-interval: 50\nelection-timeout: 500\nquota-backend-bytes: -1\n\
         watch-progress-notify-interval: 600000000000\nlisten-peer-urls: http://127.0.0.1:1,http://127.0.0.1:2\n\
         log-outputs: [stderr, stdout]\nunsafe-no-fsync: true\nclient-transport-security:\n  cert-file:\n  \
         client-cert-auth: false\npeer-transport-security:\n  auto-tls: false\nenable-v9: true\n",
    );
    let config = config(&["--config-file", file.path(), "--name=flag"], &[("ETCD_SNAPSHOT_COUNT", "7")]);
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("filed", Some("filed.etcd")));
    assert_eq!((config.heartbeat_interval_ms, config.election_timeout_ms), (50, 500));
    assert_eq!((config.snapshot_count, config.quota_bytes), (10_000, 0));
    assert_eq!((config.progress_interval, config.listen_peer_urls.len()), (Duration::from_secs(600), 2));
    assert_eq!(config.log_outputs, ["stderr", "stdout"]);
    assert!(config.unsafe_no_fsync);
    assert!(config.notes.iter().any(|note| note.subject == "enable-v9"), "unknown keys are told");
}

#[test]
fn a_json_file_and_the_variable_that_names_it_work() {
    let file = File::new("json", "{\"name\": \"filed\", \"snapshot-count\": 9}");
    let config = config(&[], &[("ETCD_CONFIG_FILE", file.path())]);
    assert_eq!((config.name.as_str(), config.snapshot_count), ("filed", 9));
}

#[test]
fn a_wrong_file_says_what_is_wrong() {
    for (name, text, expected) in [
        ("duration", "watch-progress-notify-interval: 10m", "expected whole nanoseconds"),
        ("value", "snapshot-count: abc", "snapshot-count: parse error"),
        ("list", "- a", "expected keys and values"),
        ("tls", "tls-min-version: TLS1.1", "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"),
    ] {
        let file = File::new(name, text);
        let ConfigError::Settings(text) = error(&["--config-file", file.path()]) else { panic!("{name}") };
        assert!(text.contains(expected), "{name}: {text}");
    }
    assert!(matches!(error(&["--config-file", "/nonexistent/file"]), ConfigError::Settings(_)));
}

#[test]
fn the_cluster_must_name_this_member_as_it_is_advertised() {
    let bootstrap = |arguments: &[&str]| config(arguments, &[]).verify_bootstrap();
    let cluster = "--initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2,b=http://127.0.0.1:3";
    let advertise = "--initial-advertise-peer-urls=http://127.0.0.1:2,http://127.0.0.1:1";
    assert_eq!(bootstrap(&["--name=a", cluster, advertise]), Ok(()));
    assert_eq!(
        bootstrap(&["--name=c", cluster, advertise]),
        Err("couldn't find local name \"c\" in the initial cluster configuration".to_owned())
    );
    assert_eq!(
        bootstrap(&["--name=a", cluster, "--initial-advertise-peer-urls=http://127.0.0.1:1"]),
        Err("--initial-cluster has a=http://127.0.0.1:2 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:1"
            .to_owned())
    );
    assert_eq!(
        bootstrap(&["--name=b", cluster, "--initial-advertise-peer-urls=http://127.0.0.1:3,http://127.0.0.1:4"]),
        Err("--initial-advertise-peer-urls has http://127.0.0.1:4 but missing from \
             --initial-cluster=b=http://127.0.0.1:3"
            .to_owned())
    );
    let twice = "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:1";
    assert_eq!(
        bootstrap(&["--name=a", twice, "--initial-advertise-peer-urls=http://127.0.0.1:1"]),
        Err("initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url".to_owned())
    );
}

#[test]
fn durations_are_read_as_go_reads_them() {
    let parse = super::duration::parse_nanoseconds;
    for (text, expected) in [
        ("0", Some(0)),
        ("1h0m0s", Some(3_600_000_000_000)),
        ("100ms", Some(100_000_000)),
        ("1µs", Some(1_000)),
        ("1.5s", Some(1_500_000_000)),
        (".5m", Some(30_000_000_000)),
        ("-2ns", Some(-2)),
        ("+3us", Some(3_000)),
        ("", None),
        ("-", None),
        ("5", None),
        ("s", None),
        (".s", None),
        ("1d", None),
        ("1s ", None),
        ("9999999h", None),
    ] {
        assert_eq!(parse(text), expected, "{text:?}");
    }
}

#[test]
fn durations_are_written_as_go_writes_them() {
    for (nanoseconds, expected) in [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (300_000_000, "300ms"),
        (1_000_000_000, "1s"),
        (61_500_000_000, "1m1.5s"),
        (600_000_000_000, "10m0s"),
        (7_200_000_000_001, "2h0m0.000000001s"),
    ] {
        assert_eq!(super::duration::text(Duration::from_nanos(nanoseconds)), expected);
    }
}

#[test]
fn booleans_are_read_as_go_reads_them() {
    assert_eq!(["1", "t", "T", "true", "True", "TRUE"].map(parse_bool), [Some(true); 6]);
    assert_eq!(["0", "f", "F", "false", "False", "FALSE"].map(parse_bool), [Some(false); 6]);
    assert_eq!(["", "yes", "tRUE", "2"].map(parse_bool), [None; 4]);
}

#[test]
fn help_and_version_are_asked_for_anywhere() {
    assert!(matches!(read(&["--name=x", "--help"], &[]), Ok(Parsed::Help)));
    assert!(matches!(read(&["-h"], &[]), Ok(Parsed::Help)));
    assert!(matches!(read(&["--version"], &[]), Ok(Parsed::Version)));
    assert!(matches!(read(&["--version=false"], &[]), Ok(Parsed::Run(_))));
}

#[test]
fn the_help_names_every_flag_once_in_its_section() {
    let text = help_text();
    let expected =
        "Member:\n  --name 'default'\n    Name of this member; the same in --initial-cluster.\n  --data-dir ''\n";
    assert!(text.contains(expected), "{text}");
    for flag in FLAGS {
        assert_eq!(text.matches(&format!("  --{} '", flag.name)).count(), 1, "--{}", flag.name);
    }
    assert!(text.ends_with('\n') && text.lines().all(|line| line.chars().count() <= 170));
}

#[test]
fn every_served_flag_reaches_the_configuration() {
    // Resolving reads each by its name: one that was renamed in the table alone would panic here.
    let given: Values = FLAGS
        .iter()
        .filter(|flag| flag.standing == Standing::Served && flag.kind != Kind::Urls)
        .map(|flag| (flag.name, flag.default.to_owned()))
        .collect();
    assert!(resolve(&given, Vec::new()).is_ok());
}
