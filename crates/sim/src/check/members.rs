//! The members as the log makes them: who has a vote, who learns, who is out for good.
//!
//! Written from etcd's rules and not from `store`: the judge's own copy. Every change that a member hands to its store is
//! judged again here, and its verdict must be the same.

use quorate_proto::quoratepb::member_change::Action;
use quorate_proto::quoratepb::{ConfState, MemberChange};
use quorate_store::error::Error;
use std::collections::{BTreeMap, BTreeSet};

/// One member.
#[derive(Clone, Debug)]
struct Known {
    urls: Vec<String>,
    learns: bool,
}

/// The members behind some index.
#[derive(Clone, Debug, Default)]
pub struct MembersModel {
    known: BTreeMap<u64, Known>,
    out: BTreeSet<u64>,
}

/// Where a simulated member is reached.
pub fn url_of(id: u64) -> String {
    format!("http://m{id}:2380")
}

impl MembersModel {
    /// The voters that a cluster begins with: 1 and so on.
    pub fn first(voters: usize) -> Self {
        let known = (1..=voters as u64).map(|id| (id, Known { urls: vec![url_of(id)], learns: false })).collect();
        Self { known, out: BTreeSet::new() }
    }

    /// Whether a member is in.
    pub fn has(&self, id: u64) -> bool {
        self.known.contains_key(&id)
    }

    /// Everybody: id, and whether it learns.
    pub fn list(&self) -> Vec<(u64, bool)> {
        self.known.iter().map(|(id, known)| (*id, known.learns)).collect()
    }

    /// Raft's view of them.
    pub fn conf_state(&self) -> ConfState {
        let of = |learns: bool| {
            self.known.iter().filter(move |(_, known)| known.learns == learns).map(|(id, _)| *id).collect()
        };
        ConfState { voters: of(false), learners: of(true), ..ConfState::default() }
    }

    /// What a change comes to.
    pub fn apply(&mut self, change: &MemberChange) -> Result<(), Error> {
        let wanted = change.member.clone().unwrap_or_default();
        let (id, urls) = (wanted.id, wanted.peer_ur_ls);
        if self.out.contains(&id) || (change.action() != Action::Add && !self.has(id)) {
            return Err(Error::MemberNotFound);
        }
        let taken =
            self.known.iter().any(|(other, known)| *other != id && known.urls.iter().any(|url| urls.contains(url)));
        match change.action() {
            Action::Add if self.has(id) => return Err(Error::MemberExists),
            Action::Add | Action::Update if taken => return Err(Error::PeerUrlExists),
            Action::Add => {
                let learners = self.known.values().filter(|known| known.learns).count() as u64;
                if wanted.is_learner && learners >= u64::from(change.learners_max) {
                    return Err(Error::TooManyLearners);
                }
                self.known.insert(id, Known { urls, learns: wanted.is_learner });
            }
            Action::Update | Action::Promote | Action::Remove => {
                let voters = self.known.values().filter(|known| !known.learns).count();
                let known = self.known.get_mut(&id).expect("looked at above");
                match change.action() {
                    Action::Update => known.urls = urls,
                    Action::Promote if known.learns => known.learns = false,
                    Action::Promote => return Err(Error::MemberNotLearner),
                    _ if !known.learns && voters == 1 => return Err(Error::NotEnoughStartedMembers),
                    _ => {
                        self.known.remove(&id);
                        self.out.insert(id);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::etcdserverpb::Member;

    fn change(action: Action, id: u64, is_learner: bool) -> MemberChange {
        let member = Member { id, is_learner, peer_ur_ls: vec![url_of(id)], ..Member::default() };
        MemberChange { member: Some(member), action: action as i32, learners_max: 1, auto_promote: false }
    }

    #[test]
    fn members_come_are_promoted_go_and_stay_out() {
        let mut model = MembersModel::first(1);
        assert_eq!(model.apply(&change(Action::Remove, 1, false)), Err(Error::NotEnoughStartedMembers));
        assert_eq!(model.apply(&change(Action::Add, 2, true)), Ok(()));
        assert_eq!(model.apply(&change(Action::Add, 3, true)), Err(Error::TooManyLearners));
        assert_eq!(model.apply(&change(Action::Promote, 1, false)), Err(Error::MemberNotLearner));
        assert_eq!(model.apply(&change(Action::Promote, 2, false)), Ok(()));
        assert_eq!(model.conf_state().voters, [1, 2]);
        assert_eq!(model.apply(&change(Action::Remove, 1, false)), Ok(()));
        assert_eq!(model.apply(&change(Action::Add, 1, false)), Err(Error::MemberNotFound));
        assert_eq!(model.list(), [(2, false)]);
    }
}
