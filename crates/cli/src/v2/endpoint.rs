//! Where to connect to: the flags, the variables, and endpoints as Go reads URLs.

use super::Exit;
use super::flags::Given;
use crate::command_line::go_text::quote;
use crate::ctl::client::{Discovery, look_up};

/// Where etcdctl looks when nobody says anything.
const DEFAULT: &str = "http://127.0.0.1:2379,http://127.0.0.1:4001";

/// A flag, or the variable for it.
pub(super) fn flag_or_variable(given: &Given, flag: &str, variable: &str) -> String {
    match given.text(flag) {
        "" => std::env::var(variable).unwrap_or_default(),
        text => text.to_owned(),
    }
}

/// The domain whose records list the cluster, and whether plain endpoints are accepted from them.
pub(super) fn discovery(given: &Given) -> (String, bool) {
    let insecure = std::env::var_os("ETCDCTL_INSECURE_DISCOVERY").is_some_and(|value| !value.is_empty());
    (flag_or_variable(given, "discovery-srv", "ETCDCTL_DISCOVERY_SRV"), given.is_set("insecure-discovery") || insecure)
}

fn discovered(given: &Given) -> Result<Vec<String>, Exit> {
    let (domain, insecure) = discovery(given);
    if domain.is_empty() {
        return Ok(Vec::new());
    }
    let service_name = std::env::var("ETCDCTL_DISCOVERY_SRV_NAME").unwrap_or_default();
    let mut found = Discovery { domain, service_name }.endpoints(look_up).map_err(Exit::usage)?;
    found.retain(|endpoint| {
        let is_refused = !insecure && endpoint.starts_with("http://");
        if is_refused {
            eprintln!("ignoring discovered insecure endpoint {}", quote(endpoint.as_bytes()));
        }
        !is_refused
    });
    Ok(found)
}

/// The endpoints to begin with.
///
/// # Errors
/// A domain without records, or a text that is no URL.
pub(super) fn endpoints(given: &Given) -> Result<Vec<String>, Exit> {
    let mut endpoints = discovered(given)?;
    if endpoints.is_empty() {
        let said = [("endpoints", "ETCDCTL_ENDPOINTS"), ("endpoint", "ETCDCTL_ENDPOINT"), ("peers", "ETCDCTL_PEERS")]
            .into_iter()
            .map(|(flag, variable)| flag_or_variable(given, flag, variable))
            .find(|said| !said.is_empty());
        endpoints = said.as_deref().unwrap_or(DEFAULT).split(',').map(str::to_owned).collect();
    }
    endpoints.into_iter().map(|endpoint| url(&endpoint).map_err(Exit::usage)).collect()
}

/// An endpoint with its scheme.
fn url(endpoint: &str) -> Result<String, String> {
    if endpoint.contains("://") {
        return Ok(endpoint.trim_end_matches('/').to_owned());
    }
    let refused = |text: &str| Err(format!("parse {}: {text}", quote(endpoint.as_bytes())));
    match endpoint.split('/').next().and_then(|first| first.split_once(':')) {
        Some(("", _)) => refused("missing protocol scheme"),
        Some((scheme, _)) if scheme.starts_with(|first: char| first.is_ascii_alphabetic()) => Ok(endpoint.to_owned()),
        Some(_) => refused("first path segment in URL cannot contain colon"),
        None => Ok(format!("http://{endpoint}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls() {
        assert_eq!(url("http://a:1/"), Ok("http://a:1".to_owned()));
        assert_eq!(url("a"), Ok("http://a".to_owned()));
        assert_eq!(url("localhost:2379"), Ok("localhost:2379".to_owned()));
        assert_eq!(url("::1").unwrap_err(), "parse \"::1\": missing protocol scheme");
        let text = "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon";
        assert_eq!(url("127.0.0.1:1").unwrap_err(), text);
    }
}
