//! The flags of etcd 3.7.3 as its `--help` lists them, with the defaults that it prints (checked against the program when
//! this table was written), and what differs here.

use super::FLAGS;
use super::duration::parse_nanoseconds;
use super::table::Kind;

/// Names and defaults; `None`: the help prints none.
const FLAGS_OF_ETCD: &[(&str, Option<&str>)] = &[
    ("name", Some("default")),
    ("data-dir", Some("${name}.etcd")),
    ("wal-dir", Some("")),
    ("snapshot-count", Some("10000")),
    ("heartbeat-interval", Some("100")),
    ("election-timeout", Some("1000")),
    ("initial-election-tick-advance", Some("true")),
    ("listen-peer-urls", Some("http://localhost:2380")),
    ("listen-client-urls", Some("http://localhost:2379")),
    ("listen-client-http-urls", Some("")),
    ("max-snapshots", Some("5")),
    ("max-wals", Some("5")),
    ("memory-mlock", None),
    ("quota-backend-bytes", Some("0")),
    ("backend-bbolt-freelist-type", Some("map")),
    ("backend-batch-interval", Some("")),
    ("backend-batch-limit", Some("0")),
    ("max-txn-ops", Some("128")),
    ("max-request-bytes", Some("1572864")),
    ("max-concurrent-streams", Some("math.MaxUint32")),
    ("grpc-keepalive-min-time", Some("5s")),
    ("grpc-keepalive-interval", Some("2h")),
    ("grpc-keepalive-timeout", Some("20s")),
    ("socket-reuse-port", Some("false")),
    ("socket-reuse-address", Some("false")),
    ("enable-grpc-gateway", None),
    ("raft-read-timeout", Some("5s")),
    ("raft-write-timeout", Some("5s")),
    ("feature-gates", Some("")),
    ("initial-advertise-peer-urls", Some("http://localhost:2380")),
    ("initial-cluster", Some("default=http://localhost:2380")),
    ("initial-cluster-state", Some("new")),
    ("initial-cluster-token", Some("etcd-cluster")),
    ("advertise-client-urls", Some("http://localhost:2379")),
    ("discovery", Some("")),
    ("discovery-token", Some("")),
    ("discovery-endpoints", Some("")),
    ("discovery-dial-timeout", Some("2s")),
    ("discovery-request-timeout", Some("5s")),
    ("discovery-keepalive-time", Some("2s")),
    ("discovery-keepalive-timeout", Some("6s")),
    ("discovery-insecure-transport", Some("true")),
    ("discovery-insecure-skip-tls-verify", Some("false")),
    ("discovery-cert", Some("")),
    ("discovery-key", Some("")),
    ("discovery-cacert", Some("")),
    ("discovery-user", Some("")),
    ("discovery-password", Some("")),
    ("discovery-fallback", Some("exit")),
    ("discovery-proxy", Some("")),
    ("discovery-srv", Some("")),
    ("discovery-srv-name", Some("")),
    ("strict-reconfig-check", Some("true")),
    ("pre-vote", Some("true")),
    ("auto-compaction-retention", Some("0")),
    ("auto-compaction-mode", Some("periodic")),
    ("v2-deprecation", Some("write-only")),
    ("cert-file", Some("")),
    ("key-file", Some("")),
    ("client-cert-auth", Some("false")),
    ("client-cert-file", Some("")),
    ("client-key-file", Some("")),
    ("client-crl-file", Some("")),
    ("client-cert-allowed-hostname", Some("")),
    ("trusted-ca-file", Some("")),
    ("auto-tls", Some("false")),
    ("peer-cert-file", Some("")),
    ("peer-key-file", Some("")),
    ("peer-client-cert-auth", Some("false")),
    ("peer-client-cert-file", Some("")),
    ("peer-client-key-file", Some("")),
    ("peer-trusted-ca-file", Some("")),
    ("peer-cert-allowed-cn", Some("")),
    ("peer-cert-allowed-hostname", Some("")),
    ("peer-auto-tls", Some("false")),
    ("self-signed-cert-validity", Some("1")),
    ("peer-crl-file", Some("")),
    ("cipher-suites", Some("")),
    ("cors", Some("*")),
    ("host-whitelist", Some("*")),
    ("tls-min-version", Some("TLS1.2")),
    ("tls-max-version", Some("")),
    ("auth-token", Some("simple")),
    ("bcrypt-cost", Some("10")),
    ("auth-token-ttl", Some("300")),
    ("enable-pprof", Some("false")),
    ("metrics", Some("basic")),
    ("listen-metrics-urls", Some("")),
    ("logger", Some("zap")),
    ("log-outputs", Some("default")),
    ("log-level", Some("info")),
    ("log-format", Some("json")),
    ("enable-log-rotation", Some("false")),
    (
        "log-rotation-config-json",
        Some("{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}"),
    ),
    ("warning-unary-request-duration", Some("300ms")),
    ("enable-distributed-tracing", Some("false")),
    ("distributed-tracing-address", Some("localhost:4317")),
    ("distributed-tracing-service-name", Some("etcd")),
    ("distributed-tracing-instance-id", Some("")),
    ("distributed-tracing-sampling-rate", Some("0")),
    ("corrupt-check-time", Some("0s")),
    ("compact-hash-check-time", Some("1m")),
    ("compaction-batch-limit", Some("1000")),
    ("peer-skip-client-san-verification", Some("false")),
    ("watch-progress-notify-interval", Some("10m")),
    ("warning-apply-duration", Some("100ms")),
    ("bootstrap-defrag-threshold-megabytes", None),
    ("max-learners", Some("1")),
    ("compaction-sleep-interval", None),
    ("downgrade-check-time", None),
    ("snapshot-catchup-entries", None),
    ("force-new-cluster", Some("false")),
    ("unsafe-no-fsync", Some("false")),
];

/// Printed in words where the value is another text.
const IN_WORDS: [(&str, &str); 2] = [("${name}.etcd", ""), ("math.MaxUint32", "4294967295")];

#[test]
fn every_flag_of_etcd_is_known_with_its_default() {
    for &(name, default) in FLAGS_OF_ETCD {
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else { panic!("--{name} is not known") };
        let Some(default) = default else { continue };
        let default = IN_WORDS.iter().find(|(words, _)| *words == default).map_or(default, |(_, value)| value);
        let equal = match flag.kind {
            // The same time may be written in several ways.
            Kind::Duration => parse_nanoseconds(flag.default) == parse_nanoseconds(default),
            _ => flag.default == default,
        };
        assert!(equal, "--{name}: {:?} is not etcd's {default:?}", flag.default);
    }
    for flag in FLAGS {
        let known = flag.name == "enable-v2"
            || flag.name.starts_with("quorate-")
            || FLAGS_OF_ETCD.iter().any(|(name, _)| *name == flag.name);
        assert!(known, "etcd has no --{}", flag.name);
    }
}
