//! The connection to one peer: a bounded queue, and a task that keeps a connection open and empties the queue into it.
//!
//! What the node's turn left in the queue is written at its end as far as the socket takes it at once; the task writes the
//! rest. The invariants: bytes leave in the order of the queue, by one writer at a time (`is_task_writing`, and the
//! lock). The queue never grows beyond its bounds. When it is full, the oldest raft messages go: raft repeats what
//! matters. Forwarded commands that never left come back to the node as rejected, so that it may send them elsewhere at
//! once; what a broken connection may have delivered never does.

use super::dial::{DialError, Route, connect, dial};
use super::{STREAM_PATH, frame};
use crate::config::Address;
use crate::mailbox::Mailbox;
use crate::membership::Removal;
use crate::metrics::PeerCounters;
use crate::socket::Socket;
use crate::tls::{Stream, TlsDialer};
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use quorate_node::api::Input;
use quorate_proto::quoratepb::{ForwardRejected, PeerMessage, PeerProbe, peer_message};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

/// Messages that wait for one peer at the most.
const QUEUE_FRAMES_MAX: usize = 8_192;
/// Bytes that wait for one peer at the most, unless one message alone is longer.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Frames up to this length are joined into one write.
const JOINED_BYTES_MAX: usize = 256 << 10;
/// What waits is written by the node's thread up to this length: copying more would take it too long.
const DIRECT_BYTES_MAX: usize = 64 << 10;
/// Pause between attempts, at first: a process that dies closes its connections a moment before its listener.
const BACKOFF_MIN: Duration = Duration::from_millis(1);
/// Pause between attempts, at the most.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How often the way to the peer and back is measured.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

struct Queued {
    framed: Bytes,
    kind: QueuedKind,
}

enum QueuedKind {
    /// Repeated by raft.
    Raft,
    /// Commands; this is what the node is told if they never leave.
    Forward(ForwardRejected),
    /// An answer; worth keeping, but no loss.
    Answer,
    /// What is left of a frame whose beginning was written: first in the queue, and of no use to another connection.
    Remainder,
}

impl Queued {
    fn new(message: &PeerMessage) -> Self {
        let kind = match &message.kind {
            Some(peer_message::Kind::Raft(_)) => QueuedKind::Raft,
            Some(peer_message::Kind::Forward(forward)) => QueuedKind::Forward(ForwardRejected {
                sequence: forward.sequence,
                leader: 0,
                ids: forward.commands.iter().map(|command| command.id).collect(),
                incarnation: forward.incarnation,
            }),
            _ => QueuedKind::Answer,
        };
        Self { framed: frame::frame_message(message), kind }
    }
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Queued>,
    bytes: usize,
}

impl Queue {
    /// Answers how many messages had to go for it; gives the message back when there is no room for it.
    fn push(&mut self, queued: Queued, frames_max: usize, bytes_max: usize) -> Result<u64, Queued> {
        let mut dropped_count = 0;
        while self.frames.len() >= frames_max
            || (!self.frames.is_empty() && self.bytes + queued.framed.len() > bytes_max)
        {
            let is_raft = |queued: &Queued| matches!(queued.kind, QueuedKind::Raft);
            let Some(oldest) = self.frames.iter().position(is_raft) else { return Err(queued) };
            let dropped = self.frames.remove(oldest).expect("a position in the queue");
            self.bytes -= dropped.framed.len();
            dropped_count += 1;
        }
        self.bytes += queued.framed.len();
        self.frames.push_back(queued);
        Ok(dropped_count)
    }

    fn take(&mut self) -> VecDeque<Queued> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// Forgets what a writer took: its first `written` bytes.
    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while written > 0
            && let Some(first) = self.frames.front_mut()
        {
            if written < first.framed.len() {
                first.framed.advance(written);
                first.kind = QueuedKind::Remainder;
                return;
            }
            written -= first.framed.len();
            self.frames.pop_front();
        }
    }

    /// The connection is gone, and with it the frame that it had begun.
    fn forget_remainder(&mut self) {
        if let Some(Queued { framed, kind: QueuedKind::Remainder }) = self.frames.front() {
            self.bytes -= framed.len();
            self.frames.pop_front();
        }
    }

    /// Everything that waits, as one piece.
    fn joined(&self) -> Bytes {
        if let (1, Some(only)) = (self.frames.len(), self.frames.front()) {
            return only.framed.clone();
        }
        let mut joined = BytesMut::with_capacity(self.bytes);
        for queued in &self.frames {
            joined.extend_from_slice(&queued.framed);
        }
        joined.freeze()
    }
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// The connection while it is open; none for an encrypted one, which only the task writes to.
    stream: Option<Arc<TcpStream>>,
    /// The task has taken messages out of the queue and not written them all.
    is_task_writing: bool,
    addresses: Vec<Address>,
    /// There was a connection, of either direction, since the peer was last seen gone.
    was_connected: bool,
    /// Since when the connection to the peer stands; `None`: it does not.
    active_since: Option<Instant>,
}

/// One peer, as the rest of the transport sees it.
pub(crate) struct Link {
    peer: u64,
    mailbox: Arc<Mailbox>,
    counters: Arc<PeerCounters>,
    state: Mutex<State>,
    queued: Notify,
    probe: Notify,
    /// What probes count their time from.
    begun: Instant,
}

impl Link {
    pub(crate) fn new(peer: u64, addresses: Vec<Address>, mailbox: Arc<Mailbox>, counters: Arc<PeerCounters>) -> Self {
        let state = State { addresses, ..State::default() };
        Self {
            peer,
            mailbox,
            counters,
            state: Mutex::new(state),
            queued: Notify::new(),
            probe: Notify::new(),
            begun: Instant::now(),
        }
    }

    /// What is counted of the traffic with this peer.
    pub(crate) fn counters(&self) -> &PeerCounters {
        &self.counters
    }

    /// Puts a message into the queue; it leaves with the next [`Self::flush`].
    pub(crate) fn send(&self, message: &PeerMessage) {
        let queued = Queued::new(message);
        let result = self.state.lock().queue.push(queued, QUEUE_FRAMES_MAX, QUEUE_BYTES_MAX);
        match result {
            Ok(dropped) => self.counters.sent_failures.add(dropped),
            Err(refused) => self.give_back([refused]),
        }
    }

    /// Writes what waits, as far as the socket takes it at once, and leaves the rest to the task. Never waits.
    pub(crate) fn flush(&self) {
        let mut state = self.state.lock();
        if state.queue.frames.is_empty() || state.is_task_writing {
            // A task that writes looks again before it stops.
            return;
        }
        if let Some(stream) = &state.stream
            && state.queue.bytes <= DIRECT_BYTES_MAX
            // An error shows again to the task, which knows what to do about it.
            && let Ok(written) = stream.try_write(&state.queue.joined())
        {
            state.queue.advance(written);
            self.counters.sent_bytes.add(written as u64);
        }
        if !state.queue.frames.is_empty() {
            self.queued.notify_one();
        }
    }

    /// Sends probes, whose answers tell how long the way takes. Runs until it is dropped.
    async fn measure(&self) {
        let mut probes = interval(PROBE_INTERVAL);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            probes.tick().await;
            let sent_microseconds = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.send_probe(PeerProbe { sent_microseconds, is_answer: false });
        }
    }

    fn send_probe(&self, probe: PeerProbe) {
        self.send(&PeerMessage { kind: Some(peer_message::Kind::Probe(probe)) });
        self.flush();
    }

    /// A probe arrived: the peer's is answered, the answer to our own is counted.
    pub(crate) fn probed(&self, probe: PeerProbe) {
        if !probe.is_answer {
            self.send_probe(PeerProbe { is_answer: true, ..probe });
        } else if let Some(took) = self.begun.elapsed().checked_sub(Duration::from_micros(probe.sent_microseconds)) {
            self.counters.round_trip_seconds.observe(took.as_secs_f64());
            self.counters.round_trips.lock().observe(took);
        }
    }

    /// Tells the node of forwarded commands that never left.
    fn give_back(&self, unsent: impl IntoIterator<Item = Queued>) {
        for queued in unsent {
            self.counters.sent_failures.increment();
            if let QueuedKind::Forward(rejected) = queued.kind {
                let message = PeerMessage { kind: Some(peer_message::Kind::ForwardRejected(rejected)) };
                self.mailbox.post(Input::Peer { from: self.peer, message });
            }
        }
    }

    /// Where the peer is reached.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.state.lock().addresses.clone()
    }

    /// Since when the connection to the peer stands; `None`: it does not.
    pub(crate) fn active_since(&self) -> Option<Instant> {
        self.state.lock().active_since
    }

    /// The peer moved.
    pub(crate) fn set_addresses(&self, addresses: Vec<Address>) {
        self.state.lock().addresses = addresses;
    }

    /// The peer connected to us.
    pub(crate) fn incoming_opened(&self) {
        self.state.lock().was_connected = true;
        // It is there: no reason to wait for the next attempt.
        self.probe.notify_one();
    }

    /// The peer's connection to us ended: see at once whether it is still there.
    pub(crate) fn incoming_lost(&self) {
        self.probe.notify_one();
    }

    /// Tells the node, once per disappearance, that nobody listens at the peer's address any more.
    fn tell_gone(&self) {
        if std::mem::take(&mut self.state.lock().was_connected) {
            tracing::info!("remote-peer-id" = format!("{:x}", self.peer), "lost a peer: its connections are refused");
            self.mailbox.post(Input::PeerLost { peer: self.peer, refused: true });
        }
    }

    /// Keeps a connection open. Runs until it is aborted.
    pub(crate) async fn run(self: Arc<Self>, route: Route, dialer: Arc<TlsDialer>, removal: Arc<Removal>) {
        let mut backoff = BACKOFF_MIN;
        let mut last_rejection = String::new();
        loop {
            match dial(&self.addresses(), STREAM_PATH, &route, &dialer).await {
                Ok(stream) => {
                    backoff = BACKOFF_MIN;
                    last_rejection.clear();
                    {
                        let mut state = self.state.lock();
                        state.was_connected = true;
                        state.active_since = Some(Instant::now());
                    }
                    tracing::info!(
                        "remote-peer-id" = format!("{:x}", self.peer),
                        "established a connection with a peer"
                    );
                    self.counters.active.set(1);
                    tokio::select! {
                        () = self.pump(stream) => {}
                        () = self.measure() => unreachable!("it has no end"),
                    }
                    self.state.lock().active_since = None;
                    self.counters.active.set(0);
                    self.counters.disconnections.increment();
                    self.mailbox.post(Input::PeerLost { peer: self.peer, refused: false });
                    continue;
                }
                Err(DialError::Refused) => self.tell_gone(),
                Err(DialError::Removed) => removal.post(),
                Err(error @ (DialError::Rejected { .. } | DialError::Handshake(_))) => {
                    let text = error.to_string();
                    if text != last_rejection {
                        tracing::warn!(
                            "remote-peer-id" = format!("{:x}", self.peer),
                            error = text.as_str(),
                            "a peer does not take our messages"
                        );
                        last_rejection = text;
                    }
                }
                Err(error) => {
                    tracing::debug!(
                        "remote-peer-id" = format!("{:x}", self.peer),
                        error = error.to_string(),
                        "cannot reach a peer"
                    );
                }
            }
            // Without a connection messages only get older: raft repeats its own, and commands may find another way.
            let unsent = self.state.lock().queue.take();
            self.give_back(unsent);
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = self.probe.notified() => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Empties the queue into the connection until it breaks.
    async fn pump(&self, stream: Stream) {
        let error = match stream {
            Stream::Plain(Socket::Tcp(stream)) => {
                let stream = Arc::new(stream);
                self.open(Some(stream.clone()));
                self.write_until_lost(Reader::Tcp(&stream), Writer::Tcp(&stream)).await
            }
            Stream::Plain(Socket::Unix(_)) | Stream::Tls(_) => {
                self.open(None);
                let (from, to) = tokio::io::split(stream);
                self.write_until_lost(Reader::Half(from), Writer::Half(to)).await
            }
        };
        {
            let mut state = self.state.lock();
            state.stream = None;
            state.is_task_writing = false;
            state.queue.forget_remainder();
        }
        tracing::info!(
            "remote-peer-id" = format!("{:x}", self.peer),
            error = error.to_string(),
            "lost the connection with a peer"
        );
    }

    fn open(&self, stream: Option<Arc<TcpStream>>) {
        let mut state = self.state.lock();
        state.stream = stream;
        state.is_task_writing = false;
    }

    async fn write_until_lost(&self, mut from: Reader<'_>, mut to: Writer<'_>) -> std::io::Error {
        // What came while there was no connection.
        self.queued.notify_one();
        loop {
            tokio::select! {
                () = self.queued.notified() => {
                    if let Err(error) = self.write_queued(&mut to).await {
                        return error;
                    }
                }
                // The other side never says anything here: whatever comes is the end.
                error = from.end() => return error,
                () = self.probe.notified() => {
                    if let Err(DialError::Refused) = connect(&self.addresses()).await {
                        self.tell_gone();
                    }
                }
            }
        }
    }

    /// Writes until the queue is empty.
    async fn write_queued(&self, to: &mut Writer<'_>) -> std::io::Result<()> {
        loop {
            let mut frames = {
                let mut state = self.state.lock();
                state.is_task_writing = !state.queue.frames.is_empty();
                state.queue.take()
            };
            if frames.is_empty() {
                return Ok(());
            }
            let bytes: usize = frames.iter().map(|queued| queued.framed.len()).sum();
            if let Err(error) = write_joined(to, &mut frames).await {
                self.give_back(frames);
                return Err(error);
            }
            self.counters.sent_bytes.add(bytes as u64);
        }
    }
}

/// Waits for the end of a connection on which nothing is received.
async fn end_of(stream: &TcpStream) -> std::io::Error {
    let mut nothing = [0; 1];
    loop {
        if let Err(error) = stream.readable().await {
            return error;
        }
        match stream.try_read(&mut nothing) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return error,
            Ok(_) => return std::io::ErrorKind::UnexpectedEof.into(),
        }
    }
}

/// The receiving half of a connection on which nothing is received.
enum Reader<'a> {
    Tcp(&'a TcpStream),
    Half(ReadHalf<Stream>),
}

impl Reader<'_> {
    /// Waits for the connection's end.
    async fn end(&mut self) -> std::io::Error {
        match self {
            Self::Tcp(stream) => end_of(stream).await,
            Self::Half(stream) => match stream.read(&mut [0; 1]).await {
                Err(error) => error,
                Ok(_) => std::io::ErrorKind::UnexpectedEof.into(),
            },
        }
    }
}

/// The sending half.
enum Writer<'a> {
    Tcp(&'a TcpStream),
    Half(WriteHalf<Stream>),
}

impl Writer<'_> {
    async fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => write_all(stream, bytes).await,
            Self::Half(stream) => stream.write_all(bytes).await,
        }
    }

    /// Sends what an encrypted connection holds back until it is told.
    async fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Half(stream) => stream.flush().await,
        }
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes frames with as few writes as copying up to [`JOINED_BYTES_MAX`] allows. After an error `frames` are those of
/// which not a byte was written.
async fn write_joined(to: &mut Writer<'_>, frames: &mut VecDeque<Queued>) -> std::io::Result<()> {
    while let Some(Queued { framed, .. }) = frames.pop_front() {
        let next = frames.front().map_or(usize::MAX, |queued| queued.framed.len());
        if framed.len().saturating_add(next) > JOINED_BYTES_MAX {
            to.write_all(&framed).await?;
            continue;
        }
        let mut joined = BytesMut::from(&framed[..]);
        while let Some(next) = frames.front()
            && joined.len() + next.framed.len() <= JOINED_BYTES_MAX
        {
            joined.extend_from_slice(&next.framed);
            frames.pop_front();
        }
        to.write_all(&joined).await?;
    }
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(bytes: usize, is_raft: bool) -> Queued {
        let kind = if is_raft { QueuedKind::Raft } else { QueuedKind::Forward(ForwardRejected::default()) };
        Queued { framed: Bytes::from(vec![0; bytes]), kind }
    }

    #[test]
    fn a_full_queue_drops_its_oldest_raft_messages_only() {
        let mut queue = Queue::default();
        for (bytes, is_raft) in [(1, false), (2, true), (3, true), (4, true)] {
            assert!(queue.push(queued(bytes, is_raft), 3, 100).is_ok());
        }
        let lengths = |queue: &Queue| queue.frames.iter().map(|queued| queued.framed.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&queue), [1, 3, 4]);
        assert!(queue.push(queued(96, true), 3, 100).is_ok());
        assert_eq!((lengths(&queue), queue.bytes), (vec![1, 96], 97));
        assert!(queue.push(queued(99, false), 3, 100).is_ok());
        assert_eq!((lengths(&queue), queue.bytes), (vec![1, 99], 100));
        assert!(queue.push(queued(1, true), 3, 100).is_err());
        assert_eq!((lengths(&queue), queue.bytes), (vec![1, 99], 100), "no room without dropping what was forwarded");
        assert_eq!(queue.take().len(), 2);
        assert!(queue.push(queued(1_000, true), 3, 100).is_ok());
        assert_eq!(queue.bytes, 1_000, "one message always fits");
    }

    #[test]
    fn joined_writes_keep_every_byte_in_order() {
        let lengths = [10, JOINED_BYTES_MAX, 20, 30, JOINED_BYTES_MAX - 10, 5, 1];
        let mut frames: VecDeque<Queued> = lengths
            .iter()
            .zip(1..)
            .map(|(&length, byte)| Queued { framed: Bytes::from(vec![byte; length]), kind: QueuedKind::Raft })
            .collect();
        let expected: Vec<u8> = frames.iter().flat_map(|queued| queued.framed.to_vec()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let read = runtime.block_on(async {
            let (to, mut from) = connected().await;
            let reading = tokio::spawn(async move {
                let mut read = Vec::new();
                from.read_to_end(&mut read).await.map(|_| read)
            });
            write_joined(&mut Writer::Tcp(&to), &mut frames).await.expect("write");
            drop(to);
            reading.await.expect("reader").expect("read")
        });
        assert_eq!(read, expected);
    }

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let to = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connect");
        (to, listener.accept().await.expect("accept").0)
    }

    #[test]
    fn a_frame_that_was_begun_is_ended_first_or_never() {
        let mut queue = Queue::default();
        for (bytes, is_raft) in [(4, true), (6, false), (8, true)] {
            assert!(queue.push(queued(bytes, is_raft), 4, 100).is_ok());
        }
        assert_eq!(queue.joined().len(), 18);
        queue.advance(7);
        assert_eq!((queue.bytes, queue.frames.len()), (11, 2));
        assert!(matches!(queue.frames[0].kind, QueuedKind::Remainder), "its commands may have arrived");
        assert!(queue.push(queued(1, false), 2, 100).is_ok(), "a raft message goes, not the remainder");
        assert_eq!((queue.bytes, queue.frames.len()), (4, 2));
        queue.forget_remainder();
        assert_eq!((queue.bytes, queue.frames.len()), (1, 1));
        queue.forget_remainder();
        assert_eq!(queue.frames.len(), 1, "what never left stays");
        queue.advance(1);
        assert_eq!((queue.bytes, queue.frames.len()), (0, 0));
    }

    #[test]
    fn what_the_socket_does_not_take_at_once_follows_in_order() {
        const FRAMES: u64 = 20_000;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let (to, mut from) = connected().await;
            let counters = Arc::default();
            let link = Arc::new(Link::new(2, Vec::new(), Arc::new(Mailbox::default()), counters));
            let pumping = tokio::spawn({
                let link = link.clone();
                async move { link.pump(Stream::Plain(Socket::Tcp(to))).await }
            });
            let sending = std::thread::spawn({
                let link = link.clone();
                move || {
                    for number in 0..FRAMES {
                        let queued = Queued { framed: number.to_be_bytes().to_vec().into(), kind: QueuedKind::Answer };
                        assert!(link.state.lock().queue.push(queued, usize::MAX, usize::MAX).is_ok());
                        link.flush();
                    }
                }
            });
            for number in 0..FRAMES {
                assert_eq!(from.read_u64().await.expect("read"), number);
            }
            sending.join().expect("sender");
            drop(from);
            pumping.await.expect("the end of the connection is seen");
            assert!(link.state.lock().stream.is_none());
        });
    }
}
