//! Who waits for changes of the tree.
//!
//! Invariant: a watcher gets each event that concerns it once, in order, from the index it asked for on; one that cannot
//! take its events in time is ended, so that it costs no more than [`STREAM_EVENTS_MAX`] events or [`STREAM_BYTES_MAX`].

use super::event::Event;
use super::fault::{Code, Fault};
use super::node::Node;
use super::path::{ancestry, clean, is_hidden};
use super::tree::Tree;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Watchers at one member at the most.
pub const WATCHERS_MAX: usize = 65_536;
/// Events that wait for a slow stream (etcd's number), beside those of the history that it began with.
pub const STREAM_EVENTS_MAX: usize = 100;
/// Bytes of events that wait for a slow stream, unless it is a single event.
pub const STREAM_BYTES_MAX: usize = 1 << 20;

/// What somebody waits for.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// With the tree's first part.
    pub path: Vec<u8>,
    /// Everything below it, too.
    pub recursive: bool,
    /// More than one event.
    pub stream: bool,
    /// The first index wanted; 0: what comes from here on.
    pub since: u64,
}

/// Called from any thread when there may be something to take; must not block.
pub type Wake = Box<dyn Fn() + Send + Sync>;

struct Slot {
    recursive: bool,
    stream: bool,
    since: u64,
    waiting: Mutex<Waiting>,
    wake: Wake,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Of the newest event that was put in.
    index: u64,
    is_ended: bool,
}

type Slots = BTreeMap<u64, Arc<Slot>>;

#[derive(Default)]
struct Registered {
    by_path: BTreeMap<Box<[u8]>, Slots>,
    count: usize,
    next_id: u64,
}

/// All watchers of a member.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<Registered>>);

/// One watcher. Dropping it ends it.
pub struct Watcher {
    hub: Hub,
    path: Box<[u8]>,
    id: u64,
    slot: Arc<Slot>,
    /// The tree's index when it began.
    pub index: u64,
}

/// What a watcher finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// An event.
    Event(Arc<Event>),
    /// Nothing yet: wait for the call.
    Nothing,
    /// Nothing ever more.
    End,
}

impl Watcher {
    /// The next event.
    pub fn take(&self) -> Taken {
        let mut waiting = self.slot.waiting.lock();
        match waiting.events.pop_front() {
            Some(event) => {
                waiting.bytes -= event.bytes();
                Taken::Event(event)
            }
            None if waiting.is_ended => Taken::End,
            None => Taken::Nothing,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.0.lock().remove(&self.path, self.id);
    }
}

impl Slot {
    /// Puts an event in; whether the watcher stays.
    fn put(&self, event: &Arc<Event>) -> bool {
        let mut waiting = self.waiting.lock();
        if event.index() < self.since || event.index() <= waiting.index {
            return true;
        }
        let bytes = event.bytes();
        let is_full = waiting.events.len() >= STREAM_EVENTS_MAX || waiting.bytes + bytes > STREAM_BYTES_MAX;
        if is_full && !waiting.events.is_empty() {
            waiting.is_ended = true;
        } else {
            waiting.events.push_back(event.clone());
            waiting.bytes += bytes;
            waiting.index = event.index();
            waiting.is_ended |= !self.stream;
        }
        let stays = !waiting.is_ended;
        drop(waiting);
        (self.wake)();
        stays
    }
}

impl Registered {
    fn remove(&mut self, path: &[u8], id: u64) {
        if let Some(slots) = self.by_path.get_mut(path)
            && slots.remove(&id).is_some()
        {
            self.count -= 1;
            if slots.is_empty() {
                self.by_path.remove(path);
            }
        }
    }

    fn put(&mut self, path: &[u8], event: &Arc<Event>, wants: impl Fn(&Slot) -> bool) {
        let Some(slots) = self.by_path.get_mut(path) else {
            return;
        };
        let before = slots.len();
        slots.retain(|_, slot| !wants(slot) || slot.put(event));
        self.count -= before - slots.len();
        if slots.is_empty() {
            self.by_path.remove(path);
        }
    }
}

impl Hub {
    /// Watchers that wait.
    pub(crate) fn watchers(&self) -> u64 {
        self.0.lock().count as u64
    }

    /// Begins to watch a tree that nobody changes meanwhile.
    pub(crate) fn watch(&self, tree: &Tree, spec: &WatchSpec, wake: Wake) -> Result<Watcher, Fault> {
        let index = tree.index();
        let path = clean(&spec.path);
        let since = if spec.since == 0 { index + 1 } else { spec.since };
        let mut waiting = Waiting::default();
        let past = tree.history().scan(&path, spec.recursive, since, index)?;
        for event in past.take(if spec.stream { usize::MAX } else { 1 }) {
            waiting.bytes += event.bytes();
            waiting.index = event.index();
            waiting.events.push_back(event.clone());
        }
        waiting.is_ended = !spec.stream && !waiting.events.is_empty();
        let is_over = waiting.is_ended;
        let (recursive, stream) = (spec.recursive, spec.stream);
        let slot = Arc::new(Slot { recursive, stream, since, waiting: Mutex::new(waiting), wake });
        let path: Box<[u8]> = path.into();
        let mut registered = self.0.lock();
        registered.next_id += 1;
        let id = registered.next_id;
        if !is_over {
            if registered.count >= WATCHERS_MAX {
                return Err(Fault { code: Code::TooManyWatchers, cause: b"too many watchers".to_vec(), index });
            }
            registered.count += 1;
            registered.by_path.entry(path.clone()).or_default().insert(id, slot.clone());
        }
        drop(registered);
        Ok(Watcher { hub: self.clone(), path, id, slot, index })
    }

    /// Hands an event out: to who watches its path, recursively above it, and below it what `removed` held.
    pub(super) fn notify(&self, event: &Arc<Event>, removed: Option<&Node>) {
        let mut registered = self.0.lock();
        if registered.count == 0 {
            return;
        }
        let own = &event.node.path[..];
        if event.action.removes()
            && let Some(removed) = removed.filter(|node| node.is_directory())
        {
            let below = [own, b"/"].concat();
            let range = (Bound::Included(&below[..]), Bound::Unbounded);
            let gone: Vec<Box<[u8]>> = registered
                .by_path
                .range::<[u8], _>(range)
                .map(|(path, _)| path)
                .take_while(|path| path.starts_with(&below))
                .filter(|path| removed.holds(&path[own.len()..]))
                .cloned()
                .collect();
            for path in gone {
                registered.put(&path, event, |_| true);
            }
        }
        for path in ancestry(own) {
            if path == own {
                registered.put(path, event, |_| true);
            } else if !is_hidden(path, own) {
                registered.put(path, event, |slot| slot.recursive);
            }
        }
    }

    /// The tree was replaced by a snapshot: nobody can say what happened in between, so everybody has to ask again.
    pub(crate) fn end_all(&self) {
        let ended = {
            let mut registered = self.0.lock();
            registered.count = 0;
            std::mem::take(&mut registered.by_path)
        };
        for slot in ended.into_values().flat_map(Slots::into_values) {
            slot.waiting.lock().is_ended = true;
            (slot.wake)();
        }
    }
}
