//! Certificates that a server makes for itself (`--auto-tls`, `--peer-auto-tls`): kept in its data folder, used again at
//! the next start, renewed when they are about to expire.

use super::certificate::CertificateNames;
use super::files::TlsError;
use super::settings::GeneratedCertificate;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Time left at which a certificate is renewed; it is valid for a year at least.
const RENEW_BEFORE: Duration = DAY;
/// A longer validity than etcd's own dates can hold is refused, years.
const VALIDITY_YEARS_MAX: u64 = 200;

/// Makes the certificate if there is none, or if it expires within a day.
pub(crate) fn ensure(generated: &GeneratedCertificate, now: SystemTime) -> Result<(), TlsError> {
    let (certificate, key) = generated.files();
    if key.exists()
        && let Ok(der) = CertificateDer::from_pem_file(&certificate)
        && CertificateNames::read(&der).is_some_and(|names| names.is_valid_at(now + RENEW_BEFORE))
    {
        return Ok(());
    }
    make(generated, now).map_err(|reason| {
        TlsError::new(format!("cannot make a certificate in {}: {reason}", generated.folder.display()))
    })
}

fn make(generated: &GeneratedCertificate, now: SystemTime) -> anyhow::Result<()> {
    // The same bounds as the check of the flag; a folder must not hold a key that nothing can use.
    anyhow::ensure!(
        (1..=VALIDITY_YEARS_MAX).contains(&generated.validity_years),
        "the validity must be 1 to {VALIDITY_YEARS_MAX} years"
    );
    let not_after = now + DAY * 365 * u32::try_from(generated.validity_years).expect("bounded above");
    let mut parameters = CertificateParams::default();
    parameters.not_before = now.into();
    parameters.not_after = not_after.into();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "etcd");
    // etcd's calls itself an authority, for which some libraries do not take it from a server. All of them take one that
    // does not, when they are told to trust it.
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for host in &generated.hosts {
        parameters.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    tracing::warn!(
        "certificate-validity-years" = generated.validity_years,
        folder = generated.folder.display().to_string(),
        "automatically generate certificates"
    );
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let (certificate_path, key_path) = generated.files();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&generated.folder)?;
    // The key first: a certificate that was renewed halfway is made again at the next start.
    let _ = fs::remove_file(&certificate_path);
    write_whole(&key_path, &key.serialize_pem(), 0o600)?;
    tracing::info!(path = key_path.display().to_string(), "created key file");
    write_whole(&certificate_path, &certificate.pem(), 0o644)?;
    tracing::info!(path = certificate_path.display().to_string(), "created cert file");
    Ok(())
}

/// The file appears whole or not at all.
fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let aside = path.with_extension("new");
    let _ = fs::remove_file(&aside);
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::test_certificates::Folder;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_certificate_is_kept_until_it_is_about_to_expire() {
        let folder = Folder::new("generated");
        let generated = GeneratedCertificate {
            folder: folder.path().join("fixtures/client"),
            hosts: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            validity_years: 1,
        };
        let read = || {
            let (certificate, key) = generated.files();
            (fs::read_to_string(certificate).expect("certificate"), fs::read_to_string(key).expect("key"))
        };
        let now = SystemTime::now();
        ensure(&generated, now).expect("made");
        let first = read();
        let key_mode = fs::metadata(generated.files().1).expect("key").permissions().mode();
        assert_eq!(key_mode & 0o777, 0o600);
        let der = CertificateDer::from_pem_slice(first.0.as_bytes()).expect("PEM");
        let names = CertificateNames::read(&der).expect("a certificate");
        assert_eq!(names.not_after - names.not_before, 365 * 24 * 3600);
        assert_eq!(names.verify_hostname("127.0.0.1"), Ok(()));
        assert_eq!(names.verify_hostname("localhost"), Ok(()));

        ensure(&generated, now + 363 * DAY).expect("kept");
        assert_eq!(read(), first);
        ensure(&generated, now + 364 * DAY + DAY / 2).expect("renewed");
        assert_ne!(read(), first);

        let refused = GeneratedCertificate { validity_years: 0, folder: folder.path().join("none"), ..generated };
        assert!(ensure(&refused, now).is_err());
        assert!(!refused.folder.exists());
    }
}
