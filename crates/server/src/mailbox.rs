//! The node thread's letter box: everything that waits for its next turn.
//!
//! Posting is one short lock, and wakes the thread only when it sleeps; a turn takes everything at once. Bounds: local
//! commands and reads are bounded by the waiting table (`backend`); what peers say by [`PEER_BYTES_MAX`], beyond which
//! their connections are not read; everything else are answers to the node's own effects.

use parking_lot::Mutex;
use quorate_node::api::Input;
use quorate_proto::quoratepb::{Command, PeerMessage};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes of messages from peers that wait for the node, at the most.
pub(crate) const PEER_BYTES_MAX: usize = 64 << 20;

/// Room that a turn's vectors keep for the next one, elements.
const KEPT_CAPACITY_MAX: usize = 4096;

/// What one turn of the node works on.
#[derive(Default)]
pub(crate) struct Turn {
    /// In the order of arrival.
    pub(crate) inputs: Vec<Input>,
    /// Callers' commands, in the order of arrival.
    pub(crate) commands: Vec<Command>,
    /// Whether the thread is to end.
    pub(crate) is_stopped: bool,
}

impl Turn {
    /// Makes it fit for the next turn.
    pub(crate) fn clear(&mut self) {
        self.inputs.clear();
        self.commands.clear();
        self.inputs.shrink_to(KEPT_CAPACITY_MAX);
        self.commands.shrink_to(KEPT_CAPACITY_MAX);
    }
}

#[derive(Default)]
struct State {
    inputs: Vec<Input>,
    commands: Vec<Command>,
    peer_bytes: usize,
    is_asleep: bool,
    is_stopped: bool,
    awaits_applied: bool,
}

/// Shared by everybody who has something for the node.
#[derive(Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    wake: Notify,
}

impl Mailbox {
    /// Something happened.
    pub(crate) fn post(&self, input: Input) {
        self.with(|state| state.inputs.push(input));
    }

    /// What the store has applied: wakes the node only when something waits for it ([`Self::set_awaits_applied`]); else it
    /// is taken with whatever comes next.
    pub(crate) fn post_quietly(&self, input: Input) {
        let mut state = self.state.lock();
        state.inputs.push(input);
        let wake = state.awaits_applied && std::mem::take(&mut state.is_asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Whether reads wait for the store to apply more, or commands for it to catch up. Told by the node's thread before
    /// it sleeps; it never sleeps while anything is in the box, so nothing that came meanwhile is missed.
    pub(crate) fn set_awaits_applied(&self, awaits: bool) {
        self.state.lock().awaits_applied = awaits;
    }

    /// A caller wants these replicated.
    pub(crate) fn propose(&self, commands: impl IntoIterator<Item = Command>) {
        self.with(|state| state.commands.extend(commands));
    }

    /// Whether a peer's message of `bytes` may be posted; if not, ask again later, and let the connection slow the sender
    /// down. A message of any length may be when nothing waits.
    pub(crate) fn has_room_for_peer(&self, bytes: usize) -> bool {
        let state = self.state.lock();
        state.peer_bytes == 0 || state.peer_bytes + bytes <= PEER_BYTES_MAX
    }

    /// A peer's message of `bytes`, for which there is room.
    pub(crate) fn post_peer(&self, from: u64, message: PeerMessage, bytes: usize) {
        self.with(|state| {
            state.peer_bytes += bytes;
            state.inputs.push(Input::Peer { from, message });
        });
    }

    /// Ends the node thread after what was posted before.
    pub(crate) fn stop(&self) {
        self.with(|state| state.is_stopped = true);
    }

    /// Waits until something is there or `deadline`, and takes all of it. `turn` must be clear. One taker at a time.
    pub(crate) async fn take(&self, deadline: Instant, turn: &mut Turn) {
        debug_assert!(turn.inputs.is_empty() && turn.commands.is_empty());
        if self.take_now(turn, true) {
            return;
        }
        let timeout = tokio::time::sleep_until(deadline);
        tokio::pin!(timeout);
        loop {
            tokio::select! {
                biased;
                () = self.wake.notified() => {
                    if self.take_now(turn, true) {
                        return;
                    }
                }
                () = timeout.as_mut() => {
                    self.take_now(turn, false);
                    return;
                }
            }
        }
    }

    /// Takes what is there; answers whether that was anything. If not, whoever posts next wakes the taker that
    /// `falls_asleep`.
    fn take_now(&self, turn: &mut Turn, falls_asleep: bool) -> bool {
        let mut state = self.state.lock();
        let found = !state.inputs.is_empty() || !state.commands.is_empty() || state.is_stopped;
        std::mem::swap(&mut state.inputs, &mut turn.inputs);
        std::mem::swap(&mut state.commands, &mut turn.commands);
        state.peer_bytes = 0;
        turn.is_stopped = state.is_stopped;
        state.is_asleep = falls_asleep && !found;
        found
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let wake = std::mem::take(&mut state.is_asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn run<T>(task: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime").block_on(task)
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let mailbox = Mailbox::default();
        let mut turn = Turn::default();
        run(mailbox.take(Instant::now() + Duration::from_millis(2), &mut turn));
        assert!(turn.inputs.is_empty() && !turn.is_stopped && !mailbox.state.lock().is_asleep);
    }

    fn command(id: u64) -> Command {
        Command { id, operation: None, caller: None }
    }

    #[test]
    fn a_turn_takes_everything_in_order() {
        let mailbox = Mailbox::default();
        mailbox.propose([command(1)]);
        mailbox.post(Input::Read { ticket: 7 });
        mailbox.propose([command(2), command(3)]);
        mailbox.post(Input::Tick);
        let mut turn = Turn::default();
        assert!(mailbox.take_now(&mut turn, false));
        assert_eq!(turn.commands.iter().map(|command| command.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(matches!(turn.inputs[..], [Input::Read { ticket: 7 }, Input::Tick]));
        turn.clear();
        assert!(!mailbox.take_now(&mut turn, false));
        assert!(turn.inputs.is_empty() && turn.commands.is_empty() && !turn.is_stopped);
    }

    #[test]
    fn a_sleeping_reader_is_woken() {
        let mailbox = Arc::new(Mailbox::default());
        let reader = std::thread::spawn({
            let mailbox = mailbox.clone();
            move || {
                let mut turn = Turn::default();
                let begin = Instant::now();
                run(mailbox.take(begin + Duration::from_secs(60), &mut turn));
                (turn.commands.len(), begin.elapsed())
            }
        });
        mailbox.propose([command(1)]);
        let (taken, waited) = reader.join().expect("reader");
        assert_eq!(taken, 1);
        assert!(waited < Duration::from_secs(30), "{waited:?}");
    }

    #[test]
    fn peers_are_slowed_down_beyond_the_bound() {
        let mailbox = Mailbox::default();
        assert!(mailbox.has_room_for_peer(PEER_BYTES_MAX + 1), "one message always fits");
        mailbox.post_peer(2, PeerMessage::default(), PEER_BYTES_MAX);
        assert!(!mailbox.has_room_for_peer(1));
        let mut turn = Turn::default();
        mailbox.take_now(&mut turn, false);
        assert_eq!(turn.inputs.len(), 1);
        assert!(mailbox.has_room_for_peer(1));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let mailbox = Mailbox::default();
        mailbox.stop();
        let mut turn = Turn::default();
        run(mailbox.take(Instant::now() + Duration::from_secs(60), &mut turn));
        assert!(turn.is_stopped);
    }
}
