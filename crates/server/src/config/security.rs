//! The flags about TLS, and every rule between them.

use super::checks::{Lookup, Note};
use super::urls::Address;
use crate::tls::{GeneratedCertificate, TlsSettings, TlsVersion, check_suite_names};
use std::path::{Path, PathBuf};

/// Longer validity is refused, years: it would be no date that every client reads.
const VALIDITY_YEARS_MAX: u64 = 200;

/// Addresses by what they are for.
pub(super) struct Listening<'a> {
    pub(super) client: &'a [Address],
    pub(super) peer: &'a [Address],
    pub(super) metrics: &'a [Address],
}

/// Settings for clients and for members.
pub(super) fn resolve(
    given: &Lookup<'_>,
    data_dir: &Path,
    listening: &Listening<'_>,
    notes: &mut Vec<Note>,
) -> Result<(TlsSettings, TlsSettings), String> {
    let (version_min, version_max) = versions(given)?;
    let cipher_suites = list(given, "cipher-suites");
    if version_min == TlsVersion::Tls13 && !cipher_suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    check_suite_names(&cipher_suites)?;
    let common = TlsSettings { cipher_suites, version_min, version_max, ..TlsSettings::default() };
    let client = TlsSettings {
        cert_file: path(given, "cert-file"),
        key_file: path(given, "key-file"),
        client_cert_file: path(given, "client-cert-file"),
        client_key_file: path(given, "client-key-file"),
        client_cert_auth: given.switch("client-cert-auth"),
        trusted_ca_file: path(given, "trusted-ca-file"),
        crl_file: path(given, "client-crl-file"),
        allowed_hostnames: list(given, "client-cert-allowed-hostname"),
        ..common.clone()
    };
    let peer = TlsSettings {
        cert_file: path(given, "peer-cert-file"),
        key_file: path(given, "peer-key-file"),
        client_cert_file: path(given, "peer-client-cert-file"),
        client_key_file: path(given, "peer-client-key-file"),
        client_cert_auth: given.switch("peer-client-cert-auth"),
        trusted_ca_file: path(given, "peer-trusted-ca-file"),
        crl_file: path(given, "peer-crl-file"),
        allowed_common_names: list(given, "peer-cert-allowed-cn"),
        allowed_hostnames: list(given, "peer-cert-allowed-hostname"),
        skip_client_san_verification: given.switch("peer-skip-client-san-verification"),
        ..common.clone()
    };
    let validity_years = given.unsigned("self-signed-cert-validity");
    let mut make_own = |settings: TlsSettings, side: Side<'_>| -> Result<TlsSettings, String> {
        if !given.switch(side.auto_flag) {
            return Ok(settings);
        }
        if !settings.is_empty() {
            let text = format!("ignoring {} auto TLS since certs given", side.name);
            notes.push(Note::warning(&text, format!("--{}", side.auto_flag)));
            return Ok(settings);
        }
        if settings != common {
            let text = "a self-made certificate is used without any check of the others' certificates: every other flag \
                        about them is ignored, as in etcd";
            notes.push(Note::warning(text, format!("--{}", side.auto_flag)));
        }
        generated(&common, data_dir, validity_years, &side)
    };
    let client = make_own(client, Side { name: "client", auto_flag: "auto-tls", listening: listening.client })?;
    let peer = make_own(peer, Side { name: "peer", auto_flag: "peer-auto-tls", listening: listening.peer })?;
    check_urls(&client, &peer, listening, notes)?;
    Ok((client, peer))
}

struct Side<'a> {
    name: &'static str,
    auto_flag: &'static str,
    listening: &'a [Address],
}

/// As in etcd, a self-made certificate replaces all settings but suites and versions.
fn generated(
    common: &TlsSettings,
    data_dir: &Path,
    validity_years: u64,
    side: &Side<'_>,
) -> Result<TlsSettings, String> {
    if validity_years == 0 {
        return Err("selfSignedCertValidity is invalid,it should be greater than 0".to_owned());
    }
    if validity_years > VALIDITY_YEARS_MAX {
        return Err(format!(
            "--self-signed-cert-validity[{validity_years}] must be at most {VALIDITY_YEARS_MAX} years"
        ));
    }
    let mut hosts: Vec<String> = Vec::new();
    for address in side.listening {
        if !address.host.is_empty() && !hosts.contains(&address.host) {
            hosts.push(address.host.clone());
        }
    }
    let folder = std::path::absolute(data_dir.join("fixtures").join(side.name))
        .map_err(|error| format!("{}: {error}", data_dir.display()))?;
    let generated = GeneratedCertificate { folder, hosts, validity_years };
    Ok(TlsSettings { generated: Some(generated), ..common.clone() })
}

/// https needs a certificate; a certificate that no listener uses is worth a warning.
fn check_urls(
    client: &TlsSettings,
    peer: &TlsSettings,
    listening: &Listening<'_>,
    notes: &mut Vec<Note>,
) -> Result<(), String> {
    for address in listening.peer {
        match address.scheme.as_str() {
            "https" | "unixs" if peer.is_empty() => {
                return Err(format!(
                    "cannot listen on TLS for {}: KeyFile and CertFile are not presented",
                    address.to_string().split_once("://").map_or("", |(_, rest)| rest)
                ));
            }
            "http" => warn_of_plain(peer, "scheme is HTTP", "--peer-client-cert-auth", address, notes),
            _ => {}
        }
    }
    if client.is_empty() && listening.metrics.iter().any(|address| matches!(address.scheme.as_str(), "https" | "unixs"))
    {
        return Err("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".to_owned());
    }
    for address in listening.client {
        match address.scheme.as_str() {
            "https" | "unixs" if client.is_empty() => {
                return Err(format!(
                    "TLS key/cert (--cert-file, --key-file) must be provided for client url {address} with HTTPS scheme"
                ));
            }
            "http" | "unix" => warn_of_plain(client, "scheme is http or unix", "--client-cert-auth", address, notes),
            _ => {}
        }
    }
    Ok(())
}

fn warn_of_plain(settings: &TlsSettings, begin: &str, flag: &str, address: &Address, notes: &mut Vec<Note>) {
    if !settings.is_empty() {
        let text = format!("{begin} while key and cert files are present; ignoring key and cert files");
        notes.push(Note::warning(&text, address.to_string()));
    }
    if settings.client_cert_auth {
        let text = format!("{begin} while {flag} is enabled; ignoring client cert auth for this URL");
        notes.push(Note::warning(&text, address.to_string()));
    }
}

fn versions(given: &Lookup<'_>) -> Result<(TlsVersion, TlsVersion), String> {
    let version = |text: &str| match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::Tls12)),
        "TLS1.3" => Ok(Some(TlsVersion::Tls13)),
        _ => Err(format!("unexpected TLS version {text:?} (must be one of: TLS1.2, TLS1.3)")),
    };
    let (min_text, max_text) = (given.text("tls-min-version"), given.text("tls-max-version"));
    let (min, max) = (version(min_text)?.unwrap_or_default(), version(max_text)?.unwrap_or(TlsVersion::Tls13));
    if min > max {
        return Err(format!("min version ({min_text}) is greater than max version ({max_text})"));
    }
    Ok((min, max))
}

fn path(given: &Lookup<'_>, name: &'static str) -> Option<PathBuf> {
    Some(given.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
}

fn list(given: &Lookup<'_>, name: &'static str) -> Vec<String> {
    given.text(name).split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
