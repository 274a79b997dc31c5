//! The listening side: from a TCP connection to one that may be served.

use super::certificate::CertificateNames;
use super::failure::{FailureLog, Rejected};
use super::files::{self, RevokedSerials, TlsError};
use super::handshakes::{Cut, Handshakes};
use super::reload::Reloading;
use super::remote_address::{self, SystemResolver};
use super::settings::{GeneratedCertificate, TlsSettings};
use super::stream::Stream;
use super::verify::ClientVerifier;
use super::{generated, suites};
use crate::socket::{Remote, Socket};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

/// The first byte of every TLS connection: a record that holds a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
/// How long a connection that is turned away may take to hear it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a self-made certificate's age is looked at.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);

/// Which kind of listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Client,
    Peer,
    Metrics,
}

impl Endpoint {
    /// What the log says of connections that were not let in; etcd has one text for all that clients connect to.
    fn rejection(self) -> &'static str {
        match self {
            Self::Client | Self::Metrics => "rejected connection on client endpoint",
            Self::Peer => "rejected connection on peer endpoint",
        }
    }

    /// What the other side may choose to speak.
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Client | Self::Metrics => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Peer => vec![b"http/1.1".to_vec()],
        }
    }

    /// Whether certificates must lead to the address that they come from. In etcd, only those of clients may come from
    /// anywhere.
    fn checks_addresses(self) -> bool {
        self != Self::Client
    }
}

/// What a listener asks of its connections.
#[derive(Clone)]
pub(crate) enum Security {
    /// Nothing.
    Plain,
    /// TLS.
    Tls(Arc<TlsAcceptor>),
    /// The same address was given with http and with https: the first byte tells.
    Either(Arc<TlsAcceptor>),
}

/// A connection that was let in.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    /// The common name of a certificate that was asked for by `--client-cert-auth` and verified.
    pub(crate) common_name: Option<Arc<str>>,
    /// Where it comes from.
    pub(crate) remote: Remote,
}

impl Accepted {
    pub(crate) fn plain(socket: Socket, remote: Remote) -> Self {
        Self { stream: Stream::Plain(socket), common_name: None, remote }
    }
}

/// All that handshakes of one kind of listener need.
pub(crate) struct TlsAcceptor {
    made: Reloading<Made>,
    has_names: bool,
    checks_addresses: bool,
    handshakes: Handshakes,
    failures: FailureLog,
    renewal: Option<Renewal>,
}

/// A self-made certificate of a server that runs for longer than it is valid.
struct Renewal {
    generated: GeneratedCertificate,
    next_check: Mutex<Instant>,
}

impl Renewal {
    fn new(generated: GeneratedCertificate) -> Self {
        Self { generated, next_check: Mutex::new(Instant::now() + RENEWAL_INTERVAL) }
    }

    fn renew_when_due(&self) {
        let now = Instant::now();
        let mut next_check = self.next_check.lock();
        if now < *next_check {
            return;
        }
        *next_check = now + RENEWAL_INTERVAL;
        if let Err(error) = generated::ensure(&self.generated, SystemTime::now()) {
            tracing::error!(error = error.to_string(), "cannot renew a certificate that expires");
        }
    }
}

/// What is made of the files.
struct Made {
    config: Arc<ServerConfig>,
    revoked: RevokedSerials,
}

impl TlsAcceptor {
    /// Reads everything; makes the certificate if the server makes its own.
    pub(crate) fn new(endpoint: Endpoint, settings: &TlsSettings) -> Result<Self, TlsError> {
        if let Some(own) = &settings.generated {
            generated::ensure(own, SystemTime::now())?;
        }
        let (certificate, key) = settings.server_files()?;
        let mut files = vec![certificate, key];
        files.extend(settings.trusted_ca_file.clone());
        files.extend(settings.crl_file.clone());
        let owned = settings.clone();
        Ok(Self {
            made: Reloading::new(files, move || make(endpoint, &owned))?,
            has_names: settings.client_cert_auth,
            checks_addresses: endpoint.checks_addresses() && !settings.skip_client_san_verification,
            handshakes: Handshakes::new(),
            failures: FailureLog::new(endpoint.rejection()),
            renewal: settings.generated.clone().map(Renewal::new),
        })
    }

    /// Shakes hands. Whoever is not let in is written into the log, and its connection closed.
    pub(crate) async fn accept(&self, socket: Socket, remote: Remote) -> Option<Accepted> {
        let cut = |reason: &str| Rejected {
            server_name: String::new(),
            certificate: None,
            reason: reason.to_owned(),
            is_end: false,
        };
        let rejected = match self.handshakes.run(self.handshake(socket, remote)).await {
            Ok(Ok(accepted)) => return Some(accepted),
            Ok(Err(rejected)) => rejected,
            Err(Cut::TooSlow) => cut("i/o timeout"),
            Err(Cut::Crowded) => cut("too many handshakes began after this one"),
        };
        self.failures.write(remote, &rejected);
        None
    }

    /// As [`Self::accept`], but what does not begin like TLS is let in as it is.
    async fn accept_either(&self, socket: Socket, remote: Remote) -> Option<Accepted> {
        match self.handshakes.run(socket.peek()).await {
            Ok(Ok(Some(HANDSHAKE_RECORD))) => self.accept(socket, remote).await,
            Ok(Ok(Some(_))) => Some(Accepted::plain(socket, remote)),
            Ok(Ok(None) | Err(_)) | Err(_) => None,
        }
    }

    async fn handshake(&self, socket: Socket, remote: Remote) -> Result<Accepted, Rejected> {
        let begun = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket)
            .await
            .map_err(|error| Rejected::new("", &error))?;
        let server_name = begun.client_hello().server_name().unwrap_or_default().to_owned();
        if let Some(renewal) = &self.renewal {
            renewal.renew_when_due();
        }
        let made = self.made.current(Instant::now());
        let mut stream =
            begun.into_stream(made.config.clone()).await.map_err(|error| Rejected::new(&server_name, &error))?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let names: Vec<CertificateNames> = shown.iter().filter_map(CertificateNames::read).collect();
        let verdict = if names.len() == shown.len() {
            self.check(&made, &names, remote).await
        } else {
            Err("x509: malformed certificate".to_owned())
        };
        if let Err(reason) = verdict {
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, stream.shutdown()).await;
            let certificate = names.into_iter().next();
            return Err(Rejected { server_name, certificate, reason, is_end: false });
        }
        let common_name = names.into_iter().next().filter(|_| self.has_names).map(|names| names.common_name.into());
        Ok(Accepted { stream: Stream::Tls(Box::new(TlsStream::Server(stream))), common_name, remote })
    }

    /// What etcd checks once hands are shaken: where the certificate comes from, and the revocations.
    async fn check(&self, made: &Made, shown: &[CertificateNames], remote: Remote) -> Result<(), String> {
        let Some(own) = shown.first() else { return Ok(()) };
        if self.checks_addresses {
            remote_address::check(own, remote, &SystemResolver).await?;
        }
        match shown.iter().find(|names| made.revoked.contains(&names.serial)) {
            Some(names) => {
                let serial: String = names.serial.iter().map(|byte| format!("{byte:02x}")).collect();
                Err(format!("transport: certificate serial {serial} revoked"))
            }
            None => Ok(()),
        }
    }
}

fn make(endpoint: Endpoint, settings: &TlsSettings) -> Result<Made, TlsError> {
    let provider = Arc::new(suites::provider(settings));
    let (certificate, key) = settings.server_files()?;
    let own = files::key_pair(&certificate, &key, &provider)?;
    // Not shown to anybody here; etcd refuses a wrong one all the same.
    if let Some((certificate, key)) = settings.client_files()? {
        files::key_pair(&certificate, &key, &provider)?;
    }
    let broken = |error: rustls::Error| TlsError::new(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&suites::versions(settings)?)
        .map_err(broken)?;
    let builder = if settings.asks_for_certificate() {
        let authorities = files::authorities(settings.trusted_ca_file.as_deref())?;
        builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(settings, authorities, provider)?))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = endpoint.protocols();
    // A resumed session skips the checks of the certificate: nobody may outlive a revocation by that.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let revoked = settings.crl_file.as_deref().map(files::revoked_serials).transpose()?.unwrap_or_default();
    Ok(Made { config: Arc::new(config), revoked })
}

impl Security {
    /// Does what the listener asks for; `None`: the connection was not let in, and the log says why.
    pub(crate) async fn accept(&self, socket: Socket, remote: Remote) -> Option<Accepted> {
        match self {
            Self::Plain => Some(Accepted::plain(socket, remote)),
            Self::Tls(acceptor) => acceptor.accept(socket, remote).await,
            Self::Either(acceptor) => acceptor.accept_either(socket, remote).await,
        }
    }

    /// Whether letting a connection in takes time that the other side may draw out.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }
}
