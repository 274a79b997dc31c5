//! Cipher suites by the names that Go gives them, which is what etcd's flag takes.

use super::files::TlsError;
use super::settings::{TlsSettings, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite as ring;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// What can be offered. The last two are old names that etcd takes too.
const SUPPORTED: [(&str, SupportedCipherSuite); 11] = [
    ("TLS_AES_128_GCM_SHA256", ring::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", ring::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", ring::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", ring::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", ring::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ring::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", ring::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// What Go knows besides: without forward secrecy, or with ciphers that are broken or easily misused.
const KNOWN_TO_GO_ONLY: [&str; 16] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

fn find(name: &str) -> Option<SupportedCipherSuite> {
    SUPPORTED.iter().find(|(known, _)| *known == name).map(|&(_, suite)| suite)
}

/// Whether every name can be offered; the reason, in etcd's words for a name that nobody knows, if not.
pub(crate) fn check_names(names: &[String]) -> Result<(), String> {
    let Some(name) = names.iter().find(|name| find(name).is_none()) else { return Ok(()) };
    if !KNOWN_TO_GO_ONLY.contains(&name.as_str()) {
        return Err(format!("unexpected TLS cipher suite {name:?}"));
    }
    let supported: Vec<&str> = SUPPORTED.iter().map(|&(name, _)| name).take(SUPPORTED.len() - 2).collect();
    Err(format!(
        "TLS cipher suite {name:?} is not served by Quorate, since it has no forward secrecy or no authenticated \
         encryption; supported are {}",
        supported.join(", ")
    ))
}

/// The algorithms to use. As in Go, names choose among the suites of TLS 1.2 only; those of 1.3 are always offered.
pub(crate) fn provider(settings: &TlsSettings) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        let is_of_13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
        let mut suites: Vec<SupportedCipherSuite> =
            provider.cipher_suites.iter().copied().filter(|suite| is_of_13(suite)).collect();
        suites.extend(settings.cipher_suites.iter().filter_map(|name| find(name)).filter(|suite| !is_of_13(suite)));
        provider.cipher_suites = suites;
    }
    provider
}

/// The versions to use.
pub(crate) fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let all = [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|(version, _)| (settings.version_min..=settings.version_max).contains(version))
        .map(|(_, version)| version)
        .collect();
    if chosen.is_empty() {
        return Err(TlsError::new("no TLS version is left between --tls-min-version and --tls-max-version"));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn unknown_names_and_unserved_names_have_their_own_words() {
        assert_eq!(check_names(&names(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"])), Ok(()));
        assert_eq!(check_names(&names(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"])), Ok(()));
        assert_eq!(check_names(&names(&["nonsense"])), Err("unexpected TLS cipher suite \"nonsense\"".to_owned()));
        let text = check_names(&names(&["TLS_RSA_WITH_AES_128_CBC_SHA"])).expect_err("not served");
        assert!(text.contains("supported are TLS_AES_128_GCM_SHA256, "), "{text}");
    }

    #[test]
    fn names_choose_among_the_suites_of_tls_12_only() {
        let settings = TlsSettings {
            cipher_suites: names(&["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_AES_128_GCM_SHA256"]),
            ..TlsSettings::default()
        };
        let suites = provider(&settings).cipher_suites;
        assert_eq!(suites.iter().filter(|suite| suite.tls13().is_some()).count(), 3);
        let old: Vec<_> = suites.iter().filter(|suite| suite.tls13().is_none()).collect();
        assert_eq!(old, [&ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]);
    }
}
