//! A prefix of keys as it is, and then each change of it, without a gap.
//!
//! Not here: showing them. The invariant: the keys known here are those of the store at the last revision reported; after a
//! compaction of events that were not read, the difference to that is reported, deletions included.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::command_line::word;
use crate::ctl::client::{Client, Watch, WatchReply};
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::prefix_end;

/// The keys with a prefix.
pub(crate) struct Live {
    client: Client,
    range: pb::RangeRequest,
    known: BTreeMap<Bytes, KeyValue>,
    watch: Watch,
}

impl Live {
    /// Reads the keys; also gives what was read.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn start(mut client: Client, prefix: &str) -> Result<(Self, pb::RangeResponse), Failure> {
        let prefix = word::bytes(prefix);
        let range =
            pb::RangeRequest { range_end: prefix_end(&prefix).into(), key: prefix.into(), ..Default::default() };
        let deadline = client.command_deadline();
        let read = client.call(range.clone(), deadline).await?;
        let watch = watch_after(&client, &range, &read);
        Ok((Self { client, range, known: by_key(&read), watch }, read))
    }

    /// Waits for the next changes. This may be dropped at any time while no compaction is bridged.
    ///
    /// # Errors
    /// Why the server ended the watch.
    pub(crate) async fn next(&mut self) -> Result<WatchReply, Failure> {
        loop {
            let reply = self.watch.next().await;
            if reply.compact_revision > 0 {
                let changes = self.difference().await?;
                if !changes.events.is_empty() {
                    return Ok(changes);
                }
                continue;
            }
            if let Some(reason) = reply.ended {
                return Err(Failure::new(failure::INTERRUPTED, reason));
            }
            if reply.events.is_empty() {
                continue;
            }
            for event in &reply.events {
                let Some(kv) = &event.kv else { continue };
                match event.r#type() {
                    EventType::Put => drop(self.known.insert(kv.key.clone(), kv.clone())),
                    EventType::Delete => drop(self.known.remove(&kv.key)),
                }
            }
            return Ok(reply);
        }
    }

    /// Reads the keys again, and goes on from there.
    async fn difference(&mut self) -> Result<WatchReply, Failure> {
        let read = self.client.call(self.range.clone(), None).await?;
        let revision = read.header.unwrap_or_default().revision;
        let newer = by_key(&read);
        let events = difference(&self.known, &newer, revision);
        self.watch = watch_after(&self.client, &self.range, &read);
        self.known = newer;
        Ok(WatchReply { header: read.header, events, ..WatchReply::default() })
    }
}

fn watch_after(client: &Client, range: &pb::RangeRequest, read: &pb::RangeResponse) -> Watch {
    let create = pb::WatchCreateRequest {
        key: range.key.clone(),
        range_end: range.range_end.clone(),
        start_revision: read.header.unwrap_or_default().revision + 1,
        ..Default::default()
    };
    Watch::new(client.clone(), create)
}

fn by_key(read: &pb::RangeResponse) -> BTreeMap<Bytes, KeyValue> {
    read.kvs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect()
}

/// What leads from one state to a later one: deletions first, then values in the order in which they were written.
fn difference(before: &BTreeMap<Bytes, KeyValue>, after: &BTreeMap<Bytes, KeyValue>, revision: i64) -> Vec<Event> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone = gone.map(|key| KeyValue { key: key.clone(), mod_revision: revision, ..Default::default() });
    let mut changed: Vec<&KeyValue> = after.values().filter(|kv| before.get(&kv.key) != Some(kv)).collect();
    changed.sort_by_key(|kv| kv.mod_revision);
    let event = |kind: EventType, kv: KeyValue| Event { r#type: kind.into(), kv: Some(kv), ..Default::default() };
    gone.map(|kv| event(EventType::Delete, kv))
        .chain(changed.into_iter().map(|kv| event(EventType::Put, kv.clone())))
        .collect()
}

/// The keys as events, as if all were written after each other.
pub(crate) fn as_events(read: &pb::RangeResponse) -> WatchReply {
    let events = difference(&BTreeMap::new(), &by_key(read), 0);
    WatchReply { header: read.header, events, ..WatchReply::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_deletes_first_and_then_writes_in_order() {
        let state = |keys: &[(&'static str, i64)]| -> BTreeMap<Bytes, KeyValue> {
            let kv = |(key, mod_revision): &(&'static str, i64)| {
                let (key, mod_revision) = (Bytes::from_static(key.as_bytes()), *mod_revision);
                (key.clone(), KeyValue { key, mod_revision, ..Default::default() })
            };
            keys.iter().map(kv).collect()
        };
        let events = difference(&state(&[("a", 1), ("b", 2), ("c", 3)]), &state(&[("a", 9), ("c", 3), ("d", 7)]), 10);
        let shown: Vec<(EventType, Bytes, i64)> = events
            .into_iter()
            .map(|event| (event.r#type(), event.kv.clone().unwrap().key, event.kv.unwrap().mod_revision))
            .collect();
        let [b, d, a] = [&b"b"[..], b"d", b"a"].map(Bytes::from_static);
        assert_eq!(shown, [(EventType::Delete, b, 10), (EventType::Put, d, 7), (EventType::Put, a, 9)]);
    }
}
