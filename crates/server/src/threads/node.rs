//! The node thread: gives consensus its turns, and carries out what it decides.
//!
//! The invariant: the node never waits for anything but its mailbox and the next tick; its effects are handed on in
//! order. The connections to other members live on the same thread: what a peer says is there without a wake-up, and a
//! turn's messages leave at its end.

use crate::backend::{CallError, Clock, StatusBoard};
use crate::config::duration;
use crate::mailbox::{Mailbox, Turn};
use crate::metrics::Metrics;
use crate::peer::Transport;
use crate::threads::apply::ApplyTask;
use crate::threads::disk::DiskTask;
use crate::threads::queue::Sender;
use crate::threads::snapshots::SnapshotRoom;
use crate::waiting::Waiting;
use quorate_node::Node;
use quorate_node::api::{Effect, Input, NodeStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Ticks that a turn gives at the most: a process that was stopped for long must not conclude from its own absence that
/// everybody else is gone.
const TICKS_MAX: u32 = 3;

/// The thread's state.
pub(crate) struct NodeThread {
    pub(crate) node: Node,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) clock: Clock,
    pub(crate) status: StatusBoard,
    pub(crate) disk: Sender<DiskTask>,
    pub(crate) apply: Sender<ApplyTask>,
    pub(crate) peers: Transport,
    pub(crate) snapshots: Arc<SnapshotRoom>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tick: Duration,
}

impl NodeThread {
    /// Runs until the mailbox is stopped; then the disk and apply threads are told to stop behind their tasks.
    pub(crate) async fn run(mut self) {
        let mut turn = Turn::default();
        let mut awaits_applied = false;
        let mut next_tick = Instant::now() + self.tick;
        loop {
            self.mailbox.take(next_tick.into(), &mut turn).await;
            let now_ms = self.clock.now_ms();
            let now = Instant::now();
            let mut ticks = 0;
            while next_tick <= now && ticks < TICKS_MAX {
                self.node.handle(now_ms, Input::Tick);
                next_tick += self.tick;
                ticks += 1;
            }
            if ticks > 1 {
                let status = self.node.status();
                if status.leader == status.id && !status.sole_voter {
                    self.metrics.heartbeat_send_failures.increment();
                    tracing::warn!(
                        "heartbeat-interval" = duration::text(self.tick),
                        "expected-duration" = duration::text(2 * self.tick),
                        "exceeded-duration" = duration::text((ticks - 1) * self.tick),
                        "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from \
                         slow disk"
                    );
                }
            }
            if next_tick <= now {
                next_tick = now + self.tick;
            }
            let mut arrived = false;
            for input in turn.inputs.drain(..) {
                match input {
                    Input::Read { ticket } => self.waiting.close_read_group(ticket),
                    Input::SnapshotArrived { .. } => arrived = true,
                    _ => {}
                }
                self.node.handle(now_ms, input);
            }
            if !turn.commands.is_empty() {
                self.waiting.followed().taken(turn.commands.iter().map(|command| command.id));
                self.node.handle(now_ms, Input::Propose(std::mem::take(&mut turn.commands)));
            }
            let effects = self.node.effects(now_ms);
            if self.node.awaits_applied() != awaits_applied {
                awaits_applied = !awaits_applied;
                self.mailbox.set_awaits_applied(awaits_applied);
            }
            // What raft takes is installed in the turn in which it arrived, or never.
            if arrived && !effects.iter().any(|effect| matches!(effect, Effect::InstallSnapshot(_))) {
                self.snapshots.discard_arrived();
            }
            let mut sent = false;
            for effect in effects {
                sent |= matches!(effect, Effect::Send { .. });
                self.carry_out(effect);
            }
            if sent {
                self.peers.flush();
            }
            self.status.publish_log(&self.node.status());
            if turn.is_stopped {
                break;
            }
            turn.clear();
        }
        // Either thread may have ended the process already; then nobody is left to tell.
        let _ = self.disk.send(DiskTask::Stop);
        let _ = self.apply.send(ApplyTask::Stop);
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self.to_disk(DiskTask::Persist(persist)),
            Effect::TruncateLog { up_to } => self.to_disk(DiskTask::Truncate { up_to }),
            Effect::Send { to, message } => self.peers.send(to, &message),
            Effect::SendSnapshot { to, message } => self.peers.send_snapshot(to, message),
            Effect::Apply(entries) => self.to_apply(ApplyTask::Entries(entries)),
            Effect::BuildSnapshot => self.to_apply(ApplyTask::BuildSnapshot),
            Effect::InstallSnapshot(point) => self.to_apply(ApplyTask::Install(point)),
            Effect::ReadReady { tickets } => self.waiting.answer_reads(&tickets, Ok(())),
            Effect::ReadFailed { tickets, reason } => {
                self.waiting.answer_reads(&tickets, Err(CallError::Refused(reason)));
            }
            Effect::LeaseRemaining { ticket, remaining_ms } => self.waiting.answer_lease(ticket, remaining_ms),
            Effect::Refused { ids, reason } => {
                self.waiting.answer_commands(ids.into_iter().map(|id| (id, Err(CallError::Refused(reason)))));
            }
            Effect::Status(status) => {
                tell_leader(&self.status.read(), &status);
                self.status.publish(status);
            }
        }
    }

    fn to_disk(&self, task: DiskTask) {
        self.disk.send(task).expect("the disk thread outlives the node thread");
    }

    fn to_apply(&self, task: ApplyTask) {
        self.apply.send(task).expect("the apply thread outlives the node thread");
    }
}

/// Logs who leads, in the words of etcd's raft, which operators look for.
fn tell_leader(before: &NodeStatus, status: &NodeStatus) {
    let NodeStatus { id, term, leader, .. } = *status;
    if before.leader == leader {
        return;
    }
    if leader == id {
        tracing::info!(logger = "raft", "{id:x} became leader at term {term}");
    } else if before.leader == id {
        tracing::info!(logger = "raft", "{id:x} became follower at term {term}");
    }
    match (before.leader, leader) {
        (0, leader) => tracing::info!(logger = "raft", "raft.node: {id:x} elected leader {leader:x} at term {term}"),
        (lost, 0) => tracing::info!(logger = "raft", "raft.node: {id:x} lost leader {lost:x} at term {term}"),
        (lost, leader) => tracing::info!(
            logger = "raft",
            "raft.node: {id:x} changed leader from {lost:x} to {leader:x} at term {term}"
        ),
    }
}
