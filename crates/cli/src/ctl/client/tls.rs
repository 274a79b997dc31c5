//! TLS towards servers: from the files that flags name to a protected stream.
//!
//! Not here: which endpoints are protected (`target`). The invariant: unless verification was switched off by its flag,
//! no byte of a request leaves before the server has proved its name to an authority that is trusted.

use std::fs;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::dial::{Stream, Transport};
use crate::ctl::settings::io_error_text;

/// What is spoken inside.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// What flags say about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) cacert: String,
    /// The name that a server must prove, in place of its endpoint's; empty for the endpoint's.
    pub(crate) server_name: String,
    pub(crate) verification: Verification,
}

/// Whether a server must prove its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verification {
    #[default]
    Required,
    Skipped,
}

impl TlsFiles {
    /// Whether they say anything at all.
    pub(crate) fn are_given(&self) -> bool {
        *self != Self::default()
    }
}

/// How to speak TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    server_name: String,
}

impl Tls {
    /// Reads the files. Without a file of authorities the system's are trusted.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should, half a key pair; in the words of Go's libraries.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, String> {
        let (cert, key) = (&files.cert, &files.key);
        if cert.is_empty() != key.is_empty() {
            return Err(format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"));
        }
        let identity = if cert.is_empty() { None } else { Some(read_identity(cert, key)?) };
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(files, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for the default versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => "tls: private key does not match public key".to_owned(),
                other => format!("tls: {other}"),
            })?,
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Self { config: Arc::new(config), server_name: files.server_name.clone() })
    }

    /// The same for a connection over which HTTP/1.1 is spoken.
    pub(crate) fn for_http1(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![HTTP1.to_vec()];
        Self { config: Arc::new(config), server_name: self.server_name.clone() }
    }

    /// Protects a stream to the server of this name.
    ///
    /// # Errors
    /// Why the handshake failed.
    pub(crate) async fn protect(&self, stream: impl Transport + 'static, host_name: &str) -> Result<Stream, String> {
        let name = if self.server_name.is_empty() { host_name } else { &self.server_name };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("tls: {name:?} is no server name"))?;
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await;
        let stream = stream.map_err(|error| format!("authentication handshake failed: {}", handshake_text(&error)))?;
        Ok(Box::new(stream))
    }
}

/// A handshake's failure, with Go's words for the common ones.
fn handshake_text(error: &std::io::Error) -> String {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            _ => io_error_text(error),
        };
    };
    let certificate = |detail: &str| format!("tls: failed to verify certificate: x509: {detail}");
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            certificate("certificate signed by unknown authority")
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            certificate("certificate has expired or is not yet valid")
        }
        rustls::Error::InvalidCertificate(reason) => certificate(&reason.to_string()),
        rustls::Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".to_owned(),
        other => format!("tls: {other}"),
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("open {path}: {}", io_error_text(&error)))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_identity(cert: &str, key: &str) -> Result<Identity, String> {
    let (cert, key) = (read_file(cert)?, read_file(key)?);
    let (certificates, other) = sections(&cert, |kind| kind == SectionKind::Certificate);
    let chain: Vec<CertificateDer<'static>> = certificates.into_iter().map(CertificateDer::from).collect();
    if chain.is_empty() {
        return Err(match other.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [kind] if is_key(*kind) => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs \
                 may have been switched"
                    .to_owned()
            }
            _ => "tls: failed to find \"CERTIFICATE\" PEM block in certificate input".to_owned(),
        });
    }
    let (_, other) = sections(&key, is_key);
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| match other.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [SectionKind::Certificate] => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        _ => "tls: failed to parse private key".to_owned(),
    })?;
    Ok((chain, key))
}

fn is_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

/// The contents of a file's sections of the wanted kind, and the kinds of the others.
fn sections(pem: &[u8], is_wanted: impl Fn(SectionKind) -> bool) -> (Vec<Vec<u8>>, Vec<SectionKind>) {
    let (mut wanted, mut other) = (Vec::new(), Vec::new());
    for (kind, content) in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).filter_map(Result::ok) {
        if is_wanted(kind) { wanted.push(content) } else { other.push(kind) }
    }
    (wanted, other)
}

fn verifier(files: &TlsFiles, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if files.verification == Verification::Skipped {
        return Ok(Arc::new(Anyone { provider: Arc::clone(provider) }));
    }
    let mut roots = RootCertStore::empty();
    let mut trusted = Vec::new();
    if files.cacert.is_empty() {
        // What cannot be read of the system's authorities is not trusted; without any, no server is.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        // Whatever stands in the file is taken for an authority.
        for content in sections(&read_file(&files.cacert)?, |_| true).0 {
            let certificate = CertificateDer::from(content);
            roots.add(certificate.clone()).map_err(|_| "x509: malformed tbs certificate".to_owned())?;
            trusted.push(certificate);
        }
    }
    if roots.is_empty() {
        return Ok(Arc::new(Nobody { provider: Arc::clone(provider) }));
    }
    let by_authority = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let by_authority = by_authority.map_err(|error| format!("x509: {error}"))?;
    Ok(Arc::new(Authorities { by_authority, trusted }))
}

/// Trusts authorities, and a server that shows a trusted certificate itself.
///
/// The latter because people use one self-signed certificate for both sides, marked as an authority: Go takes it.
#[derive(Debug)]
struct Authorities {
    by_authority: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        at: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.by_authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at);
        match verified {
            Err(_) if self.trusted.contains(&end_entity.clone().into_owned()) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                if !is_valid_at(end_entity, at) {
                    return Err(CertificateError::Expired.into());
                }
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

fn is_valid_at(certificate: &CertificateDer<'_>, at: UnixTime) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let at = i64::try_from(at.as_secs()).ok().and_then(|at| x509_parser::time::ASN1Time::from_timestamp(at).ok());
    at.is_some_and(|at| certificate.validity().is_valid_at(at))
}

/// The verifiers that need no certificate of an authority; they differ in their verdict only.
macro_rules! verifier_without_authorities {
    ($name:ident, $what:literal, $verdict:expr) => {
        #[doc = $what]
        #[derive(Debug)]
        struct $name {
            provider: Arc<CryptoProvider>,
        }

        impl ServerCertVerifier for $name {
            fn verify_server_cert(
                &self,
                _: &CertificateDer<'_>,
                _: &[CertificateDer<'_>],
                _: &ServerName<'_>,
                _: &[u8],
                _: UnixTime,
            ) -> Result<ServerCertVerified, rustls::Error> {
                $verdict
            }

            fn verify_tls12_signature(
                &self,
                message: &[u8],
                certificate: &CertificateDer<'_>,
                signature: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                let algorithms = &self.provider.signature_verification_algorithms;
                rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
            }

            fn verify_tls13_signature(
                &self,
                message: &[u8],
                certificate: &CertificateDer<'_>,
                signature: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                let algorithms = &self.provider.signature_verification_algorithms;
                rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
            }

            fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
                self.provider.signature_verification_algorithms.supported_schemes()
            }
        }
    };
}

verifier_without_authorities!(
    Anyone,
    "Takes every server for what it says it is: the user said so.",
    Ok(ServerCertVerified::assertion())
);
verifier_without_authorities!(
    Nobody,
    "Trusts no server, since there is no authority to trust.",
    Err(CertificateError::UnknownIssuer.into())
);
