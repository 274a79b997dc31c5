//! Certificates for tests: an authority, what it signs, what it revokes, and a folder to keep them in.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A folder that goes away with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("quorate-tls-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a file in place as a whole, as tools that renew certificates do.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        let aside = self.0.join(format!("{name}.new"));
        std::fs::write(&aside, bytes).expect("write");
        std::fs::rename(&aside, &path).expect("rename");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Signs certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key as PEM, and its number.
pub(crate) struct Leaf {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) serial: SerialNumber,
}

/// What a certificate is to say.
pub(crate) struct Wanted<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) hosts: &'a [&'a str],
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    /// Valid until then.
    pub(crate) not_after: SystemTime,
}

impl<'a> Wanted<'a> {
    /// Good for everything, for a day.
    pub(crate) fn new(common_name: &'a str, hosts: &'a [&'a str]) -> Self {
        Self {
            common_name,
            hosts,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            not_after: SystemTime::now() + DAY,
        }
    }

    fn parameters(&self) -> CertificateParams {
        let hosts: Vec<String> = self.hosts.iter().map(|&host| host.to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("names");
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, self.common_name);
        parameters.extended_key_usages = self.usages.clone();
        parameters.not_before = (self.not_after - 10 * DAY).into();
        parameters.not_after = self.not_after.into();
        parameters.serial_number = Some(SerialNumber::from(0x1000 + NUMBERS.fetch_add(1, Ordering::Relaxed)));
        parameters
    }

    /// Signed by nobody but itself, and calling itself an authority, as `openssl req -x509` makes them.
    pub(crate) fn self_signed(&self) -> Leaf {
        let key = KeyPair::generate().expect("key");
        let mut parameters = self.parameters();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let serial = parameters.serial_number.clone().expect("set above");
        let certificate = parameters.self_signed(&key).expect("signed");
        Leaf { certificate: certificate.pem(), key: key.serialize_pem(), serial }
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self { issuer: CertifiedIssuer::self_signed(Self::parameters(name), key()).expect("signed") }
    }

    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = Wanted::new(name, &[]).parameters();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.extended_key_usages = Vec::new();
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
    }

    /// An authority that this one vouches for.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        Self { issuer: CertifiedIssuer::signed_by(Self::parameters(name), key(), &self.issuer).expect("signed") }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn sign(&self, wanted: &Wanted<'_>) -> Leaf {
        let key = key();
        let parameters = wanted.parameters();
        let serial = parameters.serial_number.clone().expect("set by parameters()");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("signed");
        Leaf { certificate: certificate.pem(), key: key.serialize_pem(), serial }
    }

    /// A revocation list, DER.
    pub(crate) fn revoke(&self, serials: &[&SerialNumber]) -> Vec<u8> {
        let now = SystemTime::now();
        let entry = |serial: &&SerialNumber| RevokedCertParams {
            serial_number: (*serial).clone(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("signed").der().to_vec()
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("key")
}
