//! Rounds of digests: every member tells, in the log, what its state comes to at one place of the log.
//!
//! Owns the reports of the newest round and the verdict over them. Knows nothing of intervals or repairs. Invariant: the
//! verdict is a pure function of the log and the table of members, so that all members, the wrong one included, name the
//! same ones. The majority of the voters is right; without one nobody is.

use crate::members::Membership;
use quorate_proto::quoratepb::{DigestReport, DigestRound};
use std::collections::BTreeMap;

/// The newest round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// The entry that opened it; 0: there was none.
    index: u64,
    reports: BTreeMap<u64, u64>,
}

/// What a report led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is known to be wrong.
    None,
    /// These members differ from the majority.
    Differing(Vec<u64>),
    /// All voters have spoken, and no majority of them agrees.
    Undecidable,
}

impl Round {
    pub(crate) fn load(record: Option<&DigestRound>) -> Self {
        let Some(record) = record else { return Self::default() };
        let reports = record.reports.iter().map(|report| (report.member_id, report.digest)).collect();
        Self { index: record.index, reports }
    }

    pub(crate) fn record(&self) -> Option<DigestRound> {
        let report = |(&member_id, &digest): (&u64, &u64)| DigestReport { member_id, index: self.index, digest };
        (self.index != 0).then(|| DigestRound { index: self.index, reports: self.reports.iter().map(report).collect() })
    }

    /// A new round begins at this entry; what is missing of the one before is not waited for.
    pub(crate) fn open(&mut self, index: u64) {
        self.index = index;
        self.reports.clear();
    }

    /// Takes a member's word; the first one counts.
    pub(crate) fn take(&mut self, report: &DigestReport, members: &Membership) -> Verdict {
        let is_new = report.index == self.index
            && members.get(report.member_id).is_some()
            && !self.reports.contains_key(&report.member_id);
        if !is_new {
            return Verdict::None;
        }
        self.reports.insert(report.member_id, report.digest);
        let voters: Vec<u64> = members.iter().filter(|member| !member.is_learner).map(|member| member.id).collect();
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        for digest in voters.iter().filter_map(|voter| self.reports.get(voter)) {
            *votes.entry(*digest).or_default() += 1;
        }
        let majority = voters.len() / 2 + 1;
        if let Some(right) = votes.iter().find(|(_, count)| **count >= majority).map(|(digest, _)| *digest) {
            let differs = |(&member, &digest): (&u64, &u64)| (digest != right).then_some(member);
            let differing: Vec<u64> = self.reports.iter().filter_map(differs).collect();
            return if differing.is_empty() { Verdict::None } else { Verdict::Differing(differing) };
        }
        if voters.iter().all(|voter| self.reports.contains_key(voter)) { Verdict::Undecidable } else { Verdict::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::etcdserverpb::Member;

    fn members(voters: &[u64], learners: &[u64]) -> Membership {
        let member = |id: u64, is_learner| Member { id, is_learner, ..Member::default() };
        let all = voters.iter().map(|&id| member(id, false)).chain(learners.iter().map(|&id| member(id, true)));
        Membership::new(all.collect(), vec![], vec![])
    }

    fn round(reports: &[(u64, u64)], members: &Membership) -> (Round, Verdict) {
        let mut round = Round::default();
        round.open(7);
        let mut last = Verdict::None;
        for &(member_id, digest) in reports {
            last = round.take(&DigestReport { member_id, index: 7, digest }, members);
        }
        (round, last)
    }

    #[test]
    fn the_one_that_differs_from_the_majority_is_named_whenever_it_speaks() {
        let three = members(&[1, 2, 3], &[]);
        assert_eq!(round(&[(1, 5), (2, 5)], &three).1, Verdict::None);
        assert_eq!(round(&[(1, 5), (2, 5), (3, 6)], &three).1, Verdict::Differing(vec![3]));
        assert_eq!(round(&[(3, 6), (1, 5)], &three).1, Verdict::None, "one against one");
        assert_eq!(round(&[(3, 6), (1, 5), (2, 5)], &three).1, Verdict::Differing(vec![3]));
        let learning = members(&[1], &[2]);
        assert_eq!(round(&[(2, 6), (1, 5)], &learning).1, Verdict::Differing(vec![2]), "a learner has no vote");
    }

    #[test]
    fn without_a_majority_nobody_is_right() {
        assert_eq!(round(&[(1, 5), (2, 6)], &members(&[1, 2], &[])).1, Verdict::Undecidable);
        let three = members(&[1, 2, 3], &[]);
        assert_eq!(round(&[(1, 5), (2, 6), (3, 7)], &three).1, Verdict::Undecidable);
        let four = members(&[1, 2, 3, 4], &[]);
        assert_eq!(round(&[(1, 5), (2, 6), (3, 5)], &four).1, Verdict::None);
        assert_eq!(round(&[(1, 5), (2, 6), (3, 5), (4, 6)], &four).1, Verdict::Undecidable);
    }

    #[test]
    fn only_the_first_word_of_a_member_in_the_newest_round_counts() {
        let three = members(&[1, 2, 3], &[]);
        let (mut round, _) = round(&[(1, 5), (2, 5)], &three);
        let report = |member_id, index, digest| DigestReport { member_id, index, digest };
        assert_eq!(round.take(&report(2, 7, 6), &three), Verdict::None, "a second word");
        assert_eq!(round.take(&report(3, 6, 6), &three), Verdict::None, "an older round");
        assert_eq!(round.take(&report(9, 7, 6), &three), Verdict::None, "no member");
        assert_eq!(Round::load(round.record().as_ref()), round);
        assert_eq!(round.take(&report(3, 7, 6), &three), Verdict::Differing(vec![3]));
        round.open(8);
        assert_eq!(round.take(&report(3, 8, 6), &three), Verdict::None);
        assert_eq!(Round::default().record(), None);
    }
}
