//! The end of the process: after a failure at once, after a signal in order.

use crate::logging::FATAL;
use std::fmt::Display;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Logs why the process cannot go on, and ends it with code 1. Nothing is written after it.
pub(crate) fn die(what: &str, error: &dyn Display) -> ! {
    tracing::error!(target: FATAL, error = error.to_string(), "{what}");
    std::process::exit(1)
}

/// The signals that end a server.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on they no longer kill the process.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one; its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "terminated",
            _ = self.interrupt.recv() => "interrupt",
        }
    }
}
