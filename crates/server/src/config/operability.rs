//! Settings of watching over a member: history kept, slowness told, metrics, log files, traces.
//!
//! Owns the rules of these flags in etcd's words. The invariant is [`super::Config`]'s: what exists is consistent.

use super::checks::{Lookup, Note};
use super::features::Features;
use super::urls::Address;
use super::{duration, urls};
use std::time::Duration;

/// Samples per million that mean every request.
const SAMPLING_RATE_MAX: i128 = 1_000_000;
/// Bytes of a log file before it is set aside, when the configuration says 0 (as in etcd).
const ROTATION_MEGABYTES_DEFAULT: u64 = 100;

/// What a member is told about being watched.
#[derive(Clone, Debug)]
pub struct Operability {
    /// `--feature-gates`.
    pub features: Features,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`; `None`: history is kept until somebody compacts.
    pub auto_compaction: Option<AutoCompaction>,
    /// `--warning-apply-duration`.
    pub warning_apply_duration: Duration,
    /// `--warning-unary-request-duration`.
    pub warning_unary_request_duration: Duration,
    /// `--metrics`.
    pub metrics: MetricsDetail,
    /// `--listen-metrics-urls`.
    pub listen_metrics_urls: Vec<Address>,
    /// `--enable-pprof`, which `--log-level=debug` implies.
    pub profiling_pages: bool,
    /// `--log-level=debug` serves what etcd shows of requests then.
    pub request_pages: bool,
    /// `--enable-log-rotation` and `--log-rotation-config-json`.
    pub log_rotation: Option<LogRotation>,
    /// `--enable-distributed-tracing` and its flags.
    pub tracing: Option<TracingConfig>,
    /// `--socket-reuse-port`.
    pub socket_reuse_port: bool,
    /// `--snapshot-catchup-entries`: told in the log's first line; what followers may need is counted in bytes here.
    pub snapshot_catchup_entries: u64,
    /// `--bootstrap-defrag-threshold-megabytes`; 0: not asked for.
    pub bootstrap_defrag_megabytes: u64,
    /// `--downgrade-check-time`; 0: a downgrade never ends by itself.
    pub downgrade_check: Duration,
}

/// Which history is compacted away by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What is older than this.
    Periodic(Duration),
    /// All but this many newest revisions.
    Revision(i64),
}

/// `--metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsDetail {
    /// Without the times of every method.
    #[default]
    Basic,
    /// With them.
    Extensive,
}

/// When a log file is set aside, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotation {
    /// A file is set aside before it grows beyond this.
    pub bytes_max: u64,
    /// Files set aside are removed after so many days; 0: never.
    pub days_max: u64,
    /// So many files set aside are kept; 0: all.
    pub files_max: usize,
    /// Whether they are compressed (gzip).
    pub compress: bool,
}

/// Where spans go, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// Host and port of the collector.
    pub address: String,
    /// `service.name`.
    pub service_name: String,
    /// `service.instance.id`; empty: left out.
    pub instance_id: String,
    /// Traces begun here per million requests.
    pub sampling_rate_per_million: u32,
}

/// The form of `--log-rotation-config-json`.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct RotationText {
    maxsize: i64,
    maxage: i64,
    maxbackups: i64,
    localtime: bool,
    compress: bool,
}

pub(super) fn resolve(given: &Lookup<'_>, notes: &mut Vec<Note>) -> Result<Operability, String> {
    match given.text("logger") {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned()),
        other => return Err(format!("unknown logger option {other:?}")),
    }
    if !matches!(given.text("log-format"), "" | "json" | "console") {
        return Err(format!("unknown log format: {}, supported values json, console", given.text("log-format")));
    }
    let features = Features::parse(given.text("feature-gates")).expect("checked by the flag's kind");
    check_features(&features, notes)?;
    let outputs = log_outputs(given.text("log-outputs"))?;
    let log_rotation = match given.switch("enable-log-rotation") {
        false => None,
        true => Some(log_rotation(&outputs, given.text("log-rotation-config-json"), notes)?),
    };
    let debug = given.text("log-level") == "debug";
    Ok(Operability {
        features,
        auto_compaction: auto_compaction(given.text("auto-compaction-mode"), given.text("auto-compaction-retention"))?,
        warning_apply_duration: given.duration("warning-apply-duration"),
        warning_unary_request_duration: match given.duration("warning-unary-request-duration") {
            Duration::ZERO => WARNING_UNARY_DEFAULT,
            duration => duration,
        },
        metrics: match given.text("metrics") {
            "extensive" => MetricsDetail::Extensive,
            _ => MetricsDetail::Basic,
        },
        listen_metrics_urls: given
            .urls("listen-metrics-urls")
            .iter()
            .map(|url| {
                let address = urls::parse(url)?;
                if address.is_bindable() { Ok(address) } else { Err(format!("expected IP in URL for binding ({url})")) }
            })
            .collect::<Result<_, String>>()?,
        profiling_pages: given.switch("enable-pprof") || debug,
        request_pages: debug,
        log_rotation,
        tracing: tracing(given)?,
        socket_reuse_port: given.switch("socket-reuse-port"),
        snapshot_catchup_entries: given.unsigned("snapshot-catchup-entries"),
        bootstrap_defrag_megabytes: given.unsigned("bootstrap-defrag-threshold-megabytes"),
        downgrade_check: given.duration("downgrade-check-time"),
    })
}

/// As in etcd, 0 means the default.
const WARNING_UNARY_DEFAULT: Duration = Duration::from_millis(300);

fn check_features(features: &Features, notes: &mut Vec<Note>) -> Result<(), String> {
    let (checkpoint, persist) = (features.is_enabled("LeaseCheckpoint"), features.is_enabled("LeaseCheckpointPersist"));
    if persist && !checkpoint {
        return Err(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint".into()
        );
    }
    if checkpoint && !persist {
        notes.push(Note::warning(
            "Detected that checkpointing is enabled without persistence. Consider enabling feature gate \
             LeaseCheckpointPersist",
            "--feature-gates".to_owned(),
        ));
    }
    for gate in features.changed() {
        notes.push(Note::information(why_gate_changes_nothing(gate), format!("--feature-gates {gate}")));
    }
    Ok(())
}

/// No gate of etcd's chooses between two ways of doing anything here.
fn why_gate_changes_nothing(gate: &str) -> &'static str {
    match gate {
        "LeaseCheckpoint" | "LeaseCheckpointPersist" => {
            "accepted for etcd's sake, without effect: what remains of a lease always survives a change of leader"
        }
        "StopGRPCServiceOnDefrag" => {
            "accepted for etcd's sake, without effect: there is nothing to defragment, so nothing stops for it"
        }
        "CompactHashCheck" => {
            "the members compare their data anyway; the interval is at most that of --compact-hash-check-time"
        }
        "InitialCorruptCheck" => "all records are read and verified before anybody is served",
        _ => "accepted for etcd's sake, without effect",
    }
}

/// The outputs, each once and sorted, as etcd reads them.
pub(super) fn log_outputs(text: &str) -> Result<Vec<String>, String> {
    let mut outputs: Vec<String> =
        text.split(',').map(|output| output.trim().to_owned()).filter(|output| !output.is_empty()).collect();
    outputs.sort();
    outputs.dedup();
    if outputs.is_empty() {
        outputs.push("default".to_owned());
    }
    let several = outputs.len() > 1;
    if several && outputs.iter().any(|output| output == "default") {
        return Err("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    if several && outputs.iter().any(|output| output == "systemd/journal") {
        return Err(format!(
            "running with systemd/journal but other '--log-outputs' values ({outputs:?}) are configured with \
             'default'; override 'default' value with something else"
        ));
    }
    Ok(outputs)
}

fn log_rotation(outputs: &[String], text: &str, notes: &mut Vec<Note>) -> Result<LogRotation, String> {
    let files = outputs.iter().filter(|output| !matches!(output.as_str(), "default" | "stderr" | "stdout")).count();
    if (outputs.len() == 1 && files == 0) || files > 1 {
        return Err("--log-outputs requires a single file path when --log-rotate-config-json is defined".to_owned());
    }
    let given: RotationText = serde_json::from_str(text).map_err(|error| {
        let what = if error.is_data() { "invalid" } else { "improperly formatted" };
        format!("{what} log rotation config: {error}")
    })?;
    if given.localtime {
        notes.push(Note::information(
            "accepted for etcd's sake, without effect: the names of log files set aside are in UTC, as the lines are",
            "--log-rotation-config-json localtime".to_owned(),
        ));
    }
    let from_zero = |number: i64| u64::try_from(number).unwrap_or(0);
    let megabytes = match from_zero(given.maxsize) {
        0 => ROTATION_MEGABYTES_DEFAULT,
        megabytes => megabytes,
    };
    Ok(LogRotation {
        bytes_max: megabytes.saturating_mul(1 << 20),
        days_max: from_zero(given.maxage),
        files_max: usize::try_from(given.maxbackups).unwrap_or(0),
        compress: given.compress,
    })
}

/// A number alone means hours or revisions; else it is a duration, which etcd takes in nanoseconds for a number of
/// revisions, too.
pub(super) fn auto_compaction(mode: &str, retention: &str) -> Result<Option<AutoCompaction>, String> {
    let by_revision = match mode {
        "periodic" => false,
        "revision" => true,
        "" => return Err("undefined auto-compaction-mode".to_owned()),
        other => return Err(format!("unknown auto-compaction-mode {other:?}")),
    };
    let amount = match retention.parse::<i64>() {
        Ok(number) if number >= 0 && by_revision => number,
        Ok(number) if number >= 0 => number
            .checked_mul(3_600_000_000_000)
            .ok_or_else(|| format!("--auto-compaction-retention {retention:?} is too long"))?,
        _ => duration::parse_nanoseconds(retention).ok_or_else(|| {
            format!("error parsing CompactionRetention: time: {} {retention:?}", what_is_wrong(retention))
        })?,
    };
    if amount < 0 {
        return Err(format!("--auto-compaction-retention must not be negative (set to {retention})"));
    }
    Ok(match amount {
        0 => None,
        revisions if by_revision => Some(AutoCompaction::Revision(revisions)),
        nanoseconds => Some(AutoCompaction::Periodic(Duration::from_nanos(nanoseconds.unsigned_abs()))),
    })
}

/// Go tells a number without its unit from what is no duration at all.
fn what_is_wrong(text: &str) -> &'static str {
    let number = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { "missing unit in duration" } else { "invalid duration" }
}

fn tracing(given: &Lookup<'_>) -> Result<Option<TracingConfig>, String> {
    if !given.switch("enable-distributed-tracing") {
        return Ok(None);
    }
    let rate = given.number("distributed-tracing-sampling-rate");
    if rate < 0 {
        return Err(TRACING_INVALID.to_owned() + "(tracing sampling rate must be positive)");
    }
    if rate > SAMPLING_RATE_MAX {
        return Err(format!("{TRACING_INVALID}(tracing sampling rate must be less than {SAMPLING_RATE_MAX})"));
    }
    Ok(Some(TracingConfig {
        address: given.text("distributed-tracing-address").to_owned(),
        service_name: given.text("distributed-tracing-service-name").to_owned(),
        instance_id: given.text("distributed-tracing-instance-id").to_owned(),
        sampling_rate_per_million: u32::try_from(rate).expect("at most a million"),
    }))
}

/// In etcd's spelling, which tools may look for.
const TRACING_INVALID: &str = "distributed tracing configurition is not valid: ";

#[cfg(test)]
mod tests;
