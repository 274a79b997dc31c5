//! Handshakes that failed, in Go's words, since operators search their logs for those; and not more lines than a log
//! bears.

use super::certificate::CertificateNames;
use crate::socket::Remote;
use parking_lot::Mutex;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Lines about failed handshakes in a second at the most, for one kind of listener.
const LINES_PER_SECOND_MAX: u32 = 10;

/// A connection that was not let in.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// The name that the client asked for.
    pub(crate) server_name: String,
    /// What it showed.
    pub(crate) certificate: Option<CertificateNames>,
    pub(crate) reason: String,
    /// The client only went away: nothing that anybody wants to read about.
    pub(crate) is_end: bool,
}

impl Rejected {
    pub(crate) fn new(server_name: &str, error: &io::Error) -> Self {
        Self {
            server_name: server_name.to_owned(),
            certificate: None,
            reason: handshake_text(error),
            is_end: error.kind() == io::ErrorKind::UnexpectedEof,
        }
    }
}

/// Why a handshake failed, as Go says it.
pub(crate) fn handshake_text(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => tls_text(error),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
            io::ErrorKind::BrokenPipe => "write: broken pipe".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            _ => error.to_string(),
        },
    }
}

fn tls_text(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::InvalidCertificate(error) => certificate_text(error),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "tls: client offered only unsupported versions".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "tls: no cipher suite supported by both client and server".to_owned()
        }
        Error::NoApplicationProtocol => "tls: client requested unsupported application protocols".to_owned(),
        other => format!("tls: {other}"),
    }
}

fn certificate_text(error: &CertificateError) -> String {
    let reason = match error {
        // The only check of names while a client's certificate is judged is that of the allowed ones.
        CertificateError::NotValidForName => return "client certificate authentication failed".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let known: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
            format!("x509: certificate is valid for {}, not {}", known.join(", "), expected.to_str())
        }
        CertificateError::UnknownIssuer => "x509: certificate signed by unknown authority".to_owned(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "x509: certificate has expired or is not yet valid".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "x509: certificate specifies an incompatible key usage".to_owned()
        }
        other => format!("x509: {other}"),
    };
    format!("tls: failed to verify certificate: {reason}")
}

/// `DnsName("a.test")` and `IpAddress(127.0.0.1)`, as webpki writes names, without their kind.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn alert_text(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::CloseNotify => "close notify",
        AlertDescription::UnexpectedMessage => "unexpected message",
        AlertDescription::BadRecordMac => "bad record MAC",
        AlertDescription::DecryptionFailed => "decryption failed",
        AlertDescription::RecordOverflow => "record overflow",
        AlertDescription::DecompressionFailure => "decompression failure",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::IllegalParameter => "illegal parameter",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ExportRestriction => "export restriction",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InsufficientSecurity => "insufficient security level",
        AlertDescription::InternalError => "internal error",
        AlertDescription::InappropriateFallback => "inappropriate fallback",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::NoRenegotiation => "no renegotiation",
        AlertDescription::MissingExtension => "missing extension",
        AlertDescription::UnsupportedExtension => "unsupported extension",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("alert({})", u8::from(other)),
    };
    text.to_owned()
}

/// Writes failures into the log, so many a second at the most.
#[derive(Debug)]
pub(crate) struct FailureLog {
    /// Begins every line.
    message: &'static str,
    state: Mutex<Second>,
}

#[derive(Debug)]
struct Second {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl FailureLog {
    pub(crate) fn new(message: &'static str) -> Self {
        Self { message, state: Mutex::new(Second { began: Instant::now(), lines: 0, left_out: 0 }) }
    }

    pub(crate) fn write(&self, remote: Remote, rejected: &Rejected) {
        let Rejected { server_name, certificate, reason, is_end } = rejected;
        let message = self.message;
        let remote = remote.to_string();
        if *is_end {
            tracing::debug!(
                "remote-addr" = remote,
                "server-name" = server_name.as_str(),
                error = reason.as_str(),
                "{message}"
            );
            return;
        }
        let Some(left_out) = self.room(Instant::now()) else { return };
        if left_out > 0 {
            tracing::warn!(lines = left_out, "{message}: lines about further connections were left out");
        }
        match certificate {
            Some(names) => tracing::warn!(
                "remote-addr" = remote,
                "server-name" = server_name.as_str(),
                "ip-addresses" = names.ip_addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(","),
                "dns-names" = names.dns_names.join(","),
                error = reason.as_str(),
                "{message}"
            ),
            None => tracing::warn!(
                "remote-addr" = remote,
                "server-name" = server_name.as_str(),
                error = reason.as_str(),
                "{message}"
            ),
        }
    }

    /// Whether one more line may be written, and how many were left out before it.
    fn room(&self, now: Instant) -> Option<u64> {
        let mut second = self.state.lock();
        if now.saturating_duration_since(second.began) >= Duration::from_secs(1) {
            second.began = now;
            second.lines = 0;
        }
        if second.lines >= LINES_PER_SECOND_MAX {
            second.left_out += 1;
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_counted() {
        let log = FailureLog::new("rejected");
        let now = Instant::now();
        let written = (0..25).filter(|_| log.room(now).is_some()).count();
        assert_eq!(written, LINES_PER_SECOND_MAX as usize);
        assert_eq!(log.room(now + Duration::from_secs(2)), Some(15));
        assert_eq!(log.room(now + Duration::from_secs(2)), Some(0));
    }

    #[test]
    fn failures_have_gos_words() {
        let text = |error| handshake_text(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(text(Error::AlertReceived(AlertDescription::BadCertificate)), "remote error: tls: bad certificate");
        assert_eq!(
            text(Error::InvalidCertificate(CertificateError::NotValidForName)),
            "client certificate authentication failed"
        );
        assert_eq!(
            text(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        );
        assert_eq!(handshake_text(&io::ErrorKind::UnexpectedEof.into()), "EOF");
    }
}
