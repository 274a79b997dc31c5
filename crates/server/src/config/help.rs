//! What `--help` and a wrong flag print; made from the flag table.

use super::table::{FLAGS, Section, Standing};
use std::fmt::Write;

/// The short text behind an error, as etcd prints it.
pub fn usage_text() -> String {
    "Usage:

  etcd [flags]
    Start an etcd server.

  etcd --version
    Show the version of etcd.

  etcd -h | --help
    Show the help information about etcd.

  etcd --config-file
    Path to the server configuration file. Note that if a configuration file is provided, other command line flags and \
environment variables will be ignored.
    Duration-typed fields (for example --heartbeat-interval, --election-timeout,
    --watch-progress-notify-interval) must be specified as integer nanoseconds
    in the JSON/YAML file (e.g. 600000000000 for 10m); human-readable strings
    such as \"10m\" are only accepted on the command line.

  etcd gateway
    Run the stateless pass-through etcd TCP connection forwarding proxy.

  etcd grpc-proxy
    Run the stateless etcd v3 gRPC L7 reverse proxy.

"
    .to_owned()
}

/// Every flag with its default, by section.
pub fn help_text() -> String {
    let mut text = usage_text();
    for section in Section::ALL {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}:", section.title());
        for flag in FLAGS.iter().filter(|flag| flag.section == section) {
            let _ = writeln!(text, "  --{} '{}'", flag.name, flag.default);
            let _ = writeln!(text, "    {}", flag.help);
            match flag.standing {
                Standing::Served => {}
                Standing::WithoutEffect => text.push_str("    Accepted for etcd's sake; Quorate has no use for it.\n"),
                Standing::Refused => text.push_str("    Not served by this release: another value stops the start.\n"),
                Standing::Deprecated(_) => text.push_str("    Deprecated; without effect.\n"),
            }
        }
        text.push('\n');
    }
    text
}
