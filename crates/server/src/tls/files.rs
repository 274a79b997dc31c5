//! Reading certificates, keys, authorities and revocations from files. Every error names its file.

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// Files longer than this are refused, bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why there is no TLS: a file or a setting, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TlsError {
    text: String,
}

impl TlsError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    fn of_file(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::new(format!("{}: {reason}", path.display()))
    }
}

/// Reads a file; the error is in Go's words.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let result = std::fs::metadata(path).and_then(|metadata| {
        if metadata.len() > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
        }
        std::fs::read(path)
    });
    result.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        TlsError::new(format!("open {}: {reason}", path.display()))
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::of_file(path, format!("is no PEM: {error}")))
}

/// A certificate with its chain and its key, which belong together.
pub(crate) fn key_pair(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(certificate)?;
    let key_bytes = read(key)?;
    if chain.is_empty() {
        return Err(TlsError::of_file(certificate, "tls: failed to find any PEM data in certificate input"));
    }
    let private = PrivateKeyDer::from_pem_slice(&key_bytes)
        .map_err(|_| TlsError::of_file(key, "tls: failed to find any PEM data in key input"))?;
    let signing = provider.key_provider.load_private_key(private).map_err(|_| {
        TlsError::of_file(key, "this key is of no supported kind: RSA from 2048 bits on, ECDSA P-256 or P-384, Ed25519")
    })?;
    let pair = CertifiedKey::new(chain, signing);
    match pair.keys_match() {
        // A kind of key that cannot tell its public half is taken as it is.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::new(format!(
            "{} and {}: tls: private key does not match public key",
            certificate.display(),
            key.display()
        ))),
        Err(error) => Err(TlsError::of_file(certificate, error)),
    }
}

/// Who is trusted to sign certificates.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub(crate) roots: Arc<RootCertStore>,
    /// The same, byte for byte: a certificate that is itself among them is trusted as it is.
    pub(crate) certificates: HashSet<CertificateDer<'static>>,
}

/// The authorities of a file, or the system's.
pub(crate) fn authorities(path: Option<&Path>) -> Result<Authorities, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = path else {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(error = error.to_string(), "cannot read a certificate authority of the system");
        }
        roots.add_parsable_certificates(system.certs);
        return Ok(Authorities { roots: Arc::new(roots), certificates: HashSet::new() });
    };
    let list = certificates(path)?;
    if list.is_empty() {
        return Err(TlsError::of_file(path, "holds no PEM certificate"));
    }
    for certificate in &list {
        roots.add(certificate.clone()).map_err(|error| TlsError::of_file(path, error))?;
    }
    Ok(Authorities { roots: Arc::new(roots), certificates: list.into_iter().collect() })
}

/// Serial numbers of a revocation list, as big-endian bytes without leading zeros.
pub(crate) type RevokedSerials = HashSet<Vec<u8>>;

/// Leading zeros are no part of a serial number.
pub(crate) fn serial_bytes(serial: &[u8]) -> &[u8] {
    &serial[serial.iter().take_while(|&&byte| byte == 0).count()..]
}

/// Reads a revocation list: DER, as etcd takes it, or PEM. As in etcd, neither its signature nor its age counts.
pub(crate) fn revoked_serials(path: &Path) -> Result<RevokedSerials, TlsError> {
    let bytes = read(path)?;
    let no_list = |_| TlsError::of_file(path, "is no certificate revocation list");
    let lists = if bytes.starts_with(b"-----BEGIN") {
        rustls::pki_types::CertificateRevocationListDer::pem_slice_iter(&bytes)
            .map(|list| list.map(|list| list.to_vec()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::of_file(path, format!("is no PEM: {error}")))?
    } else {
        vec![bytes]
    };
    if lists.is_empty() {
        return Err(no_list(()));
    }
    let mut serials = RevokedSerials::new();
    for bytes in &lists {
        let (_, list) = CertificateRevocationList::from_der(bytes).map_err(|_| no_list(()))?;
        serials.extend(list.iter_revoked_certificates().map(|entry| serial_bytes(entry.raw_serial()).to_vec()));
    }
    Ok(serials)
}
