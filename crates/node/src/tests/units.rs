//! What a script cannot show.

use super::cluster::{Cluster, Letter, put, renew, revoke};
use crate::api::{Input, Refusal};
use bytes::Bytes;
use quorate_proto::quoratepb::peer_message::Kind;
use quorate_proto::quoratepb::{LogEntry, PeerMessage, RaftMessage};

/// Raft's numbers of message types.
const APPEND: u32 = 3;
const APPENDED: u32 = 4;

/// The same seed and inputs give the same effects, to the letter.
#[test]
fn a_run_repeats_itself() {
    let run = || {
        let mut cluster = Cluster::new(&[1, 2, 3], &[], |_| {});
        for round in 0..60 {
            cluster.tick_all();
            if let Some(leader) = cluster.leader() {
                cluster.input(leader, Input::Propose(vec![put(round + 1, 10)]));
                if round == 30 {
                    cluster.crash(leader);
                }
            }
        }
        cluster.notes
    };
    assert_eq!(run(), run());
}

fn appends(cluster: &Cluster, to: u64) -> Vec<RaftMessage> {
    let of_letter = |(_, receiver, letter): &(u64, u64, Letter)| match letter {
        Letter::Peer(PeerMessage { kind: Some(Kind::Raft(message)) })
            if *receiver == to && message.message_type == APPEND =>
        {
            Some(message.clone())
        }
        _ => None,
    };
    cluster.wire.iter().filter_map(of_letter).collect()
}

/// Raft glues entries to an append that waits to be sent. If that one is empty and the receiver's position was corrected
/// in between, the entries would not follow it, and the receiver would acknowledge what it lacks.
#[test]
fn an_append_never_carries_entries_that_do_not_follow_it() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[], |_| {});
    cluster.elect(1);
    cluster.cut = vec![(1, 2), (2, 1)];
    for id in 1..=5 {
        cluster.input(1, Input::Propose(vec![put(id, 10)]));
        // Optimistic appends to 2 get lost, and 3 acknowledges.
        cluster.settle();
    }
    cluster.cut.clear();
    cluster.input(1, Input::Propose(vec![put(6, 10)]));
    let lost = appends(&cluster, 2).pop().expect("2 is sent the newest entry");
    while let Some(position) = cluster.wire.iter().position(|letter| letter.1 == 3) {
        cluster.deliver(position);
    }
    cluster.wire.clear();
    while cluster.persist_one(3) {}
    while cluster.persist_one(1) {}
    let commit = cluster.wire.iter().position(|letter| letter.1 == 1).expect("3 acknowledged");
    let (_, _, acknowledged) = cluster.wire.remove(commit);
    let Letter::Peer(acknowledged) = acknowledged else { panic!("an acknowledgement") };
    cluster.wire.clear();
    // In one go: the commitment, which queues an empty append to 2, and the rejection of an earlier append by 2.
    let rejection = RaftMessage {
        message_type: APPENDED,
        from: 2,
        to: 1,
        term: lost.term,
        index: lost.index,
        reject: true,
        reject_hint: 1,
        log_term: 1,
        commit: 1,
        ..RaftMessage::default()
    };
    let node = cluster.member(1).node.as_mut().expect("it runs");
    node.handle(0, Input::Peer { from: 3, message: acknowledged });
    node.handle(0, Input::Peer { from: 2, message: PeerMessage { kind: Some(Kind::Raft(rejection)) } });
    cluster.collect(1);
    for message in appends(&cluster, 2) {
        let first = message.entries.first().map_or(message.index + 1, |entry| entry.index);
        assert_eq!(first, message.index + 1, "{message:?}");
    }
    for _ in 0..5 {
        cluster.tick_all();
    }
    assert_eq!(cluster.members[&2].store.ids, [1, 2, 3, 4, 5, 6], "2 gets everything in the end");
}

/// What no member sends is dropped, and a follower takes no append with a gap.
#[test]
fn messages_that_break_the_protocol_are_dropped() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[], |_| {});
    cluster.elect(1);
    let term = cluster.node(1).status().term;
    let entry = |index| LogEntry { term, index, data: Bytes::from_static(b"x"), ..LogEntry::default() };
    let base = RaftMessage { from: 1, to: 2, term, ..RaftMessage::default() };
    let broken = [
        RaftMessage { message_type: APPEND, index: 1, log_term: 1, entries: vec![entry(3)], ..base.clone() },
        RaftMessage { message_type: APPEND, index: 1, log_term: 1, entries: vec![entry(2), entry(4)], ..base.clone() },
        RaftMessage { message_type: APPEND, from: 3, index: 1, log_term: 1, ..base.clone() },
        RaftMessage { message_type: 0, ..base.clone() },
        RaftMessage { message_type: 2, entries: vec![entry(2)], ..base.clone() },
        RaftMessage { message_type: 99, ..base.clone() },
        RaftMessage { message_type: 15, term: 0, ..base.clone() },
        RaftMessage { message_type: 16, ..base.clone() },
        RaftMessage { message_type: 7, ..base.clone() },
        RaftMessage { message_type: 8, term: 0, ..base },
    ];
    let before = cluster.node(2).status();
    cluster.notes.clear();
    for message in broken {
        let message = PeerMessage { kind: Some(Kind::Raft(message)) };
        cluster.input(2, Input::Peer { from: 1, message });
    }
    assert_eq!((cluster.node(2).status(), &cluster.notes), (before, &Vec::new()));
    // An acknowledgement of what the leader never had does not count.
    let message = RaftMessage { message_type: APPENDED, from: 2, to: 1, term, index: 50, ..RaftMessage::default() };
    cluster.input(1, Input::Peer { from: 2, message: PeerMessage { kind: Some(Kind::Raft(message)) } });
    cluster.input(1, Input::Propose(vec![put(1, 10)]));
    cluster.cut = vec![(1, 2), (1, 3)];
    cluster.settle();
    assert_eq!(cluster.members[&1].store.ids, [], "committed without a quorum");
}

/// A store that falls behind makes the node refuse commands, but not those that keep leases alive.
#[test]
fn a_backlog_refuses_all_but_renewals() {
    let mut cluster = Cluster::new(&[1], &[], |config| config.waiting_max = 10_000);
    cluster.settle();
    cluster.input(1, Input::Propose((1..=5001).map(|id| put(id, 1)).collect()));
    while cluster.persist_one(1) {}
    cluster.input(1, Input::Propose(vec![put(6001, 1), renew(6002, 7), revoke(6003, 7)]));
    assert_eq!(cluster.members[&1].refused, [(6001, Refusal::TooManyRequests)]);
    cluster.settle();
    cluster.input(1, Input::Propose(vec![put(6004, 1)]));
    cluster.settle();
    assert_eq!(cluster.members[&1].store.ids[5000..], [5001, 6002, 6003, 6004]);
}

/// Follower logs that lack much are sent it in messages of bounded size.
#[test]
fn large_appends_are_split() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[], |config| config.log_bytes_max = 64 << 20);
    cluster.elect(1);
    cluster.cut = vec![(1, 3), (3, 1)];
    for id in 0..8 {
        cluster.input(1, Input::Propose(vec![put(id + 1, 600_000)]));
        cluster.settle();
    }
    cluster.cut.clear();
    let mut largest = 0;
    for _ in 0..200 {
        if cluster.wire.is_empty() {
            cluster.now_ms += 100;
            cluster.input(1, Input::Tick);
        }
        for message in appends(&cluster, 3) {
            largest = largest.max(message.entries.iter().map(|entry| entry.data.len()).sum());
        }
        if !cluster.wire.is_empty() {
            cluster.deliver(0);
        }
        for id in cluster.running() {
            while cluster.persist_one(id) | cluster.apply_one(id) {}
        }
    }
    assert_eq!(cluster.members[&3].store.ids.len(), 8);
    assert!(largest <= 1 << 20, "an append of {largest} bytes");
}
