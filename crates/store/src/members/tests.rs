//! Who may come, change and go: each rule, and what a change leaves.

use super::*;

fn member(id: u64, is_learner: bool) -> Member {
    Member { id, peer_ur_ls: vec![format!("http://m{id}:2380")], is_learner, ..Member::default() }
}

fn change(action: Action, member: Member) -> MemberChange {
    MemberChange { member: Some(member), action: action as i32, learners_max: 1, auto_promote: false }
}

fn conf(voters: &[u64], learners: &[u64]) -> ConfState {
    ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() }
}

/// Members 1 and 2, learner 3; 9 was removed.
fn table() -> Membership {
    Membership::new(vec![member(1, false), member(2, false), member(3, true)], vec![9], vec![])
}

#[test]
fn each_rule_refuses_with_its_own_word() {
    let url_of_1 = |id, is_learner| Member { peer_ur_ls: member(1, false).peer_ur_ls, ..member(id, is_learner) };
    for (wanted, expected) in [
        (change(Action::Add, member(4, false)), Ok(())),
        (change(Action::Add, member(2, false)), Err(Error::MemberExists)),
        (change(Action::Add, member(9, false)), Err(Error::MemberNotFound)),
        (change(Action::Add, url_of_1(4, false)), Err(Error::PeerUrlExists)),
        (change(Action::Add, url_of_1(4, true)), Err(Error::PeerUrlExists)),
        (change(Action::Add, member(4, true)), Err(Error::TooManyLearners)),
        (change(Action::Promote, member(3, false)), Ok(())),
        (change(Action::Promote, member(2, false)), Err(Error::MemberNotLearner)),
        (change(Action::Promote, member(4, false)), Err(Error::MemberNotFound)),
        (change(Action::Promote, member(9, false)), Err(Error::MemberNotFound)),
        (change(Action::Update, member(2, false)), Ok(())),
        (change(Action::Update, url_of_1(1, false)), Ok(())),
        (change(Action::Update, url_of_1(2, false)), Err(Error::PeerUrlExists)),
        (change(Action::Update, member(4, false)), Err(Error::MemberNotFound)),
        (change(Action::Remove, member(2, false)), Ok(())),
        (change(Action::Remove, member(3, false)), Ok(())),
        (change(Action::Remove, member(9, false)), Err(Error::MemberNotFound)),
        (change(Action::Remove, member(0, false)), Err(Error::MemberNotFound)),
        (MemberChange::default(), Err(Error::MemberNotFound)),
    ] {
        assert_eq!(table().check(&wanted), expected, "{wanted:?}");
    }
    let alone = Membership::new(vec![member(1, false), member(2, true)], vec![], vec![]);
    let last = change(Action::Remove, member(1, false));
    assert_eq!(alone.check(&last), Err(Error::NotEnoughStartedMembers), "somebody has to have a vote");
}

#[test]
fn the_table_follows_the_configuration() {
    let mut table = table();
    table.apply(Some(&change(Action::Add, member(4, false))), &conf(&[1, 2, 4], &[3]));
    assert_eq!(
        table.iter().map(|member| (member.id, member.is_learner)).collect::<Vec<_>>(),
        [(1, false), (2, false), (3, true), (4, false)]
    );
    table.apply(Some(&change(Action::Promote, member(3, false))), &conf(&[1, 2, 3, 4], &[]));
    assert!(!table.get(3).expect("a member").is_learner);
    let moved = Member { peer_ur_ls: vec!["http://elsewhere:1".to_owned()], ..Member::default() };
    table.get_mut(3).expect("a member").name = "three".to_owned();
    table.apply(Some(&change(Action::Update, Member { id: 3, ..moved.clone() })), &conf(&[1, 2, 3, 4], &[]));
    let three = table.get(3).expect("a member");
    assert_eq!((three.name.as_str(), &three.peer_ur_ls), ("three", &moved.peer_ur_ls));
    table.apply(Some(&change(Action::Remove, member(2, false))), &conf(&[1, 3, 4], &[]));
    assert!(table.get(2).is_none() && table.is_removed(2) && table.is_removed(9));
    assert_eq!(table.removed(), [2, 9]);
}

#[test]
fn a_wish_for_promotion_ends_with_it() {
    let mut table = Membership::new(vec![member(1, false)], vec![], vec![]);
    let wish = MemberChange { auto_promote: true, ..change(Action::Add, member(2, true)) };
    table.apply(Some(&wish), &conf(&[1], &[2]));
    assert_eq!(table.auto_promoted(), [2]);
    let mut removed = table.clone();
    removed.apply(Some(&change(Action::Remove, member(2, false))), &conf(&[1], &[]));
    assert!(removed.auto_promoted().is_empty());
    table.apply(Some(&change(Action::Promote, member(2, false))), &conf(&[1, 2], &[]));
    assert!(table.auto_promoted().is_empty());
}
