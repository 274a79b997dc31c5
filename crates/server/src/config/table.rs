//! Every flag, once: its name, kind, default, section, standing and help. Parsing, checks, `--help` and the book come
//! from here.

/// A setting of the server.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What values look like.
    pub kind: Kind,
    /// As it would be written on the command line.
    pub default: &'static str,
    /// Where the help lists it.
    pub section: Section,
    /// What setting it does.
    pub standing: Standing,
    /// One sentence.
    pub help: &'static str,
}

/// What values look like; names follow Go's flag types, since error texts do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Text,
    /// `true`, `false` and Go's other spellings.
    Bool,
    /// A signed number.
    Int,
    /// A signed 64-bit number.
    Int64,
    /// A number from 0 on.
    Uint,
    /// A number that fits 32 bits.
    Uint32,
    /// A number that fits 64 bits.
    Uint64,
    /// Go's duration.
    Duration,
    /// URLs, comma separated.
    Urls,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// What setting a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Served,
    /// Accepted because etcd has it; one log line says that it does nothing.
    WithoutEffect,
    /// Ignoring it would be dangerous: anything but the default stops the start.
    Refused,
    /// Accepted without effect, with this warning.
    Deprecated(&'static str),
}

/// Groups of the help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// This member itself.
    Member,
    /// Making and joining clusters.
    Clustering,
    /// Certificates and origins.
    Security,
    /// Users.
    Auth,
    /// Profiles and metrics.
    Monitoring,
    /// The log.
    Logging,
    /// Traces.
    Tracing,
    /// Checks and intervals.
    Features,
    /// What may lose data.
    Unsafe,
}

impl Section {
    /// In the order of the help text.
    pub const ALL: [Self; 9] = [
        Self::Member,
        Self::Clustering,
        Self::Security,
        Self::Auth,
        Self::Monitoring,
        Self::Logging,
        Self::Tracing,
        Self::Features,
        Self::Unsafe,
    ];

    /// Its headline.
    pub fn title(self) -> &'static str {
        match self {
            Self::Member => "Member",
            Self::Clustering => "Clustering",
            Self::Security => "Security",
            Self::Auth => "Auth",
            Self::Monitoring => "Profiling and Monitoring",
            Self::Logging => "Logging",
            Self::Tracing => "Distributed tracing",
            Self::Features => "Features",
            Self::Unsafe => "Unsafe feature",
        }
    }
}

const fn flag(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    standing: Standing,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, section, standing, help }
}

/// All flags, in the order of the help text.
#[rustfmt::skip]
pub static FLAGS: &[Flag] = &[
    flag(Section::Member, "name", Kind::Text, "default", Standing::Served, "Name of this member; the same in --initial-cluster."),
    flag(Section::Member, "data-dir", Kind::Text, "", Standing::Served, "Folder of everything this member keeps; empty: NAME.etcd in the working folder."),
    flag(Section::Member, "wal-dir", Kind::Text, "", Standing::Served, "Folder of the log alone, for example on a disk of its own; empty: inside the data folder."),
    flag(Section::Member, "snapshot-count", Kind::Uint64, "10000", Standing::Served, "Applied log entries after which a checkpoint is taken (at least 1000; also after 32 MiB)."),
    flag(Section::Member, "heartbeat-interval", Kind::Uint, "100", Standing::Served, "Milliseconds between a leader's heartbeats."),
    flag(Section::Member, "election-timeout", Kind::Uint, "1000", Standing::Served, "Milliseconds without a leader before an election; at least five heartbeats."),
    flag(Section::Member, "initial-election-tick-advance", Kind::Bool, "true", Standing::WithoutEffect, "Whether to shorten the first election at start."),
    flag(Section::Member, "listen-peer-urls", Kind::Urls, "http://localhost:2380", Standing::Served, "Where other members connect, comma separated."),
    flag(Section::Member, "listen-client-urls", Kind::Urls, "http://localhost:2379", Standing::Served, "Where clients connect, comma separated."),
    flag(Section::Member, "listen-client-http-urls", Kind::Urls, "", Standing::Served, "Where the pages and the JSON gateway are served, if apart from gRPC."),
    flag(Section::Member, "max-snapshots", Kind::Uint, "5", Standing::Deprecated("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."), "Snapshot files to keep."),
    flag(Section::Member, "max-wals", Kind::Uint, "5", Standing::WithoutEffect, "Log files to keep."),
    flag(Section::Member, "memory-mlock", Kind::Bool, "false", Standing::WithoutEffect, "Whether to lock the memory."),
    flag(Section::Member, "quota-backend-bytes", Kind::Int64, "0", Standing::Served, "Bytes of data before writes raise the NOSPACE alarm; 0: 2 GiB; negative: no limit."),
    flag(Section::Member, "backend-bbolt-freelist-type", Kind::Text, "map", Standing::WithoutEffect, "Free list of etcd's storage engine."),
    flag(Section::Member, "backend-batch-interval", Kind::Duration, "", Standing::WithoutEffect, "Longest time before etcd's storage engine commits."),
    flag(Section::Member, "backend-batch-limit", Kind::Int, "0", Standing::WithoutEffect, "Operations before etcd's storage engine commits."),
    flag(Section::Member, "max-txn-ops", Kind::Uint, "128", Standing::Served, "Operations in one transaction at the most."),
    flag(Section::Member, "max-request-bytes", Kind::Uint, "1572864", Standing::Served, "Bytes of one client request at the most."),
    flag(Section::Member, "max-concurrent-streams", Kind::Uint32, "4294967295", Standing::Served, "Streams that a client may open at once on one connection."),
    flag(Section::Member, "grpc-keepalive-min-time", Kind::Duration, "5s", Standing::Served, "Shortest interval between a client's pings."),
    flag(Section::Member, "grpc-keepalive-interval", Kind::Duration, "2h0m0s", Standing::Served, "Interval of the server's pings to a client."),
    flag(Section::Member, "grpc-keepalive-timeout", Kind::Duration, "20s", Standing::Served, "Longest wait for the answer to a ping."),
    flag(Section::Member, "enable-v2", Kind::Bool, "true", Standing::Served, "Whether etcd's v2 API is served on the client port."),
    flag(Section::Member, "socket-reuse-port", Kind::Bool, "false", Standing::Served, "Whether several processes may listen on one port."),
    flag(Section::Member, "socket-reuse-address", Kind::Bool, "false", Standing::WithoutEffect, "Whether a port in TIME_WAIT may be listened on."),
    flag(Section::Member, "enable-grpc-gateway", Kind::Bool, "true", Standing::Served, "Whether the JSON gateway is served."),
    flag(Section::Member, "raft-read-timeout", Kind::Duration, "5s", Standing::WithoutEffect, "Longest silence while a peer is read."),
    flag(Section::Member, "raft-write-timeout", Kind::Duration, "5s", Standing::WithoutEffect, "Longest silence while a peer is written to."),
    flag(Section::Member, "feature-gates", Kind::Text, "", Standing::Served, "NAME=true,NAME=false pairs that switch etcd's features."),
    flag(Section::Clustering, "initial-advertise-peer-urls", Kind::Urls, "http://localhost:2380", Standing::Served, "Where other members reach this one, comma separated."),
    flag(Section::Clustering, "initial-cluster", Kind::Text, "default=http://localhost:2380", Standing::Served, "The first members: NAME=URL pairs, comma separated."),
    flag(Section::Clustering, "initial-cluster-state", Kind::Choice(&["new", "existing"]), "new", Standing::Served, "Whether the cluster is made now or this member joins one."),
    flag(Section::Clustering, "initial-cluster-token", Kind::Text, "etcd-cluster", Standing::Served, "Keeps clusters of equal addresses apart."),
    flag(Section::Clustering, "advertise-client-urls", Kind::Urls, "http://localhost:2379", Standing::Served, "Where clients reach this member, comma separated."),
    flag(Section::Clustering, "discovery", Kind::Text, "", Standing::Served, "Discovery service of the v2 protocol."),
    flag(Section::Clustering, "discovery-token", Kind::Text, "", Standing::Refused, "Token of the discovery service."),
    flag(Section::Clustering, "discovery-endpoints", Kind::Text, "", Standing::Refused, "Addresses of the discovery service."),
    flag(Section::Clustering, "discovery-dial-timeout", Kind::Duration, "2s", Standing::WithoutEffect, "Longest wait for a connection to the discovery service."),
    flag(Section::Clustering, "discovery-request-timeout", Kind::Duration, "5s", Standing::WithoutEffect, "Longest wait for an answer of the discovery service."),
    flag(Section::Clustering, "discovery-keepalive-time", Kind::Duration, "2s", Standing::WithoutEffect, "Interval of pings to the discovery service."),
    flag(Section::Clustering, "discovery-keepalive-timeout", Kind::Duration, "6s", Standing::WithoutEffect, "Longest wait for an answer to such a ping."),
    flag(Section::Clustering, "discovery-insecure-transport", Kind::Bool, "true", Standing::WithoutEffect, "Whether the discovery service is reached without TLS."),
    flag(Section::Clustering, "discovery-insecure-skip-tls-verify", Kind::Bool, "false", Standing::WithoutEffect, "Whether the discovery service's certificate goes unchecked."),
    flag(Section::Clustering, "discovery-cert", Kind::Text, "", Standing::Refused, "Client certificate for the discovery service."),
    flag(Section::Clustering, "discovery-key", Kind::Text, "", Standing::Refused, "Key of that certificate."),
    flag(Section::Clustering, "discovery-cacert", Kind::Text, "", Standing::Refused, "Authority of the discovery service's certificate."),
    flag(Section::Clustering, "discovery-user", Kind::Text, "", Standing::Refused, "User at the discovery service."),
    flag(Section::Clustering, "discovery-password", Kind::Text, "", Standing::Refused, "Password at the discovery service."),
    flag(Section::Clustering, "discovery-fallback", Kind::Choice(&["exit", "proxy"]), "exit", Standing::WithoutEffect, "What to do when discovery fails."),
    flag(Section::Clustering, "discovery-proxy", Kind::Text, "", Standing::Refused, "Proxy on the way to the discovery service."),
    flag(Section::Clustering, "discovery-srv", Kind::Text, "", Standing::Served, "DNS domain to find the members by."),
    flag(Section::Clustering, "discovery-srv-name", Kind::Text, "", Standing::Served, "Suffix of the DNS service name."),
    flag(Section::Clustering, "strict-reconfig-check", Kind::Bool, "true", Standing::Served, "Whether changes of members that would lose the quorum are refused."),
    flag(Section::Clustering, "pre-vote", Kind::Bool, "true", Standing::WithoutEffect, "Whether a candidate asks before it raises the term; always so in Quorate."),
    flag(Section::Clustering, "auto-compaction-retention", Kind::Text, "0", Standing::Served, "How much history compaction by itself keeps: hours, a duration, or revisions; 0: all."),
    flag(Section::Clustering, "auto-compaction-mode", Kind::Text, "periodic", Standing::Served, "Whether that is a time (periodic) or a number of revisions (revision)."),
    flag(Section::Clustering, "v2-deprecation", Kind::Choice(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), "write-only", Standing::Deprecated("--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input."), "Phase of etcd's farewell to its v2 store."),
    flag(Section::Security, "cert-file", Kind::Text, "", Standing::Served, "Certificate (PEM, with its chain) shown to clients on https URLs; read again when it changes."),
    flag(Section::Security, "key-file", Kind::Text, "", Standing::Served, "Key of that certificate."),
    flag(Section::Security, "client-cert-auth", Kind::Bool, "false", Standing::Served, "Whether clients must show a certificate; its common name may stand for a user's."),
    flag(Section::Security, "client-cert-file", Kind::Text, "", Standing::Served, "Certificate of this member as a client of itself; --cert-file when empty. Checked, but never needed here."),
    flag(Section::Security, "client-key-file", Kind::Text, "", Standing::Served, "Key of that certificate."),
    flag(Section::Security, "client-crl-file", Kind::Text, "", Standing::Served, "Revocation list (DER or PEM): client certificates whose serial numbers it names are turned away."),
    flag(Section::Security, "client-cert-allowed-hostname", Kind::Text, "", Standing::Served, "Client certificates must be valid for one of these host names, comma separated."),
    flag(Section::Security, "trusted-ca-file", Kind::Text, "", Standing::Served, "Authorities (PEM) of client certificates; clients must show one."),
    flag(Section::Security, "auto-tls", Kind::Bool, "false", Standing::Served, "Whether to make a certificate for https URLs of clients, kept in DATA-DIR/fixtures/client."),
    flag(Section::Security, "peer-cert-file", Kind::Text, "", Standing::Served, "Certificate shown to other members."),
    flag(Section::Security, "peer-key-file", Kind::Text, "", Standing::Served, "Key of that certificate."),
    flag(Section::Security, "peer-client-cert-auth", Kind::Bool, "false", Standing::Served, "Whether members must show a certificate."),
    flag(Section::Security, "peer-client-cert-file", Kind::Text, "", Standing::Served, "Certificate shown to members as a client."),
    flag(Section::Security, "peer-client-key-file", Kind::Text, "", Standing::Served, "Key of that certificate."),
    flag(Section::Security, "peer-trusted-ca-file", Kind::Text, "", Standing::Served, "Authorities (PEM) of members' certificates, both ways; members must show one."),
    flag(Section::Security, "peer-cert-allowed-cn", Kind::Text, "", Standing::Served, "Members' certificates must have one of these common names, comma separated."),
    flag(Section::Security, "peer-cert-allowed-hostname", Kind::Text, "", Standing::Served, "Members' certificates must be valid for one of these host names, comma separated."),
    flag(Section::Security, "peer-auto-tls", Kind::Bool, "false", Standing::Served, "Whether to make a certificate for members, kept in DATA-DIR/fixtures/peer; traffic is encrypted, nobody verified."),
    flag(Section::Security, "self-signed-cert-validity", Kind::Uint, "1", Standing::Served, "Years that the certificates of --auto-tls and --peer-auto-tls are valid."),
    flag(Section::Security, "peer-crl-file", Kind::Text, "", Standing::Served, "Revocation list (DER or PEM) for members' certificates."),
    flag(Section::Security, "cipher-suites", Kind::Text, "", Standing::Served, "Cipher suites of TLS 1.2, comma separated."),
    flag(Section::Security, "cors", Kind::Text, "*", Standing::Served, "Origins that browsers may call from."),
    flag(Section::Security, "host-whitelist", Kind::Text, "*", Standing::Served, "Host names that HTTP requests may name."),
    flag(Section::Security, "tls-min-version", Kind::Text, "TLS1.2", Standing::Served, "Oldest TLS version: TLS1.2 or TLS1.3."),
    flag(Section::Security, "tls-max-version", Kind::Text, "", Standing::Served, "Newest TLS version: TLS1.2 or TLS1.3; empty: the newest there is."),
    flag(Section::Auth, "auth-token", Kind::Text, "simple", Standing::Served, "Kind of tokens for authenticated users: simple, or jwt,sign-method=M[,pub-key=F][,priv-key=F][,ttl=T]."),
    flag(Section::Auth, "bcrypt-cost", Kind::Uint, "10", Standing::Served, "Cost of password hashes, 4 to 31."),
    flag(Section::Auth, "auth-token-ttl", Kind::Uint, "300", Standing::Served, "Seconds that a simple token lives after its last use."),
    flag(Section::Monitoring, "enable-pprof", Kind::Bool, "false", Standing::Served, "Whether pages about the process are served under /debug/pprof."),
    flag(Section::Monitoring, "metrics", Kind::Text, "basic", Standing::Served, "How detailed the metrics are: basic, or extensive, with the times of every gRPC method."),
    flag(Section::Monitoring, "listen-metrics-urls", Kind::Urls, "", Standing::Served, "Further addresses that serve nothing but /metrics and health, comma separated."),
    flag(Section::Logging, "logger", Kind::Text, "zap", Standing::Served, "The logger's name; zap is the only one."),
    flag(Section::Logging, "log-outputs", Kind::Text, "default", Standing::Served, "Where log lines go: default, stderr, stdout, systemd/journal or files, comma separated."),
    flag(Section::Logging, "log-level", Kind::Choice(&["debug", "info", "warn", "error", "panic", "fatal"]), "info", Standing::Served, "The least serious line that is logged."),
    flag(Section::Logging, "log-format", Kind::Text, "json", Standing::Served, "Whether lines are for machines or for people."),
    flag(Section::Logging, "enable-log-rotation", Kind::Bool, "false", Standing::Served, "Whether the log file among --log-outputs is set aside when it is full."),
    flag(Section::Logging, "log-rotation-config-json", Kind::Text, "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}", Standing::Served, "When a log file is set aside (maxsize in MB) and what becomes of it (maxage in days, maxbackups, compress)."),
    flag(Section::Logging, "warning-unary-request-duration", Kind::Duration, "300ms", Standing::Served, "Unary requests slower than this are logged, without values."),
    flag(Section::Tracing, "enable-distributed-tracing", Kind::Bool, "false", Standing::Served, "Whether spans of requests are sent to a collector (OTLP over gRPC)."),
    flag(Section::Tracing, "distributed-tracing-address", Kind::Text, "localhost:4317", Standing::Served, "Host and port of the collector."),
    flag(Section::Tracing, "distributed-tracing-service-name", Kind::Text, "etcd", Standing::Served, "The spans' service.name; the same at every member."),
    flag(Section::Tracing, "distributed-tracing-instance-id", Kind::Text, "", Standing::Served, "The spans' service.instance.id; another one at every member."),
    flag(Section::Tracing, "distributed-tracing-sampling-rate", Kind::Int, "0", Standing::Served, "Requests of a million that a trace begins with here; a caller's own traces are followed as the caller says."),
    flag(Section::Features, "corrupt-check-time", Kind::Duration, "0s", Standing::Served, "Interval of comparing the members' data; 0: --quorate-digest-interval."),
    flag(Section::Features, "compact-hash-check-time", Kind::Duration, "1m0s", Standing::Served, "With --feature-gates=CompactHashCheck=true the longest interval of comparing the members' data."),
    flag(Section::Features, "quorate-digest-interval", Kind::Duration, "10s", Standing::Served, "Interval at which the members compare digests of their data, while it changes; 0: never."),
    flag(Section::Features, "quorate-scrub-rate", Kind::Uint, "8", Standing::Served, "Megabytes of stored data that are read and verified per second in the background; 0: none."),
    flag(Section::Features, "quorate-sticky-nospace", Kind::Bool, "false", Standing::Served, "Whether the NOSPACE alarm stays until somebody disarms it, as in etcd."),
    flag(Section::Features, "compaction-batch-limit", Kind::Int, "1000", Standing::WithoutEffect, "Revisions that etcd removes in one step of compaction."),
    flag(Section::Features, "peer-skip-client-san-verification", Kind::Bool, "false", Standing::Served, "Whether members' certificates may come from addresses that their alternative names do not lead to."),
    flag(Section::Features, "watch-progress-notify-interval", Kind::Duration, "10m0s", Standing::Served, "Interval of progress messages to quiet watchers that asked for them."),
    flag(Section::Features, "warning-apply-duration", Kind::Duration, "100ms", Standing::Served, "Entries and ranges that take longer to apply are logged."),
    flag(Section::Features, "bootstrap-defrag-threshold-megabytes", Kind::Uint, "0", Standing::Served, "Space to win before a start defragments; there is never any, which a line in the log tells."),
    flag(Section::Features, "max-learners", Kind::Int, "1", Standing::Served, "Learners in a cluster at the most."),
    flag(Section::Features, "compaction-sleep-interval", Kind::Duration, "10ms", Standing::WithoutEffect, "Pause between etcd's steps of compaction."),
    flag(Section::Features, "downgrade-check-time", Kind::Duration, "5s", Standing::Served, "Interval of looking whether a downgrade is complete; 0: never."),
    flag(Section::Features, "snapshot-catchup-entries", Kind::Uint64, "5000", Standing::Served, "Log entries that etcd keeps for slow followers; Quorate counts bytes, at least 16 MiB of entries."),
    flag(Section::Unsafe, "force-new-cluster", Kind::Bool, "false", Standing::Served, "Makes a one-member cluster of this member's data."),
    flag(Section::Unsafe, "unsafe-no-fsync", Kind::Bool, "false", Standing::Served, "Leaves out every sync: a crash of the machine loses acknowledged writes."),
];

/// Finds a flag by its name.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}
