//! A bounded queue between threads whose reader sleeps at once when there is nothing to do.
//!
//! Channels of the usual kind spin and yield before they sleep. With a member's threads passing each batch on within
//! tens of microseconds on few cores, that spinning was a measurable part of a put's CPU. Invariant: a reader that sleeps
//! is woken by the first item, and by the end of the last sender.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct State<T> {
    items: VecDeque<T>,
    senders: usize,
    has_receiver: bool,
    is_reader_asleep: bool,
    writers_asleep: usize,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    not_empty: Condvar,
    not_full: Condvar,
    items_max: usize,
}

/// Puts items in.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Takes items out. One owner.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

/// The receiver is gone, or (for `try_send`) the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendError;

/// Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeError {
    /// There is nothing, or was nothing in time.
    Empty,
    /// There is nothing, and no sender is left.
    Ended,
}

/// A queue of at most `items_max` items.
pub(crate) fn bounded<T>(items_max: usize) -> (Sender<T>, Receiver<T>) {
    let state =
        State { items: VecDeque::new(), senders: 1, has_receiver: true, is_reader_asleep: false, writers_asleep: 0 };
    let shared =
        Arc::new(Shared { state: Mutex::new(state), not_empty: Condvar::new(), not_full: Condvar::new(), items_max });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Waits while the queue is full.
    pub(crate) fn send(&self, item: T) -> Result<(), SendError> {
        let mut state = self.0.state.lock();
        while state.has_receiver && state.items.len() >= self.0.items_max {
            state.writers_asleep += 1;
            self.0.not_full.wait(&mut state);
            state.writers_asleep -= 1;
        }
        self.put(state, item)
    }

    /// Fails when the queue is full.
    pub(crate) fn try_send(&self, item: T) -> Result<(), SendError> {
        let state = self.0.state.lock();
        if state.items.len() >= self.0.items_max {
            return Err(SendError);
        }
        self.put(state, item)
    }

    fn put(&self, mut state: parking_lot::MutexGuard<'_, State<T>>, item: T) -> Result<(), SendError> {
        if !state.has_receiver {
            return Err(SendError);
        }
        state.items.push_back(item);
        let wake = std::mem::take(&mut state.is_reader_asleep);
        drop(state);
        if wake {
            self.0.not_empty.notify_one();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.senders -= 1;
        if state.senders == 0 {
            drop(state);
            self.0.not_empty.notify_one();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.has_receiver = false;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.0.not_full.notify_all();
        drop(left);
    }
}

impl<T> Receiver<T> {
    /// Waits for an item.
    pub(crate) fn recv(&self) -> Result<T, TakeError> {
        self.take(None)
    }

    /// Waits for an item, but no longer than this.
    pub(crate) fn recv_timeout(&self, timeout: Duration) -> Result<T, TakeError> {
        self.take(Some(Instant::now() + timeout))
    }

    /// Takes an item that is there.
    pub(crate) fn try_recv(&self) -> Result<T, TakeError> {
        let mut state = self.0.state.lock();
        self.pop(&mut state)
    }

    /// The items that are there.
    pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    fn take(&self, deadline: Option<Instant>) -> Result<T, TakeError> {
        let mut state = self.0.state.lock();
        loop {
            match self.pop(&mut state) {
                Err(TakeError::Empty) => {}
                outcome => return outcome,
            }
            state.is_reader_asleep = true;
            let timed_out = match deadline {
                Some(deadline) => self.0.not_empty.wait_until(&mut state, deadline).timed_out(),
                None => {
                    self.0.not_empty.wait(&mut state);
                    false
                }
            };
            state.is_reader_asleep = false;
            if timed_out {
                return self.pop(&mut state);
            }
        }
    }

    fn pop(&self, state: &mut State<T>) -> Result<T, TakeError> {
        match state.items.pop_front() {
            Some(item) => {
                if state.writers_asleep > 0 {
                    self.0.not_full.notify_one();
                }
                Ok(item)
            }
            None if state.senders == 0 => Err(TakeError::Ended),
            None => Err(TakeError::Empty),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_and_the_end_is_told() {
        let (sender, receiver) = bounded(4);
        for item in 0..4 {
            sender.send(item).expect("room");
        }
        assert!(sender.try_send(4).is_err(), "full");
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(receiver.try_recv(), Err(TakeError::Empty));
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(TakeError::Empty));
        let other = sender.clone();
        drop(sender);
        other.send(5).expect("a sender is left");
        drop(other);
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(5), Err(TakeError::Ended)));
    }

    #[test]
    fn a_sender_without_a_receiver_is_told() {
        let (sender, receiver) = bounded(1);
        drop(receiver);
        assert!(sender.send(1).is_err() && sender.try_send(1).is_err());
    }

    #[test]
    fn nothing_is_lost_between_threads_however_small_the_queue() {
        const ITEMS: u64 = 20_000;
        let (sender, receiver) = bounded(2);
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let sender = sender.clone();
                std::thread::spawn(move || (0..ITEMS).try_for_each(|item| sender.send((writer, item))).is_ok())
            })
            .collect();
        drop(sender);
        let mut next = [0; 3];
        while let Ok((writer, item)) = receiver.recv() {
            assert_eq!(item, next[writer]);
            next[writer] += 1;
        }
        assert_eq!(next, [ITEMS; 3]);
        assert!(writers.into_iter().all(|writer| writer.join().expect("writer")));
    }
}
