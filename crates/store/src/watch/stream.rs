//! One client stream's side: what its watchers are to be sent.

use super::history::{self, Missing};
use super::registry::Queued;
use super::{Delivery, WatchHub, WatchRefused, WatchSpec};
use crate::error::DiskError;
use std::collections::{BTreeMap, VecDeque};

/// The watchers of one client stream. Dropping it ends them.
pub struct WatchStream {
    hub: WatchHub,
    id: u64,
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.hub.registry.lock().close(self.id);
    }
}

/// A watcher that reads from history, as `next` found it.
struct Behind {
    watch_id: i64,
    spec: WatchSpec,
    from: i64,
}

impl WatchStream {
    pub(super) fn new(hub: WatchHub, id: u64) -> Self {
        Self { hub, id }
    }

    /// Makes a watcher. Answers its id and the revision for the header of the `created` answer. Nothing of it comes out
    /// of `next` before this returned.
    pub fn create(&self, spec: WatchSpec) -> Result<(i64, i64), WatchRefused> {
        let (watch_id, revision, wake) = self.hub.registry.lock().create(self.id, spec)?;
        if let Some(wake) = wake {
            wake();
        }
        Ok((watch_id, revision))
    }

    /// Ends a watcher; whether it was there. Nothing of it comes out of `next` afterwards.
    pub fn cancel(&self, watch_id: i64) -> bool {
        self.hub.registry.lock().cancel(self.id, watch_id)
    }

    /// Asks for a [`Delivery::Progress`] as soon as every watcher has everything.
    pub fn request_progress(&self) {
        let wake = self.hub.registry.lock().streams.get_mut(&self.id).and_then(|stream| {
            // As in etcd a stream without watchers gets no answer, also not when one is made right afterwards.
            stream.progress_asked |= !stream.watchers.is_empty();
            if stream.progress_asked { stream.wake_once() } else { None }
        });
        if let Some(wake) = wake {
            wake();
        }
    }

    /// The interval of `progress_notify` passed: watchers with nothing sent since the last call get a
    /// [`Delivery::WatcherProgress`].
    pub fn interval_passed(&self) {
        let mut registry = self.hub.registry.lock();
        let published = registry.published;
        let Some(stream) = registry.streams.get_mut(&self.id) else {
            return;
        };
        let mut quiet = Vec::new();
        for (&watch_id, watcher) in &mut stream.watchers {
            let was_active = std::mem::replace(&mut watcher.active, false);
            let pending = watcher.behind.is_some() || watcher.is_ahead(published);
            if watcher.spec.progress_notify && !was_active && !pending {
                quiet.push(watch_id);
            }
        }
        quiet.retain(|watch_id| stream.queue.iter().all(|queued| queued.watch_id != *watch_id));
        let progress = quiet.into_iter().map(|watch_id| Delivery::WatcherProgress { watch_id, revision: published });
        stream.notices.extend(progress);
        let wake = if stream.notices.is_empty() { None } else { stream.wake_once() };
        drop(registry);
        if let Some(wake) = wake {
            wake();
        }
    }

    /// What is to be sent, at most about `bytes_max`, but never a part of a revision's events; empty: wait for `wake`. Reads
    /// history where a watcher is behind (bounded work per call), so it may touch the disk.
    pub fn next(&self, bytes_max: usize) -> Vec<Delivery> {
        let mut out = Vec::new();
        let (queue, behind, published) = {
            let mut registry = self.hub.registry.lock();
            let published = registry.published;
            let Some(stream) = registry.streams.get_mut(&self.id) else {
                return out;
            };
            let queue = stream.take_queue(bytes_max);
            for queued in &queue {
                if let Some(watcher) = stream.watchers.get_mut(&queued.watch_id) {
                    watcher.active = true;
                }
            }
            out.append(&mut stream.notices);
            let mut behind: Vec<Behind> = Vec::new();
            // What is still queued comes before what a watcher missed.
            if stream.queue.is_empty() {
                behind.extend(stream.watchers.iter().filter_map(|(&watch_id, watcher)| {
                    watcher.behind.map(|from| Behind { watch_id, spec: watcher.spec.clone(), from })
                }));
            }
            (queue, behind, published)
        };
        self.deliver_queue(queue, &mut out);
        let mut budget = bytes_max;
        for watcher in behind {
            if budget == 0 {
                break;
            }
            self.catch_up(&watcher, published, &mut budget, &mut out);
        }
        self.finish(&mut out);
        out
    }

    /// Groups what was queued by watcher, each in order.
    fn deliver_queue(&self, queue: VecDeque<Queued>, out: &mut Vec<Delivery>) {
        let mut by_watcher: BTreeMap<i64, (bool, Vec<Queued>)> = BTreeMap::new();
        {
            let registry = self.hub.registry.lock();
            let Some(stream) = registry.streams.get(&self.id) else {
                return;
            };
            for queued in queue {
                // A watcher that was cancelled since gets nothing more.
                if let Some(watcher) = stream.watchers.get(&queued.watch_id) {
                    let previous = watcher.spec.prev_kv;
                    by_watcher.entry(queued.watch_id).or_insert((previous, Vec::new())).1.push(queued);
                }
            }
        }
        for (watch_id, (previous, queued)) in by_watcher {
            let revision = queued.last().map_or(0, |last| last.event.main);
            let encoded = queued.iter().map(|queued| queued.event.encoded(previous, &self.hub.core)).collect();
            match encoded {
                Ok(events) => out.push(Delivery::Events { watch_id, revision, events }),
                Err(error) => self.break_off(watch_id, &error, out),
            }
        }
    }

    /// Ends a watcher whose events cannot be read.
    fn break_off(&self, watch_id: i64, error: &DiskError, out: &mut Vec<Delivery>) {
        self.hub.core.broken(error);
        if self.cancel(watch_id) {
            out.push(Delivery::Broken { watch_id });
        }
    }

    /// Reads one piece of history for a watcher and moves it on.
    fn catch_up(&self, watcher: &Behind, published: i64, budget: &mut usize, out: &mut Vec<Delivery>) {
        let core = &self.hub.core;
        let (watch_id, spec) = (watcher.watch_id, &watcher.spec);
        let next = match history::read(core, &spec.range, watcher.from, published) {
            Ok(piece) => {
                let mut events = Vec::new();
                for event in &piece.events {
                    if (event.deletion && spec.no_delete) || (!event.deletion && spec.no_put) {
                        continue;
                    }
                    *budget = budget.saturating_sub(event.bytes());
                    match event.encoded(spec.prev_kv, core) {
                        Ok(encoded) => events.push(encoded),
                        Err(error) => return self.break_off(watch_id, &error, out),
                    }
                }
                if !events.is_empty() {
                    // Beyond the last event: everything below `next` was looked at. In one piece that is the store's
                    // revision, which etcd tells a watcher that catches up.
                    out.push(Delivery::Events { watch_id, revision: piece.next - 1, events });
                }
                piece.next
            }
            Err(Missing::Compacted(compact_revision)) => {
                if self.cancel(watch_id) {
                    out.push(Delivery::Compacted { watch_id, compact_revision });
                }
                return;
            }
            Err(Missing::Untrusted) => {
                if self.cancel(watch_id) {
                    out.push(Delivery::Broken { watch_id });
                }
                return;
            }
            Err(Missing::Broken(error)) => {
                return self.break_off(watch_id, &error, out);
            }
        };
        let mut registry = self.hub.registry.lock();
        let in_step = next > registry.published;
        if let Some(watcher) = registry.streams.get_mut(&self.id).and_then(|stream| stream.watchers.get_mut(&watch_id))
        {
            watcher.active = true;
            watcher.behind = if in_step { None } else { Some(next) };
        } else {
            // Cancelled while its history was read.
            out.retain(|delivery| !matches!(delivery, Delivery::Events { watch_id: id, .. } if *id == watch_id));
        }
    }

    /// Answers a progress request when everybody has everything, and makes sure to be called again when somebody is behind.
    fn finish(&self, out: &mut Vec<Delivery>) {
        let mut registry = self.hub.registry.lock();
        let published = registry.published;
        let Some(stream) = registry.streams.get_mut(&self.id) else {
            return;
        };
        let has_more = !stream.queue.is_empty() || stream.watchers.values().any(|watcher| watcher.behind.is_some());
        let mut wake = None;
        if has_more {
            wake = stream.wake_once();
        } else if stream.progress_asked {
            stream.progress_asked = false;
            // As in etcd a stream without watchers gets no answer, nor one with a watcher that waits for a later revision:
            // its client would take the lower one for the place to go on from.
            if !stream.watchers.is_empty() && !stream.watchers.values().any(|watcher| watcher.is_ahead(published)) {
                out.push(Delivery::Progress { revision: published });
            }
        }
        drop(registry);
        if let Some(wake) = wake {
            wake();
        }
    }
}
