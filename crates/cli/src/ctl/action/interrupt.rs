//! The wish of the user or the system that the process ends.
//!
//! Not here: what is put in order before it does. The invariant: once made, a [`Interrupt`] keeps the signals from
//! ending the process by themselves.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ctl::failure::{self, Failure};

/// Listens for the signals that ask a process to end.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system does not let this process listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(failure::SERVER, error.to_string()));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for a signal.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
