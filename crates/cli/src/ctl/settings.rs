//! The global flags: how to reach the cluster, as whom, and in which form to answer.
//!
//! Not here: making the connection. The invariant: a value comes from the command line, else from the variable
//! `ETCDCTL_NAME`, else from the default; both at once is refused, as a user could not tell which one counts.

use std::time::Duration;

use super::client::{Discovery, Tls, TlsFiles, Verification};
use super::failure::{self, Failure};
use super::print::Format;
use crate::command_line::flag::{Flag, Hint, Kind, Values};
use crate::command_line::go_text::quote;

/// The variables' prefix.
const VARIABLE_PREFIX: &str = "ETCDCTL_";
/// What a request may have in bytes if `--max-request-bytes` is not given.
const REQUEST_BYTES_DEFAULT: usize = 2 * 1024 * 1024;
/// What a response may have in bytes if `--max-recv-bytes` is not given: as much as gRPC's framing lets through.
const RECEIVE_BYTES_DEFAULT: usize = i32::MAX as usize;

/// The flags that every command takes.
pub(crate) static FLAGS: &[Flag] = &[
    Flag::new("endpoints", Kind::Texts, "gRPC endpoints").or("127.0.0.1:2379"),
    Flag::new("debug", Kind::Bool, "enable client-side debug logging"),
    Flag::new("write-out", Kind::Text, "set the output format (fields, json, protobuf, simple, table)")
        .short('w')
        .or("simple")
        .offering(Hint::OneOf(&["fields", "json", "protobuf", "simple", "table"])),
    Flag::new("hex", Kind::Bool, "print byte strings as hex encoded strings"),
    Flag::new("dial-timeout", Kind::Duration, "dial timeout for client connections").or("2s"),
    Flag::new("command-timeout", Kind::Duration, "timeout for short running command (excluding dial timeout)").or("5s"),
    Flag::new("keepalive-time", Kind::Duration, "keepalive time for client connections").or("2s"),
    Flag::new("keepalive-timeout", Kind::Duration, "keepalive timeout for client connections").or("6s"),
    Flag::new(
        "max-request-bytes",
        Kind::Int,
        "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)",
    ),
    Flag::new(
        "max-recv-bytes",
        Kind::Int,
        "client-side response receive limit in bytes (if 0, it defaults to \"math.MaxInt32\")",
    ),
    Flag::new("insecure-transport", Kind::Bool, "disable transport security for client connections").or("true"),
    Flag::new("insecure-discovery", Kind::Bool, "accept insecure SRV records describing cluster endpoints").or("true"),
    Flag::new(
        "insecure-skip-tls-verify",
        Kind::Bool,
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    Flag::new("cert", Kind::Text, "identify secure client using this TLS certificate file").offering(Hint::File),
    Flag::new("key", Kind::Text, "identify secure client using this TLS key file").offering(Hint::File),
    Flag::new("cacert", Kind::Text, "verify certificates of TLS-enabled secure servers using this CA bundle")
        .offering(Hint::File),
    Flag::new(
        "auth-jwt-token",
        Kind::Text,
        "JWT token used for authentication (if this option is used, --user and --password should not be set)",
    ),
    Flag::new("user", Kind::Text, "username[:password] for authentication (prompt if password is not supplied)"),
    Flag::new(
        "password",
        Kind::Text,
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag::new("discovery-srv", Kind::Text, "domain name to query for SRV records describing cluster endpoints")
        .short('d'),
    Flag::new("discovery-srv-name", Kind::Text, "service name to query when using DNS discovery"),
];

/// As whom to speak to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Without a name.
    Nobody,
    /// With a token that was made elsewhere.
    Token(String),
    /// By a login with name and password.
    Login { name: String, password: String },
}

/// The global flags, read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) format: Format,
    pub(crate) hex: bool,
    pub(crate) dial_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) keepalive_time: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) request_bytes_max: usize,
    pub(crate) receive_bytes_max: usize,
    /// How to speak TLS where the endpoint leaves the choice; None for plain.
    pub(crate) tls: Option<Tls>,
    pub(crate) identity: Identity,
}

/// What the flags are read with.
pub(crate) struct World<'world> {
    /// A variable's value.
    pub(crate) variable: &'world dyn Fn(&str) -> Option<String>,
    /// Asks the user for the password, showing this.
    pub(crate) ask: &'world dyn Fn(&str) -> Result<String, Failure>,
    /// The endpoints that a domain lists.
    pub(crate) discover: &'world dyn Fn(&Discovery) -> Result<Vec<String>, String>,
}

impl Settings {
    /// Reads the global flags of a command line, after adding what variables say of those not given.
    ///
    /// # Errors
    /// A flag given twice (as flag and variable), an unknown output form, half a key pair, an unreadable file, a domain
    /// without records.
    pub(crate) fn read(values: &mut Values, world: &World<'_>) -> Result<Self, Failure> {
        add_environment(values, world.variable)?;
        if values.is_set("debug") {
            list(values);
        }
        let endpoints = endpoints(values, world.discover)?;
        let files = tls_files(values)?;
        let secret = (values.text("user"), values.text("password"));
        let identity = match values.text("auth-jwt-token") {
            "" => identity(secret.0, secret.1, || (world.ask)("Password: "))?,
            token => Identity::Token(token.to_owned()),
        };
        let format = Format::read(values.text("write-out"))?;
        let tls = tls(&files, values.is_set("insecure-transport"))?;
        let or = |value: i64, default: usize| usize::try_from(value).ok().filter(|value| *value > 0).unwrap_or(default);
        Ok(Self {
            endpoints,
            format,
            hex: values.is_set("hex"),
            dial_timeout: values.duration("dial-timeout"),
            command_timeout: values.duration("command-timeout"),
            keepalive_time: values.duration("keepalive-time"),
            keepalive_timeout: values.duration("keepalive-timeout"),
            request_bytes_max: or(values.int("max-request-bytes"), REQUEST_BYTES_DEFAULT),
            receive_bytes_max: or(values.int("max-recv-bytes"), RECEIVE_BYTES_DEFAULT),
            tls,
            identity,
        })
    }

    /// The same settings for another cluster.
    pub(crate) fn of_cluster(&self, endpoints: Vec<String>, tls: Option<Tls>, identity: Identity) -> Self {
        Self { endpoints, tls, identity, ..self.clone() }
    }
}

fn variable(flag: &Flag) -> String {
    format!("{VARIABLE_PREFIX}{}", flag.name.replace('-', "_").to_uppercase())
}

/// Variables of single commands, and the one that older releases chose the API by.
const OTHER_VARIABLES: [&str; 3] = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END", "ETCDCTL_API"];

/// Whether a variable has the prefix of those for flags, and no flag has it.
pub(crate) fn is_unknown_variable(name: &str) -> bool {
    name.starts_with(VARIABLE_PREFIX)
        && !OTHER_VARIABLES.contains(&name)
        && !FLAGS.iter().any(|flag| variable(flag) == name)
}

fn add_environment(values: &mut Values, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), Failure> {
    for flag in FLAGS {
        let variable = variable(flag);
        let Some(value) = environment(&variable) else { continue };
        if values.is_given(flag.name) {
            let message = format!(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                 environment variable or disable flag)): {variable}"
            );
            return Err(Failure::new(failure::SERVER, message));
        }
        if !value.is_empty() {
            values.set_from_environment(flag, &value);
        }
    }
    Ok(())
}

/// Prints every setting to standard error, for `--debug`.
fn list(values: &Values) {
    let mut flags: Vec<&Flag> = FLAGS.iter().collect();
    flags.sort_by_key(|flag| flag.name);
    for flag in flags {
        let value = match (flag.kind, values.text(flag.name)) {
            (Kind::Texts, text) => format!("[{}]", text.replace(',', " ")),
            (Kind::Bool, "") => "false".to_owned(),
            (Kind::Int, "") => "0".to_owned(),
            (_, text) => text.to_owned(),
        };
        eprintln!("{}={value}", variable(flag));
    }
}

/// The endpoints of the flag, or those that a domain lists.
fn endpoints(
    values: &Values,
    discover: &dyn Fn(&Discovery) -> Result<Vec<String>, String>,
) -> Result<Vec<String>, Failure> {
    let typed = || values.texts("endpoints").iter().map(|endpoint| endpoint.trim().to_owned()).collect();
    let domain = values.text("discovery-srv");
    if domain.is_empty() {
        return Ok(typed());
    }
    let service_name = values.text("discovery-srv-name").to_owned();
    let mut found = discover(&Discovery { domain: domain.to_owned(), service_name })
        .map_err(|message| Failure::new(failure::SERVER, message))?;
    if !values.is_set("insecure-discovery") {
        found.retain(|endpoint| {
            let is_plain = endpoint.starts_with("http://");
            if is_plain {
                eprintln!("ignoring discovered insecure endpoint {}", quote(endpoint.as_bytes()));
            }
            !is_plain
        });
    }
    Ok(if found.is_empty() { typed() } else { found })
}

fn tls_files(values: &Values) -> Result<TlsFiles, Failure> {
    let file = |name: &str| match values.text(name) {
        "" if values.is_given(name) => Err(Failure::arguments(format!("empty string is passed to --{name} option"))),
        path => Ok(path.to_owned()),
    };
    let is_verified = !values.is_set("insecure-skip-tls-verify");
    // Records that name plain endpoints are not to be trusted with the server's name either.
    let server_name = if values.is_set("insecure-discovery") { "" } else { values.text("discovery-srv") };
    Ok(TlsFiles {
        cert: file("cert")?,
        key: file("key")?,
        cacert: file("cacert")?,
        server_name: server_name.to_owned(),
        verification: if is_verified { Verification::Required } else { Verification::Skipped },
    })
}

/// How to speak TLS if anything is said about it; `is_plain` is what `--insecure-transport` says.
///
/// # Errors
/// As [`Tls::read`].
pub(crate) fn tls(files: &TlsFiles, is_plain: bool) -> Result<Option<Tls>, Failure> {
    let is_wanted = files.are_given() || !is_plain;
    is_wanted.then(|| Tls::read(files).map_err(Failure::arguments)).transpose()
}

/// An I/O error in the words of the operating system, as Go writes them.
pub(crate) fn io_error_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        std::io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        std::io::ErrorKind::StorageFull => "no space left on device".to_owned(),
        _ => error.to_string(),
    }
}

/// As whom a user's name, with or without its password, speaks. Who has no name or no password is nobody: etcd's client
/// does not log in then either.
///
/// # Errors
/// That of asking for a password, which is done where none is given.
pub(crate) fn identity(
    user: &str,
    password: &str,
    ask: impl FnOnce() -> Result<String, Failure>,
) -> Result<Identity, Failure> {
    let (name, password) = match user.split_once(':') {
        _ if user.is_empty() => return Ok(Identity::Nobody),
        _ if !password.is_empty() => (user, password.to_owned()),
        Some((name, password)) => (name, password.to_owned()),
        None => (user, ask()?),
    };
    if name.is_empty() || password.is_empty() {
        return Ok(Identity::Nobody);
    }
    Ok(Identity::Login { name: name.to_owned(), password })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        let flags: Vec<&'static Flag> = FLAGS.iter().collect();
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut values = Values::read(&flags, &arguments).expect("readable flags");
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let discover = |discovery: &Discovery| match discovery.domain.as_str() {
            "example.com" => Ok(vec!["https://m1.example.com.:1".to_owned(), "http://m1.example.com.:2".to_owned()]),
            "plain.example.com" => Ok(vec!["http://m1.example.com.:2".to_owned()]),
            domain => Err(format!("lookup {domain}")),
        };
        let ask = |_: &str| Ok("asked".to_owned());
        Settings::read(&mut values, &World { variable: &variable, ask: &ask, discover: &discover })
    }

    #[test]
    fn variables_stand_in_for_flags() {
        let settings = read("", &[("ETCDCTL_ENDPOINTS", "a,b"), ("ETCDCTL_WRITE_OUT", "json"), ("ETCDCTL_HEX", "zz")]);
        let settings = settings.expect("valid");
        assert_eq!(
            (settings.endpoints, settings.format, settings.hex),
            (vec!["a".into(), "b".into()], Format::Json, false)
        );
        let error = read("--endpoints x", &[("ETCDCTL_ENDPOINTS", "a")]).expect_err("conflict");
        assert_eq!(error.code, 1);
        let start = "conflicting environment variable is shadowed by corresponding command-line flag";
        assert!(error.message.starts_with(start) && error.message.ends_with("ETCDCTL_ENDPOINTS"), "{}", error.message);
        assert!(read("--endpoints x", &[("ETCDCTL_ENDPOINTS", "")]).is_err());
        let settings = read("", &[("ETCDCTL_COMMAND_TIMEOUT", "bogus")]).expect("valid");
        assert_eq!(settings.command_timeout, Duration::from_secs(5));
    }

    #[test]
    fn variables_that_are_no_flags() {
        assert!(is_unknown_variable("ETCDCTL_ENDPOINT"));
        for known in ["ETCDCTL_ENDPOINTS", "ETCDCTL_WATCH_KEY", "ETCDCTL_API", "ETCD_NAME"] {
            assert!(!is_unknown_variable(known), "{known}");
        }
    }

    #[test]
    fn identities() {
        let identity = |line| read(line, &[]).expect("valid").identity;
        let login =
            |name: &str, password: &str| Identity::Login { name: name.to_owned(), password: password.to_owned() };
        assert_eq!(identity(""), Identity::Nobody);
        assert_eq!(identity("--password x"), Identity::Nobody);
        assert_eq!(identity("--user :x"), Identity::Nobody);
        assert_eq!(identity("--user root:a:b"), login("root", "a:b"));
        assert_eq!(identity("--user root:"), Identity::Nobody);
        assert_eq!(identity("--user root:a --password x"), login("root:a", "x"));
        assert_eq!(identity("--user root --password x"), login("root", "x"));
        assert_eq!(identity("--user root"), login("root", "asked"));
        assert_eq!(identity("--user root:a --auth-jwt-token t"), Identity::Token("t".to_owned()));
    }

    #[test]
    fn half_a_key_pair_is_refused() {
        let failure = read("--cert /nosuch", &[]).expect_err("no key");
        assert_eq!(failure, Failure::arguments("KeyFile and CertFile must both be present[key: , cert: /nosuch]"));
        let failure = read("--cacert /nosuch", &[]).expect_err("no file");
        assert_eq!(failure, Failure::arguments("open /nosuch: no such file or directory"));
        let failure = read("--cacert=", &[]).expect_err("no name");
        assert_eq!(failure, Failure::arguments("empty string is passed to --cacert option"));
        assert_eq!(read("-w bogus", &[]).expect_err("no form").code, 4);
    }

    #[test]
    fn a_domain_lists_endpoints() {
        let endpoints = |line| read(line, &[]).map(|settings| settings.endpoints);
        let both = vec!["https://m1.example.com.:1".to_owned(), "http://m1.example.com.:2".to_owned()];
        assert_eq!(endpoints("-d example.com --endpoints x"), Ok(both.clone()));
        assert_eq!(endpoints("-d example.com --insecure-discovery=false"), Ok(both[..1].to_vec()));
        let typed = endpoints("-d plain.example.com --insecure-discovery=false --endpoints x");
        assert_eq!(typed, Ok(vec!["x".to_owned()]));
        assert_eq!(endpoints("-d nosuch"), Err(Failure::new(1, "lookup nosuch")));
    }

    #[test]
    fn tls_is_spoken_if_anything_is_said_of_it() {
        let is_protected = |line| read(line, &[]).expect("readable").tls.is_some();
        assert!(!is_protected(""));
        assert!(is_protected("--insecure-transport=false"));
        assert!(is_protected("--insecure-skip-tls-verify"));
        assert!(is_protected("-d example.com --insecure-discovery=false"));
    }
}
