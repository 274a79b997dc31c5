//! `--force-new-cluster`: a cluster of one member's data, when the others are gone for good.
//!
//! Owns the entries that make it so. Writes nothing itself. Invariant: what was committed stays, what was not goes, and the
//! changes stand in the log like any others, so that every later start finds the same members.

use crate::api::{HardState, Persist, StorePoint};
use crate::consensus::{MembersStep, change_context, change_entry};
use crate::wal::Recovered;
use bytes::Bytes;
use prost::Message as _;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::member_change::Action;
use quorate_proto::quoratepb::{Command, LogEntry, MemberChange};
use quorate_store::members::decode_change;
use std::collections::BTreeSet;

/// Makes the log end in changes that leave `id` as the only member; answers what is to be written before the node starts.
/// `None`: it is alone already. An error says why it cannot be.
pub fn force_new_cluster(id: u64, recovered: &mut Recovered, store: &StorePoint) -> Result<Option<Persist>, String> {
    let commit = recovered.hard_state.commit.max(store.applied_index);
    let last = (recovered.start.index + recovered.entries.len() as u64).min(commit);
    recovered.entries.truncate((last - recovered.start.index) as usize);
    // Whoever is or may have become a member: a change that has nothing to change is refused when it is applied.
    let mut others: BTreeSet<u64> = store.members.iter().map(|member| member.id).collect();
    let conf_state = &store.conf_state;
    let mut is_voter = conf_state.voters.contains(&id);
    others.extend(conf_state.voters.iter().chain(&conf_state.learners));
    for entry in recovered.entries.iter().filter(|entry| entry.index > store.applied_index) {
        let Some(change) = change_of(entry) else { continue };
        let Some(member) = &change.member else { continue };
        others.insert(member.id);
        if member.id == id {
            is_voter = change.action() == Action::Promote || (is_voter && change.action() != Action::Remove);
        }
    }
    if store.members.is_removed(id) || !others.remove(&id) || conf_state.voters.is_empty() {
        return Err("this member is no part of the cluster whose data it holds".to_owned());
    }
    if others.is_empty() && is_voter {
        return Ok(None);
    }
    let term = recovered.hard_state.term.max(store.applied_term);
    let promote = (!is_voter).then_some((id, Action::Promote));
    let changes = promote.into_iter().chain(others.into_iter().map(|other| (other, Action::Remove)));
    let entries: Vec<LogEntry> =
        changes.zip(last + 1..).map(|((member, action), index)| change_to(member, action, index, term)).collect();
    let hard_state = HardState { term, commit: last + entries.len() as u64, ..recovered.hard_state };
    recovered.hard_state = hard_state;
    recovered.entries.extend(entries.iter().cloned());
    Ok(Some(Persist { number: 0, hard_state: Some(hard_state), entries, snapshot: None }))
}

fn change_of(entry: &LogEntry) -> Option<MemberChange> {
    decode_change(change_context(entry)?).1
}

fn change_to(member: u64, action: Action, index: u64, term: u64) -> LogEntry {
    let change = MemberChange {
        member: Some(Member { id: member, ..Member::default() }),
        action: action as i32,
        ..MemberChange::default()
    };
    let command = Command { id: 0, operation: Some(Operation::MemberChange(change)), caller: None };
    let step = MembersStep { change_type: u32::from(action == Action::Remove), node_id: member };
    change_entry(index, term, step, Bytes::from(command.encode_to_vec()))
}
