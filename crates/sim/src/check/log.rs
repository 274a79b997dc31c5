//! One log: every member applies the same entries at the same indexes, and no command twice.
//!
//! Owns the judge's copy of the committed log, taken when an entry is first handed to any member's store, and the model
//! run over it. It stays outside of the members, so that a log that all of them forgot is still known here.

use crate::check::members::MembersModel;
use crate::history::Violation;
use crate::model::{Body, LeaseStep, Model};
use quorate_node::api::{CommittedEntry, Payload};
use quorate_proto::Message;
use quorate_proto::quoratepb::{CommandBatch, ConfState};
use quorate_store::error::Error;
use quorate_store::members::decode_change;
use std::collections::BTreeMap;

const NAME: &str = "log";

/// What a committed command came to, by the model.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its place among all commands.
    pub position: u64,
    /// Its entry.
    pub index: u64,
    /// The revision before it.
    pub revision_before: i64,
    /// The revision behind it.
    pub revision_after: i64,
    /// What it answers.
    pub result: Result<Body, Error>,
}

/// A compaction that took effect.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    /// Its revision.
    pub revision: i64,
    /// Its place among all commands.
    pub position: u64,
}

/// A lease's step, with its times.
#[derive(Clone, Copy, Debug)]
pub struct LeaseEvent {
    /// What happened.
    pub step: LeaseStep,
    /// The granted TTL, seconds; 0 for an end.
    pub ttl_s: i64,
    /// When some member first wrote the entry, us.
    pub proposed_us: u64,
    /// When some member first applied it, us.
    pub applied_us: u64,
}

struct Entry {
    term: u64,
    payload: Vec<u8>,
    revision: i64,
}

/// The log so far.
#[derive(Default)]
pub struct CommittedLog {
    /// By index, from 1 on.
    entries: Vec<Entry>,
    /// When each (index, term) was first seen in a write to any log, us.
    proposed_us: BTreeMap<(u64, u64), u64>,
    model: Model,
    commands: BTreeMap<u64, Committed>,
    positions: u64,
    compactions: Vec<Compaction>,
    lease_events: Vec<LeaseEvent>,
    members: MembersModel,
}

fn payload_bytes(payload: &Payload) -> Vec<u8> {
    match payload {
        Payload::Empty => Vec::new(),
        Payload::Commands(bytes) => [&b"c"[..], bytes].concat(),
        Payload::Members { verdict: Ok(conf_state), change } => {
            [&b"m"[..], &conf_state.encode_to_vec(), change].concat()
        }
        Payload::Members { verdict: Err(error), change } => [&b"r"[..], error.to_string().as_bytes(), change].concat(),
    }
}

impl CommittedLog {
    /// An empty log over an empty store.
    pub fn new() -> Self {
        Self { model: Model::new(), ..Self::default() }
    }

    /// The same of a cluster that begins with so many voters.
    pub fn with_voters(voters: usize) -> Self {
        Self { members: MembersModel::first(voters), ..Self::new() }
    }

    /// A member is about to write this entry to its log.
    pub fn observe_write(&mut self, index: u64, term: u64, now_us: u64) {
        self.proposed_us.entry((index, term)).or_insert(now_us);
    }

    /// A member is about to hand this entry to its store.
    pub fn observe_apply(&mut self, member: u64, entry: &CommittedEntry, now_us: u64) -> Result<(), Violation> {
        let payload = payload_bytes(&entry.payload);
        let next = self.entries.len() as u64 + 1;
        if entry.index < next {
            let known = &self.entries[entry.index as usize - 1];
            if known.term != entry.term || known.payload != payload {
                return Err(Violation::new(
                    NAME,
                    format!(
                        "member {member} applies another entry at index {}: term {}, but term {} was committed there \
                         before{}",
                        entry.index,
                        entry.term,
                        known.term,
                        if known.term == entry.term { " with other content" } else { "" },
                    ),
                ));
            }
            return Ok(());
        }
        if entry.index > next {
            return Err(Violation::new(
                NAME,
                format!("member {member} applies index {} while nobody has applied {next}", entry.index),
            ));
        }
        match &entry.payload {
            Payload::Empty => {}
            Payload::Commands(bytes) => self.run(entry, bytes.clone(), now_us)?,
            Payload::Members { verdict, change } => self.change_members(entry.index, verdict, change)?,
        }
        self.entries.push(Entry { term: entry.term, payload, revision: self.model.revision() });
        Ok(())
    }

    fn run(&mut self, entry: &CommittedEntry, bytes: bytes::Bytes, now_us: u64) -> Result<(), Violation> {
        let batch = CommandBatch::decode(bytes).map_err(|error| {
            Violation::new(NAME, format!("the entry at index {} cannot be decoded: {error}", entry.index))
        })?;
        let proposed_us = self.proposed_us.get(&(entry.index, entry.term)).copied().unwrap_or(now_us);
        for command in &batch.commands {
            let revision_before = self.model.revision();
            let compact_before = self.model.compact_revision();
            let result = self.model.apply(command, entry.term);
            self.positions += 1;
            let position = self.positions;
            if self.model.compact_revision() != compact_before {
                self.compactions.push(Compaction { revision: self.model.compact_revision(), position });
            }
            for step in self.model.lease_steps() {
                let ttl_s = match step {
                    LeaseStep::Granted(id) | LeaseStep::Renewed(id) => self.model.leases()[id].ttl_s,
                    LeaseStep::Revoked(_) | LeaseStep::Expired(_) => 0,
                };
                self.lease_events.push(LeaseEvent { step: *step, ttl_s, proposed_us, applied_us: now_us });
            }
            if command.id == 0 {
                continue;
            }
            let committed = Committed {
                position,
                index: entry.index,
                revision_before,
                revision_after: self.model.revision(),
                result: result.map(|(_, body)| body),
            };
            self.remember(command.id, committed)?;
        }
        Ok(())
    }

    fn remember(&mut self, id: u64, committed: Committed) -> Result<(), Violation> {
        let index = committed.index;
        match self.commands.insert(id, committed) {
            None => Ok(()),
            Some(first) => {
                Err(Violation::new(NAME, format!("command {id:x} is in the log twice: at {} and {index}", first.index)))
            }
        }
    }

    fn change_members(
        &mut self,
        index: u64,
        verdict: &Result<ConfState, Error>,
        change: &bytes::Bytes,
    ) -> Result<(), Violation> {
        let (id, Some(change)) = decode_change(change.clone()) else {
            return Err(Violation::new("members", format!("the entry at index {index} asks for no change")));
        };
        let expected = self.members.apply(&change).map(|()| self.members.conf_state());
        if *verdict != expected {
            return Err(Violation::new(
                "members",
                format!("{change:?} at index {index} came to {verdict:?}, by the rules it comes to {expected:?}"),
            ));
        }
        self.positions += 1;
        if id == 0 {
            return Ok(());
        }
        let revision = self.model.revision();
        self.remember(
            id,
            Committed {
                position: self.positions,
                index,
                revision_before: revision,
                revision_after: revision,
                result: expected.map(|_| Body::Members(self.members.list())),
            },
        )
    }

    /// The members behind the last index that anybody applied.
    pub fn members(&self) -> &MembersModel {
        &self.members
    }

    /// The last index that anybody applied.
    pub fn last_index(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The revision behind an index that was applied; 0: the empty store.
    pub fn revision_at(&self, index: u64) -> i64 {
        match index {
            0 => 1,
            _ => self.entries[index as usize - 1].revision,
        }
    }

    /// The state behind the whole log.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What a command came to, if it is committed.
    pub fn command(&self, id: u64) -> Option<&Committed> {
        self.commands.get(&id)
    }

    /// Compactions in order.
    pub fn compactions(&self) -> &[Compaction] {
        &self.compactions
    }

    /// What happened to leases, in order.
    pub fn lease_events(&self) -> &[LeaseEvent] {
        &self.lease_events
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_proto::etcdserverpb::PutRequest;
    use quorate_proto::quoratepb::{Command, command::Operation};

    /// An entry of commands, for handmade histories.
    pub(crate) fn entry(index: u64, term: u64, commands: Vec<(u64, Operation)>) -> CommittedEntry {
        let commands = commands
            .into_iter()
            .map(|(id, operation)| Command { id, operation: Some(operation), caller: None })
            .collect();
        let batch = CommandBatch { commands };
        CommittedEntry { index, term, payload: Payload::Commands(Bytes::from(batch.encode_to_vec())) }
    }

    /// A put, for handmade histories.
    pub(crate) fn put(key: &str, value: &str) -> Operation {
        Operation::Put(PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..Default::default()
        })
    }

    #[test]
    fn equal_entries_pass_and_another_one_is_found() {
        let mut log = CommittedLog::new();
        log.observe_apply(1, &entry(1, 1, vec![(1, put("a", "1"))]), 0).unwrap();
        log.observe_apply(2, &entry(1, 1, vec![(1, put("a", "1"))]), 0).unwrap();
        assert!(log.observe_apply(3, &entry(1, 2, vec![(1, put("a", "1"))]), 0).is_err());
        assert!(log.observe_apply(3, &entry(1, 1, vec![(1, put("a", "2"))]), 0).is_err());
        assert!(log.observe_apply(3, &entry(3, 1, vec![]), 0).is_err());
        assert_eq!((log.revision_at(0), log.revision_at(1)), (1, 2));
    }

    #[test]
    fn a_command_that_is_committed_twice_is_found() {
        let mut log = CommittedLog::new();
        log.observe_apply(1, &entry(1, 1, vec![(1, put("a", "1"))]), 0).unwrap();
        assert!(log.observe_apply(1, &entry(2, 1, vec![(1, put("a", "1"))]), 0).is_err());
    }
}
