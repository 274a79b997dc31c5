//! Who watches what, and the queues of those in step. Everything here happens under the hub's one lock.

use super::event::EventRecord;
use super::{Delivery, StreamLimits, WatchRefused, WatchSpec};
use crate::range::{KeyRange, RangeEnd};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Tells a stream that it has something.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// A watcher: its stream and its id there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    stream: u64,
    watch_id: i64,
}

/// One watcher.
pub(super) struct Watcher {
    pub(super) spec: WatchSpec,
    /// Events below it are not for this watcher.
    first: i64,
    /// The next revision it needs from history; `None`: in step.
    pub(super) behind: Option<i64>,
    /// The revision whose events it is being given, so that a full queue never splits one.
    taking: i64,
    /// Whether anything was sent since the last progress interval.
    pub(super) active: bool,
}

impl Watcher {
    /// Whether it was asked to begin at a revision that has not happened.
    pub(super) fn is_ahead(&self, published: i64) -> bool {
        published < self.spec.start_revision
    }
}

/// An event in a stream's queue.
pub(super) struct Queued {
    pub(super) watch_id: i64,
    pub(super) event: Arc<EventRecord>,
}

/// One client stream.
pub(super) struct Stream {
    limits: StreamLimits,
    wake: Wake,
    pub(super) watchers: BTreeMap<i64, Watcher>,
    pub(super) queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Whether `wake` was called since the queue was last taken.
    woken: bool,
    pub(super) progress_asked: bool,
    /// Answers that need no event: compaction, progress of single watchers.
    pub(super) notices: Vec<Delivery>,
    next_id: i64,
}

/// All streams and watchers.
pub(super) struct Registry {
    /// Everything up to here was handed out.
    pub(super) published: i64,
    pub(super) streams: BTreeMap<u64, Stream>,
    next_stream: u64,
    /// Watchers of single keys.
    singles: BTreeMap<Bytes, Vec<Address>>,
    /// Watchers of prefixes: by length, so that an event looks up only prefixes that somebody watches.
    prefixes: BTreeMap<usize, BTreeMap<Bytes, Vec<Address>>>,
    /// Watchers of everything from a key on, and of other ranges: by start.
    ranges: BTreeMap<Bytes, Vec<(KeyRange, Address)>>,
    watchers: usize,
}

/// The prefix that a range covers exactly, if it does: `[p, p+1)`.
fn prefix_of(range: &KeyRange) -> Option<&Bytes> {
    let RangeEnd::Before(end) = &range.end else {
        return None;
    };
    let (last, head) = range.start.split_last()?;
    let exact =
        end.len() == range.start.len() && *last < 0xff && end[..head.len()] == *head && end[head.len()] == last + 1;
    exact.then_some(&range.start)
}

impl Registry {
    pub(super) fn new(revision: i64) -> Self {
        Self {
            published: revision,
            streams: BTreeMap::new(),
            next_stream: 1,
            singles: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            ranges: BTreeMap::new(),
            watchers: 0,
        }
    }

    pub(super) fn watchers(&self) -> usize {
        self.watchers
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn behind(&self) -> usize {
        self.streams
            .values()
            .flat_map(|stream| stream.watchers.values())
            .filter(|watcher| watcher.behind.is_some())
            .count()
    }

    pub(super) fn open(&mut self, limits: StreamLimits, wake: Wake) -> u64 {
        let id = self.next_stream;
        self.next_stream += 1;
        self.streams.insert(
            id,
            Stream {
                limits,
                wake,
                watchers: BTreeMap::new(),
                queue: VecDeque::new(),
                queued_bytes: 0,
                woken: false,
                progress_asked: false,
                notices: Vec::new(),
                next_id: 0,
            },
        );
        id
    }

    pub(super) fn close(&mut self, stream: u64) {
        let Some(closed) = self.streams.remove(&stream) else {
            return;
        };
        for (watch_id, watcher) in closed.watchers {
            self.watchers -= 1;
            self.unlist(&watcher.spec.range, Address { stream, watch_id });
        }
    }

    /// Makes a watcher; answers its id, the published revision, and whom to wake.
    pub(super) fn create(
        &mut self,
        stream_id: u64,
        mut spec: WatchSpec,
    ) -> Result<(i64, i64, Option<Wake>), WatchRefused> {
        let published = self.published;
        let Some(stream) = self.streams.get_mut(&stream_id) else {
            return Err(WatchRefused::TooMany);
        };
        if spec.range.is_empty() {
            return Err(WatchRefused::EmptyRange);
        }
        if spec.start_revision < 0 {
            return Err(WatchRefused::Compacted);
        }
        if spec.watch_id == 0 {
            while stream.watchers.contains_key(&stream.next_id) {
                stream.next_id += 1;
            }
            spec.watch_id = stream.next_id;
            stream.next_id += 1;
        } else if stream.watchers.contains_key(&spec.watch_id) {
            return Err(WatchRefused::DuplicateId);
        }
        if stream.watchers.len() >= stream.limits.watchers_max {
            return Err(WatchRefused::TooMany);
        }
        let first = if spec.start_revision == 0 { published + 1 } else { spec.start_revision };
        let behind = (first <= published).then_some(first);
        let (watch_id, range) = (spec.watch_id, spec.range.clone());
        stream.watchers.insert(watch_id, Watcher { spec, first, behind, taking: 0, active: false });
        let wake = if behind.is_some() { stream.wake_once() } else { None };
        self.watchers += 1;
        self.list(range, Address { stream: stream_id, watch_id });
        Ok((watch_id, published, wake))
    }

    pub(super) fn cancel(&mut self, stream_id: u64, watch_id: i64) -> bool {
        let Some(stream) = self.streams.get_mut(&stream_id) else {
            return false;
        };
        let Some(watcher) = stream.watchers.remove(&watch_id) else {
            return false;
        };
        stream.drop_queued(watch_id);
        stream.drop_notices(watch_id);
        self.watchers -= 1;
        self.unlist(&watcher.spec.range, Address { stream: stream_id, watch_id });
        true
    }

    fn list(&mut self, range: KeyRange, address: Address) {
        if matches!(range.end, RangeEnd::Single) {
            self.singles.entry(range.start).or_default().push(address);
        } else if let Some(prefix) = prefix_of(&range) {
            let prefix = prefix.clone();
            self.prefixes.entry(prefix.len()).or_default().entry(prefix).or_default().push(address);
        } else {
            self.ranges.entry(range.start.clone()).or_default().push((range, address));
        }
    }

    fn unlist(&mut self, range: &KeyRange, address: Address) {
        if matches!(range.end, RangeEnd::Single) {
            remove_from(&mut self.singles, &range.start, |listed| *listed == address);
        } else if let Some(prefix) = prefix_of(range) {
            if let Some(of_length) = self.prefixes.get_mut(&prefix.len()) {
                remove_from(of_length, prefix, |listed| *listed == address);
                if of_length.is_empty() {
                    self.prefixes.remove(&prefix.len());
                }
            }
        } else {
            remove_from(&mut self.ranges, &range.start, |(_, listed)| *listed == address);
        }
    }

    /// Hands events to everybody in step; answers whom to wake.
    pub(super) fn publish(&mut self, revision: i64, events: Option<&mut Vec<EventRecord>>) -> Vec<Wake> {
        let mut woken = Vec::new();
        match events {
            Some(events) => {
                for event in events.drain(..) {
                    self.publish_one(&Arc::new(event), &mut woken);
                }
            }
            None if revision > self.published => {
                let missed = self.published + 1;
                for stream in self.streams.values_mut() {
                    let mut any = false;
                    for watcher in stream.watchers.values_mut() {
                        if watcher.behind.is_none() && watcher.first <= revision {
                            watcher.behind = Some(missed.max(watcher.first));
                            any = true;
                        }
                    }
                    if any {
                        woken.extend(stream.wake_once());
                    }
                }
            }
            None => {}
        }
        self.published = self.published.max(revision);
        woken
    }

    fn publish_one(&mut self, event: &Arc<EventRecord>, woken: &mut Vec<Wake>) {
        let key = event.key();
        let mut give = |address: &Address, streams: &mut BTreeMap<u64, Stream>| {
            if let Some(stream) = streams.get_mut(&address.stream) {
                woken.extend(stream.give(address.watch_id, event));
            }
        };
        if let Some(addresses) = self.singles.get(key) {
            addresses.iter().for_each(|address| give(address, &mut self.streams));
        }
        for (&length, prefixes) in &self.prefixes {
            if length > key.len() {
                break;
            }
            if let Some(addresses) = prefixes.get(&key[..length]) {
                addresses.iter().for_each(|address| give(address, &mut self.streams));
            }
        }
        let up_to = (std::ops::Bound::Unbounded, std::ops::Bound::Included(key));
        for listed in self.ranges.range::<[u8], _>(up_to).flat_map(|(_, listed)| listed) {
            if listed.0.contains(key) {
                give(&listed.1, &mut self.streams);
            }
        }
    }

    pub(super) fn reset(&mut self, revision: i64) -> Vec<Wake> {
        let missed = self.published + 1;
        self.published = revision;
        let mut woken = Vec::new();
        for stream in self.streams.values_mut() {
            for watcher in stream.watchers.values_mut() {
                if watcher.behind.is_none() && watcher.first <= revision {
                    watcher.behind = Some(missed.max(watcher.first));
                }
            }
            woken.extend(stream.wake_once());
        }
        woken
    }
}

fn remove_from<T>(map: &mut BTreeMap<Bytes, Vec<T>>, key: &Bytes, is_it: impl Fn(&T) -> bool) {
    if let Some(listed) = map.get_mut(key) {
        listed.retain(|entry| !is_it(entry));
        if listed.is_empty() {
            map.remove(key);
        }
    }
}

impl Stream {
    /// The wake to call, unless it was called already.
    pub(super) fn wake_once(&mut self) -> Option<Wake> {
        if std::mem::replace(&mut self.woken, true) { None } else { Some(self.wake.clone()) }
    }

    /// Gives an event to a watcher in step.
    fn give(&mut self, watch_id: i64, event: &Arc<EventRecord>) -> Option<Wake> {
        let watcher = self.watchers.get_mut(&watch_id)?;
        if watcher.behind.is_some() || event.main < watcher.first {
            return None;
        }
        if (event.deletion && watcher.spec.no_delete) || (!event.deletion && watcher.spec.no_put) {
            return None;
        }
        if watcher.taking != event.main {
            if self.queued_bytes >= self.limits.queue_bytes_max {
                watcher.behind = Some(event.main);
                return self.wake_once();
            }
            watcher.taking = event.main;
        }
        self.queued_bytes += event.bytes();
        self.queue.push_back(Queued { watch_id, event: event.clone() });
        self.wake_once()
    }

    /// Takes from the queue until `bytes_max` are reached, but whole revisions. What stays is shared by all streams that
    /// wait for it; what is taken becomes each one's own.
    pub(super) fn take_queue(&mut self, bytes_max: usize) -> VecDeque<Queued> {
        self.woken = false;
        if self.queued_bytes <= bytes_max {
            self.queued_bytes = 0;
            return std::mem::take(&mut self.queue);
        }
        let mut taken = VecDeque::new();
        let (mut bytes, mut revision) = (0, None);
        while let Some(next) = self.queue.front()
            && (bytes < bytes_max || revision.is_none_or(|taken| taken == next.event.main))
        {
            bytes += next.event.bytes();
            revision = Some(next.event.main);
            taken.extend(self.queue.pop_front());
        }
        self.queued_bytes -= bytes;
        taken
    }

    /// A watcher that ended says nothing more.
    fn drop_notices(&mut self, ended: i64) {
        self.notices
            .retain(|notice| !matches!(notice, Delivery::WatcherProgress { watch_id, .. } if *watch_id == ended));
    }

    fn drop_queued(&mut self, watch_id: i64) {
        self.queue.retain(|queued| queued.watch_id != watch_id);
        self.queued_bytes = self.queue.iter().map(|queued| queued.event.bytes()).sum();
    }
}
