//! One member of the cluster: takes inputs, asks raft, and says what is to be done.
//!
//! Owns the order in which things may happen: what waits for which write, for which applied index, for whose answer.
//! Owns no thread, socket, file or clock. Invariants: effects come out in the order in which they must take effect;
//! nothing is written behind a snapshot before the store has become that snapshot; a caller is told that its command was
//! refused only when it was proposed nowhere.

mod integrity;
mod members;
mod stall;

use crate::api::{
    CommittedEntry, Effect, HardState, Input, NodeConfig, NodeStatus, Payload, Persist, Refusal, SnapshotPoint,
    StorePoint,
};
use crate::consensus::{Consensus, ConsensusStart, MessageClass, Round, classify};
use crate::leases::LeaseClocks;
use crate::proposals::{ForwardVerdict, Proposals, expiry_reason};
use crate::reads::{Asked, RETRY_TICKS, Reads};
use crate::wal::Recovered;
use integrity::{Integrity, is_repair};
use members::Changes;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::peer_message::Kind;
use quorate_proto::quoratepb::{Command, Forward, ForwardRejected, LeaseExpire, LogEntry, PeerMessage, RaftMessage};
use stall::Stall;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A leader's batches that are not durable here: while so many are, commands gather for the next one.
pub const UNPERSISTED_BATCHES_MAX: usize = 2;
/// While a leader's newest batch is not committed, the next one begins only after so long, ms. Within a machine room a
/// batch is committed sooner: then commands gather meanwhile, and each sync and message serves more of them. Where it
/// takes longer, batches overlap.
const OVERLAP_AFTER_MS: u64 = 2;
/// Lease expiries proposed and not applied at the most.
pub const EXPIRIES_MAX: usize = 1_000;
/// A proposed expiry that was not applied is proposed again after so many ticks.
const EXPIRY_RETRY_TICKS: u64 = 5;
/// A pre-vote request that was ignored for the sake of a leader counts so many ticks, should that leader turn out gone.
const PRE_VOTE_KEPT_TICKS: u64 = 2;
/// While a follower catches up from a snapshot, the log in memory may grow to this multiple of its bound.
const CATCH_UP_FACTOR: usize = 4;

/// One member.
pub struct Node {
    config: NodeConfig,
    consensus: Consensus,
    proposals: Proposals,
    reads: Reads,
    leases: LeaseClocks,
    effects: Vec<Effect>,
    ticks: u64,
    last_input_ms: u64,
    /// The term at start: who reached this member in it may have reached its predecessor.
    start_term: u64,
    role: Role,
    last_leader: u64,
    leader_changes: u64,
    status_told: Option<NodeStatus>,
    /// What the store has applied.
    applied: u64,
    writes: VecDeque<Write>,
    write_number: u64,
    /// A hard state that goes with the next write.
    hard_state_unwritten: Option<HardState>,
    /// The newest hard state.
    hard_state: HardState,
    /// Committed entries that wait for a write to be durable, and its number: see [`Self::hand_out`].
    applies_held: VecDeque<(u64, Vec<CommittedEntry>)>,
    /// The snapshot that the store is becoming.
    installing: Option<SnapshotPoint>,
    /// Indexes of this leader's batches that are not durable here.
    batches_unpersisted: VecDeque<u64>,
    /// Index of this leader's newest batch, and when it began.
    newest_batch: (u64, u64),
    /// Raft took no more at this commit index.
    stalled_at_commit: Option<u64>,
    context_counter: u64,
    leadership: Leadership,
    /// Questions for the read index that came before this leader's term had a committed entry, by sender.
    reads_held: BTreeMap<u64, RaftMessage>,
    failover: Failover,
    snapshots: Snapshots,
    changes: Changes,
    stall: Stall,
    integrity: Integrity,
    checkpointed: u64,
    truncated: u64,
}

/// What is seen of raft from outside; a change of it has consequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Role {
    leads: bool,
    leader: u64,
    term: u64,
}

/// A write on its way.
struct Write {
    number: u64,
    /// Raft's newest round that is durable with it.
    round: u64,
    /// Not handed out yet, because the store must become a snapshot first.
    persist: Option<Persist>,
    /// Go out when it is durable.
    messages: Vec<RaftMessage>,
}

/// Whether a leader may trust that it still leads, after a pause that others may have used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leadership {
    Confirmed,
    Doubtful,
    /// A quorum was asked with this context at this tick.
    Asked {
        counter: u64,
        tick: u64,
    },
}

/// What is known of members that are gone.
#[derive(Default)]
struct Failover {
    /// Nobody listens there.
    gone: BTreeSet<u64>,
    /// The leader is gone: ask for votes in so many ticks, again and again until somebody leads.
    campaign_in_ticks: Option<u64>,
    /// The newest pre-vote request: tick, sender, request.
    pre_vote: Option<(u64, u64, RaftMessage)>,
}

/// Snapshots for followers.
#[derive(Default)]
struct Snapshots {
    building: bool,
    /// Receivers and the index that they begin behind: the log in memory should reach back so far.
    pins: BTreeMap<u64, u64>,
    /// Index of the newest one, and when it came.
    built: Option<(u64, u64)>,
}

impl Node {
    /// Starts a member from its log and its store.
    ///
    /// # Panics
    ///
    /// When the log begins behind what the store has applied ([`Recovered::check`] tells): entries are missing for good.
    pub fn new(config: NodeConfig, recovered: Recovered, store: StorePoint, now_ms: u64) -> Self {
        let (start, entries, replaced) = log_of_store(recovered.start, recovered.entries, &store);
        let mut hard_state = recovered.hard_state;
        if hard_state.term < store.applied_term {
            hard_state = HardState { term: store.applied_term, vote: 0, ..hard_state };
        }
        hard_state.commit = hard_state.commit.max(store.applied_index).min(start.0 + entries.len() as u64);
        let mut writes = VecDeque::new();
        if replaced {
            let point = SnapshotPoint { index: start.0, term: start.1, conf_state: store.conf_state.clone() };
            let persist =
                Persist { number: 1, hard_state: Some(hard_state), entries: Vec::new(), snapshot: Some(point) };
            writes.push_back(Write { number: 1, round: 0, persist: Some(persist), messages: Vec::new() });
        }
        let consensus = Consensus::new(ConsensusStart {
            id: config.id,
            election_ticks: config.election_ticks,
            seed: config.seed,
            hard_state,
            conf_state: store.conf_state,
            start,
            entries,
            applied: store.applied_index,
            members: store.members,
        });
        let mut leases = LeaseClocks::default();
        leases.load(now_ms, &store.leases);
        let mut node = Self {
            start_term: hard_state.term,
            consensus,
            proposals: Proposals::default(),
            reads: Reads::default(),
            leases,
            effects: Vec::new(),
            ticks: 0,
            last_input_ms: now_ms,
            role: Role::default(),
            last_leader: 0,
            leader_changes: 0,
            status_told: None,
            applied: store.applied_index,
            write_number: writes.len() as u64,
            writes,
            hard_state_unwritten: None,
            hard_state,
            applies_held: VecDeque::new(),
            installing: None,
            batches_unpersisted: VecDeque::new(),
            newest_batch: (0, 0),
            stalled_at_commit: None,
            context_counter: 0,
            leadership: Leadership::Confirmed,
            reads_held: BTreeMap::new(),
            failover: Failover::default(),
            snapshots: Snapshots::default(),
            changes: Changes::default(),
            stall: Stall::default(),
            integrity: Integrity::default(),
            checkpointed: store.applied_index,
            truncated: 0,
            config,
        };
        node.consensus.trim(node.config.log_bytes_max, u64::MAX);
        node.release_writes();
        node
    }

    /// Takes an input. `now_ms` never goes back.
    pub fn handle(&mut self, now_ms: u64, input: Input) {
        let pause_ms = now_ms.saturating_sub(self.last_input_ms);
        if pause_ms > self.config.tick_ms.saturating_mul(self.config.election_ticks as u64) {
            self.leadership = Leadership::Doubtful;
        }
        self.last_input_ms = now_ms;
        match input {
            Input::Tick => self.tick(now_ms),
            Input::Propose(commands) => {
                let ids = self.proposals.add(now_ms, &self.config, commands);
                self.refuse(ids, Refusal::TooManyRequests);
            }
            Input::Read { ticket } => {
                if !self.reads.add(now_ms, ticket, self.config.waiting_max) {
                    let reason = Refusal::TooManyRequests;
                    self.effects.push(Effect::ReadFailed { tickets: vec![ticket], reason });
                }
            }
            Input::AskLease { ticket, id } => {
                let remaining_ms = self.leases.remaining_ms(now_ms, id);
                self.effects.push(Effect::LeaseRemaining { ticket, remaining_ms });
            }
            Input::Peer { from, message } => self.hear(now_ms, from, message),
            Input::PeerLost { peer, refused } => self.lose(peer, refused),
            Input::Persisted { number } => self.persisted(number),
            Input::Applied { index, leases } => {
                if index >= self.applied {
                    self.applied = index;
                    for change in leases {
                        self.leases.change(now_ms, change);
                    }
                    self.consensus.applied(index);
                    self.proposals.applied(index);
                    self.trim();
                }
            }
            Input::Checkpointed { index } => {
                self.checkpointed = self.checkpointed.max(index);
                self.truncate_log();
            }
            Input::SnapshotBuilt(point) => {
                self.snapshots.building = false;
                self.snapshots.built = Some((point.index, self.ticks));
                self.send_repairs(&point);
                self.consensus.offer_snapshot(point);
            }
            Input::SnapshotSent { to, delivered } => {
                if !delivered {
                    self.snapshots.pins.remove(&to);
                }
                self.consensus.report_snapshot(to, delivered);
            }
            Input::SnapshotArrived { message } if is_repair(&message) => self.repair_arrived(&message),
            Input::SnapshotArrived { message } => {
                if self.installing.is_none() && !self.is_repairing() && classify(&message) == MessageClass::Snapshot {
                    self.consensus.step(message.from, message);
                }
            }
            Input::StoreBroken => self.store_broken(now_ms),
            Input::OwnAlarm { stands } => self.own_alarm(stands),
            Input::DigestAsked { index, digest } => self.report_digest(now_ms, index, digest),
            Input::SnapshotInstalled { point, leases, .. } if self.is_repairing() => {
                assert!(self.store_replaced(point.index), "only the accepted store is installed");
                self.applied = self.applied.max(point.index);
                self.leases.load(now_ms, &leases);
                self.consensus.applied(self.applied);
                self.proposals.applied(self.applied);
            }
            Input::SnapshotInstalled { point, leases, members } => {
                self.store_replaced(point.index);
                let expected = self.installing.take();
                assert_eq!(
                    Some(point.index),
                    expected.map(|point| point.index),
                    "only the accepted snapshot is installed"
                );
                self.applied = point.index;
                self.leases.load(now_ms, &leases);
                self.consensus.set_members(members);
                self.proposals.applied(point.index);
                self.release_writes();
            }
            Input::TransferLeader { to } => self.consensus.transfer_leader(to),
        }
        self.observe_role();
    }

    /// What is to be done after the inputs so far, in order.
    pub fn effects(&mut self, now_ms: u64) -> Vec<Effect> {
        if self.consensus.is_sole_voter() && !self.consensus.is_leader() {
            self.consensus.campaign();
        }
        loop {
            self.observe_role();
            self.release_reads_held();
            self.move_changes();
            self.move_commands(now_ms);
            self.ask_for_reads();
            let Some(round) = self.consensus.next_round() else { break };
            self.carry_out(round);
        }
        let tickets = self.reads.take_ready(self.applied);
        if !tickets.is_empty() {
            self.effects.push(Effect::ReadReady { tickets });
        }
        let wants_snapshot = self.consensus.take_snapshot_wanted() && !self.is_store_broken();
        if (wants_snapshot || self.wants_repair_built()) && !self.snapshots.building {
            self.snapshots.building = true;
            self.effects.push(Effect::BuildSnapshot);
        }
        let status = self.status();
        if self.status_told.is_none_or(|told| !same_view(&told, &status)) {
            self.status_told = Some(status);
            self.effects.push(Effect::Status(status));
        }
        std::mem::take(&mut self.effects)
    }

    /// Whether an [`Input::Applied`] would lead to effects at once. While it would not, the shell may hand it over with
    /// whatever comes next.
    pub fn awaits_applied(&self) -> bool {
        self.reads.awaits_applied()
            || self.proposals.awaits_applied()
            || (self.role.leads && !self.consensus.applied_in_term())
    }

    /// What this member knows of the cluster.
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            id: self.config.id,
            term: self.consensus.term(),
            leader: self.consensus.leader(),
            is_learner: self.consensus.is_learner(),
            sole_voter: self.consensus.is_leader()
                && self.consensus.is_sole_voter()
                && self.consensus.applied_in_term(),
            commit: self.consensus.commit(),
            last_index: self.consensus.last_index(),
            leader_changes: self.leader_changes,
        }
    }

    /// Appends a change of members, for tests of what its entry does.
    #[cfg(test)]
    pub(crate) fn propose_members(&mut self, steps: &[(u32, u64)], context: bytes::Bytes) -> bool {
        self.consensus.propose_members(steps, context)
    }

    fn tick(&mut self, now_ms: u64) {
        self.ticks += 1;
        self.consensus.tick();
        self.observe_role();
        self.proposals.release_forwards();
        let leader = self.consensus.leader();
        let (ids, rejections) = self.proposals.expire(now_ms, &self.config, leader);
        self.refuse(ids, expiry_reason(leader));
        self.reject(rejections);
        if let Some(before_ms) = now_ms.checked_sub(self.config.waiting_ms_max) {
            let tickets = self.reads.take_expired(before_ms);
            if !tickets.is_empty() {
                let reason = if leader == 0 { Refusal::NoLeader } else { Refusal::LeaderChanged };
                self.effects.push(Effect::ReadFailed { tickets, reason });
            }
        }
        self.campaign_after_loss();
        self.propose_expiries(now_ms);
        self.promote_caught_up(now_ms);
        self.hand_over_when_stalled();
        self.tend_integrity(now_ms);
        self.unpin_snapshots();
        self.truncate_log();
    }

    /// Acts on what changed in raft since the last look.
    fn observe_role(&mut self) {
        let role =
            Role { leads: self.consensus.is_leader(), leader: self.consensus.leader(), term: self.consensus.term() };
        if role == self.role {
            return;
        }
        let before = std::mem::replace(&mut self.role, role);
        if before.leads && !role.leads {
            let rejections = self.proposals.stop_leading(role.leader);
            self.reject(rejections);
            self.batches_unpersisted.clear();
            self.newest_batch = (0, 0);
            self.reads_held.clear();
            self.snapshots.pins.clear();
        }
        if role.leads && !before.leads {
            // Its first committed entry is a round of a quorum that began after any pause.
            self.leadership = Leadership::Confirmed;
            self.changes = Changes::default();
        }
        self.stalled_at_commit = None;
        self.proposals.release_forwards();
        if role.leader != 0 {
            self.failover.campaign_in_ticks = None;
            if role.leader != self.last_leader {
                self.last_leader = role.leader;
                self.leader_changes += 1;
            }
        }
    }

    // --- Commands ---

    fn refuse(&mut self, ids: Vec<u64>, reason: Refusal) {
        if !ids.is_empty() {
            self.effects.push(Effect::Refused { ids, reason });
        }
    }

    fn reject(&mut self, rejections: Vec<(u64, ForwardRejected)>) {
        for (to, rejected) in rejections {
            self.send_kind(to, Kind::ForwardRejected(rejected));
        }
    }

    /// Into the log when this member leads, else to the leader.
    fn move_commands(&mut self, now_ms: u64) {
        if !self.role.leads {
            if self.role.leader != 0 && self.role.leader != self.config.id {
                let Role { leader, term, .. } = self.role;
                while let Some(forward) = self.proposals.forward(now_ms, &self.config, leader, term) {
                    self.send_kind(leader, Kind::Forward(forward));
                }
            }
            return;
        }
        if !self.may_begin_batch(now_ms) {
            return;
        }
        while !self.proposals.is_empty()
            && self.batches_unpersisted.len() < UNPERSISTED_BATCHES_MAX
            && self.consensus.can_propose()
            && self.stalled_at_commit != Some(self.consensus.commit())
        {
            let (batch, count) = self.proposals.encode_batch(self.config.entry_bytes_max);
            if !self.consensus.propose(batch) {
                self.stalled_at_commit = Some(self.consensus.commit());
                return;
            }
            self.proposals.proposed(count);
            self.newest_batch = (self.consensus.last_index(), now_ms);
            self.batches_unpersisted.push_back(self.newest_batch.0);
        }
    }

    fn may_begin_batch(&self, now_ms: u64) -> bool {
        let (index, since_ms) = self.newest_batch;
        self.consensus.commit() >= index || now_ms >= since_ms + OVERLAP_AFTER_MS
    }

    fn hear_forward(&mut self, now_ms: u64, from: u64, mut forward: Forward) {
        let leads = self.consensus.is_leader() && self.consensus.term() == forward.term;
        let verdict = self.proposals.add_forwarded(now_ms, &self.config, from, &mut forward, leads, self.start_term);
        if verdict == ForwardVerdict::Rejected {
            let rejected = ForwardRejected {
                sequence: forward.sequence,
                leader: self.consensus.leader(),
                ids: forward.commands.iter().map(|command| command.id).collect(),
                incarnation: forward.incarnation,
            };
            self.send_kind(from, Kind::ForwardRejected(rejected));
        }
    }

    // --- Reads ---

    /// A context that no other round of any member in any life has.
    fn context(&self, counter: u64) -> [u8; 24] {
        let mut context = [0; 24];
        context[..8].copy_from_slice(&self.config.id.to_le_bytes());
        context[8..16].copy_from_slice(&self.config.incarnation.to_le_bytes());
        context[16..].copy_from_slice(&counter.to_le_bytes());
        context
    }

    /// The counter in a context of this life of this member.
    fn counter_of(&self, context: &[u8]) -> Option<u64> {
        let counter = u64::from_le_bytes(*context.get(16..)?.first_chunk()?);
        (context == self.context(counter)).then_some(counter)
    }

    fn ask_for_reads(&mut self) {
        let Role { leads, leader, term } = self.role;
        // A leader does not know what is committed before an entry of its own term is.
        if leader == 0 || (leads && !self.consensus.committed_in_term()) {
            return;
        }
        if leads && self.consensus.is_sole_voter() {
            self.reads.confirm_waiting(self.consensus.commit());
            return;
        }
        let asked = Asked { leader, term, tick: self.ticks };
        if let Some(counter) = self.reads.ask(self.context_counter + 1, asked) {
            self.context_counter = self.context_counter.max(counter);
            let context = self.context(counter);
            self.consensus.read_index(&context);
        }
    }

    fn read_round_ended(&mut self, context: &[u8], index: u64) {
        let Some(ended) = self.counter_of(context) else { return };
        if matches!(self.leadership, Leadership::Asked { counter, .. } if counter == ended) {
            self.leadership = Leadership::Confirmed;
        }
        self.reads.round_ended(ended, index);
    }

    fn release_reads_held(&mut self) {
        if !self.reads_held.is_empty() && self.role.leads && self.consensus.committed_in_term() {
            for (from, message) in std::mem::take(&mut self.reads_held) {
                self.consensus.step(from, message);
            }
        }
    }

    // --- Leases ---

    /// A leader that has applied all earlier renewals, and was not away since, ends leases whose time is over.
    fn propose_expiries(&mut self, now_ms: u64) {
        if !self.consensus.can_propose() || !self.consensus.applied_in_term() || !self.leases.any_due(now_ms) {
            return;
        }
        match self.leadership {
            Leadership::Confirmed => {}
            Leadership::Asked { tick, .. } if self.ticks < tick + RETRY_TICKS => return,
            Leadership::Asked { .. } | Leadership::Doubtful => {
                self.context_counter += 1;
                self.leadership = Leadership::Asked { counter: self.context_counter, tick: self.ticks };
                let context = self.context(self.context_counter);
                self.consensus.read_index(&context);
                return;
            }
        }
        let retry_ms = now_ms + (EXPIRY_RETRY_TICKS * self.config.tick_ms).max(1);
        let term = self.consensus.term();
        let due = self.leases.take_due(now_ms, retry_ms, EXPIRIES_MAX);
        let commands = due.into_iter().map(|lease| Command {
            id: 0,
            operation: Some(Operation::LeaseExpire(LeaseExpire { id: lease.id, term, renewals: lease.renewals })),
            caller: None,
        });
        self.proposals.add_own(now_ms, commands);
    }

    // --- Other members ---

    fn hear(&mut self, now_ms: u64, from: u64, message: PeerMessage) {
        if self.consensus.members().is_removed(from) {
            return;
        }
        self.failover.gone.remove(&from);
        match message.kind {
            Some(Kind::Raft(message)) => self.hear_raft(from, message),
            Some(Kind::Forward(forward)) => self.hear_forward(now_ms, from, forward),
            Some(Kind::ForwardRejected(rejected)) => {
                self.proposals.forward_rejected(from, &self.config, self.consensus.leader(), &rejected);
            }
            Some(Kind::ForwardRefused(refused)) => self.hear_refusal(from, &refused),
            Some(Kind::RepairRequest(request)) => self.hear_repair_request(from, request),
            // A probe is the transport's own matter.
            Some(Kind::Probe(_)) | None => {}
        }
    }

    fn hear_raft(&mut self, from: u64, message: RaftMessage) {
        match classify(&message) {
            // Comes with the snapshot itself, as an input of its own.
            MessageClass::Snapshot => return,
            MessageClass::ReadIndex if self.consensus.is_leader() && !self.consensus.committed_in_term() => {
                if message.from == from && self.consensus.matched(from).is_some() {
                    self.reads_held.insert(from, message);
                }
                return;
            }
            MessageClass::PreVote if self.consensus.leader() != 0 && self.consensus.leader() != from => {
                self.failover.pre_vote = Some((self.ticks, from, message.clone()));
            }
            MessageClass::ReadIndex | MessageClass::PreVote | MessageClass::Other => {}
        }
        self.consensus.step(from, message);
    }

    fn lose(&mut self, peer: u64, refused: bool) {
        self.consensus.report_unreachable(peer);
        if !refused {
            return;
        }
        self.failover.gone.insert(peer);
        if self.consensus.leader() != peer || self.consensus.is_leader() {
            return;
        }
        self.consensus.forget_leader();
        // Another follower may have noticed before, and was ignored for the sake of the leader: it goes first.
        let rank = self.failover_rank();
        if let Some((tick, from, request)) = self.failover.pre_vote.take()
            && self.ticks <= tick + PRE_VOTE_KEPT_TICKS
        {
            self.consensus.step(from, request);
            self.failover.campaign_in_ticks = Some(rank + 1);
        } else if rank == 0 {
            self.campaign_and_repeat();
        } else {
            self.failover.campaign_in_ticks = Some(rank);
        }
    }

    /// How many voters that are there come before this one.
    fn failover_rank(&self) -> u64 {
        let before = |&voter: &u64| voter < self.config.id && !self.failover.gone.contains(&voter);
        self.consensus.other_voters().into_iter().filter(before).count() as u64
    }

    fn campaign_after_loss(&mut self) {
        match self.failover.campaign_in_ticks {
            Some(0 | 1) => self.campaign_and_repeat(),
            Some(ticks) => self.failover.campaign_in_ticks = Some(ticks - 1),
            None => {}
        }
    }

    /// Repeated apart from the others' attempts, so that two candidates do not split the votes again and again.
    fn campaign_and_repeat(&mut self) {
        self.consensus.campaign();
        let voters = self.consensus.other_voters().len() as u64 + 1;
        self.failover.campaign_in_ticks = Some(voters + self.failover_rank());
    }

    fn send_kind(&mut self, to: u64, kind: Kind) {
        self.effects.push(Effect::Send { to, message: PeerMessage { kind: Some(kind) } });
    }

    fn send(&mut self, messages: Vec<RaftMessage>) {
        for message in messages {
            let to = message.to;
            match &message.snapshot {
                // Nobody is to get a store that is not to be trusted.
                Some(_) if self.is_store_broken() => self.consensus.report_snapshot(to, false),
                Some(meta) => {
                    self.snapshots.pins.insert(to, meta.index);
                    self.effects.push(Effect::SendSnapshot { to, message });
                }
                None => self.send_kind(to, Kind::Raft(message)),
            }
        }
    }

    // --- The log ---

    fn carry_out(&mut self, round: Round) {
        for (context, index) in &round.reads {
            self.read_round_ended(context, *index);
        }
        if let Some(hard_state) = round.hard_state {
            self.hard_state = hard_state;
            self.hard_state_unwritten = Some(hard_state);
        }
        let changes_members = round.committed.iter().any(|entry| matches!(entry.payload, Payload::Members { .. }));
        if changes_members {
            self.hard_state_unwritten = Some(self.hard_state);
        }
        if round.must_sync || changes_members {
            self.write_number += 1;
            if let Some(point) = &round.snapshot {
                // What lies before the snapshot is applied before it; the snapshot holds it durably.
                let held = self.applies_held.drain(..).map(|(_, entries)| Effect::Apply(entries));
                self.effects.extend(held);
                self.installing = Some(point.clone());
                self.effects.push(Effect::InstallSnapshot(point.clone()));
            }
            let persist = Persist {
                number: self.write_number,
                hard_state: self.hard_state_unwritten.take(),
                entries: round.entries,
                snapshot: round.snapshot,
            };
            self.writes.push_back(Write {
                number: self.write_number,
                round: round.number,
                persist: Some(persist),
                messages: round.messages_persisted,
            });
            self.release_writes();
        } else if let Some(last) = self.writes.back_mut() {
            last.round = round.number;
            last.messages.extend(round.messages_persisted);
        } else {
            self.consensus.persisted(round.number);
            self.send(round.messages_persisted);
        }
        self.send(round.messages);
        if !round.committed.is_empty() {
            for entry in &round.committed {
                match &entry.payload {
                    Payload::Commands(batch) => self.proposals.committed(entry.index, batch),
                    Payload::Members { change, .. } => self.change_committed(change),
                    Payload::Empty => {}
                }
            }
            self.hand_out(round.committed, changes_members);
        }
    }

    /// Gives committed entries to the store. A change of members waits until this member durably knows it as committed:
    /// a member that is removed goes for good once the others have applied its removal, and whoever forgot the commitment
    /// in a crash would wait for its vote for ever.
    fn hand_out(&mut self, entries: Vec<CommittedEntry>, changes_members: bool) {
        if changes_members {
            self.applies_held.push_back((self.write_number, entries));
        } else if let Some((number, _)) = self.applies_held.back() {
            self.applies_held.push_back((*number, entries));
        } else {
            self.effects.push(Effect::Apply(entries));
        }
    }

    /// Hands out the writes that no snapshot holds back.
    fn release_writes(&mut self) {
        if self.installing.is_some() {
            return;
        }
        for write in &mut self.writes {
            if let Some(persist) = write.persist.take() {
                self.effects.push(Effect::Persist(persist));
            }
        }
    }

    fn persisted(&mut self, number: u64) {
        let mut messages = Vec::new();
        let mut round = None;
        while self.writes.front().is_some_and(|write| write.number <= number)
            && let Some(write) = self.writes.pop_front()
        {
            assert!(write.persist.is_none(), "write {} was never handed out", write.number);
            round = Some(write.round);
            messages.extend(write.messages);
        }
        while self.applies_held.front().is_some_and(|(held_for, _)| *held_for <= number)
            && let Some((_, entries)) = self.applies_held.pop_front()
        {
            self.effects.push(Effect::Apply(entries));
        }
        let Some(round) = round else { return };
        self.consensus.persisted(round);
        // After a snapshot the store is ahead of what raft was told, until here.
        self.consensus.applied(self.applied);
        let persisted = self.consensus.persisted_index();
        while self.batches_unpersisted.front().is_some_and(|&index| index <= persisted) {
            self.batches_unpersisted.pop_front();
        }
        self.send(messages);
    }

    fn trim(&mut self) {
        let keep_behind =
            self.snapshots.pins.values().copied().chain(self.snapshots.built.map(|(index, _)| index)).min();
        self.consensus.trim(self.config.log_bytes_max, keep_behind.unwrap_or(u64::MAX));
        self.consensus.trim(self.config.log_bytes_max.saturating_mul(CATCH_UP_FACTOR), u64::MAX);
    }

    /// A follower that has caught up from its snapshot needs older entries no more; nor does one that nobody took.
    fn unpin_snapshots(&mut self) {
        let consensus = &self.consensus;
        self.snapshots.pins.retain(|&to, index| consensus.matched(to).is_some_and(|matched| matched < *index));
        let keep_ticks = 2 * self.config.election_ticks as u64;
        let ticks = self.ticks;
        self.snapshots.built.take_if(|(_, built)| ticks > *built + keep_ticks);
    }

    fn truncate_log(&mut self) {
        let up_to = self.checkpointed.min(self.consensus.first_index() - 1);
        if up_to > self.truncated {
            self.truncated = up_to;
            self.effects.push(Effect::TruncateLog { up_to });
        }
    }
}

/// Whether two statuses differ in counters only.
fn same_view(told: &NodeStatus, status: &NodeStatus) -> bool {
    let view = NodeStatus { commit: told.commit, last_index: told.last_index, ..*status };
    view == *told
}

/// The log as the store allows it, and whether it is another one: a snapshot that was installed, but not noted in the log
/// before a crash, replaces it.
fn log_of_store(start: SnapshotPoint, entries: Vec<LogEntry>, store: &StorePoint) -> ((u64, u64), Vec<LogEntry>, bool) {
    assert!(
        start.index <= store.applied_index,
        "the log begins behind {}, the store has applied {} only: files are missing",
        start.index,
        store.applied_index
    );
    let behind_start = store.applied_index - start.index;
    let term = match behind_start.checked_sub(1) {
        None => Some(start.term),
        Some(position) => entries.get(position as usize).map(|entry| entry.term),
    };
    if term == Some(store.applied_term) {
        ((start.index, start.term), entries, false)
    } else {
        ((store.applied_index, store.applied_term), Vec::new(), true)
    }
}
