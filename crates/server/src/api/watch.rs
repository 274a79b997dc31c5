//! The watch service: one client stream with any number of watchers.
//!
//! The answer is made when the connection asks for it: everything the hub has for the stream at that moment becomes one
//! chunk. While the connection is slow nothing is asked of the hub, whose queue is bounded.

use crate::api::client::Client;
use crate::api::ending::Ending;
use crate::api::error::INVALID_AUTH_TOKEN;
use crate::api::method::Method;
use crate::api::wire::{Fields, put_response};
use crate::api::{Call, ClientSurface, Reply};
use crate::grpc::body::Chunk;
use crate::grpc::request::MessageReader;
use crate::grpc::status::Status;
use crate::metrics::StreamFailure;
use bytes::Bytes;
use futures::Stream;
use futures::task::AtomicWaker;
use http_body::Body;
use quorate_proto::etcdserverpb::watch_create_request::FilterType;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use quorate_store::auth::Act;
use quorate_store::error::Error;
use quorate_store::range::KeyRange;
use quorate_store::watch::{Delivery, StreamLimits, WatchRefused, WatchSpec, WatchStream};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// Bytes of events that wait in the hub for a slow client.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Watchers of one stream.
const WATCHERS_MAX: usize = 200_000;

/// Events taken for one chunk (but whole revisions), and answers to requests gathered in one, bytes. What is taken is made for
/// this client alone, and made at one go: small, so that many slow clients cost little, and keep nobody waiting.
const CHUNK_BYTES: usize = 64 << 10;

/// The id in answers that belong to no watcher.
const NO_WATCHER: i64 = -1;

/// Wakes the stream's task, from any thread.
#[derive(Default)]
struct Alarm {
    rung: AtomicBool,
    waker: AtomicWaker,
}

/// One call of Watch.
struct WatchCall<B> {
    call: Call,
    surface: Arc<ClientSurface>,
    reader: MessageReader<B>,
    /// The caller will send nothing more; its watchers go on.
    half_closed: bool,
    stream: WatchStream,
    alarm: Arc<Alarm>,
    /// Watchers whose large answers are to be split.
    fragmented: BTreeSet<i64>,
    progress: Option<Interval>,
    /// Watchers that were let through while auth was on.
    judged: BTreeMap<i64, Judged>,
    /// The auth revision as of which they were judged last.
    judged_revision: u64,
    /// A watcher that waits until this member has applied its client's log-in.
    catching_up: Option<CatchingUp>,
    ending: Ending,
    ended: bool,
}

/// Whom a watcher was let through for, and what it watches.
struct Judged {
    client: Client,
    key: Bytes,
    range_end: Bytes,
}

struct CatchingUp {
    caught_up: Pin<Box<dyn Future<Output = ()> + Send>>,
    request: WatchCreateRequest,
}

pub(super) fn watch<B>(call: Call, reader: MessageReader<B>) -> Reply
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    let alarm = Arc::new(Alarm::default());
    let rung = alarm.clone();
    let wake = Arc::new(move || {
        if !rung.rung.swap(true, Ordering::AcqRel) {
            rung.waker.wake();
        }
    });
    let limits = StreamLimits { queue_bytes_max: QUEUE_BYTES_MAX, watchers_max: WATCHERS_MAX };
    let ending = Ending::new(&call);
    Reply::Stream(Box::pin(WatchCall {
        stream: call.surface.backend.reader().watch_hub().open_stream(limits, wake),
        surface: call.surface.clone(),
        call,
        reader,
        half_closed: false,
        alarm,
        fragmented: BTreeSet::new(),
        progress: None,
        judged: BTreeMap::new(),
        judged_revision: 0,
        catching_up: None,
        ending,
        ended: false,
    }))
}

impl<B: Body<Data = Bytes> + Unpin + Send> Stream for WatchCall<B> {
    type Item = Result<Chunk, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let call = self.get_mut();
        if call.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = call.ending.poll(cx) {
            call.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        let mut chunk = Gathered::default();
        if let Err(status) = call.take_requests(cx, &mut chunk) {
            call.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        if let Some(progress) = &mut call.progress {
            while progress.poll_tick(cx).is_ready() {
                call.stream.interval_passed();
            }
        }
        while chunk.is_empty() {
            // Registered before the look, so that what comes in between wakes the task.
            call.alarm.waker.register(cx.waker());
            if !call.alarm.rung.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            let started = Instant::now();
            let deliveries = call.stream.next(CHUNK_BYTES);
            if !deliveries.is_empty() {
                // There may be more behind a budget that was used up.
                call.alarm.rung.store(true, Ordering::Release);
                let ended = call.judge_again(&mut chunk);
                call.deliver(deliveries, &ended, &mut chunk, started);
            }
        }
        Poll::Ready(Some(Ok(Chunk { bytes: Bytes::from(chunk.bytes), messages: chunk.messages })))
    }
}

/// Framed answers on their way into one chunk.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    messages: u64,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.messages == 0
    }

    fn put(&mut self, fields: &Fields<'_>, events: &[Bytes]) {
        put_response(&mut self.bytes, fields, events);
        self.messages += 1;
    }
}

impl<B: Body<Data = Bytes> + Unpin> WatchCall<B> {
    /// Does what the caller asks for, until there is no more of it at the moment or the answers fill a chunk.
    fn take_requests(&mut self, cx: &mut Context<'_>, chunk: &mut Gathered) -> Result<(), Status> {
        if let Some(mut waiting) = self.catching_up.take() {
            if waiting.caught_up.as_mut().poll(cx).is_pending() {
                self.catching_up = Some(waiting);
                return Ok(());
            }
            let client = self.call.client_at_once().unwrap_or(Err(INVALID_AUTH_TOKEN));
            self.create(client, waiting.request, chunk);
        }
        while !self.half_closed && chunk.bytes.len() < CHUNK_BYTES {
            let bytes = match self.reader.poll_message(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => {
                    // As in etcd, watchers outlive their caller's last word.
                    self.half_closed = true;
                    return Ok(());
                }
                Poll::Ready(Some(bytes)) => {
                    bytes.inspect_err(|_| self.surface.metrics.stream_failed(StreamFailure::WatchReceive))?
                }
            };
            self.surface.metrics.method(Method::Watch).messages_received.increment();
            self.surface.metrics.client_received_bytes.add(bytes.len() as u64);
            let started = Instant::now();
            let request: WatchRequest = self.surface.decode(Method::Watch, bytes)?;
            match request.request_union {
                Some(RequestUnion::CreateRequest(request)) => match self.call.client_at_once() {
                    Some(client) => self.create(client, request, chunk),
                    None => {
                        let backend = self.surface.backend.clone();
                        let caught_up = Box::pin(async move {
                            // Should it fail, the token is judged by what is known.
                            let _ = backend.read_barrier().await;
                        });
                        self.catching_up = Some(CatchingUp { caught_up, request });
                        cx.waker().wake_by_ref();
                        return Ok(());
                    }
                },
                Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id, chunk),
                Some(RequestUnion::ProgressRequest(_)) => self.stream.request_progress(),
                None => {}
            }
            self.surface.metrics.watch_control_seconds.observe(started.elapsed().as_secs_f64());
        }
        if !self.half_closed {
            // The chunk is full; requests that wait are taken with the next one.
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    fn create(&mut self, client: Result<Client, Status>, request: WatchCreateRequest, chunk: &mut Gathered) {
        if request.start_revision < 0 {
            // As in etcd, whoever asks.
            return self.refuse(&refusal_text(WatchRefused::Compacted), chunk);
        }
        let permitted = client.and_then(|client| {
            client.authorize(Act::Watch { key: &request.key, range_end: &request.range_end })?;
            Ok(client)
        });
        let client = match permitted {
            Ok(client) => client,
            Err(status) => return self.refuse(&status.go_text(), chunk),
        };
        let (key, range_end) = (request.key.clone(), request.range_end.clone());
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        let spec = WatchSpec {
            watch_id: request.watch_id,
            range: watched_range(request.key, request.range_end),
            start_revision: request.start_revision,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
        };
        match self.stream.create(spec) {
            Ok((watch_id, revision)) => {
                if request.fragment {
                    self.fragmented.insert(watch_id);
                } else {
                    // The id may have belonged to a watcher that ended.
                    self.fragmented.remove(&watch_id);
                }
                if request.progress_notify && self.progress.is_none() {
                    let period = self.surface.backend.limits().progress_interval;
                    let mut progress = interval_at(tokio::time::Instant::now() + period, period);
                    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    self.progress = Some(progress);
                }
                if client.is_judged() {
                    self.judged.insert(watch_id, Judged { client, key, range_end });
                } else {
                    self.judged.remove(&watch_id);
                }
                let header = self.surface.header(revision);
                chunk.put(&Fields { created: true, ..Fields::new(&header, watch_id) }, &[]);
            }
            Err(refused) => self.refuse(&refusal_text(refused), chunk),
        }
    }

    fn refuse(&self, reason: &str, chunk: &mut Gathered) {
        let header = self.surface.header(self.surface.backend.reader().revision());
        chunk.put(&Fields { created: true, canceled: true, reason, ..Fields::new(&header, NO_WATCHER) }, &[]);
    }

    /// Ends the watchers whose clients lost their right, when users or roles changed since the last look; answers which.
    /// To be called behind the taking of deliveries: what was written after the change is among those not sent.
    fn judge_again(&mut self, chunk: &mut Gathered) -> BTreeSet<i64> {
        let mut ended = BTreeSet::new();
        let reader = self.surface.backend.reader();
        let revision = reader.auth_revision();
        if self.judged.is_empty() || revision == self.judged_revision {
            return ended;
        }
        let header = self.surface.header(reader.revision());
        self.judged_revision = revision;
        for (&watch_id, judged) in &self.judged {
            let act = Act::Watch { key: &judged.key, range_end: &judged.range_end };
            if let Err(status) = judged.client.authorize_user(act) {
                self.stream.cancel(watch_id);
                let reason = status.go_text();
                let fields = Fields { canceled: true, reason: &reason, ..Fields::new(&header, watch_id) };
                chunk.put(&fields, &[]);
                ended.insert(watch_id);
            }
        }
        for watch_id in &ended {
            self.judged.remove(watch_id);
            self.fragmented.remove(watch_id);
        }
        ended
    }

    fn cancel(&mut self, watch_id: i64, chunk: &mut Gathered) {
        if self.stream.cancel(watch_id) {
            self.judged.remove(&watch_id);
            self.fragmented.remove(&watch_id);
            let header = self.surface.header(self.surface.backend.reader().revision());
            chunk.put(&Fields { canceled: true, ..Fields::new(&header, watch_id) }, &[]);
        }
    }

    /// Puts the deliveries into the chunk, but those of watchers that just ended. `started`: when they were looked for.
    fn deliver(&mut self, deliveries: Vec<Delivery>, ended: &BTreeSet<i64>, chunk: &mut Gathered, started: Instant) {
        let mut header = self.surface.header(0);
        let mut events_sent = 0;
        for delivery in deliveries {
            if watcher_of(&delivery).is_some_and(|watch_id| ended.contains(&watch_id)) {
                continue;
            }
            match delivery {
                Delivery::Events { watch_id, revision, events } => {
                    header.revision = revision;
                    events_sent += events.len() as u64;
                    let fields = Fields::new(&header, watch_id);
                    if !self.fragmented.contains(&watch_id) {
                        chunk.put(&fields, &events);
                        continue;
                    }
                    let mut rest = &events[..];
                    while !rest.is_empty() {
                        let (part, left) = rest.split_at(fields.part_length(rest, self.surface.message_bytes_max()));
                        chunk.put(&Fields { fragment: !left.is_empty(), ..fields }, part);
                        rest = left;
                    }
                }
                Delivery::Progress { revision } => {
                    header.revision = revision;
                    chunk.put(&Fields::new(&header, NO_WATCHER), &[]);
                }
                Delivery::WatcherProgress { watch_id, revision } => {
                    header.revision = revision;
                    chunk.put(&Fields::new(&header, watch_id), &[]);
                }
                Delivery::Compacted { watch_id, compact_revision } => {
                    // As in etcd, this header has no revision.
                    header.revision = 0;
                    self.fragmented.remove(&watch_id);
                    chunk.put(&Fields { canceled: true, compact_revision, ..Fields::new(&header, watch_id) }, &[]);
                }
                Delivery::Broken { watch_id } => {
                    header.revision = 0;
                    self.fragmented.remove(&watch_id);
                    let reason = Error::Corrupt.to_string();
                    chunk.put(&Fields { canceled: true, reason: &reason, ..Fields::new(&header, watch_id) }, &[]);
                }
            }
        }
        let metrics = &self.surface.metrics;
        let seconds = started.elapsed().as_secs_f64();
        if events_sent == 0 {
            metrics.watch_progress_seconds.observe(seconds);
        } else {
            metrics.events_sent.add(events_sent);
            metrics.watch_send_seconds.observe(seconds);
            metrics.watch_send_event_seconds.observe(seconds / events_sent as f64);
        }
    }
}

fn watcher_of(delivery: &Delivery) -> Option<i64> {
    match *delivery {
        Delivery::Events { watch_id, .. }
        | Delivery::WatcherProgress { watch_id, .. }
        | Delivery::Compacted { watch_id, .. }
        | Delivery::Broken { watch_id } => Some(watch_id),
        Delivery::Progress { .. } => None,
    }
}

/// A watcher without a key watches from the first possible key on: alone, that is a key of one zero byte.
fn watched_range(key: Bytes, range_end: Bytes) -> KeyRange {
    let key = if key.is_empty() { Bytes::from_static(&[0]) } else { key };
    KeyRange::new(key, range_end)
}

fn refusal_text(refused: WatchRefused) -> String {
    match refused {
        WatchRefused::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream".to_owned(),
        WatchRefused::EmptyRange => "mvcc: watcher range is empty".to_owned(),
        WatchRefused::Compacted => Error::Compacted.to_string(),
        WatchRefused::TooMany => "etcdserver: too many requests".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_without_a_key_begins_with_the_first() {
        let alone = watched_range(Bytes::new(), Bytes::new());
        assert!(alone.contains(&[0]) && !alone.contains(b"a"));
        let all = watched_range(Bytes::new(), Bytes::from_static(&[0]));
        assert!(all.contains(&[0]) && all.contains(b"a") && all.contains(&[0xff; 9]));
        let one = watched_range(Bytes::from_static(b"a"), Bytes::new());
        assert!(one.contains(b"a") && !one.contains(b"b"));
    }

    #[test]
    fn refusals_have_etcds_texts() {
        assert_eq!(refusal_text(WatchRefused::Compacted), "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(refusal_text(WatchRefused::EmptyRange), "mvcc: watcher range is empty");
    }
}
