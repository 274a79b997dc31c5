//! The arguments that all examples share: `--endpoints A,B --namespace NAME --ttl SECONDS`, and what is left.

#![allow(dead_code, reason = "each example uses a part")]

use std::time::Duration;

use quorate_client::{Namespace, Result, SessionOptions};

/// What the examples were called with.
pub(crate) struct Arguments {
    endpoints: Vec<String>,
    namespace: String,
    ttl: Duration,
    /// What stands after the flags.
    pub(crate) rest: Vec<String>,
}

impl Arguments {
    /// Reads them; ends the program with the usage if they make no sense.
    pub(crate) fn read(usage: &str, least: usize) -> Self {
        let mut read = Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            namespace: "example".to_owned(),
            ttl: Duration::from_secs(10),
            rest: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| end(usage));
            match argument.as_str() {
                "--endpoints" => read.endpoints = value().split(',').map(str::to_owned).collect(),
                "--namespace" => read.namespace = value(),
                "--ttl" => read.ttl = Duration::from_secs(value().parse().unwrap_or_else(|_| end(usage))),
                flag if flag.starts_with("--") => end(usage),
                _ => read.rest.push(argument),
            }
        }
        if read.rest.len() < least {
            end(usage)
        }
        read
    }

    /// The namespace that they name.
    pub(crate) async fn connect(&self) -> Result<Namespace> {
        Namespace::connect(&self.endpoints, &self.namespace).await
    }

    /// The session that they ask for.
    pub(crate) fn session(&self) -> SessionOptions {
        SessionOptions::ttl(self.ttl)
    }

    /// The members' addresses.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }
}

/// Waits for Ctrl-C.
pub(crate) async fn interrupted() {
    // Without signals there is nothing to wait for.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn end(usage: &str) -> ! {
    eprintln!("usage: {usage} [--endpoints HOST:PORT,...] [--namespace NAME] [--ttl SECONDS]");
    std::process::exit(2)
}
