//! Where the store lives on its disk: generations, the checkpoint, and the snapshot that travels between members.
//!
//! Owns `CURRENT`, the checkpoint files and the snapshot stream. Does not own segments (see `revlog`). Invariant: what
//! `CURRENT` names is complete and durable, and changes only by one rename. `docs/formats.md` has the bytes.

mod framed;
mod generations;
mod snapshot;
mod verify;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

pub use generations::Home;
pub use snapshot::{Received, SnapshotSink, SnapshotSource};
pub use verify::{StoreReport, verify};
