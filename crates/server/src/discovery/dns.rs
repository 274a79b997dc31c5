//! `--discovery-srv`: the first members as a domain's SRV records list them.
//!
//! Owns the names that members get: the own one by the address that the own URL leads to, the others numbers, as in etcd.

use crate::config::{Config, parse_cluster, parse_url};
use anyhow::{anyhow, ensure};
use quorate_dns::Srv;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

/// Who is asked for records and addresses.
pub(super) trait Names {
    /// The records of a name.
    fn look_up(&self, name: &str) -> Result<Vec<Srv>, String>;
    /// Where a host's port is.
    fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, String>;
}

/// The system's resolvers.
pub(super) struct System;

impl Names for System {
    fn look_up(&self, name: &str) -> Result<Vec<Srv>, String> {
        quorate_dns::look_up(name)
    }

    fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, String> {
        let found = (host, port).to_socket_addrs().map_err(|error| format!("lookup {host}: {error}"))?;
        let found: Vec<SocketAddr> = found.collect();
        // As in Go, an address of IPv4 comes first.
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| format!("lookup {host}: no such host"))
    }
}

/// The members by name, each with its sorted peer URLs.
pub(super) fn find_members(
    config: &Config,
    domain: &str,
    service_name: &str,
    names: &impl Names,
) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let suffix = if service_name.is_empty() { String::new() } else { format!("-{service_name}") };
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for (service, scheme) in [("etcd-server-ssl", "https"), ("etcd-server", "http")] {
        let service = format!("{service}{suffix}");
        match find_service(config, domain, &service, scheme, names) {
            Ok(members) => {
                tracing::info!(
                    "service-scheme" = scheme,
                    "service-name" = service,
                    "discovery-srv" = domain,
                    "found-cluster" = members.join(","),
                    "found members by DNS"
                );
                found.extend(members);
            }
            Err(reason) => failures.push(reason),
        }
    }
    if found.is_empty() {
        return Err(anyhow!("error setting up initial cluster: {}", failures.join("\n")));
    }
    let members = parse_cluster(&found.join(",")).map_err(|reason| anyhow!(reason))?;
    ensure!(
        members.contains_key(&config.name),
        "error setting up initial cluster: cannot find local etcd member {:?} in SRV records: none of {} is where \
         --initial-advertise-peer-urls ({}) leads to",
        config.name,
        members.values().flatten().cloned().collect::<Vec<_>>().join(","),
        config.initial_advertise_peer_urls.join(",")
    );
    Ok(members)
}

fn find_service(
    config: &Config,
    domain: &str,
    service: &str,
    scheme: &str,
    names: &impl Names,
) -> Result<Vec<String>, String> {
    let mut own = Vec::new();
    for url in &config.initial_advertise_peer_urls {
        let address = parse_url(url)?;
        own.push((names.resolve(&address.host, address.port)?, address.scheme, url));
    }
    let failed = |reason: String| format!("error querying DNS SRV records for _{service} {reason}");
    let records = names.look_up(&format!("_{service}._tcp.{domain}")).map_err(failed)?;
    let (mut members, mut failure, mut unnamed) = (Vec::new(), String::new(), 0);
    for Srv { port, target, .. } in records {
        let host = target.trim_end_matches('.');
        let address = match names.resolve(host, port) {
            Ok(address) => address,
            Err(reason) => {
                failure = reason;
                continue;
            }
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let name = match own.iter().find(|(own, _, _)| *own == address) {
            Some((_, own_scheme, url)) if own_scheme != scheme => {
                failure = format!(
                    "bootstrap at {scheme}://{host}:{port} from DNS for {service} has scheme mismatch with expected \
                     peer {url}"
                );
                continue;
            }
            Some(_) => config.name.clone(),
            None => {
                unnamed += 1;
                (unnamed - 1).to_string()
            }
        };
        members.push(format!("{name}={scheme}://{host}:{port}"));
    }
    if members.is_empty() && !failure.is_empty() {
        return Err(failed(failure));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Parsed, parse};

    struct Zone(&'static [(&'static str, &'static str, u16)]);

    impl Names for Zone {
        fn look_up(&self, name: &str) -> Result<Vec<Srv>, String> {
            let of = |(service, target, port): &(&str, &str, u16)| {
                let target = format!("{target}.");
                (*service == name).then_some(Srv { priority: 0, weight: 0, port: *port, target })
            };
            let records: Vec<Srv> = self.0.iter().filter_map(of).collect();
            if records.is_empty() { Err(format!("lookup {name}: no such host")) } else { Ok(records) }
        }

        fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, String> {
            let number = host.trim_start_matches(|letter: char| !letter.is_ascii_digit()).split('.').next();
            let number: u8 = number.and_then(|text| text.parse().ok()).ok_or("no such host")?;
            Ok(SocketAddr::from(([10, 0, 0, number], port)))
        }
    }

    fn find(zone: &Zone, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<String> = ["--name=me", "--discovery-srv=example.com"]
            .iter()
            .chain(arguments)
            .map(|text| (*text).to_owned())
            .collect();
        let Ok(Parsed::Run(config)) = parse(&arguments, &[]) else { panic!("good settings") };
        let members = find_members(&config, "example.com", "", zone).map_err(|error| error.to_string())?;
        Ok(members.iter().map(|(name, urls)| format!("{name}={}", urls.join("|"))).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn the_own_name_goes_with_the_own_address() {
        const PLAIN: &str = "_etcd-server._tcp.example.com";
        let zone =
            Zone(&[(PLAIN, "m1.example.com", 2380), (PLAIN, "m2.example.com", 2380), (PLAIN, "m3.example.com", 2380)]);
        let own = ["--initial-advertise-peer-urls=http://m2:2380"];
        assert_eq!(
            find(&zone, &own).as_deref(),
            Ok("0=http://m1.example.com:2380,1=http://m3.example.com:2380,me=http://m2.example.com:2380")
        );
        let error = find(&zone, &["--initial-advertise-peer-urls=http://m4:2380"]).expect_err("not listed");
        assert!(error.contains("cannot find local etcd member \"me\" in SRV records"), "{error}");
        let error = find(&zone, &["--initial-advertise-peer-urls=https://m2:2380"]).expect_err("another scheme");
        assert!(error.contains("cannot find local etcd member"), "{error}");
        let error = find(&Zone(&[(PLAIN, "m1.example.com", 1)]), &["--initial-advertise-peer-urls=https://m1:1"]);
        assert!(
            error.as_ref().is_err_and(|text| text.contains("has scheme mismatch with expected peer https://m1:1")),
            "{error:?}"
        );
        let error = find(&Zone(&[]), &own).expect_err("no records");
        assert!(
            error.contains("_etcd-server-ssl lookup _etcd-server-ssl._tcp.example.com: no such host\nerror querying"),
            "{error}"
        );
    }
}
