//! The user's wish to end: SIGINT (Ctrl-C) or SIGTERM.
//!
//! It owns listening, not what follows. The invariant: whoever waits is told, however many wait.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when the process was asked to end.
pub(crate) async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without a handler the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => (),
        _ = terminate.recv() => (),
    }
}
