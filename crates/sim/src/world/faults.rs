//! Faults: what strikes, whom, and for how long.

use super::member::End;
use super::{Event, Phase, World};
use crate::disk::Loss;
use crate::net::NetFaults;
use crate::scenario::{FAULTS, Fault};
use quorate_node::api::Input;

impl World {
    /// Somebody is struck, and the next fault is planned.
    pub(super) fn fault(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        let fault = FAULTS[self.fault_random.weighted(&self.scenario.fault_weights)];
        let member = self.fault_random.below(self.machines.len() as u64) as usize;
        self.trace.note(self.now_us, "fault", &[fault as u64, member as u64 + 1]);
        self.trace.say(self.now_us, || format!("{fault:?} (member {})", member + 1));
        self.strike(fault, member);
        let after_us = self.fault_random.duration_us(self.scenario.fault_every_us);
        self.after(after_us, Event::Fault);
    }

    fn strike(&mut self, fault: Fault, member: usize) {
        match fault {
            Fault::Kill => self.end(member, End::Killed(Loss::Nothing)),
            Fault::PowerLoss => self.end(member, End::Killed(Loss::Unsynced)),
            Fault::PowerLossOfAll => self.power_loss_of_all(),
            Fault::Partition => {
                self.net.join_all();
                let members = self.machines.len();
                let side = self.fault_random.bits();
                for from in 0..members {
                    for to in (0..members).filter(|to| (side >> from ^ side >> to) & 1 == 1) {
                        self.net.cut(from, to);
                    }
                }
            }
            Fault::OneWayPartition => {
                let outwards = self.fault_random.coin();
                for other in (0..self.machines.len()).filter(|other| *other != member) {
                    let (from, to) = if outwards { (member, other) } else { (other, member) };
                    self.net.cut(from, to);
                }
            }
            Fault::IsolateLeader => {
                if let Some(leader) = self.leader() {
                    for other in (0..self.machines.len()).filter(|other| *other != leader) {
                        self.net.cut(leader, other);
                        self.net.cut(other, leader);
                    }
                }
            }
            Fault::Join => self.net.join_all(),
            Fault::Pause => {
                if self.machines[member].process.is_some() && !self.machines[member].paused {
                    self.machines[member].paused = true;
                    let after_us = self.fault_random.duration_us(self.scenario.down_us);
                    self.after(after_us, Event::Resume { member });
                }
            }
            Fault::SlowDisk => {
                self.machines[member].disk_slowness = *self.fault_random.pick(&[10, 100]);
                let after_us = self.fault_random.duration_us(self.scenario.down_us);
                self.after(after_us, Event::DiskRecovers { member });
            }
            Fault::FailingDisk => {
                let operations = self.fault_random.below(60);
                if self.fault_random.below(4) == 0 {
                    self.machines[member].disk.fail_after_reads(operations);
                } else {
                    self.machines[member].disk.fail_after_changes(operations);
                }
            }
            Fault::CutWatch => {
                let client = self.fault_random.below(self.watch_clients.len() as u64) as usize;
                self.break_watch(client);
            }
            Fault::TransferLeader => {
                if let Some(leader) = self.leader().filter(|leader| !self.machines[*leader].paused) {
                    let to = if self.fault_random.coin() { 0 } else { member as u64 + 1 };
                    self.tell(leader, Input::TransferLeader { to });
                }
            }
            Fault::Stop => self.end(member, End::Stopped),
            Fault::BreakConnection => {
                let other = self.fault_random.below(self.machines.len() as u64) as usize;
                if other != member {
                    let life = self.machines[other].life;
                    self.after(100, Event::PeerLost { member: other, life, peer: member });
                }
            }
        }
    }

    /// Who thinks that it leads, in the highest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let processes = self.machines.iter().enumerate().filter_map(|(member, machine)| {
            machine
                .process
                .as_ref()
                .filter(|process| process.status.leader == member as u64 + 1)
                .map(|process| (process.status.term, member))
        });
        processes.max().map(|(_, member)| member)
    }

    fn power_loss_of_all(&mut self) {
        for member in 0..self.machines.len() {
            self.end(member, End::Killed(Loss::Unsynced));
        }
    }

    pub(super) fn resume(&mut self, member: usize) {
        if !std::mem::take(&mut self.machines[member].paused) {
            return;
        }
        self.trace.note(self.now_us, "resume", &[member as u64 + 1]);
        for event in std::mem::take(&mut self.machines[member].held) {
            self.after(0, event);
        }
    }

    /// Everything is well from here on.
    pub(super) fn heal(&mut self) {
        if self.scenario.power_loss_at_end {
            self.power_loss_of_all();
        }
        self.phase = Phase::Settling;
        self.healed_us = self.now_us;
        self.trace.note(self.now_us, "healed", &[]);
        self.net.join_all();
        self.net.faults = NetFaults::healthy(self.scenario.net.delay_us);
        for member in 0..self.machines.len() {
            self.resume(member);
            self.machines[member].disk.cancel_failures();
            self.machines[member].disk_slowness = 1;
            if self.options.rot {
                self.rot(member);
            }
            if self.machines[member].process.is_none() {
                // Earlier than planned, if it was: the plan finds the process running.
                let after_us = self.fault_random.range(500..5_000);
                self.after(after_us, Event::Restart { member });
            }
        }
        let members: Vec<u64> = self.log.members().list().iter().map(|(id, _)| *id).collect();
        self.live_check.healed(self.now_us, members.iter().copied());
        for id in members {
            self.after(10_000, Event::Probe { member: id as usize - 1 });
        }
        self.after(super::SETTLE_POLL_US, Event::Settle);
    }

    /// Turns a bit over in a file of the first member, which has to be started anew to read it.
    fn rot(&mut self, member: usize) {
        if member != 0 {
            return;
        }
        self.end(member, End::Killed(Loss::Nothing));
        let disk = &self.machines[member].disk;
        let paths: Vec<String> = disk.paths().into_iter().filter(|path| path.starts_with("store/")).collect();
        if paths.is_empty() {
            return;
        }
        let path = self.fault_random.pick(&paths).clone();
        let length = disk.content(&path).map_or(0, |content| content.len() as u64);
        if length > 0 {
            let byte = self.fault_random.below(length) as usize;
            let bit = self.fault_random.below(8) as u8;
            disk.flip_bit(&path, byte, bit);
            self.trace.note(self.now_us, "rot", &[member as u64 + 1, byte as u64, u64::from(bit)]);
            self.trace.say(self.now_us, || format!("bit {bit} of byte {byte} of {path} turns over"));
        }
    }
}
