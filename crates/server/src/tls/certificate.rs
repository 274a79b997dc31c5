//! What a certificate says: whose it is, which names it is valid for, and its serial number.

use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The parts of a certificate that decide who may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateNames {
    /// Empty when there is none.
    pub(crate) common_name: String,
    pub(crate) dns_names: Vec<String>,
    pub(crate) ip_addresses: Vec<IpAddr>,
    /// Big-endian, without leading zeros.
    pub(crate) serial: Vec<u8>,
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
    /// Whether it may be shown by a server; a certificate without such a list may do anything.
    pub(crate) for_servers: bool,
    /// Whether it may be shown by a client.
    pub(crate) for_clients: bool,
}

impl CertificateNames {
    /// Takes a certificate apart; `None` when it is none.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        let mut names = Self {
            // Like Go: the last of several counts.
            common_name: parsed
                .subject()
                .iter_common_name()
                .last()
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            serial: super::files::serial_bytes(parsed.raw_serial()).to_vec(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            for_servers: true,
            for_clients: true,
            ..Self::default()
        };
        if let Ok(Some(usage)) = parsed.extended_key_usage() {
            names.for_servers = usage.value.any || usage.value.server_auth;
            names.for_clients = usage.value.any || usage.value.client_auth;
        }
        if let Ok(Some(alternatives)) = parsed.subject_alternative_name() {
            for name in &alternatives.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => names.ip_addresses.extend(ip_address(bytes)),
                    _ => {}
                }
            }
        }
        Some(names)
    }

    /// Whether it is valid at a time.
    pub(crate) fn is_valid_at(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        i64::try_from(now).is_ok_and(|now| (self.not_before..=self.not_after).contains(&now))
    }

    /// Whether it is valid for a host name or an address, by Go's rules; its words if not.
    pub(crate) fn verify_hostname(&self, host: &str) -> Result<(), String> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            if self.ip_addresses.contains(&address) {
                return Ok(());
            }
            if self.ip_addresses.is_empty() {
                return Err(format!(
                    "x509: cannot validate certificate for {host} because it doesn't contain any IP SANs"
                ));
            }
            let valid: Vec<String> = self.ip_addresses.iter().map(IpAddr::to_string).collect();
            return Err(format!("x509: certificate is valid for {}, not {host}", valid.join(", ")));
        }
        if self.dns_names.iter().any(|pattern| matches(pattern, host)) {
            return Ok(());
        }
        if self.dns_names.is_empty() {
            return Err(format!("x509: certificate is not valid for any names, but wanted to match {host}"));
        }
        Err(format!("x509: certificate is valid for {}, not {host}", self.dns_names.join(", ")))
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

/// `*` stands for a whole first label; case does not count.
fn matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || pattern.is_empty() {
        return false;
    }
    let (mut patterns, mut labels) = (pattern.split('.'), host.split('.'));
    let mut is_first = true;
    loop {
        match (patterns.next(), labels.next()) {
            (None, None) => return true,
            (Some("*"), Some(label)) if is_first && !label.is_empty() => {}
            (Some(pattern), Some(label)) if !label.is_empty() && pattern.eq_ignore_ascii_case(label) => {}
            _ => return false,
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_labels() {
        for (pattern, host, expected) in [
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "example.com.", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("a.*.com", "a.b.com", false),
            ("a*.com", "ab.com", false),
            ("", "", false),
            (".com", ".com", false),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn a_certificate_is_valid_for_its_names_in_gos_words() {
        let names = CertificateNames {
            dns_names: vec!["a.test".to_owned(), "*.b.test".to_owned()],
            ip_addresses: vec![IpAddr::from([127, 0, 0, 1])],
            ..CertificateNames::default()
        };
        assert_eq!(names.verify_hostname("x.b.test"), Ok(()));
        assert_eq!(names.verify_hostname("127.0.0.1"), Ok(()));
        assert_eq!(names.verify_hostname("[::ffff:127.0.0.1]"), Ok(()));
        assert_eq!(
            names.verify_hostname("c.test"),
            Err("x509: certificate is valid for a.test, *.b.test, not c.test".to_owned())
        );
        assert_eq!(
            names.verify_hostname("10.0.0.1"),
            Err("x509: certificate is valid for 127.0.0.1, not 10.0.0.1".to_owned())
        );
        let nothing = CertificateNames::default();
        assert_eq!(
            nothing.verify_hostname("c.test"),
            Err("x509: certificate is not valid for any names, but wanted to match c.test".to_owned())
        );
        assert_eq!(
            nothing.verify_hostname("::1"),
            Err("x509: cannot validate certificate for ::1 because it doesn't contain any IP SANs".to_owned())
        );
    }
}
