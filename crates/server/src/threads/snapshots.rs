//! Snapshots between their making and their use: the one that can be sent, and the one that arrived.

use parking_lot::Mutex;
use quorate_store::home::Received;
use quorate_store::store::BuiltSnapshot;
use std::sync::Arc;

/// Holds one snapshot of each direction at the most.
#[derive(Default)]
pub(crate) struct SnapshotRoom {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    built: Option<Arc<BuiltSnapshot>>,
    arrived: Option<Received>,
    is_receiving: bool,
}

/// While it lives, no other snapshot is received.
pub(crate) struct Receiving(Arc<SnapshotRoom>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.state.lock().is_receiving = false;
    }
}

impl SnapshotRoom {
    /// A snapshot was made; it replaces an older one.
    pub(crate) fn keep_built(&self, built: BuiltSnapshot) {
        self.state.lock().built = Some(Arc::new(built));
    }

    /// The newest one made, if it covers exactly `index`.
    pub(crate) fn built_at(&self, index: u64) -> Option<Arc<BuiltSnapshot>> {
        self.state.lock().built.clone().filter(|built| built.checkpoint.applied_index == index)
    }

    /// Claims the right to receive; `None` while another one arrives, or is here and not installed: receiving removes
    /// what an earlier one left.
    pub(crate) fn begin_receiving(self: &Arc<Self>) -> Option<Receiving> {
        let mut state = self.state.lock();
        if state.arrived.is_some() || state.is_receiving {
            return None;
        }
        state.is_receiving = true;
        Some(Receiving(self.clone()))
    }

    /// Raft did not take the one that arrived.
    pub(crate) fn discard_arrived(&self) {
        self.state.lock().arrived = None;
    }

    /// A snapshot arrived whole.
    pub(crate) fn keep_arrived(&self, received: Received) {
        self.state.lock().arrived = Some(received);
    }

    /// Takes the arrived one, if it covers exactly `index`.
    pub(crate) fn take_arrived(&self, index: u64) -> Option<Received> {
        self.state.lock().arrived.take_if(|received| received.checkpoint.applied_index == index)
    }
}
