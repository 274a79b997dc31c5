//! The three threads beside the network: consensus, the log's disk, the store. Each owns its state alone; they talk by
//! bounded channels and the node's mailbox.

pub(crate) mod apply;
pub(crate) mod disk;
mod distrust;
pub(crate) mod node;
pub(crate) mod queue;
pub(crate) mod snapshots;

/// Tasks that wait for the disk or apply thread at the most; the node thread waits beyond it.
pub(crate) const TASKS_MAX: usize = 4_096;

/// Starts a named thread; the process cannot run without it.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}
