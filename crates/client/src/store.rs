//! The calls that recipes make: each with a limit of time, repeated where repeating is safe.
//!
//! It owns what "safe" means: reads, and transactions that say themselves whether they were executed already. Anything
//! else is tried once, and a failure on the way is [`Error::OutcomeUnknown`].

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Client, GetOptions, GetResponse, KeyValue, Txn, TxnResponse};
use tokio::time::timeout;

use crate::error::{Error, Result, is_too_large, is_transient};

/// How long calls wait and how often they are repeated.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long one try of a call may take. A member that does not answer is then given up for another.
    pub call_timeout: Duration,
    /// How long a call that is not bound to a session is repeated before it ends as [`Error::Unavailable`].
    pub retry_for: Duration,
    /// After how long without a word a watch is asked whether it is alive; after twice that it is opened anew.
    pub watch_probe_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(3),
            retry_for: Duration::from_secs(20),
            watch_probe_interval: Duration::from_secs(5),
        }
    }
}

/// The keys of one page of a range; smaller when the values are large.
const PAGE_KEYS: i64 = 1000;

/// The largest answer taken from the store: a page of keys, or the events that a watch has to catch up with.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Calls to the store with a client of their own.
#[derive(Clone)]
pub(crate) struct Store {
    client: Client,
    pub(crate) options: Options,
}

impl Store {
    pub(crate) fn new(client: Client, options: Options) -> Self {
        Self { client, options }
    }

    /// A client to make one call with.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The same, repeating for ever: for calls that end with something else, as with a session.
    pub(crate) fn patient(&self) -> Self {
        let options = Options { retry_for: Duration::MAX, ..self.options.clone() };
        Self { client: self.client.clone(), options }
    }

    /// A read; it is repeated.
    pub(crate) async fn get(&self, key: &[u8], options: GetOptions) -> Result<GetResponse> {
        self.retried(|client| {
            let (mut kv, options) = (client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX), options.clone());
            async move { kv.get(key, Some(options)).await }
        })
        .await
    }

    /// A transaction that may be executed more than once without harm; it is repeated.
    pub(crate) async fn commit(&self, txn: Txn) -> Result<TxnResponse> {
        self.retried(|client| {
            let (mut kv, txn) = (client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX), txn.clone());
            async move { kv.txn(txn).await }
        })
        .await
    }

    /// A transaction that must not be executed twice; it is tried once.
    pub(crate) async fn commit_once(&self, txn: Txn) -> Result<TxnResponse> {
        let mut kv = self.client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        match timeout(self.options.call_timeout, kv.txn(txn)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if is_transient(&error) => Err(Error::OutcomeUnknown(Arc::new(error))),
            Ok(Err(error)) => Err(Error::Refused(Arc::new(error))),
            Err(_) => Err(Error::OutcomeUnknown(Arc::new(no_answer()))),
        }
    }

    /// All keys of a range at one revision, in the keys' order, and that revision. Without a revision, the newest.
    pub(crate) async fn range(&self, range: &Range, revision: Option<i64>) -> Result<(i64, Vec<KeyValue>)> {
        let (mut read, mut from, mut limit) = (Vec::new(), range.first.clone(), PAGE_KEYS);
        let mut revision = revision.unwrap_or(0);
        loop {
            let mut options = GetOptions::new().with_limit(limit).with_revision(revision);
            if let Some(end) = &range.end {
                options = options.with_range(end.clone());
            }
            let mut page = match self.get(&from, options).await {
                Ok(page) => page,
                Err(Error::Refused(cause)) if limit > 1 && is_too_large(&cause) => {
                    limit /= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if revision == 0 {
                revision = revision_of(page.header());
            }
            let more = page.more();
            read.append(&mut page.take_kvs());
            match read.last() {
                Some(last) if more => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                _ => return Ok((revision, read)),
            }
        }
    }

    /// Repeats a call until it is answered, refused, or out of time.
    pub(crate) async fn retried<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let started = Instant::now();
        let mut backoff = Backoff::new();
        loop {
            let cause = match timeout(self.options.call_timeout, call(self.client())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_transient(&error) => Some(Arc::new(error)),
                Ok(Err(error)) => return Err(Error::Refused(Arc::new(error))),
                Err(_) => None,
            };
            let tried = started.elapsed();
            if tried >= self.options.retry_for {
                return Err(Error::Unavailable { tried, cause });
            }
            backoff.wait().await;
        }
    }
}

fn no_answer() -> etcd_client::Error {
    etcd_client::Error::IoError(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))
}

/// The revision in a header; 0 in the header that no server leaves out.
pub(crate) fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> i64 {
    header.map_or(0, etcd_client::ResponseHeader::revision)
}

/// A range of keys: one key, or all with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: Vec<u8>,
    /// The first key behind the range; none for one key.
    pub(crate) end: Option<Vec<u8>>,
}

impl Range {
    pub(crate) fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { first: key.into(), end: None }
    }

    /// All keys that begin with the prefix, which is not empty.
    pub(crate) fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let first = prefix.into();
        let mut end = first.clone();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self { first, end: Some(end) };
            }
        }
        // Nothing but 0xff: a zero byte as the end means "all that follow".
        Self { first, end: Some(vec![0]) }
    }
}

/// Growing pauses between repetitions.
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const SHORTEST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        Self { next: Self::SHORTEST }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        // Up to a quarter less, so that clients that lost the same member do not come back in step.
        pause - pause.mul_f64(random_unit() / 4.0)
    }

    pub(crate) async fn wait(&mut self) {
        let pause = self.next();
        tokio::time::sleep(pause).await;
    }
}

/// A random number; the standard library seeds each of its maps with one.
pub(crate) fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// A random number from 0 to 1.
fn random_unit() -> f64 {
    (random_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_up_to_the_next_prefix() {
        assert_eq!(Range::prefix("a/"), Range { first: b"a/".to_vec(), end: Some(b"a0".to_vec()) });
        assert_eq!(Range::prefix(vec![1, 0xff]).end, Some(vec![2]));
        assert_eq!(Range::prefix(vec![0xff]).end, Some(vec![0]));
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
        assert!(pauses[0] <= Backoff::SHORTEST && pauses[0] >= Backoff::SHORTEST * 3 / 4);
        assert!(pauses[11] <= Backoff::LONGEST && pauses[11] >= Backoff::LONGEST * 3 / 4);
    }
}
