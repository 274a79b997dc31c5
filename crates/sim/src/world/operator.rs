//! The operator: adds, promotes, moves, removes and replaces members while faults strike, and starts what was added.
//!
//! Draws from a generator of its own, so that a seed without it stays the same run. Owns the machines beyond the first
//! ones. A machine that was added starts only when some member that runs knows it, as a real one asks before it joins.

use super::{Event, Machine, Phase, World};
use crate::check::members::url_of;
use crate::disk::SimDisk;
use crate::history::Request;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::MemberChange;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::member_change::Action;

/// The operator among the clients.
pub(super) const OPERATOR: usize = usize::MAX;
/// Machines beyond the first ones, at the most.
const MACHINES_MORE_MAX: usize = 5;
/// How long a machine waits before it asks again whether anybody knows it, us.
const JOIN_RETRY_US: u64 = 20_000;
/// How long a member goes on that was told of its removal, us.
const REMOVED_US: u64 = 50_000;

impl World {
    /// The operator's next deed.
    pub(super) fn operator_turn(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        let machines = self.machines.len() as u64;
        let id = self.operator_random.range(1..machines + 1);
        match self.operator_random.below(12) {
            0..4 => self.add_member(),
            4..7 => self.ask_change(Action::Promote, Member { id, ..Member::default() }, false),
            7..9 => self.ask_change(Action::Remove, Member { id, ..Member::default() }, false),
            9 => {
                let at = if self.operator_random.coin() { id } else { self.operator_random.range(1..machines + 1) };
                let peer_ur_ls = vec![url_of(at)];
                self.ask_change(Action::Update, Member { id, peer_ur_ls, ..Member::default() }, false);
            }
            _ => {
                self.ask_change(Action::Remove, Member { id, ..Member::default() }, false);
                self.add_member();
            }
        }
        let after_us = self.operator_random.duration_us(self.scenario.fault_every_us);
        self.after(after_us, Event::OperatorTurn);
    }

    fn add_member(&mut self) {
        if self.machines.len() >= self.scenario.members + MACHINES_MORE_MAX {
            return;
        }
        let drift_ppm = self.scenario.drift_ppm;
        let random = &mut self.operator_random;
        let is_learner = random.permille(600);
        let auto_promote = is_learner && random.coin();
        let machine = Machine {
            joins: true,
            ..Machine::new(
                SimDisk::new(random.fork()),
                random.below(2 * drift_ppm + 1) as i64 - drift_ppm as i64,
                random.below(1 << 40),
            )
        };
        self.machines.push(machine);
        let member = self.machines.len() - 1;
        let id = member as u64 + 1;
        // One in four is mistyped, in a way: nobody starts it until all is well.
        if !self.operator_random.permille(250) {
            self.machines[member].restarting = true;
            let after_us = self.operator_random.duration_us(self.scenario.down_us);
            self.after(after_us, Event::Restart { member });
        }
        let added = Member { id, is_learner, peer_ur_ls: vec![url_of(id)], ..Member::default() };
        self.ask_change(Action::Add, added, auto_promote);
    }

    fn ask_change(&mut self, action: Action, member: Member, auto_promote: bool) {
        let learners_max = self.operator_random.range(1..3) as u32;
        let change = MemberChange { member: Some(member), action: action as i32, learners_max, auto_promote };
        let asked = self.operator_random.below(self.machines.len() as u64) as usize;
        self.invoke(OPERATOR, asked, Request::Command(Operation::MemberChange(change)));
    }

    /// Whether a member is one, by the committed log.
    pub(super) fn belongs(&self, member: usize) -> bool {
        self.log.members().has(member as u64 + 1)
    }

    /// Whether a machine may start: it is one of the first, or has learned from somebody who its peers are.
    pub(super) fn may_start(&mut self, member: usize) -> bool {
        let chaos = self.phase == Phase::Chaos;
        let machine = &self.machines[member];
        if !machine.joins || machine.table.is_some() {
            return chaos || !machine.removed;
        }
        if !chaos && !self.belongs(member) {
            return false;
        }
        let id = member as u64 + 1;
        let tables = self.machines.iter().filter_map(|machine| Some(machine.process.as_ref()?.reader.members()));
        let table = tables.into_iter().find(|table| table.iter().any(|member| member.id == id));
        if table.is_some() {
            self.machines[member].table = table;
            return true;
        }
        self.machines[member].restarting = true;
        self.after(JOIN_RETRY_US, Event::Restart { member });
        false
    }

    /// The log changed the members: what is expected of whom changes, too. `before`: who they were.
    pub(super) fn members_changed(&mut self, before: &[(u64, bool)]) {
        self.counts.changes += 1;
        if self.phase == Phase::Chaos {
            return;
        }
        let after = self.log.members().list();
        for (id, _) in before.iter().filter(|(id, _)| !after.iter().any(|(other, _)| other == id)) {
            self.live_check.excuse(*id);
        }
        for (id, _) in after.iter().filter(|(id, _)| !before.iter().any(|(other, _)| other == id)) {
            let member = *id as usize - 1;
            self.live_check.expect(*id);
            self.after(1_000, Event::Restart { member });
            self.after(10_000, Event::Probe { member });
        }
    }

    /// A member that others know as removed is told so when it connects to one of them, as it tries again and again. It
    /// ends only then, not by its own knowledge: somebody who stays has applied the removal by that time.
    pub(super) fn reconnect(&mut self, member: usize) {
        let other = self.operator_random.below(self.machines.len() as u64) as usize;
        let knows = self.machines[other]
            .process
            .as_ref()
            .is_some_and(|process| process.reader.is_removed(member as u64 + 1) && !self.machines[other].paused);
        if knows && self.net.reaches(member, other) && self.net.reaches(other, member) {
            let life = self.machines[member].life;
            let after_us = self.operator_random.duration_us(REMOVED_US);
            self.after(after_us, Event::Removed { member, life });
        }
    }

    /// Whether a message goes through: who knows the sender as removed hardly listens.
    pub(super) fn hears(&mut self, from: usize, to: usize) -> bool {
        let receiver = self.machines[to].process.as_ref().expect("the caller looked");
        !receiver.reader.is_removed(from as u64 + 1) || self.operator_random.permille(300)
    }
}
