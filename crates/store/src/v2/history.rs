//! The newest events, so that whoever asks again misses nothing in between.
//!
//! Invariant: the events' indexes have no gap, and the last one's is the tree's.

use super::event::{Action, Event};
use super::fault::{Code, Fault};
use super::path::is_below;
use std::collections::VecDeque;
use std::sync::Arc;

/// Events kept (etcd's number).
pub(super) const EVENTS_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Arc<Event>>);

impl History {
    pub(super) fn add(&mut self, event: Arc<Event>) {
        if let Some(last) = self.0.back() {
            assert_eq!(last.index() + 1, event.index(), "each change has an event");
        }
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.0.iter()
    }

    /// The events from `since` on that somebody at `path` asks for; `index` is the tree's.
    pub(super) fn scan<'a>(
        &'a self,
        path: &'a [u8],
        recursive: bool,
        since: u64,
        index: u64,
    ) -> Result<impl Iterator<Item = &'a Arc<Event>> + 'a, Fault> {
        let oldest = self.0.front().map_or(0, |event| event.index());
        if since < oldest {
            let cause = format!("the requested history has been cleared [{oldest}/{since}]").into_bytes();
            return Err(Fault { code: Code::EventIndexCleared, cause, index });
        }
        let skipped = usize::try_from(since - oldest).unwrap_or(usize::MAX).min(self.0.len());
        Ok(self.0.range(skipped..).filter(move |event| !event.refresh && concerns(event, path, recursive)))
    }
}

fn concerns(event: &Event, path: &[u8], recursive: bool) -> bool {
    let own = &event.node.path[..];
    if own == path || (recursive && is_below(own, path)) {
        return true;
    }
    // A directory that goes takes everything below it along.
    let was_directory = event.prev_node.as_ref().is_some_and(|prev| prev.dir);
    matches!(event.action, Action::Delete | Action::Expire) && was_directory && is_below(path, own)
}
