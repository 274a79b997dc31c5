//! The settings of watching over a member as a user meets them.

use super::*;
use crate::config::{Config, ConfigError, Parsed, parse};

fn read(arguments: &[&str]) -> Result<Config, ConfigError> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    match parse(&arguments, &[]) {
        Ok(Parsed::Run(config)) => Ok(*config),
        Ok(other) => panic!("{arguments:?}: {other:?}"),
        Err(error) => Err(error),
    }
}

fn operability(arguments: &[&str]) -> Operability {
    read(arguments).expect("good settings").operability
}

#[test]
fn without_flags_it_is_watched_as_etcd_is() {
    let given = operability(&[]);
    assert_eq!(given.auto_compaction, None);
    assert_eq!(given.warning_apply_duration, Duration::from_millis(100));
    assert_eq!(given.warning_unary_request_duration, Duration::from_millis(300));
    assert_eq!((given.metrics, given.log_rotation, given.tracing), (MetricsDetail::Basic, None, None));
    assert!(given.listen_metrics_urls.is_empty() && !given.profiling_pages && !given.request_pages);
    assert_eq!(given.downgrade_check, Duration::from_secs(5));
    assert_eq!((given.snapshot_catchup_entries, given.bootstrap_defrag_megabytes), (5000, 0));
}

#[test]
fn the_log_level_debug_opens_the_pages_about_the_process() {
    let given = operability(&["--log-level=debug"]);
    assert!(given.profiling_pages && given.request_pages);
    let given = operability(&["--enable-pprof", "--metrics=extensive"]);
    assert!(given.profiling_pages && !given.request_pages);
    assert_eq!(given.metrics, MetricsDetail::Extensive);
}

#[test]
fn history_is_kept_by_time_or_by_number() {
    let hour = Duration::from_secs(3600);
    for (mode, retention, expected) in [
        ("periodic", "0", None),
        ("periodic", "", None),
        ("periodic", "1", Some(AutoCompaction::Periodic(hour))),
        ("periodic", "5m", Some(AutoCompaction::Periodic(hour / 12))),
        ("periodic", "10s", Some(AutoCompaction::Periodic(hour / 360))),
        ("revision", "0", None),
        ("revision", "1000", Some(AutoCompaction::Revision(1000))),
        ("revision", "1us", Some(AutoCompaction::Revision(1000))),
    ] {
        let arguments = [format!("--auto-compaction-mode={mode}"), format!("--auto-compaction-retention={retention}")];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).filter(|text| !text.ends_with('=')).collect();
        assert_eq!(operability(&arguments).auto_compaction, expected, "{arguments:?}");
    }
}

#[test]
fn log_files_are_set_aside_as_etcds() {
    let file = "--log-outputs=/tmp/etcd.log";
    let given = operability(&[file, "--enable-log-rotation"]).log_rotation.expect("rotation");
    assert_eq!(given, LogRotation { bytes_max: 100 << 20, days_max: 0, files_max: 0, compress: false });
    let json = "--log-rotation-config-json={\"maxsize\": 1, \"maxage\": 2, \"maxbackups\": 3, \"compress\": true}";
    let given = operability(&[file, "--enable-log-rotation", json]).log_rotation.expect("rotation");
    assert_eq!(given, LogRotation { bytes_max: 1 << 20, days_max: 2, files_max: 3, compress: true });
    assert_eq!(operability(&[file, json]).log_rotation, None, "the switch alone turns it on");
}

#[test]
fn spans_go_where_they_are_asked_for() {
    assert_eq!(operability(&["--distributed-tracing-sampling-rate=-1"]).tracing, None, "off: nothing is judged");
    let given = operability(&[
        "--enable-distributed-tracing",
        "--distributed-tracing-address=collector:4317",
        "--distributed-tracing-instance-id=m0",
        "--distributed-tracing-sampling-rate=1000000",
    ]);
    let expected = TracingConfig {
        address: "collector:4317".to_owned(),
        service_name: "etcd".to_owned(),
        instance_id: "m0".to_owned(),
        sampling_rate_per_million: 1_000_000,
    };
    assert_eq!(given.tracing, Some(expected));
}

#[test]
fn gates_that_change_nothing_are_told() {
    let notes = read(&["--feature-gates=LeaseCheckpoint=true,FastLeaseKeepAlive=true"]).expect("good").notes;
    let subjects: Vec<(bool, &str)> = notes.iter().map(|note| (note.is_warning, note.subject.as_str())).collect();
    assert_eq!(subjects, [(true, "--feature-gates"), (false, "--feature-gates LeaseCheckpoint")]);
}

#[test]
fn what_is_wrong_is_said_in_etcds_words() {
    for (arguments, expected) in [
        (&["--auto-compaction-mode=never"][..], "unknown auto-compaction-mode \"never\""),
        (&["--auto-compaction-mode="], "undefined auto-compaction-mode"),
        (&["--auto-compaction-retention=abc"], "error parsing CompactionRetention: time: invalid duration \"abc\""),
        (
            &["--auto-compaction-retention=-5"],
            "error parsing CompactionRetention: time: missing unit in duration \"-5\"",
        ),
        (&["--auto-compaction-retention=-5m"], "--auto-compaction-retention must not be negative (set to -5m)"),
        (&["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),
        (&["--logger=x"], "unknown logger option \"x\""),
        (&["--log-format=xml"], "unknown log format: xml, supported values json, console"),
        (&["--log-outputs=default,stdout"], "multi logoutput for \"default\" is not supported yet"),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &["--enable-log-rotation", "--log-outputs=/tmp/a,/tmp/b"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
            "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
        ),
        (
            &["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"],
            "distributed tracing configurition is not valid: (tracing sampling rate must be less than 1000000)",
        ),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (&["--listen-metrics-urls=http://example.com:1"], "expected IP in URL for binding (http://example.com:1)"),
    ] {
        let error = read(arguments).expect_err("wrong");
        assert_eq!(error, ConfigError::Settings(expected.to_owned()), "{arguments:?}");
    }
    for (text, begin) in
        [("{", "improperly formatted log rotation config: "), ("{\"maxsize\": \"x\"}", "invalid log rotation config: ")]
    {
        let json = format!("--log-rotation-config-json={text}");
        let error = read(&["--enable-log-rotation", "--log-outputs=/tmp/a", &json]).expect_err("wrong").to_string();
        assert!(error.starts_with(begin), "{error}");
    }
}
