//! The adapter over the `raft` crate: the only file (with its submodules) that names it.
//!
//! Owns the raft state machine, the log in memory and the election jitter. Owns no queue of commands or reads, no disk
//! and no clock. Invariants: raft's global random generator decides nothing; a message that promises something goes out
//! only after the write that backs it; nobody campaigns between a snapshot and its durable installation.

#![expect(clippy::field_reassign_with_default, reason = "the raft crate's generated types are filled field by field")]

mod convert;
mod log;

use crate::api::{CommittedEntry, HardState, Payload, SnapshotPoint};
use bytes::Bytes;
pub(crate) use convert::MembersStep;
use convert::{
    conf_state_from_raft, entry_from_raft, entry_to_raft, members_from_entry, message_from_raft, message_to_raft,
};
use log::{MemoryLog, snapshot_point};
use prost::Message as _;
use quorate_proto::quoratepb::member_change::Action;
use quorate_proto::quoratepb::{ConfState, LogEntry, RaftMessage};
use quorate_store::error::Error;
use quorate_store::members::{Membership, decode_change};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;

/// Append messages on their way to one follower at the most.
const INFLIGHT_MESSAGES_MAX: usize = 256;
/// Entries of a leader that are not committed together at the most, bytes.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// Committed entries handed to the store in one go at the most, bytes (one entry may be larger).
const COMMITTED_BYTES_MAX: u64 = 8 << 20;

/// How consensus starts.
pub(crate) struct ConsensusStart {
    pub(crate) id: u64,
    pub(crate) election_ticks: usize,
    pub(crate) seed: u64,
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
    /// Index and term of the entry before the first of `entries`.
    pub(crate) start: (u64, u64),
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) applied: u64,
    /// The members at `applied`.
    pub(crate) members: Membership,
}

/// What raft wants done, in one piece.
#[derive(Default)]
pub(crate) struct Round {
    /// Raft's number of it, for [`Consensus::persisted`].
    pub(crate) number: u64,
    /// May go out at once.
    pub(crate) messages: Vec<RaftMessage>,
    /// May go out after everything up to this round is durable.
    pub(crate) messages_persisted: Vec<RaftMessage>,
    /// The changed hard state.
    pub(crate) hard_state: Option<HardState>,
    /// Whether it must be durable before the round counts as persisted.
    pub(crate) must_sync: bool,
    pub(crate) entries: Vec<LogEntry>,
    /// The store must become this before anything of the round is written.
    pub(crate) snapshot: Option<SnapshotPoint>,
    pub(crate) committed: Vec<CommittedEntry>,
    /// Contexts of read-index rounds that ended, with their index.
    pub(crate) reads: Vec<(Bytes, u64)>,
}

/// The messages that a node treats in its own way before raft sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageClass {
    Snapshot,
    ReadIndex,
    PreVote,
    Other,
}

/// Which of them a message is.
pub(crate) fn classify(message: &RaftMessage) -> MessageClass {
    match message.message_type {
        kind if kind == MessageType::MsgSnapshot as u32 => MessageClass::Snapshot,
        kind if kind == MessageType::MsgReadIndex as u32 => MessageClass::ReadIndex,
        kind if kind == MessageType::MsgRequestPreVote as u32 => MessageClass::PreVote,
        _ => MessageClass::Other,
    }
}

/// An entry that changes members, as a leader would have written it.
pub(crate) fn change_entry(index: u64, term: u64, step: MembersStep, context: Bytes) -> LogEntry {
    let data = convert::MembersEntry { transition: 0, changes: vec![step], context }.encode_to_vec().into();
    let entry_type = EntryType::EntryConfChangeV2 as u32;
    LogEntry { entry_type, term, index, data, context: Bytes::new() }
}

/// The command behind an entry that changes members; `None` when it does not.
pub(crate) fn change_context(entry: &LogEntry) -> Option<Bytes> {
    let is_change = entry.entry_type == EntryType::EntryConfChangeV2 as u32;
    is_change.then(|| members_from_entry(entry.data.clone())).flatten().map(|(_, context)| context)
}

/// One member's raft.
pub(crate) struct Consensus {
    raw: RawNode<MemoryLog>,
    random: StdRng,
    /// Role and term for which the election timeout was drawn, and that timeout.
    drawn: (StateRole, u64, usize),
    id: u64,
    /// The members behind the last entry that was handed out: changes with raft's configuration.
    members: Membership,
}

impl Consensus {
    pub(crate) fn new(start: ConsensusStart) -> Self {
        let entries: VecDeque<Entry> = start
            .entries
            .iter()
            .map(|entry| entry_to_raft(entry).expect("the log holds only entries that passed the checks on arrival"))
            .collect();
        let config = raft::Config {
            id: start.id,
            election_tick: start.election_ticks.max(2),
            heartbeat_tick: 1,
            applied: start.applied,
            max_size_per_msg: convert::APPEND_BYTES_MAX as u64,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            batch_append: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            ..raft::Config::default()
        };
        let joins = start.conf_state.voters.is_empty();
        let log = MemoryLog::new(start.hard_state, start.conf_state, start.start, entries, start.applied);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut raw = RawNode::new(&config, log, &logger).expect("the configuration is within raft's bounds");
        if joins {
            // The first voters stand in no entry of the log: who begins with it would never hear of them. So whoever joins
            // answers every append by asking for a snapshot, of any index.
            raw.raft.pending_request_snapshot = 1;
        }
        let mut consensus = Self {
            raw,
            random: StdRng::seed_from_u64(start.seed ^ start.id.rotate_left(32)),
            drawn: (StateRole::Leader, 0, 0),
            id: start.id,
            members: start.members,
        };
        consensus.redraw();
        consensus
    }

    /// Replaces raft's own election jitter. To be called after everything that may change role or term.
    fn redraw(&mut self) {
        let (role, term) = (self.raw.raft.state, self.raw.raft.term);
        let mut timeout = self.drawn.2;
        if (role, term) != (self.drawn.0, self.drawn.1) {
            let least = self.raw.raft.election_timeout();
            timeout = self.random.random_range(least..2 * least);
            self.drawn = (role, term, timeout);
        }
        self.raw.raft.set_randomized_election_timeout(timeout);
    }

    /// Raft panics when it campaigns across a snapshot that is not installed yet, or wins alone with entries that are
    /// not durable.
    fn may_campaign(&self) -> bool {
        let raft = &self.raw.raft;
        let snapshot_pending = raft.snap().is_some() || raft.raft_log.applied < raft.store().first() - 1;
        let durable = raft.raft_log.last_index() == raft.raft_log.persisted;
        !snapshot_pending && (durable || !raft.prs().is_singleton())
    }

    pub(crate) fn tick(&mut self) {
        if self.is_leader() || self.may_campaign() {
            self.raw.tick();
        } else {
            // Time passes, so that others may get this member's vote.
            let raft = &mut self.raw.raft;
            raft.election_elapsed = (raft.election_elapsed + 1).min(raft.election_timeout());
        }
        self.redraw();
    }

    /// Takes a message from the network, or a snapshot's message once the snapshot is here. Messages that break the
    /// protocol are dropped.
    pub(crate) fn step(&mut self, from: u64, message: RaftMessage) {
        if message.from != from || message.to != self.id {
            return;
        }
        let Some(message) = message_to_raft(message) else { return };
        if message.msg_type == MessageType::MsgTimeoutNow && !(self.raw.raft.promotable() && self.may_campaign()) {
            return;
        }
        // An acknowledgement of entries that this leader never had would count for commitment later.
        let raft = &self.raw.raft;
        if message.msg_type == MessageType::MsgAppendResponse
            && !message.reject
            && message.term == raft.term
            && message.index > raft.raft_log.last_index()
        {
            return;
        }
        // The errors say that raft dropped the message, which the network may do as well.
        let _ = self.raw.step(message);
        self.redraw();
    }

    /// Asks for votes, if raft's rules allow it at this moment.
    pub(crate) fn campaign(&mut self) {
        if !self.is_leader() && self.raw.raft.promotable() && self.may_campaign() {
            let _ = self.raw.campaign();
            self.redraw();
        }
    }

    /// Forgets who leads, so that this member grants pre-votes. The leader's next message undoes it.
    pub(crate) fn forget_leader(&mut self) {
        if !self.is_leader() {
            self.raw.raft.leader_id = raft::INVALID_ID;
        }
    }

    /// Appends an entry, if this member leads and may. `false`: nothing happened.
    pub(crate) fn propose(&mut self, data: Bytes) -> bool {
        if !self.can_propose() {
            return false;
        }
        let mut entry = Entry::default();
        entry.data = data;
        self.propose_entry(entry)
    }

    fn propose_entry(&mut self, entry: Entry) -> bool {
        let mut message = Message::default();
        message.msg_type = MessageType::MsgPropose;
        message.from = self.id;
        message.set_entries(vec![entry].into());
        self.raw.raft.step(message).is_ok()
    }

    /// Appends a change of members, if this member leads and no other change is on its way. `false`: nothing happened.
    /// `context`: the encoded command that asks for it.
    pub(crate) fn propose_change(&mut self, step: MembersStep, context: Bytes) -> bool {
        self.can_change_members() && self.append_change(vec![step], context)
    }

    fn append_change(&mut self, changes: Vec<MembersStep>, context: Bytes) -> bool {
        let mut entry = Entry::default();
        entry.entry_type = EntryType::EntryConfChangeV2;
        entry.data = convert::MembersEntry { transition: 0, changes, context }.encode_to_vec().into();
        self.propose_entry(entry)
    }

    /// Appends several changes at once, for tests of joint configurations.
    #[cfg(test)]
    pub(crate) fn propose_members(&mut self, steps: &[(u32, u64)], context: Bytes) -> bool {
        let steps = steps.iter().map(|&(change_type, node_id)| MembersStep { change_type, node_id }).collect();
        self.can_propose() && self.append_change(steps, context)
    }

    /// Whether a change of members would be appended: this member leads, knows what is committed, and has applied every
    /// earlier change. Raft would turn a change that comes too soon into nothing.
    pub(crate) fn can_change_members(&self) -> bool {
        self.can_propose() && self.committed_in_term() && !self.raw.raft.has_pending_conf()
    }

    /// The members behind the last entry that was handed out.
    pub(crate) fn members(&self) -> &Membership {
        &self.members
    }

    /// The store became a snapshot with these members.
    pub(crate) fn set_members(&mut self, members: Membership) {
        self.members = members;
    }

    /// Whether this member leads and is not handing leadership over.
    pub(crate) fn can_propose(&self) -> bool {
        self.is_leader() && self.raw.raft.lead_transferee.is_none()
    }

    /// Starts (or repeats) a read-index round.
    pub(crate) fn read_index(&mut self, context: &[u8]) {
        self.raw.read_index(context.to_vec());
    }

    /// Hands leadership to a voter; 0: to the one with most of the log. Nothing happens when this member does not lead.
    pub(crate) fn transfer_leader(&mut self, to: u64) {
        if !self.is_leader() {
            return;
        }
        let to = if to != 0 { Some(to) } else { self.best_matched() };
        if let Some(to) = to {
            self.raw.transfer_leader(to);
        }
    }

    /// Hands leadership to the voter with most of the log among those that are heard of; whether there is one.
    pub(crate) fn transfer_to_active(&mut self) -> bool {
        let is_active = |id: &u64| self.is_active(*id);
        let Some(to) = self.best_matched().filter(is_active) else { return false };
        let leads = self.is_leader();
        if leads {
            self.raw.transfer_leader(to);
        }
        leads
    }

    fn best_matched(&self) -> Option<u64> {
        self.other_voters().into_iter().max_by_key(|&id| {
            let (active, matched) =
                self.raw.raft.prs().get(id).map_or((false, 0), |peer| (peer.recent_active, peer.matched));
            (active, matched, std::cmp::Reverse(id))
        })
    }

    pub(crate) fn report_unreachable(&mut self, peer: u64) {
        self.raw.report_unreachable(peer);
    }

    pub(crate) fn report_snapshot(&mut self, to: u64, delivered: bool) {
        let status = if delivered { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to, status);
    }

    /// Everything up to this round's number is durable.
    pub(crate) fn persisted(&mut self, number: u64) {
        self.raw.on_persist_ready(number);
    }

    /// The store applied everything up to `index`. Raft learns of it once its log is durable that far.
    pub(crate) fn applied(&mut self, index: u64) {
        let log = &self.raw.raft.raft_log;
        let index = index.min(log.committed).min(log.persisted);
        if index > log.applied {
            self.raw.advance_apply_to(index);
            self.raw.mut_store().set_applied(index);
        }
    }

    /// Frees memory; see [`MemoryLog::trim`].
    pub(crate) fn trim(&mut self, bytes_max: usize, keep_behind: u64) {
        self.raw.mut_store().trim(bytes_max, keep_behind);
    }

    pub(crate) fn offer_snapshot(&mut self, point: SnapshotPoint) {
        self.raw.mut_store().offer_snapshot(point);
        // Followers answer heartbeats, and raft then tries again to send what they lack.
        self.raw.ping();
    }

    pub(crate) fn take_snapshot_wanted(&mut self) -> bool {
        self.raw.store().take_snapshot_wanted()
    }

    /// What raft wants done, if anything.
    pub(crate) fn next_round(&mut self) -> Option<Round> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let mut round = Round { number: ready.number(), must_sync: ready.must_sync(), ..Round::default() };
        for message in ready.take_messages() {
            message_from_raft(message, &mut round.messages);
        }
        for message in ready.take_persisted_messages() {
            // These two promise nothing, and reads wait for them.
            let free = matches!(message.msg_type, MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex);
            message_from_raft(message, if free { &mut round.messages } else { &mut round.messages_persisted });
        }
        round.hard_state = ready.hs().map(|hard_state| HardState {
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
        });
        round.reads = ready.take_read_states().into_iter().map(|read| (read.request_ctx.into(), read.index)).collect();
        if !ready.snapshot().is_empty() {
            let point = snapshot_point(ready.snapshot());
            self.raw.mut_store().reset(point.index, point.term);
            round.snapshot = Some(point);
        }
        let entries = ready.take_entries();
        round.entries = entries.iter().map(entry_from_raft).collect();
        self.raw.mut_store().append(&entries);
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        round.committed = committed.into_iter().map(|entry| self.committed_entry(entry)).collect();
        Some(round)
    }

    fn committed_entry(&mut self, entry: Entry) -> CommittedEntry {
        let payload = match entry.entry_type {
            EntryType::EntryNormal if entry.data.is_empty() => Payload::Empty,
            EntryType::EntryNormal => Payload::Commands(entry.data),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => self.members_payload(entry.data),
        };
        CommittedEntry { index: entry.index, term: entry.term, payload }
    }

    /// Judges a committed change, on every member alike, and lets raft and the table of members follow it.
    fn members_payload(&mut self, data: Bytes) -> Payload {
        let Some((steps, change)) = members_from_entry(data) else { return Payload::Empty };
        let (_, wanted) = decode_change(change.clone());
        let verdict = match &wanted {
            Some(wanted) => self.members.check(wanted).and_then(|()| {
                if wanted.action() == Action::Update {
                    return Ok(self.raw.raft.prs().conf().to_conf_state());
                }
                // The rules above let nothing through that raft refuses, but for a configuration without voters.
                self.raw.apply_conf_change(&steps).map_err(|_| Error::NotEnoughStartedMembers)
            }),
            None => match self.raw.apply_conf_change(&steps) {
                Ok(conf_state) => Ok(conf_state),
                Err(_) => return Payload::Empty,
            },
        };
        let verdict = verdict.map(|conf_state| conf_state_from_raft(&conf_state));
        if let Ok(conf_state) = &verdict {
            self.members.apply(wanted.as_ref(), conf_state);
            self.step_down_if_removed();
        }
        Payload::Members { verdict, change }
    }

    /// Raft counts on a leader's or candidate's own progress. A leader that was elected with its own removal in the log
    /// has none from here on.
    fn step_down_if_removed(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Follower && raft.prs().get(self.id).is_none() {
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
            self.redraw();
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Who leads; 0: nobody known.
    pub(crate) fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    pub(crate) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    pub(crate) fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// The last index that is durable here.
    pub(crate) fn persisted_index(&self) -> u64 {
        self.raw.raft.raft_log.persisted
    }

    /// The first index in memory.
    pub(crate) fn first_index(&self) -> u64 {
        self.raw.store().first()
    }

    /// Whether an entry of this term is committed: only then does a leader know what is.
    pub(crate) fn committed_in_term(&self) -> bool {
        self.raw.raft.commit_to_current_term()
    }

    /// Whether an entry of this term was applied here.
    pub(crate) fn applied_in_term(&self) -> bool {
        self.raw.raft.apply_to_current_term()
    }

    /// Whether this member is a learner, as far as it knows.
    pub(crate) fn is_learner(&self) -> bool {
        self.members.get(self.id).is_some_and(|member| member.is_learner)
    }

    /// Whether this member is the only voter.
    pub(crate) fn is_sole_voter(&self) -> bool {
        self.raw.raft.prs().is_singleton() && self.raw.raft.promotable()
    }

    /// The other voters, in ascending order.
    pub(crate) fn other_voters(&self) -> Vec<u64> {
        let prs = self.raw.raft.prs();
        let mut voters: Vec<u64> = prs.conf().voters().ids().iter().filter(|&id| id != self.id).collect();
        voters.sort_unstable();
        voters
    }

    /// How much of the log a member is known to have; `None` when it is no member.
    pub(crate) fn matched(&self, peer: u64) -> Option<u64> {
        self.raw.raft.prs().get(peer).map(|progress| progress.matched)
    }

    /// Whether a member answered this leader lately.
    pub(crate) fn is_active(&self, peer: u64) -> bool {
        self.raw.raft.prs().get(peer).is_some_and(|progress| progress.recent_active)
    }
}
