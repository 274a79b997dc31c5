//! `make-mirror`: copies a cluster's keys to another, and goes on with every change.
//!
//! Not here: watching (`client::watch`). The invariant: changes of one revision reach the destination together, unless
//! they are more than one transaction may hold, and in the order of their revisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::mvccpb::{Event, event::EventType};

use super::password;
use crate::command_line::flag::Values;
use crate::command_line::word;
use crate::ctl::client::{Client, TlsFiles, Watch};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, CallError, Failure};
use crate::ctl::print::{prefix_end, write_out};
use crate::ctl::settings::{identity, tls};

/// How many keys are read at once.
const BATCH_KEYS: i64 = 1000;
/// How often the number of copied changes is shown.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// The key that is read for nothing but the revision, where no prefix names one.
const PROBE_KEY: &[u8] = b"foo";

/// `make-mirror`
pub(crate) async fn make_mirror(mut run: Invocation) -> Result<(), Failure> {
    let [destination] = run.words() else {
        return Err(Failure::arguments("make-mirror takes one destination argument"));
    };
    let destination = destination.clone();
    let values = &run.values;
    let ask = || password::ask("Destination Password: ");
    let identity = identity(values.text("dest-user"), values.text("dest-password"), ask)?;
    let tls = tls(&destination_files(values), values.is_set("dest-insecure-transport"))?;
    let mut renaming =
        Renaming { prefix: word::bytes(values.text("prefix")), destination: word::bytes(values.text("dest-prefix")) };
    let keeps_no_prefix = values.is_set("no-dest-prefix");
    let operations_max = usize::try_from(values.uint("max-txn-ops")).unwrap_or(usize::MAX);
    let start_revision = (values.int("rev") - 1).max(0);
    let settings = run.settings()?;
    let destination = Client::new(&Arc::new(settings.of_cluster(vec![destination], tls, identity))).await?;
    let source = Client::new(&settings).await?;
    if keeps_no_prefix && !renaming.destination.is_empty() {
        let message = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one";
        return Err(Failure::arguments(message));
    }
    // As etcdctl has it, a start in the past takes the prefix off unless one is given: only a whole copy keeps it.
    if start_revision == 0 && !keeps_no_prefix && renaming.destination.is_empty() {
        renaming.destination.clone_from(&renaming.prefix);
    }
    let copied = AtomicI64::new(0);
    let mut mirror = Mirror { source, destination, renaming, operations_max, copied: &copied };
    tokio::select! {
        result = mirror.run(start_revision) => result,
        result = report(&copied) => result,
    }
}

fn destination_files(values: &Values) -> TlsFiles {
    let text = |name: &str| values.text(name).to_owned();
    TlsFiles { cert: text("dest-cert"), key: text("dest-key"), cacert: text("dest-cacert"), ..TlsFiles::default() }
}

async fn report(copied: &AtomicI64) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        write_out(format!("{}\n", copied.load(Ordering::Relaxed)).as_bytes())?;
    }
}

/// What a key is called at the destination.
#[derive(Debug)]
struct Renaming {
    prefix: Vec<u8>,
    destination: Vec<u8>,
}

impl Renaming {
    fn rename(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(self.prefix.as_slice()).unwrap_or(key);
        [self.destination.as_slice(), rest].concat().into()
    }

    /// The range of all keys to copy.
    fn range(&self) -> (Bytes, Bytes) {
        match self.prefix.as_slice() {
            b"" => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            prefix => (Bytes::copy_from_slice(prefix), prefix_end(prefix).into()),
        }
    }
}

struct Mirror<'run> {
    source: Client,
    destination: Client,
    renaming: Renaming,
    operations_max: usize,
    copied: &'run AtomicI64,
}

impl Mirror<'_> {
    /// Copies all keys, unless a revision to start behind is given, and then every change.
    async fn run(&mut self, start_revision: i64) -> Result<(), Failure> {
        let revision = if start_revision == 0 { self.copy_all().await? } else { start_revision };
        let (key, range_end) = self.renaming.range();
        let create = pb::WatchCreateRequest { key, range_end, start_revision: revision + 1, ..Default::default() };
        let mut watch = Watch::new(self.source.clone(), create);
        loop {
            let reply = watch.next().await;
            if let Some(reason) = reply.ended {
                return Err(Failure::new(failure::SERVER, reason));
            }
            for batch in batches(&reply.events, self.operations_max) {
                self.apply(batch).await?;
            }
        }
    }

    /// Copies every key as it is at one revision; answers that revision.
    async fn copy_all(&mut self) -> Result<i64, CallError> {
        let probe = match self.renaming.prefix.as_slice() {
            b"" => PROBE_KEY,
            prefix => prefix,
        };
        let request = pb::RangeRequest { key: Bytes::copy_from_slice(probe), ..Default::default() };
        let revision = self.source.call(request, None).await?.header.unwrap_or_default().revision;
        let (mut key, range_end) = self.renaming.range();
        loop {
            let range_end = range_end.clone();
            let request = pb::RangeRequest { key, range_end, limit: BATCH_KEYS, revision, ..Default::default() };
            let reply = self.source.call(request, None).await?;
            for kv in &reply.kvs {
                let (key, value) = (self.renaming.rename(&kv.key), kv.value.clone());
                self.destination.call(pb::PutRequest { key, value, ..Default::default() }, None).await?;
                self.copied.fetch_add(1, Ordering::Relaxed);
            }
            match reply.kvs.last() {
                Some(last) if reply.more => key = [last.key.as_ref(), b"\0"].concat().into(),
                _ => return Ok(revision),
            }
        }
    }

    async fn apply(&mut self, events: &[Event]) -> Result<(), CallError> {
        let operation = |event: &Event| {
            let kv = event.kv.clone().unwrap_or_default();
            let key = self.renaming.rename(&kv.key);
            let request = match event.r#type() {
                EventType::Put => Request::RequestPut(pb::PutRequest { key, value: kv.value, ..Default::default() }),
                EventType::Delete => Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() }),
            };
            pb::RequestOp { request: Some(request) }
        };
        let success = events.iter().map(operation).collect();
        self.destination.call(pb::TxnRequest { success, ..Default::default() }, None).await?;
        self.copied.fetch_add(i64::try_from(events.len()).unwrap_or(i64::MAX), Ordering::Relaxed);
        Ok(())
    }
}

/// Cuts events into those that go into one transaction: of one revision, and at most `operations_max` (0: any number).
fn batches(events: &[Event], operations_max: usize) -> Vec<&[Event]> {
    let operations_max = if operations_max == 0 { usize::MAX } else { operations_max };
    let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    let of_one_revision = events.chunk_by(|left, right| revision(left) == revision(right));
    of_one_revision.flat_map(|events| events.chunks(operations_max)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::mvccpb::KeyValue;

    #[test]
    fn keys_change_their_prefix() {
        let renamed = |prefix: &str, destination: &str, key: &str| {
            let renaming = Renaming { prefix: prefix.into(), destination: destination.into() };
            String::from_utf8(renaming.rename(key.as_bytes()).to_vec()).expect("UTF-8")
        };
        assert_eq!(renamed("", "", "a/b"), "a/b");
        assert_eq!(renamed("", "x/", "a/b"), "x/a/b");
        assert_eq!(renamed("a/", "x/", "a/a/b"), "x/a/b");
        assert_eq!(renamed("a/", "", "a/b"), "b");
    }

    #[test]
    fn a_revision_stays_together() {
        let event = |revision| Event {
            kv: Some(KeyValue { mod_revision: revision, ..Default::default() }),
            ..Default::default()
        };
        let events: Vec<Event> = [3, 3, 3, 4, 5, 5].map(event).to_vec();
        let sizes = |max| batches(&events, max).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(sizes(128), [3, 1, 2]);
        assert_eq!(sizes(2), [2, 1, 1, 2]);
        assert_eq!(sizes(0), [3, 1, 2]);
        assert!(batches(&[], 1).is_empty());
    }
}
