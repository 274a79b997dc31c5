//! A few nodes, with a network, disks and stores that do nothing on their own: a test says what happens, step by step.
//!
//! The disk keeps what was persisted and forgets the rest at a crash; the store is a list of command ids and leases.

use crate::api::{
    CommittedEntry, Effect, HardState, Input, NodeConfig, Payload, Persist, Refusal, SnapshotPoint, StorePoint,
};
use crate::node::Node;
use crate::wal::Recovered;
use prost::Message as _;
use quorate_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, Member, PutRequest};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::member_change::Action;
use quorate_proto::quoratepb::peer_message::Kind;
use quorate_proto::quoratepb::{
    Command, CommandBatch, ConfState, LeaseRecord, LeaseRenew, LogEntry, MemberChange, PeerMessage, RaftMessage,
};
use quorate_store::members::{Membership, decode_change};
use quorate_store::outcome::LeaseChange;
use std::collections::{BTreeMap, VecDeque};

/// A put with this id; its value has `value_bytes`.
pub(super) fn put(id: u64, value_bytes: usize) -> Command {
    let request =
        PutRequest { key: format!("key{id}").into(), value: vec![b'v'; value_bytes].into(), ..Default::default() };
    Command { id, operation: Some(Operation::Put(request)), caller: None }
}

pub(super) fn grant(id: u64, lease: i64, ttl_s: i64) -> Command {
    Command { id, operation: Some(Operation::LeaseGrant(LeaseGrantRequest { id: lease, ttl: ttl_s })), caller: None }
}

pub(super) fn renew(id: u64, lease: i64) -> Command {
    Command { id, operation: Some(Operation::LeaseRenew(LeaseRenew { id: lease })), caller: None }
}

pub(super) fn revoke(id: u64, lease: i64) -> Command {
    Command { id, operation: Some(Operation::LeaseRevoke(LeaseRevokeRequest { id: lease })), caller: None }
}

pub(super) fn member(id: u64, is_learner: bool) -> Member {
    Member { id, peer_ur_ls: vec![format!("http://m{id}:2380")], is_learner, ..Member::default() }
}

/// A change of members with this command id.
pub(super) fn change(id: u64, action: Action, member: Member, auto_promote: bool) -> Command {
    let change = MemberChange { member: Some(member), action: action as i32, learners_max: 1, auto_promote };
    Command { id, operation: Some(Operation::MemberChange(change)), caller: None }
}

pub(super) fn config(id: u64) -> NodeConfig {
    NodeConfig {
        id,
        election_ticks: 10,
        tick_ms: 100,
        entry_bytes_max: 1 << 20,
        log_bytes_max: 1 << 20,
        waiting_max: 1000,
        waiting_ms_max: 5000,
        seed: 42,
        digest_interval_ms: 0,
        incarnation: 1,
    }
}

/// What a store has come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ModelStore {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) conf_state: ConfState,
    /// Ids of the applied commands, in order.
    pub(super) ids: Vec<u64>,
    /// Granted seconds and renewals.
    pub(super) leases: BTreeMap<i64, (i64, u64)>,
    /// What expiries came to: lease and whether it ended.
    pub(super) expiries: Vec<(i64, bool)>,
    pub(super) members: Membership,
}

impl ModelStore {
    fn apply(&mut self, entry: &CommittedEntry) -> Vec<LeaseChange> {
        assert_eq!(entry.index, self.index + 1, "entries are applied in order");
        assert!(entry.term >= self.term, "terms never fall");
        self.index = entry.index;
        self.term = entry.term;
        match &entry.payload {
            Payload::Empty => Vec::new(),
            Payload::Members { verdict, change } => {
                let (id, change) = decode_change(change.clone());
                if let Ok(conf_state) = verdict {
                    self.members.apply(change.as_ref(), conf_state);
                    self.conf_state = conf_state.clone();
                    self.ids.extend((id != 0).then_some(id));
                }
                Vec::new()
            }
            Payload::Commands(batch) => {
                let batch = CommandBatch::decode(batch.clone()).expect("a batch is a batch");
                batch.commands.iter().filter_map(|command| self.apply_command(command, entry.term)).collect()
            }
        }
    }

    fn apply_command(&mut self, command: &Command, entry_term: u64) -> Option<LeaseChange> {
        if command.id != 0 {
            self.ids.push(command.id);
        }
        match command.operation.as_ref()? {
            Operation::LeaseGrant(grant) => {
                self.leases.insert(grant.id, (grant.ttl, 0));
                Some(LeaseChange::Granted { id: grant.id, ttl_s: grant.ttl, renewals: 0 })
            }
            Operation::LeaseRenew(renew) => {
                let lease = self.leases.get_mut(&renew.id)?;
                lease.1 += 1;
                Some(LeaseChange::Renewed { id: renew.id, renewals: lease.1 })
            }
            Operation::LeaseRevoke(revoke) => {
                self.leases.remove(&revoke.id).map(|_| LeaseChange::Ended { id: revoke.id })
            }
            Operation::LeaseExpire(expire) => {
                let (_, renewals) = *self.leases.get(&expire.id)?;
                let counts = expire.term == entry_term && expire.renewals == renewals;
                self.expiries.push((expire.id, counts));
                if !counts {
                    return None;
                }
                self.leases.remove(&expire.id);
                Some(LeaseChange::Ended { id: expire.id })
            }
            _ => None,
        }
    }

    fn lease_records(&self) -> Vec<LeaseRecord> {
        self.leases.iter().map(|(&id, &(ttl_s, renewals))| LeaseRecord { id, ttl_s, renewals }).collect()
    }

    pub(super) fn point(&self) -> SnapshotPoint {
        SnapshotPoint { index: self.index, term: self.term, conf_state: self.conf_state.clone() }
    }
}

/// What a disk keeps of a log.
#[derive(Clone, Default)]
pub(super) struct ModelLog {
    hard_state: HardState,
    start: SnapshotPoint,
    entries: Vec<LogEntry>,
}

impl ModelLog {
    fn write(&mut self, persist: Persist) {
        if let Some(point) = persist.snapshot {
            self.entries.clear();
            self.start = point;
        }
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = persist.entries.first() {
            let keep = first.index - self.start.index - 1;
            assert!(keep <= self.entries.len() as u64, "a gap in the log");
            self.entries.truncate(keep as usize);
        }
        self.entries.extend(persist.entries);
        let last = self.start.index + self.entries.len() as u64;
        assert!(self.hard_state.commit <= last, "commit {} beyond the last entry {last}", self.hard_state.commit);
    }

    fn truncate(&mut self, up_to: u64) {
        while self.start.index < up_to && !self.entries.is_empty() {
            let entry = self.entries.remove(0);
            self.start = SnapshotPoint { index: entry.index, term: entry.term, ..Default::default() };
        }
    }
}

/// One member and what surrounds it.
pub(super) struct Machine {
    pub(super) config: NodeConfig,
    pub(super) node: Option<Node>,
    pub(super) log: ModelLog,
    pub(super) persists: VecDeque<Persist>,
    pub(super) applies: VecDeque<Vec<CommittedEntry>>,
    pub(super) store: ModelStore,
    /// What a crash leaves of the store.
    pub(super) checkpoint: ModelStore,
    pub(super) arrived: Option<ModelStore>,
    pub(super) built: Option<ModelStore>,
    pub(super) wants_build: bool,
    pub(super) install: Option<SnapshotPoint>,
    pub(super) reads_ready: Vec<u64>,
    pub(super) reads_failed: Vec<u64>,
    pub(super) refused: Vec<(u64, Refusal)>,
}

/// Something on the wire.
#[derive(Clone)]
pub(super) enum Letter {
    Peer(PeerMessage),
    Snapshot(RaftMessage, Box<ModelStore>),
}

/// The world.
pub(super) struct Cluster {
    pub(super) now_ms: u64,
    pub(super) members: BTreeMap<u64, Machine>,
    /// From, to, what.
    pub(super) wire: Vec<(u64, u64, Letter)>,
    /// Taken off the wire for a while.
    pub(super) held: Vec<(u64, u64, Letter)>,
    /// Messages between these are lost.
    pub(super) cut: Vec<(u64, u64)>,
    /// What happened, in words, since it was last taken.
    pub(super) notes: Vec<String>,
}

impl Cluster {
    pub(super) fn new(voters: &[u64], learners: &[u64], change: impl Fn(&mut NodeConfig)) -> Self {
        let mut cluster = Self {
            now_ms: 0,
            members: BTreeMap::new(),
            wire: Vec::new(),
            held: Vec::new(),
            cut: Vec::new(),
            notes: Vec::new(),
        };
        for &id in voters.iter().chain(learners) {
            let conf_state = ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() };
            let mut config = config(id);
            change(&mut config);
            let first = voters.iter().map(|&id| member(id, false)).chain(learners.iter().map(|&id| member(id, true)));
            let members = Membership::new(first.collect(), vec![], vec![]);
            cluster.add(config, ModelStore { conf_state, members, ..ModelStore::default() });
        }
        cluster
    }

    pub(super) fn add(&mut self, config: NodeConfig, store: ModelStore) {
        let id = config.id;
        let machine = Machine {
            config,
            node: None,
            log: ModelLog::default(),
            persists: VecDeque::new(),
            applies: VecDeque::new(),
            checkpoint: store.clone(),
            store,
            arrived: None,
            built: None,
            wants_build: false,
            install: None,
            reads_ready: Vec::new(),
            reads_failed: Vec::new(),
            refused: Vec::new(),
        };
        self.members.insert(id, machine);
        self.start(id);
    }

    pub(super) fn member(&mut self, id: u64) -> &mut Machine {
        self.members.get_mut(&id).expect("a member of this id")
    }

    pub(super) fn node(&self, id: u64) -> &Node {
        self.members[&id].node.as_ref().expect("it runs")
    }

    pub(super) fn running(&self) -> Vec<u64> {
        self.members.iter().filter(|(_, member)| member.node.is_some()).map(|(&id, _)| id).collect()
    }

    /// Starts a member from what its disk has.
    pub(super) fn start(&mut self, id: u64) {
        let now_ms = self.now_ms;
        let member = self.member(id);
        let store = &member.checkpoint;
        let point = StorePoint {
            applied_index: store.index,
            applied_term: store.term,
            conf_state: store.conf_state.clone(),
            leases: store.lease_records(),
            members: store.members.clone(),
        };
        let recovered = Recovered {
            hard_state: member.log.hard_state,
            entries: member.log.entries.clone(),
            start: member.log.start.clone(),
            clean: false,
        };
        member.store = store.clone();
        member.node = Some(Node::new(member.config.clone(), recovered, point, now_ms));
        self.collect(id);
    }

    /// Takes a member's power away: what is not durable is lost.
    pub(super) fn crash(&mut self, id: u64) {
        let member = self.member(id);
        member.node = None;
        member.persists.clear();
        member.applies.clear();
        member.config.incarnation += 1;
        member.wants_build = false;
        member.install = None;
        member.arrived = None;
        member.built = None;
    }

    /// Gives a member an input and takes its effects.
    pub(super) fn input(&mut self, id: u64, input: Input) {
        let now_ms = self.now_ms;
        if let Some(node) = &mut self.member(id).node {
            node.handle(now_ms, input);
            self.collect(id);
        }
    }

    pub(super) fn collect(&mut self, id: u64) {
        let now_ms = self.now_ms;
        let Some(node) = &mut self.member(id).node else { return };
        for effect in node.effects(now_ms) {
            let words = super::scripts::words(id, &effect);
            self.notes.push(words);
            let member = self.members.get_mut(&id).expect("it was there");
            match effect {
                Effect::Persist(persist) => member.persists.push_back(persist),
                Effect::Send { to, message } => self.wire.push((id, to, Letter::Peer(message))),
                Effect::SendSnapshot { to, message } => {
                    let store = member.built.clone().expect("a snapshot was built");
                    self.wire.push((id, to, Letter::Snapshot(message, Box::new(store))));
                }
                Effect::Apply(entries) => member.applies.push_back(entries),
                Effect::BuildSnapshot => member.wants_build = true,
                Effect::InstallSnapshot(point) => member.install = Some(point),
                Effect::TruncateLog { up_to } => {
                    assert!(up_to <= member.checkpoint.index, "the log is still needed for start-up");
                    member.log.truncate(up_to);
                }
                Effect::ReadReady { tickets } => member.reads_ready.extend(tickets),
                Effect::ReadFailed { tickets, .. } => member.reads_failed.extend(tickets),
                Effect::Refused { ids, reason } => member.refused.extend(ids.into_iter().map(|id| (id, reason))),
                Effect::LeaseRemaining { .. } | Effect::Status(_) => {}
            }
        }
    }

    /// Delivers a letter of the wire.
    pub(super) fn deliver(&mut self, position: usize) {
        let (from, to, letter) = self.wire.remove(position);
        self.hand_over(from, to, letter);
    }

    /// Takes the letters between two members off the wire.
    pub(super) fn hold(&mut self, from: u64, to: u64) {
        let (held, wire) =
            std::mem::take(&mut self.wire).into_iter().partition(|letter| (letter.0, letter.1) == (from, to));
        self.wire = wire;
        self.held = held;
    }

    /// Loses a letter of the wire. The sender of a snapshot notices.
    pub(super) fn lose(&mut self, position: usize) {
        let (from, to, letter) = self.wire.remove(position);
        if let Letter::Snapshot(..) = letter {
            self.input(from, Input::SnapshotSent { to, delivered: false });
        }
    }

    pub(super) fn hand_over(&mut self, from: u64, to: u64, letter: Letter) {
        let lost = self.cut.contains(&(from, to)) || self.members.get(&to).is_none_or(|member| member.node.is_none());
        match letter {
            Letter::Peer(message) if !lost => self.input(to, Input::Peer { from, message }),
            Letter::Peer(_) => {}
            Letter::Snapshot(message, store) => {
                if !lost {
                    if self.member(to).install.is_none() {
                        self.member(to).arrived = Some(*store);
                    }
                    self.input(to, Input::SnapshotArrived { message });
                }
                self.input(from, Input::SnapshotSent { to, delivered: !lost });
            }
        }
    }

    /// Makes a member's oldest write durable.
    pub(super) fn persist_one(&mut self, id: u64) -> bool {
        let member = self.member(id);
        let Some(persist) = member.persists.pop_front() else { return false };
        let number = persist.number;
        member.log.write(persist);
        self.input(id, Input::Persisted { number });
        true
    }

    /// Lets a member's store apply what was handed to it first.
    pub(super) fn apply_one(&mut self, id: u64) -> bool {
        let member = self.member(id);
        let Some(entries) = member.applies.pop_front() else { return false };
        let leases = entries.iter().flat_map(|entry| member.store.apply(entry)).collect();
        let index = member.store.index;
        self.input(id, Input::Applied { index, leases });
        true
    }

    pub(super) fn checkpoint(&mut self, id: u64) {
        let member = self.member(id);
        member.checkpoint = member.store.clone();
        let index = member.store.index;
        self.input(id, Input::Checkpointed { index });
    }

    pub(super) fn build_one(&mut self, id: u64) -> bool {
        let member = self.member(id);
        if !std::mem::take(&mut member.wants_build) {
            return false;
        }
        member.built = Some(member.store.clone());
        let point = member.store.point();
        self.input(id, Input::SnapshotBuilt(point));
        true
    }

    pub(super) fn install_one(&mut self, id: u64) -> bool {
        let member = self.member(id);
        // The store applies what was handed out before, first.
        if member.install.is_none() || !member.applies.is_empty() {
            return false;
        }
        let point = member.install.take().expect("it was there");
        let store = member.arrived.take().expect("only what arrived is installed");
        assert_eq!(store.point(), point);
        member.checkpoint = store.clone();
        member.store = store;
        let leases = member.store.lease_records();
        let members = member.store.members.clone();
        self.input(id, Input::SnapshotInstalled { point, leases, members });
        true
    }

    /// Everything happens until nothing more does.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            if !self.wire.is_empty() {
                self.deliver(0);
                busy = true;
            }
            for id in self.running() {
                busy |= self.persist_one(id) | self.apply_one(id) | self.build_one(id) | self.install_one(id);
            }
            if !busy {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// One tick for everybody, and everything that follows.
    pub(super) fn tick_all(&mut self) {
        self.now_ms += 100;
        for id in self.running() {
            self.input(id, Input::Tick);
        }
        self.settle();
    }

    /// Makes one member lead: the leader hands over to it, or it is the first one whose election timeout is over.
    pub(super) fn elect(&mut self, id: u64) {
        if let Some(leader) = self.leader() {
            self.input(leader, Input::TransferLeader { to: id });
            self.settle();
        }
        for tick in 0..30 {
            if self.node(id).status().leader == id {
                return;
            }
            self.now_ms += 100;
            self.input(id, Input::Tick);
            // The others' promise to a lost leader runs out, but not their patience.
            for other in self.running().into_iter().filter(|&other| other != id && tick < 10) {
                self.input(other, Input::Tick);
            }
            self.settle();
        }
        panic!("member {id} is never elected");
    }

    pub(super) fn leader(&self) -> Option<u64> {
        self.running().into_iter().find(|&id| self.node(id).status().leader == id)
    }
}

/// What kind of message it is, for filters.
pub(super) fn is_raft(letter: &Letter) -> bool {
    matches!(letter, Letter::Peer(PeerMessage { kind: Some(Kind::Raft(_)) }) | Letter::Snapshot(..))
}
