//! Stores that go wrong: how one comes to differ, who notices, and how it is held until another one arrives.
//!
//! Plays the part of the server's threads (what they do with a store that is not to be trusted). Invariant: from the
//! moment a member knows that its store is wrong until another one is installed, no client hears anything from it.

use super::{Phase, World};
use bytes::Bytes;
use quorate_node::api::{CommittedEntry, Input, Payload};
use quorate_node::held::HeldEntries;
use quorate_proto::Message;
use quorate_proto::etcdserverpb::{AlarmType, LeaseGrantRequest};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, CommandBatch};
use quorate_store::outcome::{LeaseChange, Outcome};
use quorate_store::scrub::Scrubbed;

/// Ticks between two rounds of digests.
const ROUND_TICKS: u64 = 10;
/// Ticks in which a member begins to read its records in the background, thousandths.
const SCRUB_PERMILLE: u64 = 20;
/// A lease that no client knows, granted on one member only: its state differs, and no client can see it.
const STRAY_LEASE: i64 = 0x7157_1ea5_e000_0000;

impl World {
    /// How often leaders open rounds, ms; 0: never.
    pub(super) fn digest_interval_ms(&self) -> u64 {
        if self.options.integrity { ROUND_TICKS * self.scenario.tick_ms } else { 0 }
    }

    /// Each tick: what a background finds, and, while faults strike, a member that begins to differ.
    pub(super) fn tend_integrity(&mut self, member: usize) {
        if !self.options.integrity {
            return;
        }
        if self.fault_random.permille(SCRUB_PERMILLE) || self.phase != Phase::Chaos {
            let mut scrub = self.machines[member].process.as_ref().expect("it ticks").reader.scrub();
            while let Ok(Scrubbed::Bytes(_)) = scrub.step(1 << 20) {}
        }
        let process = self.machines[member].process.as_ref().expect("it ticks");
        if let Some(reason) = process.reader.corrupt_reason()
            && process.held.is_none()
            && !self.machines[member].disk.has_failed()
        {
            self.distrust(member, &reason, Vec::new());
        }
        // With members coming and going, the one that differs may be half of the cluster.
        let one_at_a_time = self.machines.len() >= 3
            && !self.options.members
            && self.machines.iter().all(|machine| machine.differs.is_none());
        let status = self.machines[member].process.as_ref().expect("it ticks").status;
        let follows = status.leader != 0 && status.leader != member as u64 + 1;
        if self.phase == Phase::Chaos && one_at_a_time && follows && !self.options.rot && self.fault_random.permille(5)
        {
            self.machines[member].differs = Some(u64::MAX);
            self.trace.note(self.now_us, "begins to differ", &[member as u64 + 1]);
        }
    }

    /// The batch as a member applies it that is to differ: with a command that nobody proposed.
    pub(super) fn bent(&mut self, member: usize, index: u64, batch: Bytes) -> Bytes {
        if self.machines[member].differs != Some(u64::MAX) {
            return batch;
        }
        self.machines[member].differs = Some(index);
        self.machines[member].ever_differed = true;
        self.counts.diverged += 1;
        self.trace.say(self.now_us, || format!("member {} differs from {index} on", member + 1));
        let mut batch = CommandBatch::decode(batch).expect("the log holds batches");
        let grant = LeaseGrantRequest { id: STRAY_LEASE + self.counts.diverged as i64, ttl: 1 << 30 };
        batch.commands.push(Command { id: 0, operation: Some(Operation::LeaseGrant(grant)), caller: None });
        batch.encode_to_vec().into()
    }

    /// Whether a member's store is not what the log says, and nobody could have noticed yet.
    pub(super) fn differs(&self, member: usize) -> bool {
        self.machines[member].differs.is_some_and(|since| since != u64::MAX)
    }

    /// What an entry says of the members' data; answers why this member's store is wrong, if it says so.
    pub(super) fn heed(&mut self, member: usize, outcome: &Outcome) -> Option<String> {
        if let Some((index, digest)) = outcome.digest_asked {
            self.counts.rounds += 1;
            self.tell(member, Input::DigestAsked { index, digest });
        }
        if outcome.alarms_changed {
            self.tell_own_alarm(member);
        }
        for named in &outcome.differing {
            let was_planted = *named != 0 && self.machines[*named as usize - 1].ever_differed;
            if !was_planted {
                let what = format!("member {named} is named, whose data never differed from the others'");
                self.found(crate::history::Violation::new("integrity", what));
            }
        }
        outcome.differing.contains(&(member as u64 + 1)).then(|| "it differs from the majority".to_owned())
    }

    /// The store applies nothing more; `rest` is what it was about to apply.
    pub(super) fn distrust(&mut self, member: usize, reason: &str, rest: Vec<CommittedEntry>) {
        self.trace.note(self.now_us, "distrusted", &[member as u64 + 1]);
        self.trace.say(self.now_us, || format!("member {} distrusts its store: {reason}", member + 1));
        let process = self.machines[member].process.as_mut().expect("it runs");
        if process.reader.members().len() < 2 {
            return;
        }
        process.store.quarantine(reason);
        let mut held = HeldEntries::default();
        held.hold(rest).expect("a run is small");
        process.held = Some(held);
        self.tell(member, Input::StoreBroken);
    }

    /// At start: an alarm of an earlier life says that the store may be wrong.
    pub(super) fn look_at_own_alarm(&mut self, member: usize) {
        let (life, applied) = {
            let process = self.machines[member].process.as_ref().expect("it just started");
            (self.machines[member].life, process.reader.applied_index())
        };
        // What was not durable of a store that differs is made again from the log.
        self.machines[member].differs.take_if(|since| *since > applied);
        let is_alarmed = self.tell_own_alarm(member);
        let reader = &self.machines[member].process.as_ref().expect("it just started").reader;
        if reader.is_quarantined() {
            let reason = reader.corrupt_reason().unwrap_or_default();
            self.distrust(member, &reason, Vec::new());
        } else if is_alarmed {
            let reason = format!("an alarm of a life before {life}");
            self.distrust(member, &reason, Vec::new());
        }
    }

    /// Another store is there: what waited for it is handed on.
    pub(super) fn trust_again(&mut self, member: usize, index: u64) -> Vec<CommittedEntry> {
        self.machines[member].differs = None;
        let process = self.machines[member].process.as_mut().expect("it installed");
        let Some(mut held) = process.held.take() else { return Vec::new() };
        self.counts.repairs += 1;
        self.trace.note(self.now_us, "repaired", &[member as u64 + 1, index]);
        self.tell_own_alarm(member);
        held.release(index)
    }

    fn tell_own_alarm(&mut self, member: usize) -> bool {
        let own = (member as u64 + 1, AlarmType::Corrupt as i32);
        let process = self.machines[member].process.as_ref().expect("it runs");
        let stands = process.reader.own_alarms().iter().any(|alarm| (alarm.member_id, alarm.alarm) == own);
        self.tell(member, Input::OwnAlarm { stands });
        stands
    }

    /// Whether every store is whole again, and nobody is alarmed any more.
    pub(super) fn is_whole(&self) -> bool {
        self.machines.iter().enumerate().all(|(member, machine)| {
            machine.condemned
                || !self.belongs(member)
                || machine.process.as_ref().is_some_and(|process| {
                    process.held.is_none() && machine.differs.is_none() && process.reader.own_alarms().is_empty()
                })
        })
    }
}

/// Whether a change is of a lease that no client knows.
pub(super) fn is_stray(change: &LeaseChange) -> bool {
    let (LeaseChange::Granted { id, .. } | LeaseChange::Renewed { id, .. } | LeaseChange::Ended { id }) = change;
    *id > STRAY_LEASE
}

/// Whether an entry changes anything that a member could differ in.
pub(super) fn has_commands(entry: &CommittedEntry) -> bool {
    matches!(&entry.payload, Payload::Commands(batch) if !batch.is_empty())
}
