//! The watch hub: every change reaches every watcher of its key once, in order, whole transactions together.

use crate::range::KeyRange;
use bytes::Bytes;
use std::sync::Arc;

/// Where streams of watchers register.
pub struct WatchHub {}

/// What a stream may hold.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Bytes of events that wait for a slow receiver; beyond it its watchers read from history when it is ready again.
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
    /// The start revision is compacted (or negative).
    Compacted,
    /// The stream has as many as it may.
    TooMany,
}

/// What is to be sent to the client, in this order.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Events of one watcher, whole revisions only.
    Events {
        /// The watcher.
        watch_id: i64,
        /// The revision up to which the watcher has everything now (for the header).
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
    /// The watcher ended: its next revision was compacted.
    Compacted {
        /// The watcher.
        watch_id: i64,
        /// The compact revision.
        compact_revision: i64,
    },
}

/// The watchers of one client stream. Dropping it ends them.
pub struct WatchStream {}

impl WatchHub {
    /// Opens a stream. `wake` is called, from any thread, when `next` may have something; it must not block.
    pub fn open_stream(&self, _limits: StreamLimits, _wake: Arc<dyn Fn() + Send + Sync>) -> WatchStream {
        todo!()
    }
    /// Watchers in all.
    pub fn watchers(&self) -> u64 {
        todo!()
    }
    /// Streams in all.
    pub fn streams(&self) -> u64 {
        todo!()
    }
    /// Watchers that read from history at the moment.
    pub fn slow_watchers(&self) -> u64 {
        todo!()
    }
}

impl WatchStream {
    /// Makes a watcher. Answers its id and the revision for the header of the `created` answer. Nothing of it comes out
    /// of `next` before this returned.
    pub fn create(&self, _spec: WatchSpec) -> Result<(i64, i64), WatchRefused> {
        todo!()
    }
    /// Ends a watcher; whether it was there. Nothing of it comes out of `next` afterwards.
    pub fn cancel(&self, _watch_id: i64) -> bool {
        todo!()
    }
    /// Asks for a [`Delivery::Progress`] as soon as every watcher has everything.
    pub fn request_progress(&self) {
        todo!()
    }
    /// The interval of `progress_notify` passed: watchers with nothing sent since the last call get a
    /// [`Delivery::WatcherProgress`].
    pub fn interval_passed(&self) {
        todo!()
    }
    /// What is to be sent, at most about `bytes_max`; empty: wait for `wake`. Reads history where a watcher is behind
    /// (bounded work per call), so it may touch the disk.
    pub fn next(&self, _bytes_max: usize) -> Vec<Delivery> {
        todo!()
    }
}
