//! Who is on the other side: the checks of a certificate while hands are shaken.
//!
//! The chain is judged by webpki. Two rules are etcd's own: a certificate that lies in the file of authorities is trusted
//! as it is (self-signed ones made by `openssl req -x509` call themselves authorities, which webpki does not take from a
//! peer), and the allowed common names or host names.

use super::certificate::CertificateNames;
use super::files::{Authorities, TlsError};
use super::settings::TlsSettings;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Names of which one must be the certificate's.
#[derive(Clone, Debug, Default)]
struct Allowed {
    common_names: Vec<String>,
    hostnames: Vec<String>,
}

impl Allowed {
    fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let (common_names, hostnames) = (&settings.allowed_common_names, &settings.allowed_hostnames);
        if !common_names.is_empty() && !hostnames.is_empty() {
            let quoted = |names: &[String]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" ");
            return Err(TlsError::new(format!(
                "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{}], hostnames=[{}])",
                quoted(common_names),
                quoted(hostnames)
            )));
        }
        Ok(Self { common_names: common_names.clone(), hostnames: hostnames.clone() })
    }

    /// [`CertificateError::NotValidForName`] is sent as the alert that etcd sends, `bad_certificate`.
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.common_names.is_empty() && self.hostnames.is_empty() {
            return Ok(());
        }
        let names = CertificateNames::read(certificate).ok_or(CertificateError::BadEncoding)?;
        if self.common_names.contains(&names.common_name)
            || self.hostnames.iter().any(|host| names.verify_hostname(host).is_ok())
        {
            return Ok(());
        }
        Err(CertificateError::NotValidForName.into())
    }
}

#[derive(Clone, Copy)]
enum Shown {
    ByServer,
    ByClient,
}

/// A certificate that is one of the authorities needs no signature, but must be valid and meant for this.
fn trusted_as_it_is(
    authorities: &Authorities,
    certificate: &CertificateDer<'_>,
    now: UnixTime,
    shown: Shown,
) -> Option<Result<CertificateNames, Error>> {
    if !authorities.certificates.contains(certificate) {
        return None;
    }
    let Some(names) = CertificateNames::read(certificate) else {
        return Some(Err(CertificateError::BadEncoding.into()));
    };
    let is_for_this = match shown {
        Shown::ByServer => names.for_servers,
        Shown::ByClient => names.for_clients,
    };
    Some(if !is_for_this {
        Err(CertificateError::InvalidPurpose.into())
    } else if !names.is_valid_at(UNIX_EPOCH + Duration::from_secs(now.as_secs())) {
        Err(CertificateError::Expired.into())
    } else {
        Ok(names)
    })
}

/// A signature by another key of the same name is what a stranger's certificate has; etcd sends the alert for that.
fn as_stranger(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        other => other,
    }
}

/// Judges the certificates of those who connect.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    /// None: nobody is trusted, for the system knows no authority.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    authorities: Authorities,
    allowed: Allowed,
    provider: Arc<CryptoProvider>,
}

impl ClientVerifier {
    pub(crate) fn new(
        settings: &TlsSettings,
        authorities: Authorities,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let chains = if authorities.roots.is_empty() {
            None
        } else {
            let builder = WebPkiClientVerifier::builder_with_provider(authorities.roots.clone(), provider.clone());
            Some(builder.build().map_err(|error| TlsError::new(error.to_string()))?)
        };
        Ok(Self { chains, authorities, allowed: Allowed::new(settings)?, provider })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.as_ref().map_or(&[], |chains| chains.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(trusted) = trusted_as_it_is(&self.authorities, certificate, now, Shown::ByClient) {
            trusted?;
        } else if let Some(chains) = &self.chains {
            chains.verify_client_cert(certificate, intermediates, now).map_err(as_stranger)?;
        } else {
            return Err(CertificateError::UnknownIssuer.into());
        }
        self.allowed.check(certificate)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Judges the certificate of a member that this one connects to.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    trust: Trust,
    allowed: Allowed,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    /// Members that make their own certificates can't know each other's: as in etcd, traffic is encrypted, no more.
    Everybody,
    /// Nobody: no authority is known.
    Nobody,
    Chains(Arc<WebPkiServerVerifier>, Authorities),
}

impl ServerVerifier {
    /// `authorities`: none for members that trust everybody.
    pub(crate) fn new(
        settings: &TlsSettings,
        authorities: Option<Authorities>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let trust = match authorities {
            None => Trust::Everybody,
            Some(authorities) if authorities.roots.is_empty() => Trust::Nobody,
            Some(authorities) => {
                let builder = WebPkiServerVerifier::builder_with_provider(authorities.roots.clone(), provider.clone());
                Trust::Chains(builder.build().map_err(|error| TlsError::new(error.to_string()))?, authorities)
            }
        };
        Ok(Self { trust, allowed: Allowed::new(settings)?, provider })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Everybody => {}
            Trust::Nobody => return Err(CertificateError::UnknownIssuer.into()),
            Trust::Chains(chains, authorities) => {
                if let Some(names) = trusted_as_it_is(authorities, certificate, now, Shown::ByServer) {
                    names?.verify_hostname(&server_name.to_str()).map_err(|_| CertificateError::NotValidForName)?;
                } else {
                    chains
                        .verify_server_cert(certificate, intermediates, server_name, ocsp_response, now)
                        .map_err(as_stranger)?;
                }
            }
        }
        self.allowed.check(certificate)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
