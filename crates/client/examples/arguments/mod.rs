//! The arguments that all examples share: `--endpoints A,B --namespace NAME --ttl SECONDS`, and what is left.

#![allow(dead_code, reason = "each example uses a part")]

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use quorate_client::{Namespace, Result, SessionOptions};
use tokio::sync::watch;

/// What the examples were called with.
pub(crate) struct Arguments {
    endpoints: Vec<String>,
    namespace: String,
    ttl: Duration,
    /// What stands after the flags.
    pub(crate) rest: Vec<String>,
    interrupt: watch::Sender<bool>,
}

impl Arguments {
    /// Reads them; ends the program with the usage if they make no sense.
    pub(crate) fn read(usage: &str, least: usize) -> Self {
        let mut read = Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            namespace: "example".to_owned(),
            ttl: Duration::from_secs(10),
            rest: Vec::new(),
            interrupt: watch::Sender::new(false),
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
        self.listen().await;
        Namespace::connect(&self.endpoints, &self.namespace).await
    }

    /// Listens for Ctrl-C from here on: before anything is held that it has to release.
    pub(crate) async fn listen(&self) {
        let mut interrupt = Box::pin(tokio::signal::ctrl_c());
        // The first poll takes the signal over.
        let first = poll_fn(|context| Poll::Ready(interrupt.as_mut().poll(context))).await;
        if first.is_pending() {
            let sender = self.interrupt.clone();
            tokio::spawn(async move {
                if interrupt.await.is_ok() {
                    sender.send_replace(true);
                }
            });
        }
    }

    /// Waits for Ctrl-C.
    pub(crate) async fn interrupted(&self) {
        // This value is the sender, so the channel does not close.
        let _ = self.interrupt.subscribe().wait_for(|interrupted| *interrupted).await;
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

fn end(usage: &str) -> ! {
    eprintln!("usage: {usage} [--endpoints HOST:PORT,...] [--namespace NAME] [--ttl SECONDS]");
    std::process::exit(2)
}
