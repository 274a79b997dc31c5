//! Commands on their way into the log: those that wait, and those that were forwarded to the leader.
//!
//! Owns both queues, what counts as too much, and the encoding of a batch. Decides nothing about raft. Invariants: a
//! command is in one queue at most; a command that may stand in the log never comes back into `waiting`.

use crate::api::{NodeConfig, Refusal};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, Forward, ForwardRefused, ForwardRejected};
use std::collections::{BTreeMap, VecDeque};

/// Committed commands that the store has not applied; beyond, new commands are refused.
pub(crate) const BACKLOG_COMMANDS_MAX: usize = 5_000;
/// The same in bytes.
pub(crate) const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// What a command costs in a batch beside its own encoding, bytes: the field's tag and length.
const COMMAND_OVERHEAD_BYTES: usize = 6;
/// Forwarded commands that are kept in case the receiver rejects them, bytes; beyond, the oldest are forgotten (their
/// callers then time out if the receiver rejected them).
const FORWARDED_BYTES_MAX: usize = 64 << 20;

/// Changes of members that wait for their turn, at the most.
const CHANGES_MAX: usize = 64;

/// Where a command came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A caller at this member, or this member's own clock.
    Here,
    /// Another member's `Forward`.
    Forwarded { from: u64, incarnation: u64, sequence: u64 },
}

struct Waiting {
    command: Command,
    bytes: usize,
    since_ms: u64,
    origin: Origin,
}

struct Forwarded {
    command: Command,
    bytes: usize,
    since_ms: u64,
    sent_ms: u64,
    to: u64,
    sequence: u64,
}

/// The queues.
#[derive(Default)]
pub(crate) struct Proposals {
    waiting: VecDeque<Waiting>,
    /// Changes of members: each needs an entry of its own, and waits until the one before is applied.
    changes: VecDeque<Waiting>,
    /// Commands from here that were forwarded, by id.
    forwarded: BTreeMap<u64, Forwarded>,
    /// When they were sent, oldest first; may name commands that are gone.
    forwarded_order: VecDeque<(u64, u64)>,
    forwarded_bytes: usize,
    sequence: u64,
    /// The receiver rejected, though it still seems to lead: wait for the next tick.
    forward_held: bool,
    /// The newest (incarnation, sequence) seen of each member.
    seen: BTreeMap<u64, (u64, u64)>,
    /// Entries handed to the store and not applied: index, commands, bytes.
    backlog: VecDeque<(u64, usize, usize)>,
    backlog_commands: usize,
    backlog_bytes: usize,
}

/// What became of a member's `Forward`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ForwardVerdict {
    /// Its commands wait here.
    Taken,
    /// A copy, or one that came too late: what became of it is unknown.
    Dropped,
    /// Certainly not proposed.
    Rejected,
}

fn may_exceed_backlog(command: &Command) -> bool {
    matches!(command.operation, Some(Operation::LeaseRenew(_) | Operation::LeaseRevoke(_) | Operation::LeaseExpire(_)))
}

/// What a leader proposes of its own accord: void without its leadership, and nobody waits for it.
fn is_own(command: &Command) -> bool {
    command.id == 0
        && matches!(
            command.operation,
            Some(Operation::LeaseExpire(_) | Operation::MemberChange(_) | Operation::DigestCheck(_))
        )
}

fn is_change(command: &Command) -> bool {
    matches!(command.operation, Some(Operation::MemberChange(_)))
}

impl Proposals {
    /// Queues callers' commands; returns the ids of those that are too many.
    pub(crate) fn add(&mut self, now_ms: u64, config: &NodeConfig, commands: Vec<Command>) -> Vec<u64> {
        let mut refused = Vec::new();
        let backlog_full = self.backlog_commands > BACKLOG_COMMANDS_MAX || self.backlog_bytes > BACKLOG_BYTES_MAX;
        for command in commands {
            let is_full = if is_change(&command) {
                self.changes.len() >= CHANGES_MAX
            } else {
                self.waiting.len() >= config.waiting_max || (backlog_full && !may_exceed_backlog(&command))
            };
            if is_full {
                refused.push(command.id);
            } else {
                self.push(now_ms, command, Origin::Here);
            }
        }
        refused
    }

    /// Queues what this leader asks for by itself (expiries, promotions); it is little, see the callers' bounds.
    pub(crate) fn add_own(&mut self, now_ms: u64, commands: impl Iterator<Item = Command>) {
        for command in commands {
            self.push(now_ms, command, Origin::Here);
        }
    }

    fn push(&mut self, since_ms: u64, command: Command, origin: Origin) {
        let bytes = command.encoded_len() + COMMAND_OVERHEAD_BYTES;
        self.queue_of(&command).push_back(Waiting { command, bytes, since_ms, origin });
    }

    fn queue_of(&mut self, command: &Command) -> &mut VecDeque<Waiting> {
        if is_change(command) { &mut self.changes } else { &mut self.waiting }
    }

    /// Takes another member's commands if this member leads in the term that the sender means. `since_term`: the term in
    /// which this process started; what it was sent in that term or before may have reached its predecessor.
    pub(crate) fn add_forwarded(
        &mut self,
        now_ms: u64,
        config: &NodeConfig,
        from: u64,
        forward: &mut Forward,
        leads: bool,
        since_term: u64,
    ) -> ForwardVerdict {
        let newest = self.seen.entry(from).or_default();
        if (forward.incarnation, forward.sequence) <= *newest || forward.term <= since_term {
            return ForwardVerdict::Dropped;
        }
        *newest = (forward.incarnation, forward.sequence);
        if !leads || self.waiting.len() >= config.waiting_max || self.changes.len() >= CHANGES_MAX {
            return ForwardVerdict::Rejected;
        }
        let origin = Origin::Forwarded { from, incarnation: forward.incarnation, sequence: forward.sequence };
        for command in std::mem::take(&mut forward.commands) {
            self.push(now_ms, command, origin);
        }
        ForwardVerdict::Taken
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Encodes the oldest commands as a batch: those that fit into `bytes_max`, one at least. They keep waiting until
    /// [`Self::proposed`].
    pub(crate) fn encode_batch(&self, bytes_max: usize) -> (Bytes, usize) {
        let count = self.count_within(bytes_max, usize::MAX);
        let bytes = self.waiting.iter().take(count).map(|waiting| waiting.bytes).sum();
        let mut batch = BytesMut::with_capacity(bytes);
        for waiting in self.waiting.iter().take(count) {
            prost::encoding::message::encode(1, &waiting.command, &mut batch);
        }
        (batch.freeze(), count)
    }

    fn count_within(&self, bytes_max: usize, count_max: usize) -> usize {
        let mut bytes = 0;
        let fits = self.waiting.iter().take_while(|waiting| {
            bytes += waiting.bytes;
            bytes <= bytes_max
        });
        fits.take(count_max).count().max(usize::from(!self.waiting.is_empty()))
    }

    /// The oldest `count` commands stand in the log.
    pub(crate) fn proposed(&mut self, count: usize) {
        self.waiting.drain(..count);
    }

    /// The oldest change of members that waits.
    pub(crate) fn next_change(&self) -> Option<&Command> {
        self.changes.front().map(|waiting| &waiting.command)
    }

    /// Takes the oldest change of members out: it stands in the log, or will not be proposed.
    pub(crate) fn take_change(&mut self) -> Option<(u64, Origin)> {
        self.changes.pop_front().map(|waiting| (waiting.command.id, waiting.origin))
    }

    /// Takes what waits into one message for the leader.
    pub(crate) fn forward(&mut self, now_ms: u64, config: &NodeConfig, to: u64, term: u64) -> Option<Forward> {
        if (self.waiting.is_empty() && self.changes.is_empty()) || self.forward_held {
            return None;
        }
        let count = self.count_within(config.entry_bytes_max, config.waiting_max);
        self.sequence += 1;
        let mut commands = Vec::with_capacity(count);
        for waiting in self.changes.drain(..).chain(self.waiting.drain(..count)) {
            commands.push(waiting.command.clone());
            let id = waiting.command.id;
            if id == 0 {
                continue;
            }
            self.forwarded_bytes += waiting.bytes;
            self.forwarded_order.push_back((now_ms, id));
            let Waiting { command, bytes, since_ms, .. } = waiting;
            let forwarded = Forwarded { command, bytes, since_ms, sent_ms: now_ms, to, sequence: self.sequence };
            if let Some(replaced) = self.forwarded.insert(id, forwarded) {
                self.forwarded_bytes -= replaced.bytes;
            }
        }
        while self.forwarded_bytes > FORWARDED_BYTES_MAX || self.forwarded_order.len() > 2 * config.waiting_max {
            let Some((sent_ms, id)) = self.forwarded_order.pop_front() else { break };
            self.forget_sent(sent_ms, id);
        }
        Some(Forward { incarnation: config.incarnation, sequence: self.sequence, commands, term })
    }

    fn forget_sent(&mut self, sent_ms: u64, id: u64) {
        if self.forwarded.get(&id).is_some_and(|forwarded| forwarded.sent_ms == sent_ms)
            && let Some(forwarded) = self.forwarded.remove(&id)
        {
            self.forwarded_bytes -= forwarded.bytes;
        }
    }

    /// A member says that it proposed nothing of a `Forward`: its commands wait again, before all others.
    /// `leader`: who leads as far as this member knows.
    pub(crate) fn forward_rejected(&mut self, from: u64, config: &NodeConfig, leader: u64, rejected: &ForwardRejected) {
        if rejected.incarnation != config.incarnation {
            return;
        }
        for id in rejected.ids.iter().rev() {
            let matches = |forwarded: &Forwarded| forwarded.to == from && forwarded.sequence == rejected.sequence;
            if self.forwarded.get(id).is_some_and(matches)
                && let Some(Forwarded { command, bytes, since_ms, .. }) = self.forwarded.remove(id)
            {
                self.forwarded_bytes -= bytes;
                self.queue_of(&command).push_front(Waiting { command, bytes, since_ms, origin: Origin::Here });
            }
        }
        self.forward_held |= from == leader;
    }

    /// A member says that it will not propose a command, ever: answers whether it was one of those forwarded to it.
    pub(crate) fn forward_refused(&mut self, from: u64, config: &NodeConfig, refused: &ForwardRefused) -> bool {
        let is_meant = refused.incarnation == config.incarnation
            && self.forwarded.get(&refused.id).is_some_and(|forwarded| forwarded.to == from);
        if is_meant {
            self.forget_forwarded(refused.id);
        }
        is_meant
    }

    fn forget_forwarded(&mut self, id: u64) {
        if let Some(forwarded) = self.forwarded.remove(&id) {
            self.forwarded_bytes -= forwarded.bytes;
        }
    }

    /// Forwarding may be tried (again): a tick passed, or somebody else leads.
    pub(crate) fn release_forwards(&mut self) {
        self.forward_held = false;
    }

    /// This member does not lead any more: other members' commands go back, and the expiries of its term are moot.
    pub(crate) fn stop_leading(&mut self, leader: u64) -> Vec<(u64, ForwardRejected)> {
        let mut foreign = Vec::new();
        for queue in [&mut self.waiting, &mut self.changes] {
            for waiting in std::mem::take(queue) {
                if waiting.origin != Origin::Here {
                    foreign.push(waiting);
                } else if !is_own(&waiting.command) {
                    queue.push_back(waiting);
                }
            }
        }
        rejections(leader, foreign)
    }

    /// Takes out the commands that waited too long: the ids of those from here, and the rejections for other members.
    pub(crate) fn expire(
        &mut self,
        now_ms: u64,
        config: &NodeConfig,
        leader: u64,
    ) -> (Vec<u64>, Vec<(u64, ForwardRejected)>) {
        while let Some(&(sent_ms, id)) = self.forwarded_order.front()
            && sent_ms.saturating_add(config.waiting_ms_max) <= now_ms
        {
            self.forwarded_order.pop_front();
            self.forget_sent(sent_ms, id);
        }
        let (mut ids, mut foreign) = (Vec::new(), Vec::new());
        for queue in [&mut self.waiting, &mut self.changes] {
            while let Some(oldest) = queue.front()
                && oldest.since_ms.saturating_add(config.waiting_ms_max) <= now_ms
                && let Some(waiting) = queue.pop_front()
            {
                match waiting.origin {
                    Origin::Forwarded { .. } => foreign.push(waiting),
                    Origin::Here if waiting.command.id == 0 => {}
                    Origin::Here => ids.push(waiting.command.id),
                }
            }
        }
        (ids, rejections(leader, foreign))
    }

    /// A committed change of members goes to the store.
    pub(crate) fn committed_change(&mut self, id: u64) {
        self.forget_forwarded(id);
    }

    /// A committed batch goes to the store.
    pub(crate) fn committed(&mut self, index: u64, batch: &[u8]) {
        let mut commands = 0;
        for id in CommandIds(batch) {
            commands += 1;
            if !self.forwarded.is_empty()
                && let Some(forwarded) = self.forwarded.remove(&id)
            {
                self.forwarded_bytes -= forwarded.bytes;
            }
        }
        self.backlog.push_back((index, commands, batch.len()));
        self.backlog_commands += commands;
        self.backlog_bytes += batch.len();
    }

    /// Whether the store's progress decides soon over what may come.
    pub(crate) fn awaits_applied(&self) -> bool {
        self.backlog_commands > BACKLOG_COMMANDS_MAX / 2
            || self.backlog_bytes > BACKLOG_BYTES_MAX / 2
            || !self.changes.is_empty()
    }

    /// The store applied everything up to `index`.
    pub(crate) fn applied(&mut self, index: u64) {
        while let Some(&(oldest, commands, bytes)) = self.backlog.front()
            && oldest <= index
        {
            self.backlog.pop_front();
            self.backlog_commands -= commands;
            self.backlog_bytes -= bytes;
        }
    }
}

/// Why commands that waited too long are refused.
pub(crate) fn expiry_reason(leader: u64) -> Refusal {
    if leader == 0 { Refusal::NoLeader } else { Refusal::TooManyRequests }
}

fn rejections(leader: u64, foreign: Vec<Waiting>) -> Vec<(u64, ForwardRejected)> {
    let mut by_forward: BTreeMap<(u64, u64, u64), Vec<u64>> = BTreeMap::new();
    for waiting in foreign {
        if let Origin::Forwarded { from, incarnation, sequence } = waiting.origin {
            by_forward.entry((from, incarnation, sequence)).or_default().push(waiting.command.id);
        }
    }
    by_forward
        .into_iter()
        .map(|((from, incarnation, sequence), ids)| (from, ForwardRejected { sequence, leader, ids, incarnation }))
        .collect()
}

/// The commands' ids in an encoded `CommandBatch`, without decoding the commands. Ends at whatever is no command.
struct CommandIds<'a>(&'a [u8]);

impl Iterator for CommandIds<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (&0x0a, mut rest) = self.0.split_first()? else { return None };
        let length = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
        let command = rest.get(..length)?;
        self.0 = &rest[length..];
        match command.split_first() {
            // The id is the first field and of fixed width; an id of 0 is not written.
            Some((&0x09, id)) => id.first_chunk().map(|id| u64::from_le_bytes(*id)),
            _ => Some(0),
        }
    }
}
