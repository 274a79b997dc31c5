//! A store that is not to be trusted: how the members find out, and how the one gets another store from the others.
//!
//! Owns the intervals of the rounds of digests, the alarm that a member raises over itself, and the asking for a repair.
//! Does not own the verdict ([`quorate_store`]'s, from the log) nor the holding back of entries ([`crate::held`], at the
//! store). Raft's log is not concerned: a member whose store is broken goes on voting and acknowledging entries, so that
//! a repair takes nothing from the quorum. Invariant: the store is replaced only by one that has applied at least as much.

use super::Node;
use crate::api::{Effect, SnapshotPoint};
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::{AlarmRequest, AlarmType};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::peer_message::Kind;
use quorate_proto::quoratepb::{Command, DigestCheck, DigestReport, RaftMessage, RepairRequest, SnapshotMeta};
use quorate_store::auth::cluster_caller;
use std::collections::BTreeMap;

/// The kind of message that comes with a store for a repair. Raft knows no such kind and is never asked.
const REPAIR: u32 = 1_000;
/// A request for a repair is repeated, to the next member, after so many election timeouts: by then a small store has
/// arrived, and for a large one the repeated request is refused by the receiver itself.
const ASK_ELECTIONS: u64 = 10;

/// Whether the store may be trusted, and what is done about it.
#[derive(Default)]
pub(super) struct Integrity {
    is_broken: bool,
    /// Whether the alarm of this member stands in what was applied.
    is_alarmed: bool,
    /// The store that is becoming this member's.
    installing: Option<SnapshotPoint>,
    /// Ticks at which to ask again, for the alarm and for the repair.
    alarm_tick: u64,
    ask_tick: u64,
    /// Members asked so far.
    asked: usize,
    /// Who asked this member for its store, and what it must hold. One per member.
    askers: BTreeMap<u64, u64>,
    rounds: Rounds,
}

/// When a leader opens a round.
#[derive(Default)]
struct Rounds {
    next_ms: u64,
    /// The commit index when the newest round was opened; `None` once it was compared.
    opened_at: Option<u64>,
    /// The commit index after the newest round, if nothing but the round came since: then there is nothing to compare.
    idle_at: Option<u64>,
}

/// Whether a message brings a store for a repair.
pub(super) fn is_repair(message: &RaftMessage) -> bool {
    message.message_type == REPAIR
}

fn alarm(member_id: u64, action: AlarmAction) -> Command {
    let request = AlarmRequest { action: action as i32, member_id, alarm: AlarmType::Corrupt as i32 };
    Command { id: 0, operation: Some(Operation::Alarm(request)), caller: Some(cluster_caller()) }
}

impl Node {
    /// The store turned out wrong, and has stopped applying.
    pub(super) fn store_broken(&mut self, now_ms: u64) {
        if !std::mem::replace(&mut self.integrity.is_broken, true) {
            self.integrity.alarm_tick = self.ticks;
            self.integrity.ask_tick = self.ticks;
            self.tend_store(now_ms);
        }
    }

    /// Whether the alarm over this member stands.
    pub(super) fn own_alarm(&mut self, stands: bool) {
        if std::mem::replace(&mut self.integrity.is_alarmed, stands) != stands {
            self.integrity.alarm_tick = self.ticks;
        }
    }

    /// A round was opened, and this is what the store came to there.
    pub(super) fn report_digest(&mut self, now_ms: u64, index: u64, digest: u64) {
        let report = DigestReport { member_id: self.config.id, index, digest };
        let command = Command { id: 0, operation: Some(Operation::DigestReport(report)), caller: None };
        self.proposals.add_own(now_ms, std::iter::once(command));
    }

    /// Whether this member must not give its store to others.
    pub(super) fn is_store_broken(&self) -> bool {
        self.integrity.is_broken
    }

    /// Each tick: rounds, the alarm, the repair.
    pub(super) fn tend_integrity(&mut self, now_ms: u64) {
        self.open_round(now_ms);
        self.tend_store(now_ms);
    }

    fn open_round(&mut self, now_ms: u64) {
        let interval_ms = self.config.digest_interval_ms;
        let commit = self.consensus.commit();
        let rounds = &mut self.integrity.rounds;
        if interval_ms == 0 || !self.consensus.can_propose() {
            *rounds = Rounds { next_ms: now_ms.saturating_add(interval_ms), ..Rounds::default() };
            return;
        }
        // Halfway all reports are there. If little else was committed since, the next round waits for more.
        if let Some(opened_at) = rounds.opened_at
            && now_ms.saturating_add(interval_ms / 2) >= rounds.next_ms
        {
            rounds.opened_at = None;
            let round = 1 + self.consensus.members().iter().count() as u64;
            rounds.idle_at = (commit <= opened_at + round).then_some(commit);
        }
        if now_ms < rounds.next_ms {
            return;
        }
        rounds.next_ms = now_ms.saturating_add(interval_ms);
        if rounds.idle_at != Some(commit) {
            rounds.opened_at = Some(commit);
            let command = Command { id: 0, operation: Some(Operation::DigestCheck(DigestCheck {})), caller: None };
            self.proposals.add_own(now_ms, std::iter::once(command));
        }
    }

    fn tend_store(&mut self, now_ms: u64) {
        let election_ticks = self.config.election_ticks as u64;
        if self.integrity.is_broken != self.integrity.is_alarmed && self.ticks >= self.integrity.alarm_tick {
            self.integrity.alarm_tick = self.ticks + election_ticks;
            let action = if self.integrity.is_broken { AlarmAction::Activate } else { AlarmAction::Deactivate };
            let command = alarm(self.config.id, action);
            self.proposals.add_own(now_ms, std::iter::once(command));
        }
        if self.integrity.is_broken && !self.is_repairing() && self.ticks >= self.integrity.ask_tick {
            self.integrity.ask_tick = self.ticks + ASK_ELECTIONS * election_ticks;
            self.ask_for_repair();
        }
    }

    /// Asks the leader first, then one member after the other. Who leads hands over: it cannot serve its clients.
    fn ask_for_repair(&mut self) {
        let own = self.config.id;
        let leader = self.consensus.leader();
        let mut others: Vec<u64> = self.consensus.members().iter().map(|member| member.id).collect();
        others.retain(|&member| member != own);
        others.sort_unstable_by_key(|&member| (member != leader, member));
        if others.is_empty() {
            return;
        }
        self.consensus.transfer_leader(0);
        let to = others[self.integrity.asked % others.len()];
        self.integrity.asked += 1;
        self.send_kind(to, Kind::RepairRequest(RepairRequest { index: self.applied }));
    }

    /// A member asks for this one's store.
    pub(super) fn hear_repair_request(&mut self, from: u64, request: RepairRequest) {
        if self.consensus.members().get(from).is_some() {
            self.integrity.askers.insert(from, request.index);
        }
    }

    /// Whether a snapshot is to be built for somebody's repair.
    pub(super) fn wants_repair_built(&self) -> bool {
        !self.integrity.is_broken && self.integrity.askers.values().any(|&index| index <= self.applied)
    }

    /// Sends the store to those who asked for it and get along with what it holds.
    pub(super) fn send_repairs(&mut self, point: &SnapshotPoint) {
        let (ready, waiting) = std::mem::take(&mut self.integrity.askers)
            .into_iter()
            .partition(|&(_, index)| index <= point.index && !self.integrity.is_broken);
        self.integrity.askers = waiting;
        let ready: BTreeMap<u64, u64> = ready;
        for to in ready.into_keys() {
            let snapshot =
                SnapshotMeta { index: point.index, term: point.term, conf_state: Some(point.conf_state.clone()) };
            let message = RaftMessage {
                message_type: REPAIR,
                from: self.config.id,
                to,
                snapshot: Some(snapshot),
                ..RaftMessage::default()
            };
            self.effects.push(Effect::SendSnapshot { to, message });
        }
    }

    /// A store for a repair arrived: it becomes this member's, if it is still wanted and holds enough.
    pub(super) fn repair_arrived(&mut self, message: &RaftMessage) {
        let Some(meta) = &message.snapshot else { return };
        let is_wanted = self.integrity.is_broken && self.integrity.installing.is_none() && self.installing.is_none();
        if is_wanted && meta.index >= self.applied {
            let conf_state = meta.conf_state.clone().unwrap_or_default();
            let point = SnapshotPoint { index: meta.index, term: meta.term, conf_state };
            self.integrity.installing = Some(point.clone());
            self.effects.push(Effect::InstallSnapshot(point));
        }
    }

    /// Whether a store for a repair is becoming this member's: nothing else may meanwhile.
    pub(super) fn is_repairing(&self) -> bool {
        self.integrity.installing.is_some()
    }

    /// The store is another one; answers whether that was a repair.
    pub(super) fn store_replaced(&mut self, index: u64) -> bool {
        self.integrity.is_broken = false;
        self.integrity.alarm_tick = self.ticks;
        let is_repair = self.integrity.installing.take_if(|point| point.index == index).is_some();
        if is_repair {
            // What was asked of the store before is forgotten with it.
            self.snapshots.building = false;
        }
        is_repair
    }
}
