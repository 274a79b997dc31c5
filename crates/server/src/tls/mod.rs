//! TLS for clients and members: certificates in files that may change, who may connect, and handshakes that starve
//! nobody.
//!
//! Knows nothing of what is served over a connection. The invariant: whoever is handed a [`Stream`] that came through
//! [`Security`] has passed every check that the settings ask for.

mod accept;
mod certificate;
mod dial;
mod failure;
mod files;
mod generated;
mod handshakes;
mod reload;
mod remote_address;
mod settings;
mod stream;
mod suites;
mod verify;

#[cfg(test)]
pub(crate) mod test_certificates;
#[cfg(test)]
mod tests;

pub(crate) use accept::{Accepted, Endpoint, Security, TlsAcceptor};
pub(crate) use dial::TlsDialer;
pub(crate) use failure::handshake_text;
pub use files::TlsError;
pub use settings::{GeneratedCertificate, TlsSettings, TlsVersion};
pub(crate) use stream::Stream;
pub(crate) use suites::check_names as check_suite_names;
