//! The connection to one peer: a bounded queue, and a task that keeps a connection open and empties the queue into it.
//!
//! The invariant: the queue never grows beyond its bounds. When it is full, the oldest raft messages go: raft repeats
//! what matters.

use super::dial::{DialError, Route, connect, dial};
use super::{STREAM_PATH, frame};
use crate::config::Address;
use crate::mailbox::Mailbox;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quorate_node::api::Input;
use quorate_proto::quoratepb::{PeerMessage, peer_message};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Messages that wait for one peer at the most.
const QUEUE_FRAMES_MAX: usize = 8_192;
/// Bytes that wait for one peer at the most, unless one message alone is longer.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Frames up to this length are joined into one write.
const JOINED_BYTES_MAX: usize = 256 << 10;
/// Pause between attempts, at first.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Pause between attempts, at the most.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

struct Queued {
    framed: Bytes,
    is_raft: bool,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Queued>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, queued: Queued, frames_max: usize, bytes_max: usize) {
        while self.frames.len() >= frames_max
            || (!self.frames.is_empty() && self.bytes + queued.framed.len() > bytes_max)
        {
            let Some(oldest) = self.frames.iter().position(|queued| queued.is_raft) else {
                // Nothing but forwarded commands waits: this one is lost, and its sender hears nothing.
                return;
            };
            let dropped = self.frames.remove(oldest).expect("a position in the queue");
            self.bytes -= dropped.framed.len();
        }
        self.bytes += queued.framed.len();
        self.frames.push_back(queued);
    }

    fn take(&mut self) -> VecDeque<Queued> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}

#[derive(Default)]
struct State {
    queue: Queue,
    addresses: Vec<Address>,
    /// There was a connection, of either direction, since the peer was last seen gone.
    was_connected: bool,
}

/// One peer, as the rest of the transport sees it.
pub(crate) struct Link {
    peer: u64,
    state: Mutex<State>,
    queued: Notify,
    probe: Notify,
}

impl Link {
    pub(crate) fn new(peer: u64, addresses: Vec<Address>) -> Self {
        let state = State { addresses, ..State::default() };
        Self { peer, state: Mutex::new(state), queued: Notify::new(), probe: Notify::new() }
    }

    /// Puts a message into the queue.
    pub(crate) fn send(&self, message: &PeerMessage) {
        let is_raft = matches!(message.kind, Some(peer_message::Kind::Raft(_)));
        let queued = Queued { framed: frame::frame_message(message), is_raft };
        let was_empty = {
            let mut state = self.state.lock();
            let was_empty = state.queue.frames.is_empty();
            state.queue.push(queued, QUEUE_FRAMES_MAX, QUEUE_BYTES_MAX);
            was_empty
        };
        if was_empty {
            self.queued.notify_one();
        }
    }

    /// Where the peer is reached.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.state.lock().addresses.clone()
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
    fn tell_gone(&self, mailbox: &Mailbox) {
        if std::mem::take(&mut self.state.lock().was_connected) {
            tracing::info!("remote-peer-id" = format!("{:x}", self.peer), "lost a peer: its connections are refused");
            mailbox.post(Input::PeerLost { peer: self.peer, refused: true });
        }
    }

    /// Keeps a connection open. Runs until it is aborted.
    pub(crate) async fn run(self: Arc<Self>, route: Route, mailbox: Arc<Mailbox>) {
        let mut backoff = BACKOFF_MIN;
        let mut last_rejection = String::new();
        loop {
            match dial(&self.addresses(), STREAM_PATH, route).await {
                Ok(stream) => {
                    backoff = BACKOFF_MIN;
                    last_rejection.clear();
                    self.state.lock().was_connected = true;
                    tracing::info!(
                        "remote-peer-id" = format!("{:x}", self.peer),
                        "established a connection with a peer"
                    );
                    self.pump(stream, &mailbox).await;
                    mailbox.post(Input::PeerLost { peer: self.peer, refused: false });
                    continue;
                }
                Err(DialError::Refused) => self.tell_gone(&mailbox),
                Err(error @ DialError::Rejected { .. }) => {
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
            // Without a connection old messages only get older; what was forwarded keeps its chance.
            {
                let mut state = self.state.lock();
                let kept = state.queue.take().into_iter().filter(|queued| !queued.is_raft).collect::<VecDeque<_>>();
                state.queue.bytes = kept.iter().map(|queued| queued.framed.len()).sum();
                state.queue.frames = kept;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = self.probe.notified() => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Empties the queue into the connection until it breaks.
    async fn pump(&self, mut stream: TcpStream, mailbox: &Mailbox) {
        let (mut from, mut to) = stream.split();
        let mut nothing = [0; 1];
        loop {
            tokio::select! {
                () = self.queued.notified() => {
                    loop {
                        let frames = self.state.lock().queue.take();
                        if frames.is_empty() {
                            break;
                        }
                        if let Err(error) = write_joined(&mut to, frames).await {
                            self.log_lost(&error);
                            return;
                        }
                    }
                }
                // The other side never says anything here: whatever comes is the end.
                result = from.read(&mut nothing) => {
                    self.log_lost(&result.err().unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into()));
                    return;
                }
                () = self.probe.notified() => {
                    if let Err(DialError::Refused) = connect(&self.addresses()).await {
                        self.tell_gone(mailbox);
                    }
                }
            }
        }
    }

    fn log_lost(&self, error: &std::io::Error) {
        tracing::info!(
            "remote-peer-id" = format!("{:x}", self.peer),
            error = error.to_string(),
            "lost the connection with a peer"
        );
    }
}

/// Writes frames with as few writes as copying up to [`JOINED_BYTES_MAX`] allows.
async fn write_joined(to: &mut (impl AsyncWriteExt + Unpin), mut frames: VecDeque<Queued>) -> std::io::Result<()> {
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(bytes: usize, is_raft: bool) -> Queued {
        Queued { framed: Bytes::from(vec![0; bytes]), is_raft }
    }

    #[test]
    fn a_full_queue_drops_its_oldest_raft_messages_only() {
        let mut queue = Queue::default();
        queue.push(queued(1, false), 3, 100);
        queue.push(queued(2, true), 3, 100);
        queue.push(queued(3, true), 3, 100);
        queue.push(queued(4, true), 3, 100);
        let lengths = |queue: &Queue| queue.frames.iter().map(|queued| queued.framed.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&queue), [1, 3, 4]);
        queue.push(queued(96, true), 3, 100);
        assert_eq!((lengths(&queue), queue.bytes), (vec![1, 96], 97));
        queue.push(queued(99, false), 3, 100);
        assert_eq!((lengths(&queue), queue.bytes), (vec![1, 99], 100));
        queue.push(queued(1, true), 3, 100);
        assert_eq!((lengths(&queue), queue.bytes), (vec![1, 99], 100), "no room without dropping what was forwarded");
        assert_eq!(queue.take().len(), 2);
        queue.push(queued(1_000, true), 3, 100);
        assert_eq!(queue.bytes, 1_000, "one message always fits");
    }

    #[test]
    fn joined_writes_keep_every_byte_in_order() {
        let lengths = [10, JOINED_BYTES_MAX, 20, 30, JOINED_BYTES_MAX - 10, 5, 1];
        let frames: VecDeque<Queued> = lengths
            .iter()
            .zip(1..)
            .map(|(&length, byte)| Queued { framed: Bytes::from(vec![byte; length]), is_raft: true })
            .collect();
        let expected: Vec<u8> = frames.iter().flat_map(|queued| queued.framed.to_vec()).collect();
        let mut written = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(write_joined(&mut written, frames)).expect("write");
        assert_eq!(written, expected);
    }
}
