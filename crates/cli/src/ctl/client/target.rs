//! An endpoint's text, read: where to connect to, and whether TLS is spoken there.
//!
//! Not here: connecting. The invariant: the scheme alone decides between plain and TLS; without one, the settings do.

use std::path::PathBuf;

use crate::command_line::go_text::quote;

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `host:port`, as it was typed.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Whether an endpoint is spoken to over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Never, whatever the settings say.
    Never,
    /// If the settings have anything to say about TLS.
    IfConfigured,
    /// Always; without settings by the system's trusted authorities.
    Always,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) place: Place,
    /// What the server is called in requests; without its port, the name its certificate must have.
    pub(crate) name: String,
    pub(crate) protection: Protection,
}

impl Target {
    /// Reads an endpoint.
    ///
    /// # Errors
    /// A scheme under which nothing can be reached, for the user.
    pub(crate) fn read(endpoint: &str) -> Result<Self, String> {
        for (scheme, protection) in [("unix:", Protection::IfConfigured), ("unixs:", Protection::Always)] {
            // The path may follow without slashes of its own.
            if let Some(path) = endpoint.strip_prefix(scheme) {
                let path = path.strip_prefix("//").unwrap_or(path);
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                return Ok(Self { place: Place::Unix(path.into()), name, protection });
            }
        }
        let tcp =
            |host: &str, protection| Self { place: Place::Tcp(host.to_owned()), name: host.to_owned(), protection };
        match endpoint.split_once("://") {
            None => Ok(tcp(endpoint, Protection::IfConfigured)),
            Some(("http", rest)) => Ok(tcp(host(rest), Protection::Never)),
            Some(("https", rest)) => Ok(tcp(host(rest), Protection::Always)),
            Some(_) => {
                let quoted = quote(endpoint.as_bytes());
                Err(format!("endpoint {quoted}: the scheme must be http, https, unix, or unixs"))
            }
        }
    }

    /// The name without a port, without the brackets of an IPv6 address and without a domain's last dot.
    pub(crate) fn host_name(&self) -> &str {
        let host = match self.name.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') && (!host.contains(':') || host.ends_with(']')) => host,
            _ => &self.name,
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.strip_suffix('.').unwrap_or(host)
    }
}

/// The host and port of what follows a URL's scheme.
fn host(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        use Protection::{Always, IfConfigured, Never};
        let check = |endpoint: &str, place: Place, name: &str, protection| {
            let target = Target::read(endpoint).expect(endpoint);
            assert_eq!(
                (&target.place, target.host_name(), target.protection),
                (&place, name, protection),
                "{endpoint}"
            );
        };
        let tcp = |host: &str| Place::Tcp(host.to_owned());
        let unix = |path: &str| Place::Unix(path.into());
        check("127.0.0.1:2379", tcp("127.0.0.1:2379"), "127.0.0.1", IfConfigured);
        check("localhost", tcp("localhost"), "localhost", IfConfigured);
        check("[::1]:2379", tcp("[::1]:2379"), "::1", IfConfigured);
        check("http://a:1/path", tcp("a:1"), "a", Never);
        check("https://a.b:1", tcp("a.b:1"), "a.b", Always);
        check("https://a.b.:1", tcp("a.b.:1"), "a.b", Always);
        check("unix:///run/s.sock", unix("/run/s.sock"), "s.sock", IfConfigured);
        check("unix:s.sock", unix("s.sock"), "s.sock", IfConfigured);
        check("unixs://localhost:m1", unix("localhost:m1"), "localhost", Always);
        assert!(Target::read("ftp://a").expect_err("no such scheme").contains("the scheme must be"));
    }
}
