//! The connecting side, for members: TLS with this member's certificate, and the checks of the other's.

use super::files::{self, TlsError};
use super::reload::Reloading;
use super::settings::TlsSettings;
use super::stream::Stream;
use super::verify::ServerVerifier;
use super::{generated, suites};
use crate::socket::Socket;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};
use tokio_rustls::{TlsConnector, TlsStream};

/// Connects with TLS.
pub(crate) struct TlsDialer {
    settings: TlsSettings,
    made: OnceLock<Result<Reloading<Arc<ClientConfig>>, TlsError>>,
}

impl TlsDialer {
    /// Reads everything that is given. Without a certificate and without an authority, members are judged by the
    /// authorities of the system, which are read when the first https URL is connected to.
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let dialer = Self { settings: settings.clone(), made: OnceLock::new() };
        if !settings.is_empty() || settings.trusted_ca_file.is_some() {
            dialer.made().map_err(Clone::clone)?;
        }
        Ok(dialer)
    }

    fn made(&self) -> Result<&Reloading<Arc<ClientConfig>>, &TlsError> {
        self.made.get_or_init(|| load(&self.settings)).as_ref()
    }

    /// Shakes hands with who listens at `host`. [`super::handshake_text`] has words for the error.
    pub(crate) async fn connect(&self, socket: Socket, host: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::other(format!("{host} is no name that a certificate could be valid for")))?;
        let config = self.made().map_err(|error| io::Error::other(error.clone()))?.current(Instant::now());
        let stream = TlsConnector::from((*config).clone()).connect(name, socket).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

fn load(settings: &TlsSettings) -> Result<Reloading<Arc<ClientConfig>>, TlsError> {
    if let Some(own) = &settings.generated {
        generated::ensure(own, SystemTime::now())?;
    }
    let mut files: Vec<PathBuf> = Vec::new();
    if let Some((certificate, key)) = settings.client_files()? {
        files.extend([certificate, key]);
    }
    files.extend(settings.trusted_ca_file.clone());
    let owned = settings.clone();
    Reloading::new(files, move || make(&owned))
}

fn make(settings: &TlsSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(suites::provider(settings));
    let broken = |error: rustls::Error| TlsError::new(error.to_string());
    let authorities = match &settings.generated {
        Some(_) => None,
        None => Some(files::authorities(settings.trusted_ca_file.as_deref())?),
    };
    let verifier = ServerVerifier::new(settings, authorities, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&suites::versions(settings)?)
        .map_err(broken)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match settings.client_files()? {
        Some((certificate, key)) => {
            let own = files::key_pair(&certificate, &key, &provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
        None => builder.with_no_client_auth(),
    };
    // A resumed session skips the checks of the certificate.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
