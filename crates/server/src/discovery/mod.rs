//! Finding the first members where `--initial-cluster` does not list them.
//!
//! Owns the ways to find them, each a file. What they make together is `boot`'s. Invariant: only a member without data asks.

mod dns;
mod service;

use crate::config::{Config, Finding};
use crate::tls::TlsDialer;
use std::borrow::Cow;
use tokio::runtime::Runtime;

/// The settings with the first members in them.
pub(crate) fn find_members<'a>(
    config: &'a Config,
    runtime: &Runtime,
    dialer: &TlsDialer,
) -> anyhow::Result<Cow<'a, Config>> {
    let mut found = config.clone();
    match &config.finding {
        Finding::Listed => return Ok(Cow::Borrowed(config)),
        Finding::Dns { domain, service_name } => {
            let members = dns::find_members(config, domain, service_name, &dns::System)?;
            // They are told apart by the addresses that names lead to, so the records' own names are what is advertised.
            if let Some(own) = members.get(&config.name)
                && own.len() == config.initial_advertise_peer_urls.len()
            {
                found.initial_advertise_peer_urls.clone_from(own);
            }
            found.initial_cluster = members;
        }
        Finding::Service(url) => {
            found.initial_cluster_token.clone_from(url);
            found.initial_cluster = runtime.block_on(service::join(config, url, dialer))?;
        }
    }
    Ok(Cow::Owned(found))
}
