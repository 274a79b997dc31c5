//! Changes of members: when the leader proposes one, which one it refuses, and which it asks for by itself.
//!
//! Owns the leader's judgement of progress (is the learner ready?) and its turn (one change at a time). The rules that
//! every member decides alike are [`quorate_store::members`]'s. Invariant: a leader never proposes its own removal: it
//! hands over first, and its successor does.

use super::Node;
use crate::api::{Effect, Refusal};
use crate::consensus::MembersStep;
use crate::proposals::Origin;
use bytes::Bytes;
use prost::Message as _;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::forward_refused::Reason;
use quorate_proto::quoratepb::member_change::Action;
use quorate_proto::quoratepb::peer_message::Kind;
use quorate_proto::quoratepb::{Command, ForwardRefused, MemberChange};
use quorate_store::members::decode_change;

/// Raft's numbers of its kinds of changes.
const MAKE_VOTER: u32 = 0;
const REMOVE: u32 = 1;
const MAKE_LEARNER: u32 = 2;
/// A learner is ready when it has so many tenths of the leader's log, as in etcd.
const READY_TENTHS: u64 = 9;

/// What a leader remembers between ticks.
#[derive(Default)]
pub(super) struct Changes {
    /// The commit index one tick ago: a learner that has as much has caught up. `None` in a leader's first tick.
    commit_before: Option<u64>,
    /// When leadership was handed over for the sake of a removal, in ticks.
    handed_over: Option<u64>,
}

/// What becomes of a change that waits.
enum Judgement {
    Propose(MembersStep),
    Refuse(Refusal),
    /// It is this leader's own removal.
    HandOver,
}

impl Node {
    /// Proposes the changes that wait, one at a time.
    pub(super) fn move_changes(&mut self) {
        while self.consensus.can_change_members()
            && let Some(command) = self.proposals.next_change()
        {
            let Some(Operation::MemberChange(change)) = &command.operation else {
                unreachable!("the queue of changes holds changes")
            };
            match self.judge(change) {
                Judgement::Propose(step) => {
                    let context = Bytes::from(command.encode_to_vec());
                    if !self.consensus.propose_change(step, context) {
                        return;
                    }
                    self.proposals.take_change();
                }
                Judgement::Refuse(reason) => {
                    if let Some((id, origin)) = self.proposals.take_change() {
                        self.refuse_change(id, origin, reason);
                    }
                }
                Judgement::HandOver => {
                    let retry_ticks = 2 * self.config.election_ticks as u64;
                    if self.changes.handed_over.is_none_or(|tick| self.ticks >= tick + retry_ticks) {
                        self.changes.handed_over = Some(self.ticks);
                        self.consensus.transfer_leader(0);
                    }
                    return;
                }
            }
        }
    }

    fn judge(&self, change: &MemberChange) -> Judgement {
        let members = self.consensus.members();
        let id = change.member.as_ref().map_or(0, |member| member.id);
        let is_learner = match change.action() {
            Action::Add => change.member.as_ref().is_some_and(|member| member.is_learner),
            Action::Update => members.get(id).is_some_and(|member| member.is_learner),
            Action::Promote | Action::Remove => false,
        };
        match change.action() {
            Action::Remove if id == self.config.id && members.check(change).is_ok() => return Judgement::HandOver,
            Action::Promote => {
                let own = self.consensus.matched(self.config.id).unwrap_or(0);
                match self.consensus.matched(id) {
                    None => return Judgement::Refuse(Refusal::MemberNotFound),
                    Some(matched) if matched * 10 < own * READY_TENTHS => {
                        return Judgement::Refuse(Refusal::LearnerNotReady);
                    }
                    Some(_) => {}
                }
            }
            Action::Add | Action::Remove | Action::Update => {}
        }
        let change_type = match change.action() {
            Action::Remove => REMOVE,
            _ if is_learner => MAKE_LEARNER,
            _ => MAKE_VOTER,
        };
        Judgement::Propose(MembersStep { change_type, node_id: id })
    }

    fn refuse_change(&mut self, id: u64, origin: Origin, reason: Refusal) {
        match origin {
            Origin::Here if id == 0 => {}
            Origin::Here => self.effects.push(Effect::Refused { ids: vec![id], reason }),
            Origin::Forwarded { from, incarnation, .. } => {
                let reason = match reason {
                    Refusal::LearnerNotReady => Reason::LearnerNotReady,
                    _ => Reason::MemberNotFound,
                };
                self.send_kind(from, Kind::ForwardRefused(ForwardRefused { id, incarnation, reason: reason as i32 }));
            }
        }
    }

    /// The leader will not propose what was forwarded to it.
    pub(super) fn hear_refusal(&mut self, from: u64, refused: &ForwardRefused) {
        if self.proposals.forward_refused(from, &self.config, refused) {
            let reason = match refused.reason() {
                Reason::LearnerNotReady => Refusal::LearnerNotReady,
                Reason::MemberNotFound => Refusal::MemberNotFound,
            };
            self.effects.push(Effect::Refused { ids: vec![refused.id], reason });
        }
    }

    /// A change goes to the store, whatever its verdict.
    pub(super) fn change_committed(&mut self, change: &Bytes) {
        let (id, _) = decode_change(change.clone());
        self.proposals.committed_change(id);
    }

    /// Promotes a learner that asked for it and holds everything that was committed one tick ago.
    pub(super) fn promote_caught_up(&mut self, now_ms: u64) {
        let Some(caught_up) = self.changes.commit_before.replace(self.consensus.commit()) else { return };
        if !self.consensus.can_change_members() || self.proposals.next_change().is_some() {
            return;
        }
        let is_ready =
            |&id: &u64| self.consensus.is_active(id) && self.consensus.matched(id).is_some_and(|has| has >= caught_up);
        if let Some(id) = self.consensus.members().auto_promoted().into_iter().find(is_ready) {
            let member = Some(Member { id, ..Member::default() });
            let change = MemberChange { member, action: Action::Promote as i32, ..MemberChange::default() };
            let command = Command { id: 0, operation: Some(Operation::MemberChange(change)), caller: None };
            self.proposals.add_own(now_ms, std::iter::once(command));
        }
    }
}
