//! A watch that goes on: over broken connections, silent members and restarts, from the revision after the last one seen.
//!
//! It owns the position in the history and the connection's state; what the events mean is the recipe's. It invents
//! nothing: when the history it needs is compacted it says so, and the recipe reads the keys anew.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Event, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::{Error, Result, is_transient};
use crate::store::{ANSWER_BYTES_MAX, Backoff, Range, Store, revision_of};

/// What a watch reports next.
pub(crate) enum Batch {
    /// Whole revisions, in order.
    Events(Vec<Event>),
    /// The events from the wanted revision on are no more to be had.
    Compacted,
}

/// A watch on a range, from a revision on.
pub(crate) struct Resuming {
    store: Store,
    range: Range,
    next_revision: i64,
    stream: Option<WatchStream>,
    probed: bool,
    /// Whether a stream was lost since the last one that brought something.
    reopening: bool,
    backoff: Backoff,
    connected: watch::Sender<bool>,
}

impl Resuming {
    /// Reports every event from `next_revision` on, which is above 0.
    pub(crate) fn new(store: Store, range: Range, next_revision: i64) -> Self {
        // Whoever begins a watch has just read the revision from the store.
        let (backoff, connected) = (Backoff::new(), watch::Sender::new(true));
        Self { store, range, next_revision, stream: None, probed: false, reopening: false, backoff, connected }
    }

    /// The revision that the next event has at least.
    pub(crate) fn next_revision(&self) -> i64 {
        self.next_revision
    }

    /// Begins again at another revision, as after a compaction.
    pub(crate) fn restart(&mut self, next_revision: i64) {
        self.next_revision = next_revision;
        self.stream = None;
    }

    /// Whether the store answers at the moment.
    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// The next events. Dropping the future loses none.
    ///
    /// # Errors
    /// The store refuses the watch for good, as for want of permission.
    pub(crate) async fn next(&mut self) -> Result<Batch> {
        loop {
            let interval = self.store.options.watch_probe_interval;
            let Some(stream) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            let silent_since = timeout(interval, stream.message()).await;
            let response = match silent_since {
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => {
                    self.lost_connection();
                    continue;
                }
                Ok(Err(error)) if is_transient(&error) => {
                    self.lost_connection();
                    continue;
                }
                Ok(Err(error)) => return Err(Error::Refused(Arc::new(error))),
                Err(_) if self.probed => {
                    self.lost_connection();
                    continue;
                }
                Err(_) => {
                    self.probed = true;
                    // The answer comes through the stream, or the next silence ends it.
                    let _ = timeout(Duration::from_millis(10), stream.request_progress()).await;
                    continue;
                }
            };
            self.probed = false;
            if !response.created() && !response.canceled() {
                (self.reopening, self.backoff) = (false, Backoff::new());
            }
            self.connected.send_if_modified(|connected| !std::mem::replace(connected, true));
            if let Some(batch) = self.read(&response)? {
                return Ok(batch);
            }
        }
    }

    /// What a response adds; none if it is only about the watch itself.
    fn read(&mut self, response: &WatchResponse) -> Result<Option<Batch>> {
        if response.canceled() {
            self.stream = None;
            if response.compact_revision() > 0 {
                return Ok(Some(Batch::Compacted));
            }
            let reason = response.cancel_reason();
            if reason.contains("permission denied") || reason.contains("auth") {
                return Err(Error::WatchCancelled(reason.to_owned()));
            }
            self.lost_connection();
            return Ok(None);
        }
        let newest = response.events().iter().filter_map(Event::kv).map(|kv| kv.mod_revision()).max();
        match newest {
            Some(newest) => {
                // A member that is asked again may begin with what was reported already.
                let from = self.next_revision;
                self.next_revision = from.max(newest + 1);
                let is_new = |event: &&Event| event.kv().is_some_and(|kv| kv.mod_revision() >= from);
                let events: Vec<Event> = response.events().iter().filter(is_new).cloned().collect();
                Ok((!events.is_empty()).then_some(Batch::Events(events)))
            }
            None => {
                // Progress: all up to the header's revision was reported. The head of a watch just created says
                // nothing about it.
                if !response.created() {
                    self.next_revision = self.next_revision.max(revision_of(response.header()) + 1);
                }
                Ok(None)
            }
        }
    }

    fn lost_connection(&mut self) {
        self.stream = None;
        self.reopening = true;
        self.connected.send_if_modified(|connected| std::mem::replace(connected, false));
    }

    async fn open(&mut self) -> Result<()> {
        if self.reopening {
            self.backoff.wait().await;
        }
        let mut options = WatchOptions::new().with_start_revision(self.next_revision).with_prev_key();
        if let Some(end) = &self.range.end {
            options = options.with_range(end.clone());
        }
        let mut client = self.store.client().watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        let opened = timeout(self.store.options.call_timeout, client.watch(self.range.first.clone(), Some(options)));
        match opened.await {
            Ok(Ok(stream)) => {
                self.stream = Some(stream);
                self.probed = false;
                Ok(())
            }
            Ok(Err(error)) if !is_transient(&error) => Err(Error::Refused(Arc::new(error))),
            Ok(Err(_)) | Err(_) => {
                self.lost_connection();
                Ok(())
            }
        }
    }
}
