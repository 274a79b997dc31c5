//! The global flags: how to reach the cluster, as whom, and in which form to answer.
//!
//! Not here: making the connection. The invariant: a value comes from the command line, else from the variable
//! `ETCDCTL_NAME`, else from the default; both at once is refused, as a user could not tell which one counts.

use std::fs::File;
use std::time::Duration;

use super::failure::{self, Failure};
use super::print::Format;
use crate::command_line::flag::{Flag, Kind, Values};

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
        .or("simple"),
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
    Flag::new("cert", Kind::Text, "identify secure client using this TLS certificate file"),
    Flag::new("key", Kind::Text, "identify secure client using this TLS key file"),
    Flag::new("cacert", Kind::Text, "verify certificates of TLS-enabled secure servers using this CA bundle"),
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
    /// Whether endpoints without a scheme are to be spoken to over TLS.
    pub(crate) transport_is_secure: bool,
    pub(crate) identity: Identity,
}

impl Settings {
    /// Reads the global flags of a command line, after adding what `environment` says of those not given.
    ///
    /// # Errors
    /// A flag given twice (as flag and variable), an unknown output form, half a key pair, an unreadable file, a wish
    /// for SRV discovery.
    pub(crate) fn read(
        values: &mut Values,
        environment: impl Fn(&str) -> Option<String>,
        ask_password: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<Self, Failure> {
        add_environment(values, environment)?;
        if values.is_set("debug") {
            list(values);
        }
        let format = Format::read(values.text("write-out"))?;
        check_key_pair(values)?;
        if !values.text("discovery-srv").is_empty() {
            return Err(Failure::new(failure::SERVER, "discovery of endpoints by SRV records is not supported"));
        }
        let or = |value: i64, default: usize| usize::try_from(value).ok().filter(|value| *value > 0).unwrap_or(default);
        Ok(Self {
            endpoints: values.texts("endpoints"),
            format,
            hex: values.is_set("hex"),
            dial_timeout: values.duration("dial-timeout"),
            command_timeout: values.duration("command-timeout"),
            keepalive_time: values.duration("keepalive-time"),
            keepalive_timeout: values.duration("keepalive-timeout"),
            request_bytes_max: or(values.int("max-request-bytes"), REQUEST_BYTES_DEFAULT),
            receive_bytes_max: or(values.int("max-recv-bytes"), RECEIVE_BYTES_DEFAULT),
            transport_is_secure: !values.is_set("insecure-transport"),
            identity: identity(values, ask_password)?,
        })
    }
}

fn variable(flag: &Flag) -> String {
    format!("{VARIABLE_PREFIX}{}", flag.name.replace('-', "_").to_uppercase())
}

fn add_environment(values: &mut Values, environment: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    for flag in FLAGS {
        let variable = variable(flag);
        let Some(value) = environment(&variable) else { continue };
        if values.is_given(flag.name) {
            let message = format!(
                "conflicting environment variable {variable} is shadowed by corresponding command-line flag (either \
                 unset environment variable or disable flag)"
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

fn check_key_pair(values: &Values) -> Result<(), Failure> {
    let (cert, key) = (values.text("cert"), values.text("key"));
    if cert.is_empty() != key.is_empty() {
        let message = format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]");
        return Err(Failure::arguments(message));
    }
    for path in [cert, key, values.text("cacert")].into_iter().filter(|path| !path.is_empty()) {
        if let Err(error) = File::open(path) {
            return Err(Failure::arguments(format!("open {path}: {}", io_error_text(&error))));
        }
    }
    Ok(())
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

fn identity(values: &Values, ask_password: impl FnOnce() -> Result<String, Failure>) -> Result<Identity, Failure> {
    let (token, user) = (values.text("auth-jwt-token"), values.text("user"));
    let login = |name: &str, password: &str| Identity::Login { name: name.to_owned(), password: password.to_owned() };
    let identity = match user.split_once(':') {
        _ if !token.is_empty() => Identity::Token(token.to_owned()),
        None if user.is_empty() => Identity::Nobody,
        _ if values.is_given("password") => login(user, values.text("password")),
        Some((name, password)) => login(name, password),
        None => login(user, &ask_password()?),
    };
    Ok(match identity {
        Identity::Login { name, .. } if name.is_empty() => Identity::Nobody,
        identity => identity,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        let flags: Vec<&'static Flag> = FLAGS.iter().collect();
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut values = Values::read(&flags, &arguments).expect("readable flags");
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::read(&mut values, find, || Ok("asked".to_owned()))
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
        assert!(error.message.contains("conflicting environment variable ETCDCTL_ENDPOINTS"), "{}", error.message);
        assert!(read("--endpoints x", &[("ETCDCTL_ENDPOINTS", "")]).is_err());
        let settings = read("", &[("ETCDCTL_COMMAND_TIMEOUT", "bogus")]).expect("valid");
        assert_eq!(settings.command_timeout, Duration::from_secs(5));
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
        assert_eq!(identity("--user root:"), login("root", ""));
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
        assert_eq!(read("-w bogus", &[]).expect_err("no form").code, 4);
    }
}
