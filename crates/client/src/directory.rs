//! A live map of the keys under a path: what discovery and membership are made of.
//!
//! It owns the folding of an observer's changes into a map, whole revisions at a time, and the news that the map changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::observer::{Change, Entry, Observer};
use crate::store::Range;

/// The keys under a path as of a moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The entries, by what follows `path/`. A key that is no text is left out.
    pub entries: Arc<BTreeMap<String, Entry>>,
    /// Whether the store answered last time it was asked. If not, the entries are those of before.
    pub is_connected: bool,
    /// Why nothing new comes any more; none while it does.
    pub failure: Option<Error>,
}

/// A live map. Dropping it ends it.
pub struct Directory {
    view: watch::Receiver<View>,
    task: AbortHandle,
}

impl Namespace {
    /// Keeps a map of all keys under `path/`, complete when this returns.
    ///
    /// # Errors
    /// A path that is none; no member answers; the store refuses.
    pub async fn directory(&self, path: &str) -> Result<Directory> {
        let folder = self.folder(path)?;
        let prefix = self.path_of(folder.as_bytes()).to_vec();
        let kvs = self.store().range(&Range::prefix(folder.as_bytes()), None).await?;
        let mut entries = BTreeMap::new();
        for kv in &kvs.1 {
            insert(&mut entries, &prefix, Entry::of(self, kv));
        }
        // The observer's own reading knows the keys again, so that a compaction in between is bridged.
        let mut observer = Observer::start_after(self, Range::prefix(folder.as_bytes()), kvs.0, &kvs.1);
        let (sender, view) = watch::channel(View { entries: Arc::new(entries), is_connected: true, failure: None });
        let task = tokio::spawn(async move {
            let mut connection = observer.connection();
            let failure = loop {
                tokio::select! {
                    batch = observer.next_batch() => match batch {
                        Ok(batch) => sender.send_modify(|view| {
                            // Copied only if somebody looks at the map of before.
                            let entries = Arc::make_mut(&mut view.entries);
                            for change in batch {
                                apply(entries, &prefix, change);
                            }
                        }),
                        Err(error) => break error,
                    },
                    Ok(()) = connection.changed() => {
                        let connected = *connection.borrow_and_update();
                        sender.send_if_modified(|view| std::mem::replace(&mut view.is_connected, connected) != connected);
                    }
                }
            };
            sender.send_modify(|view| (view.is_connected, view.failure) = (false, Some(failure)));
            sender.closed().await;
        });
        Ok(Directory { view, task: task.abort_handle() })
    }
}

fn name_of(prefix: &[u8], path: &[u8]) -> Option<String> {
    String::from_utf8(path.strip_prefix(prefix)?.to_vec()).ok()
}

fn insert(entries: &mut BTreeMap<String, Entry>, prefix: &[u8], entry: Entry) {
    if let Some(name) = name_of(prefix, &entry.path) {
        entries.insert(name, entry);
    }
}

fn apply(entries: &mut BTreeMap<String, Entry>, prefix: &[u8], change: Change) {
    match change {
        Change::Put(entry) => insert(entries, prefix, entry),
        Change::Delete { path, .. } => {
            if let Some(name) = name_of(prefix, &path) {
                entries.remove(&name);
            }
        }
        Change::Compacted { .. } => {}
    }
}

impl Directory {
    /// The map at this moment.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits until the map or its connection is not what this call saw last, and gives it.
    pub async fn changed(&mut self) -> View {
        // The task keeps its end open for as long as this one is.
        let _ = self.view.changed().await;
        self.view.borrow_and_update().clone()
    }

    /// Waits until the map is as wanted.
    ///
    /// # Errors
    /// Nothing new comes any more.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&View) -> bool) -> Result<View> {
        let view = self.view.wait_for(|view| view.failure.is_some() || wanted(view)).await;
        let view = view.map_err(|_| Error::Stopped)?.clone();
        match &view.failure {
            Some(error) if !wanted(&view) => Err(error.clone()),
            _ => Ok(view),
        }
    }

    /// The views as a stream: the newest, not each one in between.
    #[must_use]
    pub fn views(&self) -> tokio_stream::wrappers::WatchStream<View> {
        tokio_stream::wrappers::WatchStream::new(self.view.clone())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.task.abort();
    }
}
