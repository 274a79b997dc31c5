//! What is asked of one side's TLS: files, checks, versions. Read from the flags by [`crate::config`].

use super::files::TlsError;
use std::fmt;
use std::path::PathBuf;

/// Settings of the listeners for clients, or of the listeners for members and the connections to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificate shown by the listener, and to members unless there is an own one for that.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Certificate shown when this side connects.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// Whoever connects must show a certificate, and its common name may be a user's.
    pub client_cert_auth: bool,
    /// Authorities of the others' certificates; naming one demands a certificate as well. None: the system's.
    pub trusted_ca_file: Option<PathBuf>,
    /// Serial numbers that are not let in.
    pub crl_file: Option<PathBuf>,
    /// One of these is the common name of who may connect; empty: anybody.
    pub allowed_common_names: Vec<String>,
    /// The certificate of who may connect is valid for one of these; empty: anybody.
    pub allowed_hostnames: Vec<String>,
    /// Names in a certificate need not lead to the address that it comes from.
    pub skip_client_san_verification: bool,
    /// A certificate that the server makes for itself instead of one in files.
    pub generated: Option<GeneratedCertificate>,
    /// Go's names of the cipher suites to offer for TLS 1.2; empty: all that there are.
    pub cipher_suites: Vec<String>,
    /// Oldest version.
    pub version_min: TlsVersion,
    /// Newest version.
    pub version_max: TlsVersion,
}

/// Where a self-made certificate is kept and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedCertificate {
    /// Holds `cert.pem` and `key.pem`.
    pub folder: PathBuf,
    /// Names and addresses it is valid for.
    pub hosts: Vec<String>,
    /// How long it is valid, years of 365 days.
    pub validity_years: u64,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

impl GeneratedCertificate {
    /// The certificate and its key.
    pub(crate) fn files(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("cert.pem"), self.folder.join("key.pem"))
    }
}

fn text(path: &Option<PathBuf>) -> String {
    path.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
}

impl TlsSettings {
    /// Neither certificate nor key is given, in etcd's sense: one alone is an error.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none() && self.generated.is_none()
    }

    /// The certificate of the listener and its key.
    pub(crate) fn server_files(&self) -> Result<(PathBuf, PathBuf), TlsError> {
        if let Some(generated) = &self.generated {
            return Ok(generated.files());
        }
        match (&self.cert_file, &self.key_file) {
            (Some(certificate), Some(key)) => Ok((certificate.clone(), key.clone())),
            (certificate, key) => Err(TlsError::new(format!(
                "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                text(key),
                text(certificate)
            ))),
        }
    }

    /// The certificate that is shown when this side connects, and its key: an own one, or the listener's; none when there
    /// is no certificate at all.
    pub(crate) fn client_files(&self) -> Result<Option<(PathBuf, PathBuf)>, TlsError> {
        if self.is_empty() {
            return Ok(None);
        }
        let server = self.server_files()?;
        match (&self.client_cert_file, &self.client_key_file) {
            (Some(certificate), Some(key)) => Ok(Some((certificate.clone(), key.clone()))),
            (None, None) => Ok(Some(server)),
            // etcd's words, its missing bracket included.
            (certificate, key) => Err(TlsError::new(format!(
                "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: {}]",
                text(key),
                text(certificate)
            ))),
        }
    }

    /// Whether the listener asks for a certificate.
    pub(crate) fn asks_for_certificate(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }
}

impl fmt::Display for TlsSettings {
    /// As etcd writes it into its log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (made_certificate, made_key) = self.generated.as_ref().map(GeneratedCertificate::files).unzip();
        write!(
            formatter,
            "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
            text(&self.cert_file.clone().or(made_certificate)),
            text(&self.key_file.clone().or(made_key)),
            text(&self.client_cert_file),
            text(&self.client_key_file),
            text(&self.trusted_ca_file),
            self.client_cert_auth,
            text(&self.crl_file),
        )
    }
}
