//! URLs of the command line: what etcd takes, with its words for what it does not take.

use std::net::IpAddr;

/// Where a listener binds or a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// `http` or `https` (`unix` and `unixs` keep their path in `host`).
    pub scheme: String,
    /// Host name or address, without brackets.
    pub host: String,
    /// The port; 0: any free one.
    pub port: u16,
}

/// Splits a comma separated list of URLs, checks each, sorts and removes repetitions, as etcd does.
pub fn parse_list(text: &str) -> Result<Vec<String>, String> {
    let mut urls = Vec::new();
    for item in text.split(',') {
        let item = item.trim();
        parse(item)?;
        if !urls.iter().any(|known| known == item) {
            urls.push(item.to_owned());
        }
    }
    urls.sort();
    Ok(urls)
}

/// Checks one URL and takes it apart.
pub fn parse(text: &str) -> Result<Address, String> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(format!("parse {text:?}: net/url: invalid control character in URL"));
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(format!("URL scheme must be http, https, unix, or unixs: {text}"));
    };
    if scheme.is_empty() {
        return Err(format!("parse {text:?}: missing protocol scheme"));
    }
    if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return Err(format!("parse {text:?}: first path segment in URL cannot contain colon"));
    }
    let scheme = scheme.to_ascii_lowercase();
    let authority_and_path = rest.strip_prefix("//");
    match scheme.as_str() {
        "http" | "https" => {
            let no_port = || format!("URL address does not have the form \"host:port\": {text}");
            let rest = authority_and_path.ok_or_else(no_port)?;
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let (host, port) = split_host_port(authority).ok_or_else(no_port)?;
            if path.starts_with('/') {
                return Err(format!("URL must not contain a path: {text}"));
            }
            let port = match port {
                "" => 0,
                port => match port.parse() {
                    Ok(port) => port,
                    Err(_) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                        return Err(format!("address {port}: invalid port in URL: {text}"));
                    }
                    Err(_) => return Err(format!("parse {text:?}: invalid port \":{port}\" after host")),
                },
            };
            Ok(Address { scheme, host: host.to_owned(), port })
        }
        "unix" | "unixs" => Ok(Address { scheme, host: authority_and_path.unwrap_or(rest).to_owned(), port: 0 }),
        _ => Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
    }
}

fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return Some((host, after.strip_prefix(':')?));
    }
    let (host, port) = authority.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

impl Address {
    /// Whether `host` is the path of a unix socket.
    pub fn is_unix(&self) -> bool {
        self.scheme.starts_with("unix")
    }

    /// Whether both are one socket, encrypted or not.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.is_unix() == other.is_unix() && (&self.host, self.port) == (&other.host, other.port)
    }

    /// Whether it may be bound: an address, `localhost`, nothing for all interfaces, or a unix socket.
    pub fn is_bindable(&self) -> bool {
        self.is_unix() || self.host.is_empty() || self.host == "localhost" || self.host.parse::<IpAddr>().is_ok()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scheme, host, port } = self;
        if self.is_unix() {
            write!(formatter, "{scheme}://{host}")
        } else if host.contains(':') {
            write!(formatter, "{scheme}://[{host}]:{port}")
        } else {
            write!(formatter, "{scheme}://{host}:{port}")
        }
    }
}
