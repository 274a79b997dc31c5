//! Watching: every change reaches every watcher of its key once, in order, whole transactions together.
//!
//! A watcher is either *in step* (the hub puts each event into its stream's queue) or *behind* (it reads history from the
//! revision it needs next). A watcher that starts in the past begins behind; one whose stream's queue is full falls
//! behind, so that a slow receiver costs a bounded queue and hinders nobody; one that has read everything gets in step
//! again. Invariant: a watcher that is in step has been given, or has in its queue, every event up to
//! [`registry::Registry::published`].

mod event;
mod history;
mod registry;
mod stream;

pub(crate) use event::EventRecord;

use crate::range::KeyRange;
use crate::state::Core;
use bytes::Bytes;
use parking_lot::Mutex;
use registry::Registry;
use std::sync::Arc;
pub use stream::WatchStream;

/// Where streams of watchers register. Cheap to clone.
#[derive(Clone)]
pub struct WatchHub {
    core: Arc<Core>,
    registry: Arc<Mutex<Registry>>,
}

/// What a stream may hold.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Bytes of events that wait for a slow receiver; beyond it its watchers read from history when it is ready again.
    /// A single revision is never split, so the last one may go over.
    pub queue_bytes_max: usize,
    /// Watchers on one stream.
    pub watchers_max: usize,
}

/// A watcher as its client asked for it.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// The client's own id, above 0; 0: one is chosen, from 0 on.
    pub watch_id: i64,
    /// Which keys.
    pub range: KeyRange,
    /// The first revision wanted; 0: what comes from here on.
    pub start_revision: i64,
    /// Leaves puts out.
    pub no_put: bool,
    /// Leaves deletions out.
    pub no_delete: bool,
    /// With each event's previous value.
    pub prev_kv: bool,
    /// Empty answers that tell the revision reached, when nothing else was sent for an interval.
    pub progress_notify: bool,
}

/// Why a watcher is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRefused {
    /// The id is in use on this stream.
    DuplicateId,
    /// The range can hold no key.
    EmptyRange,
    /// The start revision is negative (a compacted one is told by [`Delivery::Compacted`] after the creation, as in etcd).
    Compacted,
    /// The stream has as many as it may.
    TooMany,
}

/// What is to be sent to the client, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Events of one watcher, whole revisions only.
    Events {
        /// The watcher.
        watch_id: i64,
        /// The revision up to which the watcher has everything (for the header); at or beyond the last event.
        revision: i64,
        /// Encoded `mvccpb.Event`s.
        events: Vec<Bytes>,
    },
    /// Every watcher of the stream has everything up to this revision (answer to a progress request; watch id -1).
    Progress {
        /// The revision.
        revision: i64,
    },
    /// This watcher has everything up to this revision (`progress_notify`).
    WatcherProgress {
        /// The watcher.
        watch_id: i64,
        /// The revision.
        revision: i64,
    },
    /// The watcher ended: the revision it needs next is compacted.
    Compacted {
        /// The watcher.
        watch_id: i64,
        /// The compact revision.
        compact_revision: i64,
    },
    /// The watcher ended: the history it needs cannot be read.
    Broken {
        /// The watcher.
        watch_id: i64,
    },
}

impl WatchHub {
    pub(crate) fn new(core: Arc<Core>, revision: i64) -> Self {
        Self { core, registry: Arc::new(Mutex::new(Registry::new(revision))) }
    }

    /// Opens a stream. `wake` is called, from any thread, when `next` may have something; it must not block.
    pub fn open_stream(&self, limits: StreamLimits, wake: Arc<dyn Fn() + Send + Sync>) -> WatchStream {
        let id = self.registry.lock().open(limits, wake);
        WatchStream::new(self.clone(), id)
    }

    /// Watchers in all.
    pub fn watchers(&self) -> u64 {
        self.registry.lock().watchers() as u64
    }

    /// Streams in all.
    pub fn streams(&self) -> u64 {
        self.registry.lock().streams() as u64
    }

    /// Watchers that read from history at the moment.
    pub fn slow_watchers(&self) -> u64 {
        self.registry.lock().behind() as u64
    }

    /// Events that wait for their streams to take them.
    pub fn pending_events(&self) -> u64 {
        self.registry.lock().streams.values().map(|stream| stream.queue.len() as u64).sum()
    }

    /// Whether anybody watches, so that events are worth making.
    pub(crate) fn is_watched(&self) -> bool {
        self.registry.lock().watchers() > 0
    }

    /// Hands out everything up to `revision`. With `events` `None` nobody watched when the changes were made: whoever
    /// came since reads them from history.
    pub(crate) fn publish(&self, revision: i64, events: Option<&mut Vec<EventRecord>>) {
        let woken = self.registry.lock().publish(revision, events);
        for wake in woken {
            wake();
        }
    }

    /// The store was replaced by a snapshot: everybody goes on from history.
    pub(crate) fn reset(&self, revision: i64) {
        let woken = self.registry.lock().reset(revision);
        for wake in woken {
            wake();
        }
    }
}
