//! The programs that stand before a cluster instead of being a member of one.
//!
//! Owns their command lines. Neither holds data.

mod flags;
mod tcp;

use crate::config::LogFormat;
use crate::logging;
use flags::{Flags, Kind, Shape};
use quorate_dns::Srv;
use std::net::ToSocketAddrs;
use std::time::Duration;
use tcp::{Gateway, Remote};

/// As in etcd: without `--retry-delay`.
const RETRY_DELAY_DEFAULT: Duration = Duration::from_secs(60);
/// `--retry-delay=0` means this, as in etcd.
const RETRY_DELAY_OF_ZERO: Duration = Duration::from_secs(300);

const GATEWAY_USAGE: &str = "Usage:
  etcd gateway start [flags]

Flags:
      --discovery-srv string        DNS domain used to bootstrap initial cluster
      --discovery-srv-name string   service name to query when using DNS discovery
      --endpoints strings           comma separated etcd cluster endpoints (default [127.0.0.1:2379])
  -h, --help                        help for start
      --insecure-discovery          accept insecure SRV records
      --listen-addr string          listen address (default \"127.0.0.1:23790\")
      --retry-delay duration        duration of delay before retrying failed endpoints (default 1m0s)
      --trusted-ca-file string      path to the client server TLS CA file for verifying the discovered endpoints when discovery-srv is provided.
";

const GATEWAY_FLAGS: &[Shape] = &[
    Shape { name: "discovery-srv", kind: Kind::Text },
    Shape { name: "discovery-srv-name", kind: Kind::Text },
    Shape { name: "endpoints", kind: Kind::Text },
    Shape { name: "insecure-discovery", kind: Kind::Bool },
    Shape { name: "listen-addr", kind: Kind::Text },
    Shape { name: "retry-delay", kind: Kind::Duration },
    Shape { name: "trusted-ca-file", kind: Kind::Text },
];

/// `etcd gateway`; the exit code.
pub(crate) fn gateway(arguments: &[String]) -> i32 {
    let Some(("start", arguments)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
        print!("gateway related command\n\n{GATEWAY_USAGE}");
        return 0;
    };
    let flags = match Flags::read(GATEWAY_FLAGS, arguments) {
        Ok(Some(flags)) => flags,
        Ok(None) => {
            print!("start the gateway\n\n{GATEWAY_USAGE}");
            return 0;
        }
        Err(message) => {
            eprint!("Error: {message}\n{GATEWAY_USAGE}\n{message}\n");
            return 1;
        }
    };
    if let Err(message) = logging::start("info", LogFormat::Json, &["default".to_owned()], None) {
        eprintln!("{message}");
        return 1;
    }
    match start_gateway(&flags) {
        Ok(()) => 0,
        Err(message) => {
            println!("{message}");
            1
        }
    }
}

fn start_gateway(flags: &Flags) -> Result<(), String> {
    let listen = flags.text("listen-addr").unwrap_or("127.0.0.1:23790");
    let records = match flags.text("discovery-srv").filter(|domain| !domain.is_empty()) {
        Some(domain) => discover(domain, flags),
        None => Vec::new(),
    };
    let records = if records.is_empty() {
        let endpoints = flags.text("endpoints").unwrap_or("127.0.0.1:2379").split(',');
        endpoints.map(parse_endpoint).collect::<Result<Vec<_>, _>>()?
    } else {
        records
    };
    let (host, _) = split_host_port(listen).ok_or_else(|| format!("failed to validate listen address: {listen}"))?;
    let places = listen.to_socket_addrs().map_err(|_| format!("failed to resolve listen host: {host}"))?;
    let places: Vec<_> = places.collect();
    for Srv { target, port, .. } in &records {
        let resolved = (target.as_str(), *port).to_socket_addrs();
        let mut resolved = resolved.map_err(|_| format!("failed to resolve endpoint host: {target}"))?;
        if let Some(own) = resolved.find(|address| places.contains(address)) {
            return Err(format!(
                "SRV or endpoint ({target}:{port}->{own}) should not resolve to the gateway listen addr ({listen})"
            ));
        }
    }
    let retry_delay = match flags.duration("retry-delay") {
        None => RETRY_DELAY_DEFAULT,
        Some(Duration::ZERO) => RETRY_DELAY_OF_ZERO,
        Some(delay) => delay,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| format!("listen tcp {listen}: {error}"))?;
        Gateway::new(records.into_iter().map(Remote::new).collect(), retry_delay).run(listener).await;
        Ok(())
    })
}

/// The records of a domain; those for plain connections only where they are wanted, or none of the others are there.
fn discover(domain: &str, flags: &Flags) -> Vec<Srv> {
    let suffix = flags.text("discovery-srv-name").filter(|name| !name.is_empty()).map(|name| format!("-{name}"));
    let suffix = suffix.unwrap_or_default();
    let mut found = Vec::new();
    for service in ["etcd-client-ssl", "etcd-client"] {
        if service == "etcd-client" && !flags.is_set("insecure-discovery") && flags.text("trusted-ca-file").is_some() {
            continue;
        }
        match quorate_dns::look_up(&format!("_{service}{suffix}._tcp.{domain}")) {
            Ok(records) => found.extend(records),
            Err(error) => tracing::warn!(domain, service, error, "failed to discover endpoints by DNS"),
        }
    }
    for record in &mut found {
        record.target.truncate(record.target.trim_end_matches('.').len());
    }
    found
}

fn parse_endpoint(text: &str) -> Result<Srv, String> {
    let place = text.trim().split_once("://").map_or(text.trim(), |(_, rest)| rest);
    let place = place.split('/').next().unwrap_or_default();
    let (host, port) = split_host_port(place).ok_or_else(|| format!("error parsing endpoint {place:?}"))?;
    Ok(Srv { priority: 0, weight: 0, port, target: host.to_owned() })
}

fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_lose_their_scheme() {
        for (text, host, port) in [("a:1", "a", 1), ("http://b:2", "b", 2), ("https://[::1]:3/", "::1", 3)] {
            let record = parse_endpoint(text).expect(text);
            assert_eq!((record.target.as_str(), record.port), (host, port));
        }
        assert_eq!(parse_endpoint("a").err().as_deref(), Some("error parsing endpoint \"a\""));
    }
}
