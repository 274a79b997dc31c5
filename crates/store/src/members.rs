//! The members of the cluster: who they are, who may come, and who must never come back.
//!
//! Owns the rules of a change and what it does to the table. Knows nothing of quorums, connections or progress: those are
//! the leader's. Invariant: the ids of the table are exactly the voters and learners of raft's configuration, since both
//! change by the same entry; [`Membership::check`] is a pure function of the table and the change, so that every member
//! decides alike.

use crate::error::Error;
use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::member_change::Action;
use quorate_proto::quoratepb::{Command, ConfState, MemberChange};
use std::collections::{BTreeMap, BTreeSet};

/// The members at one place in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Membership {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    auto_promoted: BTreeSet<u64>,
}

impl Membership {
    /// A table with these members, those that were removed, and the learners that are promoted by themselves.
    pub fn new(members: Vec<Member>, removed: Vec<u64>, auto_promoted: Vec<u64>) -> Self {
        Self {
            members: members.into_iter().map(|member| (member.id, member)).collect(),
            removed: removed.into_iter().collect(),
            auto_promoted: auto_promoted.into_iter().collect(),
        }
    }

    /// A member.
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Member> {
        self.members.get_mut(&id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// All of them, by id.
    pub fn to_vec(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    /// Whether a member of this id was removed: it never comes back.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The members that were removed, ascending.
    pub fn removed(&self) -> Vec<u64> {
        self.removed.iter().copied().collect()
    }

    /// The learners that the leader promotes as soon as they have caught up, ascending.
    pub fn auto_promoted(&self) -> Vec<u64> {
        self.auto_promoted.iter().copied().collect()
    }

    /// Whether a change may happen; etcd's rules in etcd's order.
    pub fn check(&self, change: &MemberChange) -> Result<(), Error> {
        let Some(wanted) = &change.member else { return Err(Error::MemberNotFound) };
        let id = wanted.id;
        if id == 0 || self.removed.contains(&id) {
            return Err(Error::MemberNotFound);
        }
        let known = self.members.get(&id);
        match (change.action(), known) {
            (Action::Add, Some(_)) => Err(Error::MemberExists),
            (Action::Add, None) => {
                self.check_urls(wanted)?;
                let learners = self.members.values().filter(|member| member.is_learner).count();
                if wanted.is_learner && learners as u64 >= u64::from(change.learners_max) {
                    return Err(Error::TooManyLearners);
                }
                Ok(())
            }
            (_, None) => Err(Error::MemberNotFound),
            (Action::Update, Some(_)) => self.check_urls(wanted),
            (Action::Promote, Some(known)) if known.is_learner => Ok(()),
            (Action::Promote, Some(_)) => Err(Error::MemberNotLearner),
            (Action::Remove, Some(known)) => {
                let voters = self.members.values().filter(|member| !member.is_learner).count();
                if !known.is_learner && voters == 1 { Err(Error::NotEnoughStartedMembers) } else { Ok(()) }
            }
        }
    }

    /// No URL may lead to two members.
    fn check_urls(&self, wanted: &Member) -> Result<(), Error> {
        let mut others = self.members.values().filter(|member| member.id != wanted.id);
        if others.any(|other| other.peer_ur_ls.iter().any(|url| wanted.peer_ur_ls.contains(url))) {
            return Err(Error::PeerUrlExists);
        }
        Ok(())
    }

    /// Makes the table follow raft's configuration behind a change that was allowed (`None`: raft changed by itself).
    pub fn apply(&mut self, change: Option<&MemberChange>, conf_state: &ConfState) {
        let is_member = |id: u64| {
            let lists = [&conf_state.voters, &conf_state.voters_outgoing, &conf_state.learners];
            lists.iter().any(|list| list.contains(&id))
        };
        if let Some(change) = change
            && let Some(member) = &change.member
            && is_member(member.id)
        {
            match change.action() {
                Action::Add => {
                    self.members.insert(member.id, member.clone());
                    if change.auto_promote && member.is_learner {
                        self.auto_promoted.insert(member.id);
                    }
                }
                Action::Update => {
                    if let Some(known) = self.members.get_mut(&member.id) {
                        known.peer_ur_ls.clone_from(&member.peer_ur_ls);
                    }
                }
                Action::Remove | Action::Promote => {}
            }
        }
        let removed = &mut self.removed;
        self.members.retain(|id, _| is_member(*id) || !removed.insert(*id));
        for (id, member) in &mut self.members {
            member.is_learner = conf_state.learners.contains(id);
        }
        let members = &self.members;
        self.auto_promoted.retain(|id| members.get(id).is_some_and(|member| member.is_learner));
    }
}

/// The change in an encoded command, and the command's id; `None` when it holds no change.
pub fn decode_change(command: Bytes) -> (u64, Option<MemberChange>) {
    match Command::decode(command) {
        Ok(Command { id, operation: Some(Operation::MemberChange(change)), .. }) => (id, Some(change)),
        _ => (0, None),
    }
}

#[cfg(test)]
mod tests;
