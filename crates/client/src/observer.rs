//! Changes of a key or of all keys under a path, from any revision on, without a gap.
//!
//! It owns the bridge over compactions: it knows which keys live, so that after a gap it can say what changed and what is
//! gone. What it cannot know are the versions in between: they are compacted away.
//!
//! Invariant: what is reported, put together in order, is what the store holds at each revision reported.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use etcd_client::{Event, EventType, KeyValue};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_stream::Stream;

use crate::error::{Error, Result, is_compacted};
use crate::namespace::Namespace;
use crate::resume::{Batch, Resuming};
use crate::store::{Range, Store, revision_of};

/// The batches of whole revisions that may wait for a slow reader; then the store's own queue grows.
const BATCHES_WAITING_MAX: usize = 8;

/// Where an observer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first change after it was started.
    Now,
    /// With all keys as they are, reported as changes, and then their changes.
    State,
    /// With this revision's changes. If they are compacted: as after a compaction on the way.
    Revision(i64),
}

/// A key and its value at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path within the namespace.
    pub path: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision of this value.
    pub mod_revision: i64,
    /// How many times the key was written since its creation.
    pub version: i64,
    /// The lease that the key hangs on; 0 for none.
    pub lease: i64,
}

impl Entry {
    pub(crate) fn of(namespace: &Namespace, kv: &KeyValue) -> Self {
        Self {
            path: namespace.path_of(kv.key()).to_vec(),
            value: kv.value().to_vec(),
            create_revision: kv.create_revision(),
            mod_revision: kv.mod_revision(),
            version: kv.version(),
            lease: kv.lease(),
        }
    }

    /// The path as text, with marks for what is none.
    #[must_use]
    pub fn path_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.path)
    }

    /// The value as text, with marks for what is none.
    #[must_use]
    pub fn value_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.value)
    }
}

/// One thing that an observer reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key has this value.
    Put(Entry),
    /// A key is gone.
    Delete {
        /// The path within the namespace.
        path: Vec<u8>,
        /// The revision that deleted it; after a compaction the one at which it was seen missing.
        revision: i64,
    },
    /// Changes are lost to a compaction. What follows, up to and with the revision `until`, is the difference between the
    /// last state reported and the state at `until`: one change for each key, without the versions in between.
    Compacted {
        /// The last revision of which all was reported.
        after: i64,
        /// The revision of the state that the difference leads to.
        until: i64,
    },
}

/// A running observation; a stream of changes. Dropping it ends it.
pub struct Observer {
    batches: mpsc::Receiver<Result<Vec<Change>>>,
    /// What is left of the batch that is being read.
    rest: std::vec::IntoIter<Change>,
    connected: watch::Receiver<bool>,
    revision: i64,
    task: AbortHandle,
}

impl Namespace {
    /// Observes one key.
    ///
    /// # Errors
    /// A path that is none; no member answers; the store refuses.
    pub async fn observe(&self, path: &str, from: Start) -> Result<Observer> {
        Observer::start(self, Range::key(self.key(path)?), from).await
    }

    /// Observes all keys under `path/`.
    ///
    /// # Errors
    /// As [`Namespace::observe`].
    pub async fn observe_under(&self, path: &str, from: Start) -> Result<Observer> {
        Observer::start(self, Range::prefix(self.folder(path)?), from).await
    }
}

impl Observer {
    async fn start(namespace: &Namespace, range: Range, from: Start) -> Result<Self> {
        let store = namespace.store();
        let mut known = BTreeMap::new();
        let mut first = Vec::new();
        let revision = match from {
            Start::Now | Start::State => {
                let (revision, kvs) = store.range(&range, None).await?;
                note_all(&mut known, &kvs);
                if from == Start::State {
                    first = in_order_of_change(kvs).iter().map(|kv| Change::Put(Entry::of(namespace, kv))).collect();
                }
                revision
            }
            Start::Revision(revision) if revision < 1 => {
                return Err(Error::InvalidSetting("an observer's first revision is less than 1"));
            }
            // The state just before tells later which keys a compacted gap deleted.
            Start::Revision(revision) => {
                let count = etcd_client::GetOptions::new().with_count_only();
                let newest = revision_of(store.get(&range.first, count).await?.header());
                if revision > 1 && revision - 1 <= newest {
                    match store.range(&range, Some(revision - 1)).await {
                        Ok((_, kvs)) => note_all(&mut known, &kvs),
                        // The watch says the same in a moment, and all keys count as unknown.
                        Err(error) if is_compacted(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                revision - 1
            }
        };
        Ok(Self::spawn(namespace, range, revision, known, first))
    }

    /// Observes what comes after a state that was read at a revision.
    pub(crate) fn start_after(namespace: &Namespace, range: Range, revision: i64, state: &[KeyValue]) -> Self {
        let mut known = BTreeMap::new();
        note_all(&mut known, state);
        Self::spawn(namespace, range, revision, known, Vec::new())
    }

    fn spawn(
        namespace: &Namespace,
        range: Range,
        revision: i64,
        known: BTreeMap<Vec<u8>, i64>,
        first: Vec<Change>,
    ) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_WAITING_MAX);
        let store = namespace.store().patient();
        let watch = Resuming::new(store.clone(), range.clone(), revision + 1);
        let connected = watch.connected();
        let observation = Observation { namespace: namespace.clone(), store, range, known, watch, batches: sender };
        let task = tokio::spawn(observation.run(first)).abort_handle();
        Self { batches, rest: Vec::new().into_iter(), connected, revision, task }
    }

    /// The next change; none after an error. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The store ends the watch for good. Nothing follows.
    pub async fn next(&mut self) -> Option<Result<Change>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The next changes, with all of each revision.
    pub(crate) async fn next_batch(&mut self) -> Result<Vec<Change>> {
        self.batches.recv().await.unwrap_or(Err(Error::Stopped))
    }

    /// The revision before the first one observed.
    #[must_use]
    pub fn start_revision(&self) -> i64 {
        self.revision
    }

    /// Whether the store answers at the moment. While it does not, what was reported may be out of date.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// The same to wait for.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

impl Stream for Observer {
    type Item = Result<Change>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(change) = self.rest.next() {
                return Poll::Ready(Some(Ok(change)));
            }
            match std::task::ready!(self.batches.poll_recv(context)) {
                Some(Ok(batch)) => self.rest = batch.into_iter(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task behind an observer.
struct Observation {
    namespace: Namespace,
    store: Store,
    range: Range,
    /// The keys that live, with the revision of each value.
    known: BTreeMap<Vec<u8>, i64>,
    watch: Resuming,
    batches: mpsc::Sender<Result<Vec<Change>>>,
}

/// The reader is gone.
struct Unheard;

impl Observation {
    async fn run(mut self, first: Vec<Change>) {
        let ended = match self.report(first).await {
            Ok(()) => self.go_on().await,
            Err(Unheard) => return,
        };
        if let Some(error) = ended {
            let _ = self.batches.send(Err(error)).await;
        }
    }

    /// Runs until the reader is gone (none) or the store refuses.
    async fn go_on(&mut self) -> Option<Error> {
        loop {
            let changes = match self.watch.next().await {
                Ok(Batch::Events(events)) => events.iter().filter_map(|event| self.change(event)).collect(),
                Ok(Batch::Compacted) => match self.difference().await {
                    Ok(changes) => changes,
                    // Compacted again while it was read page by page.
                    Err(error) if is_compacted(&error) => continue,
                    Err(error) => return Some(error),
                },
                Err(error) => return Some(error),
            };
            if self.report(changes).await.is_err() {
                return None;
            }
        }
    }

    fn change(&mut self, event: &Event) -> Option<Change> {
        let kv = event.kv()?;
        match event.event_type() {
            EventType::Put => {
                self.known.insert(kv.key().to_vec(), kv.mod_revision());
                Some(Change::Put(Entry::of(&self.namespace, kv)))
            }
            EventType::Delete => {
                self.known.remove(kv.key());
                Some(Change::Delete { path: self.namespace.path_of(kv.key()).to_vec(), revision: kv.mod_revision() })
            }
        }
    }

    /// What is different since the last revision reported, after which the watch goes on.
    async fn difference(&mut self) -> Result<Vec<Change>> {
        let after = self.watch.next_revision() - 1;
        let (until, kvs) = self.store.range(&self.range, None).await?;
        let mut before = std::mem::take(&mut self.known);
        note_all(&mut self.known, &kvs);
        let mut changes = vec![Change::Compacted { after, until }];
        for kv in &kvs {
            before.remove(kv.key());
        }
        for key in before.keys() {
            changes.push(Change::Delete { path: self.namespace.path_of(key).to_vec(), revision: until });
        }
        let changed = in_order_of_change(kvs).into_iter().filter(|kv| kv.mod_revision() > after);
        changes.extend(changed.map(|kv| Change::Put(Entry::of(&self.namespace, &kv))));
        self.watch.restart(until + 1);
        Ok(changes)
    }

    async fn report(&self, changes: Vec<Change>) -> std::result::Result<(), Unheard> {
        if changes.is_empty() {
            return Ok(());
        }
        self.batches.send(Ok(changes)).await.map_err(|_| Unheard)
    }
}

fn note_all(known: &mut BTreeMap<Vec<u8>, i64>, kvs: &[KeyValue]) {
    known.extend(kvs.iter().map(|kv| (kv.key().to_vec(), kv.mod_revision())));
}

fn in_order_of_change(mut kvs: Vec<KeyValue>) -> Vec<KeyValue> {
    kvs.sort_by_key(KeyValue::mod_revision);
    kvs
}
