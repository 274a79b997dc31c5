//! Whether a member's certificate belongs to the address that it connects from: etcd's check of the alternative names.

use super::certificate::CertificateNames;
use crate::socket::Remote;
use std::net::IpAddr;

/// Names and addresses, as the system's resolver knows them.
pub(crate) trait Resolver {
    /// Names of an address.
    async fn names_of(&self, address: IpAddr) -> Vec<String>;
    /// Addresses of a name; the error is in words.
    async fn addresses_of(&self, name: &str) -> Result<Vec<IpAddr>, String>;
}

/// The system's.
pub(crate) struct SystemResolver;

impl Resolver for SystemResolver {
    async fn names_of(&self, address: IpAddr) -> Vec<String> {
        let looked_up = tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&address)).await;
        looked_up.ok().and_then(Result::ok).into_iter().collect()
    }

    async fn addresses_of(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        match tokio::net::lookup_host((name, 0)).await {
            Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
            Err(_) => Err(format!("lookup {name}: no such host")),
        }
    }
}

/// Whether one of the certificate's alternative names leads to the address; etcd's words if not. A certificate without
/// such names may come from anywhere.
pub(crate) async fn check(names: &CertificateNames, remote: Remote, resolver: &impl Resolver) -> Result<(), String> {
    if names.ip_addresses.is_empty() && names.dns_names.is_empty() {
        return Ok(());
    }
    let Remote::Ip(remote) = remote else { return Err(format!("address {remote}: missing port in address")) };
    let remote = remote.ip().to_canonical();
    let host = remote.to_string();
    if !names.ip_addresses.is_empty() {
        match names.verify_hostname(&host) {
            Ok(()) => return Ok(()),
            Err(reason) if names.dns_names.is_empty() => return Err(reason),
            Err(_) => {}
        }
    }
    let mut trouble = String::new();
    let known_as = resolver.names_of(remote).await;
    for known in &known_as {
        let known = known.strip_suffix('.').unwrap_or(known);
        let is_meant = |name: &String| match name.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') => known.ends_with(rest),
            _ => name == known,
        };
        if names.dns_names.iter().any(is_meant) {
            return Ok(());
        }
    }
    for name in names.dns_names.iter().filter(|name| !name.starts_with("*.")) {
        match resolver.addresses_of(name).await {
            Ok(addresses) if addresses.iter().any(|address| address.to_canonical() == remote) => return Ok(()),
            Ok(_) => {}
            Err(reason) => trouble = format!(" ({reason})"),
        }
    }
    let quoted: Vec<String> = names.dns_names.iter().map(|name| format!("{name:?}")).collect();
    Err(format!("tls: {host:?} does not match any of DNSNames [{}]{trouble}", quoted.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.1 is `a.test` both ways; `b.test` leads to 10.0.0.2, which has no name.
    struct Fixed;

    impl Resolver for Fixed {
        async fn names_of(&self, address: IpAddr) -> Vec<String> {
            if address == IpAddr::from([10, 0, 0, 1]) { vec!["a.test.".to_owned()] } else { Vec::new() }
        }

        async fn addresses_of(&self, name: &str) -> Result<Vec<IpAddr>, String> {
            match name {
                "a.test" => Ok(vec![IpAddr::from([10, 0, 0, 1])]),
                "b.test" => Ok(vec![IpAddr::from([10, 0, 0, 2])]),
                _ => Err(format!("lookup {name}: no such host")),
            }
        }
    }

    #[tokio::test]
    async fn names_must_lead_to_the_address() {
        let one = IpAddr::from([10, 0, 0, 1]);
        let two = IpAddr::from([10, 0, 0, 2]);
        for (dns_names, ip_addresses, remote, expected) in [
            (&[][..], &[][..], one, Ok(())),
            (&[], &[one], one, Ok(())),
            (&[], &[one], two, Err("x509: certificate is valid for 10.0.0.1, not 10.0.0.2")),
            (&["a.test"], &[], one, Ok(())),
            (&["*.test"], &[], one, Ok(())),
            (&["b.test"], &[], two, Ok(())),
            (&["b.test"], &[one], two, Ok(())),
            (&["*.test"], &[], two, Err("tls: \"10.0.0.2\" does not match any of DNSNames [\"*.test\"]")),
            (
                &["a.test", "b.test"],
                &[],
                IpAddr::from([10, 0, 0, 3]),
                Err("tls: \"10.0.0.3\" does not match any of DNSNames [\"a.test\" \"b.test\"]"),
            ),
            (
                &["c.test"],
                &[],
                one,
                Err("tls: \"10.0.0.1\" does not match any of DNSNames [\"c.test\"] (lookup c.test: no such host)"),
            ),
        ] {
            let names = CertificateNames {
                dns_names: dns_names.iter().map(|&name: &&str| name.to_owned()).collect(),
                ip_addresses: ip_addresses.to_vec(),
                ..CertificateNames::default()
            };
            let from = Remote::Ip((remote, 2380).into());
            assert_eq!(check(&names, from, &Fixed).await, expected.map_err(str::to_owned), "{dns_names:?} {remote}");
        }
    }
}
