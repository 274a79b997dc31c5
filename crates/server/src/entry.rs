//! The server as a program: from the arguments to the exit code.

use crate::boot::{self, Greeting};
use crate::config::{self, ConfigError, LogFormat, Parsed};
use crate::logging::{self, FATAL};
use crate::proxy;
use crate::version;

/// By which name the server was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// As `etcd`: nothing but etcd's own output is allowed.
    AsEtcd,
    /// As `quorate server`.
    AsQuorate,
}

/// Runs the server with the arguments behind its name, until it is stopped; the exit code.
pub fn main(arguments: &[String], called: Called) -> i32 {
    match arguments.first().map(String::as_str) {
        Some("gateway") => {
            raise_open_files();
            return proxy::gateway(&arguments[1..]);
        }
        Some("grpc-proxy") => {
            eprintln!("Error: grpc-proxy is not served by this release of Quorate");
            return 1;
        }
        _ => {}
    }
    // A variable that is no text cannot be one of ours.
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = match config::parse(arguments, &environment) {
        Ok(Parsed::Run(config)) => *config,
        Ok(Parsed::Help) => {
            print!("{}", config::help_text());
            return 0;
        }
        Ok(Parsed::Version) => {
            match called {
                Called::AsEtcd => println!("{}", etcd_version_text()),
                Called::AsQuorate => println!("{}", version_text()),
            }
            return 0;
        }
        Err(ConfigError::Usage(message)) => {
            eprint!("{message}\n{}", config::usage_text());
            return 2;
        }
        Err(ConfigError::Settings(message)) => {
            // The settings of the log are unknown as well: its defaults hold.
            let _ = logging::start("info", LogFormat::Json, &["default".to_owned()], None);
            tracing::error!(target: FATAL, error = message.as_str(), "failed to verify flags");
            return 1;
        }
    };
    let rotation = config.operability.log_rotation;
    if let Err(message) = logging::start(&config.log_level, config.log_format, &config.log_outputs, rotation) {
        // The log that was asked for cannot be had: the reason goes where it would go by default.
        let _ = logging::start("info", LogFormat::Json, &["default".to_owned()], None);
        tracing::error!(target: FATAL, error = message.as_str(), "failed to verify flags");
        return 1;
    }
    raise_open_files();
    boot::run(config, if called == Called::AsQuorate { Greeting::OnTerminal } else { Greeting::Silent })
}

/// As many open files as the system allows: each client and each segment takes one.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is not allowed, the smaller limit holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What `quorate --version` prints.
pub fn version_text() -> String {
    format!("quorate {} (etcd API {})", version::QUORATE, version::ETCD)
}

/// What `etcd --version` prints: etcd's own lines, since tools read them.
pub fn etcd_version_text() -> String {
    format!(
        "etcd Version: {}\nGit SHA: Not provided (use ./build instead of go build)\nGo Version: go1.26.8\nGo OS/Arch: \
         {}/{}",
        version::ETCD,
        std::env::consts::OS,
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    )
}
