//! Callers that wait: for a command's outcome, for a read's turn, for a lease's remaining time.
//!
//! Owns the ids of local commands. The invariant: every entry leaves the table by its answer, a refusal, its deadline or
//! the end of the process, and each table has a bound, beyond which callers are refused at once.
//!
//! Answers are handed over by [`Waiting::run_delivery`] on the callers' own thread, many at a time. A caller that another
//! thread woke would cost that thread a system call, and would run, and its connection write, before the next one is
//! looked at: one write for each answer instead of one for all answers of a connection.

use crate::backend::CallError;
use crate::spans::FollowedCommands;
use parking_lot::Mutex;
use quorate_node::api::Refusal;
use quorate_store::outcome::Reply;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, oneshot};

/// Commands that wait at one member at the most.
pub(crate) const COMMANDS_MAX: usize = 32_768;
/// Bytes of commands that wait at one member at the most.
pub(crate) const COMMAND_BYTES_MAX: usize = 512 << 20;
/// Reads, and questions about leases, that wait at one member at the most.
pub(crate) const READS_MAX: usize = 65_536;

/// Room that the list of deliveries keeps, elements.
const KEPT_CAPACITY_MAX: usize = 4096;

/// Ids count up: spreading them is all that a hash has to do.
#[derive(Default)]
pub(crate) struct CountingHasher(u64);

impl Hasher for CountingHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Map<V> = HashMap<u64, V, BuildHasherDefault<CountingHasher>>;
type CommandAnswer = Result<Reply, CallError>;
type ReadAnswer = Result<(), CallError>;

struct Waiter {
    answer: oneshot::Sender<CommandAnswer>,
    bytes: usize,
    deadline_ms: u64,
}

#[derive(Default)]
struct Commands {
    waiters: Map<Waiter>,
    bytes: usize,
    is_stopped: bool,
}

struct ReadGroup {
    answers: Vec<oneshot::Sender<ReadAnswer>>,
    deadline_ms: u64,
}

#[derive(Default)]
struct Reads {
    /// The group that the node has not taken yet: reads that arrive may still join it.
    open: Option<u64>,
    groups: Map<ReadGroup>,
    leases: Map<(oneshot::Sender<Option<u64>>, u64)>,
    waiting: usize,
    next_ticket: u64,
}

/// An answer on its way to its caller.
enum Delivery {
    Command(oneshot::Sender<CommandAnswer>, CommandAnswer),
    Read(oneshot::Sender<ReadAnswer>, ReadAnswer),
}

/// The tables.
pub(crate) struct Waiting {
    first_id: u64,
    next_id: AtomicU64,
    commands: Mutex<Commands>,
    reads: Mutex<Reads>,
    /// What has left the tables; no more than was in them.
    deliveries: Mutex<Vec<Delivery>>,
    delivery_wake: Notify,
    /// Those of sampled calls.
    followed: Arc<FollowedCommands>,
}

impl Waiting {
    /// Ids count up from `first_id`, which should be random, so that two lives of a member do not meet.
    pub(crate) fn new(first_id: u64) -> Self {
        // Room to count: ids never reach 0, which means that nobody waits.
        let first_id = (first_id & (u64::MAX >> 1)).max(1);
        Self {
            first_id,
            next_id: AtomicU64::new(first_id),
            commands: Mutex::default(),
            reads: Mutex::new(Reads { next_ticket: 1, ..Reads::default() }),
            deliveries: Mutex::default(),
            delivery_wake: Notify::new(),
            followed: Arc::default(),
        }
    }

    /// Commands of which the stages are told.
    pub(crate) fn followed(&self) -> &Arc<FollowedCommands> {
        &self.followed
    }

    /// Enters a command of `bytes`: its id, and where its outcome will come.
    pub(crate) fn enter_command(
        &self,
        bytes: usize,
        deadline_ms: u64,
    ) -> Result<(u64, oneshot::Receiver<CommandAnswer>), CallError> {
        let (answer, receiver) = oneshot::channel();
        let mut commands = self.commands.lock();
        if commands.is_stopped {
            return Err(CallError::Refused(Refusal::Stopped));
        }
        if commands.waiters.len() >= COMMANDS_MAX || commands.bytes + bytes > COMMAND_BYTES_MAX {
            return Err(CallError::Refused(Refusal::TooManyRequests));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        commands.bytes += bytes;
        commands.waiters.insert(id, Waiter { answer, bytes, deadline_ms });
        Ok((id, receiver))
    }

    /// Whether a command of this id may wait here (it came from this life of this member).
    pub(crate) fn is_local(&self, id: u64) -> bool {
        id >= self.first_id && id < self.next_id.load(Ordering::Relaxed)
    }

    /// Commands that wait for their outcome.
    pub(crate) fn commands(&self) -> usize {
        self.commands.lock().waiters.len()
    }

    /// Answers commands, with one lock for all of them.
    pub(crate) fn answer_commands(&self, answers: impl IntoIterator<Item = (u64, CommandAnswer)>) {
        let mut ready = Vec::new();
        {
            let mut commands = self.commands.lock();
            for (id, answer) in answers {
                if let Some(waiter) = commands.waiters.remove(&id) {
                    commands.bytes -= waiter.bytes;
                    ready.push(Delivery::Command(waiter.answer, answer));
                }
            }
        }
        self.hand_over(ready);
    }

    fn hand_over(&self, ready: impl IntoIterator<Item = Delivery>) {
        let was_empty = {
            let mut deliveries = self.deliveries.lock();
            let was_empty = deliveries.is_empty();
            deliveries.extend(ready);
            was_empty && !deliveries.is_empty()
        };
        if was_empty {
            self.delivery_wake.notify_one();
        }
    }

    /// Runs for ever on the callers' thread: tells them what was answered.
    pub(crate) async fn run_delivery(&self) {
        let mut ready = Vec::new();
        loop {
            self.delivery_wake.notified().await;
            self.deliver(&mut ready);
        }
    }

    fn deliver(&self, ready: &mut Vec<Delivery>) {
        std::mem::swap(&mut *self.deliveries.lock(), ready);
        for delivery in ready.drain(..) {
            // The caller may have gone.
            match delivery {
                Delivery::Command(sender, answer) => drop(sender.send(answer)),
                Delivery::Read(sender, answer) => drop(sender.send(answer)),
            }
        }
        ready.shrink_to(KEPT_CAPACITY_MAX);
    }

    /// Enters a read: where its turn will be told, and the ticket to ask the node for, unless an earlier caller of the
    /// same group does so.
    pub(crate) fn enter_read(
        &self,
        deadline_ms: u64,
    ) -> Result<(Option<u64>, oneshot::Receiver<ReadAnswer>), CallError> {
        let (answer, receiver) = oneshot::channel();
        let mut reads = self.reads.lock();
        if reads.waiting >= READS_MAX {
            return Err(CallError::Refused(Refusal::TooManyRequests));
        }
        reads.waiting += 1;
        if let Some(ticket) = reads.open {
            reads.groups.get_mut(&ticket).expect("an open group is in the table").answers.push(answer);
            return Ok((None, receiver));
        }
        let ticket = reads.next_ticket;
        reads.next_ticket += 1;
        reads.open = Some(ticket);
        reads.groups.insert(ticket, ReadGroup { answers: vec![answer], deadline_ms });
        Ok((Some(ticket), receiver))
    }

    /// The node takes this ticket: a read that arrives from here on must not share it.
    pub(crate) fn close_read_group(&self, ticket: u64) {
        let mut reads = self.reads.lock();
        if reads.open == Some(ticket) {
            reads.open = None;
        }
    }

    /// Answers the reads of these tickets.
    pub(crate) fn answer_reads(&self, tickets: &[u64], answer: ReadAnswer) {
        let mut ready = Vec::new();
        {
            let mut reads = self.reads.lock();
            for ticket in tickets {
                reads.take_group(*ticket, &mut ready);
            }
        }
        self.hand_over(ready.into_iter().map(|sender| Delivery::Read(sender, answer.clone())));
    }

    /// Enters a question about a lease: its ticket, and where the answer will come.
    pub(crate) fn enter_lease(&self, deadline_ms: u64) -> Result<(u64, oneshot::Receiver<Option<u64>>), CallError> {
        let (answer, receiver) = oneshot::channel();
        let mut reads = self.reads.lock();
        if reads.waiting >= READS_MAX {
            return Err(CallError::Refused(Refusal::TooManyRequests));
        }
        reads.waiting += 1;
        let ticket = reads.next_ticket;
        reads.next_ticket += 1;
        reads.leases.insert(ticket, (answer, deadline_ms));
        Ok((ticket, receiver))
    }

    /// Answers a question about a lease.
    pub(crate) fn answer_lease(&self, ticket: u64, remaining_ms: Option<u64>) {
        let found = {
            let mut reads = self.reads.lock();
            let found = reads.leases.remove(&ticket);
            reads.waiting -= usize::from(found.is_some());
            found
        };
        if let Some((sender, _)) = found {
            let _ = sender.send(remaining_ms);
        }
    }

    /// Takes out whoever waited beyond its deadline; each is told that time is up.
    pub(crate) fn expire(&self, now_ms: u64) {
        let mut late = Vec::new();
        {
            let mut commands = self.commands.lock();
            let Commands { waiters, bytes, .. } = &mut *commands;
            late.extend(waiters.extract_if(|_, waiter| waiter.deadline_ms <= now_ms).map(|(_, waiter)| {
                *bytes -= waiter.bytes;
                waiter.answer
            }));
        }
        for sender in late {
            let _ = sender.send(Err(CallError::TimedOut));
        }
        let mut late = Vec::new();
        {
            let mut reads = self.reads.lock();
            let tickets: Vec<u64> = reads
                .groups
                .iter()
                .filter(|(_, group)| group.deadline_ms <= now_ms)
                .map(|(ticket, _)| *ticket)
                .collect();
            for ticket in tickets {
                reads.take_group(ticket, &mut late);
            }
            let before = reads.leases.len();
            // A dropped sender tells its caller that time is up.
            reads.leases.retain(|_, (_, deadline_ms)| *deadline_ms > now_ms);
            let gone = before - reads.leases.len();
            reads.waiting -= gone;
        }
        for sender in late {
            let _ = sender.send(Err(CallError::TimedOut));
        }
    }

    /// Refuses everybody who waits and everybody who comes.
    pub(crate) fn stop(&self) {
        let waiters = {
            let mut commands = self.commands.lock();
            commands.is_stopped = true;
            commands.bytes = 0;
            std::mem::take(&mut commands.waiters)
        };
        for waiter in waiters.into_values() {
            // Its command may be in the log already: nobody can say what becomes of it.
            let _ = waiter.answer.send(Err(CallError::TimedOut));
        }
        let tickets: Vec<u64> = self.reads.lock().groups.keys().copied().collect();
        self.answer_reads(&tickets, Err(CallError::Refused(Refusal::Stopped)));
        let mut reads = self.reads.lock();
        let gone = reads.leases.len();
        reads.leases.clear();
        reads.waiting -= gone;
    }
}

impl Reads {
    fn take_group(&mut self, ticket: u64, into: &mut Vec<oneshot::Sender<ReadAnswer>>) {
        if self.open == Some(ticket) {
            self.open = None;
        }
        if let Some(group) = self.groups.remove(&ticket) {
            self.waiting -= group.answers.len();
            into.extend(group.answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_store::outcome::ReplyBody;

    fn reply(revision: i64) -> CommandAnswer {
        Ok(Reply { revision, body: ReplyBody::Done })
    }

    #[test]
    fn each_command_gets_its_own_answer() {
        let waiting = Waiting::new(u64::MAX);
        let (first, mut first_answer) = waiting.enter_command(10, 5).expect("room");
        let (second, mut second_answer) = waiting.enter_command(10, 5).expect("room");
        assert!(first != 0 && second == first + 1);
        assert!(waiting.is_local(first) && waiting.is_local(second) && !waiting.is_local(second + 1));
        assert!(!waiting.is_local(0));
        waiting.answer_commands([(second, reply(2)), (77, reply(9)), (first, reply(1))]);
        assert!(first_answer.try_recv().is_err(), "told on the callers' thread only");
        waiting.deliver(&mut Vec::new());
        assert_eq!(first_answer.try_recv().expect("answered").expect("reply").revision, 1);
        assert_eq!(second_answer.try_recv().expect("answered").expect("reply").revision, 2);
        assert_eq!(waiting.commands.lock().bytes, 0);
    }

    #[test]
    fn what_is_late_leaves_the_table() {
        let waiting = Waiting::new(1);
        let (_, mut late) = waiting.enter_command(10, 5).expect("room");
        let (id, mut early) = waiting.enter_command(10, 6).expect("room");
        let (_, mut late_read) = waiting.enter_read(5).expect("room");
        let (_, mut late_lease) = waiting.enter_lease(5).expect("room");
        waiting.expire(5);
        assert_eq!(late.try_recv().expect("told").expect_err("late"), CallError::TimedOut);
        assert_eq!(late_read.try_recv().expect("told"), Err(CallError::TimedOut));
        assert_eq!(late_lease.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(early.try_recv().err(), Some(oneshot::error::TryRecvError::Empty));
        assert_eq!(waiting.commands.lock().bytes, 10);
        assert_eq!(waiting.reads.lock().waiting, 0);
        waiting.answer_commands([(id, reply(1))]);
        waiting.deliver(&mut Vec::new());
        assert!(early.try_recv().expect("answered").is_ok());
    }

    #[test]
    fn reads_share_a_ticket_until_the_node_takes_it() {
        let waiting = Waiting::new(1);
        let (ticket, mut first) = waiting.enter_read(5).expect("room");
        let ticket = ticket.expect("the first asks");
        let (none, mut second) = waiting.enter_read(5).expect("room");
        assert_eq!(none, None);
        waiting.close_read_group(ticket);
        let (next, mut third) = waiting.enter_read(5).expect("room");
        assert!(next.is_some_and(|next| next != ticket), "a read after the round began needs its own");
        waiting.answer_reads(&[ticket], Ok(()));
        waiting.deliver(&mut Vec::new());
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(Ok(())), Ok(Ok(()))));
        assert_eq!(third.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(waiting.reads.lock().waiting, 1);
    }

    #[test]
    fn a_sleeping_caller_is_woken_by_the_delivery() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let waiting = std::sync::Arc::new(Waiting::new(1));
            let (id, answer) = waiting.enter_command(1, 9).expect("room");
            let (ticket, read) = waiting.enter_read(9).expect("room");
            let delivering = tokio::spawn({
                let waiting = waiting.clone();
                async move { waiting.run_delivery().await }
            });
            std::thread::spawn(move || {
                waiting.answer_commands([(id, reply(7))]);
                waiting.answer_reads(&[ticket.expect("the first asks")], Ok(()));
            });
            assert_eq!(answer.await.expect("answered").expect("reply").revision, 7);
            assert_eq!(read.await, Ok(Ok(())));
            delivering.abort();
        });
    }

    #[test]
    fn full_means_refuse() {
        let waiting = Waiting::new(1);
        assert!(waiting.enter_command(COMMAND_BYTES_MAX, 5).is_ok());
        let refused = Err(CallError::Refused(Refusal::TooManyRequests));
        assert_eq!(waiting.enter_command(1, 5).map(|_| ()), refused);
        waiting.expire(5);
        let kept: Vec<_> = (0..COMMANDS_MAX).map(|_| waiting.enter_command(1, 9).expect("room")).collect();
        assert_eq!(waiting.enter_command(1, 9).map(|_| ()), refused);
        assert_eq!(kept.len(), COMMANDS_MAX);
    }

    #[test]
    fn a_stop_refuses_everybody() {
        let waiting = Waiting::new(1);
        let (_, mut command) = waiting.enter_command(1, 5).expect("room");
        let (_, mut read) = waiting.enter_read(5).expect("room");
        waiting.stop();
        waiting.deliver(&mut Vec::new());
        assert_eq!(command.try_recv().expect("told").expect_err("stopped"), CallError::TimedOut);
        assert_eq!(read.try_recv().expect("told"), Err(CallError::Refused(Refusal::Stopped)));
        assert!(waiting.enter_command(1, 5).is_err());
    }
}
