//! A member's process: the node, the disk and the store as turns of their own, so that they overlap as threads do.
//!
//! Owns the queues between them. Each turn takes a seeded time, and what it does is done at its end.

use super::{Event, Machine, World, integrity, watchers};
use crate::check::members::url_of;
use crate::disk::Loss;
use crate::history::{Answer, Outcome};
use crate::model::Body;
use crate::plant::Plant;
use crate::scenario::DISK_DELAY_US_MAX;
use quorate_node::Node;
use quorate_node::api::{
    CommittedEntry, Effect, Input, NodeConfig, NodeStatus, Payload, Persist, Refusal, SnapshotPoint, StorePoint,
};
use quorate_node::held::HeldEntries;
use quorate_node::wal::{Identity, Wal, WalConfig};
use quorate_proto::Message;
use quorate_proto::etcdserverpb::{Member, RangeRequest};
use quorate_proto::quoratepb::{Command, ConfState, LeaseExpire, PeerMessage, RaftMessage, command::Operation};
use quorate_store::error::{DiskError, Error};
use quorate_store::home::Received;
use quorate_store::outcome::{LeaseChange, Reply, ReplyBody};
use quorate_store::reader::StoreReader;
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, BuiltSnapshot, Store, StoreConfig};
use std::collections::{BTreeMap, VecDeque};

const CLUSTER_ID: u64 = 0x5e_ed;
/// Commands and reads that may wait in a node.
const WAITING_MAX: usize = 64;
/// Bytes that one step of compaction rewrites.
const MAINTAIN_BYTES: usize = 8 << 10;
/// Writes to the log that one sync makes durable, at the most.
const GROUP_MAX: usize = 32;

/// Everything that ends with the process.
pub(super) struct Process {
    pub(super) node: Node,
    wal: Wal,
    pub(super) store: Store,
    pub(super) reader: StoreReader,
    inbox: Vec<Input>,
    node_busy: bool,
    disk_queue: VecDeque<DiskJob>,
    /// What the disk works on.
    disk_jobs: Vec<DiskJob>,
    apply_queue: VecDeque<ApplyJob>,
    apply_job: Option<ApplyJob>,
    checkpoint_queued: bool,
    /// Who waits for which command: command id to call.
    waiters: BTreeMap<u64, usize>,
    /// Who waits for leave to read: ticket to call and request.
    pub(super) reads: BTreeMap<u64, (usize, RangeRequest)>,
    /// Who asked for a lease's time: ticket to call.
    lease_questions: BTreeMap<u64, usize>,
    next_ticket: u64,
    next_command: u64,
    pub(super) streams: BTreeMap<u64, watchers::ServerStream>,
    pub(super) built: Option<BuiltSnapshot>,
    /// A snapshot that arrived and is not installed.
    pub(super) arrived: Option<Received>,
    pub(super) incoming: Option<(u64, quorate_store::home::SnapshotSink)>,
    pub(super) status: NodeStatus,
    /// What is not applied because the store is not to be trusted.
    pub(super) held: Option<HeldEntries>,
}

enum DiskJob {
    Persist(Persist),
    Truncate(u64),
}

enum ApplyJob {
    Entries(Vec<CommittedEntry>),
    BuildSnapshot,
    Install(Box<(SnapshotPoint, Received)>),
    Checkpoint,
    Maintain,
}

impl Process {
    /// Whether a snapshot waits to become the store: another must not be received meanwhile.
    pub(super) fn installing(&self) -> bool {
        self.apply_queue.iter().chain(&self.apply_job).any(|job| matches!(job, ApplyJob::Install(..)))
    }
}

/// Why a process ends.
#[derive(Debug)]
pub(super) enum End {
    /// Somebody killed it.
    Killed(Loss),
    /// Its own files failed it.
    Disk(DiskError),
    /// It was asked to, and wrote what it had.
    Stopped,
    /// A read that a client asked for found the disk failing.
    FailedDisk,
    /// It is out of the cluster, and knows.
    Removed,
}

fn bootstrap(members: usize, table: Option<&Vec<Member>>) -> Bootstrap {
    if let Some(table) = table {
        return Bootstrap { members: table.clone(), conf_state: ConfState::default() };
    }
    let ids = 1..=members as u64;
    let member = |id| Member { id, name: format!("m{id}"), peer_ur_ls: vec![url_of(id)], ..Member::default() };
    Bootstrap {
        members: ids.clone().map(member).collect(),
        conf_state: ConfState { voters: ids.collect(), ..ConfState::default() },
    }
}

/// Takes the headers out of an answer: the model has none.
fn body_of(reply: ReplyBody) -> Body {
    match reply {
        ReplyBody::Put(mut response) => {
            response.header = None;
            Body::Put(*response)
        }
        ReplyBody::DeleteRange(mut response) => {
            response.header = None;
            Body::DeleteRange(*response)
        }
        ReplyBody::Txn(mut response) => {
            strip_headers(&mut response);
            Body::Txn(*response)
        }
        ReplyBody::Lease { id, ttl_s } => Body::Lease { id, ttl_s },
        ReplyBody::Members(members) => {
            Body::Members(members.iter().map(|member| (member.id, member.is_learner)).collect())
        }
        ReplyBody::Alarms(_) | ReplyBody::V2(_) | ReplyBody::Done => Body::Done,
    }
}

fn strip_headers(response: &mut quorate_proto::etcdserverpb::TxnResponse) {
    use quorate_proto::etcdserverpb::response_op::Response;
    response.header = None;
    for part in &mut response.responses {
        match &mut part.response {
            Some(Response::ResponseRange(part)) => part.header = None,
            Some(Response::ResponsePut(part)) => part.header = None,
            Some(Response::ResponseDeleteRange(part)) => part.header = None,
            Some(Response::ResponseTxn(part)) => strip_headers(part),
            None => {}
        }
    }
}

impl World {
    fn process(&mut self, member: usize) -> &mut Process {
        self.machines[member].process.as_mut().expect("events of a life find its process")
    }

    /// Starts a member's process, unless it runs or its disk is condemned.
    pub(super) fn restart(&mut self, member: usize) {
        self.machines[member].restarting = false;
        if self.machines[member].process.is_some() || self.machines[member].condemned || !self.may_start(member) {
            return;
        }
        self.machines[member].life += 1;
        let life = self.machines[member].life;
        self.trace.note(self.now_us, "start", &[member as u64 + 1, life]);
        match self.open(member) {
            Ok(process) => {
                self.machines[member].process = Some(process);
                self.trace.say(self.now_us, || format!("member {} runs", member + 1));
                let after_us = self.random.below(self.scenario.tick_ms * 1000);
                self.after(after_us, Event::Tick { member, life });
                self.look_at_own_alarm(member);
                self.wake_node(member);
                self.queue_maintain(member);
            }
            Err(error) => self.failed_to_start(member, error),
        }
    }

    fn open(&mut self, member: usize) -> Result<Process, DiskError> {
        let scenario = &self.scenario;
        let machine = &self.machines[member];
        let id = member as u64 + 1;
        let disk = machine.disk.handle();
        let sync = self.options.plant != Some(Plant::LogWithoutSync);
        let wal_config = WalConfig { segment_bytes: scenario.wal_segment_bytes, sync };
        let identity = Identity { cluster_id: CLUSTER_ID, member_id: id };
        let store_config = StoreConfig {
            revlog: RevLogConfig {
                segment_bytes: scenario.store_segment_bytes,
                buffer_bytes: scenario.store_buffer_bytes,
            },
        };
        let open = if self.options.integrity { Store::open_to_repair } else { Store::open };
        let store = open(disk.clone(), "store", store_config, bootstrap(scenario.members, machine.table.as_ref()))?;
        let (wal, recovered) = Wal::open(disk, "wal", wal_config, identity)?;
        let position = store.position();
        recovered.check("wal", position.applied_index)?;
        // The node mixes its id in the same way. Two voters must not draw the same patience for ever; three part anyway.
        let jitter = if self.options.members || self.options.integrity { id << 16 } else { 0 };
        let config = NodeConfig {
            id,
            election_ticks: scenario.election_ticks,
            tick_ms: scenario.tick_ms,
            entry_bytes_max: scenario.entry_bytes_max,
            log_bytes_max: scenario.log_bytes_max,
            waiting_max: WAITING_MAX,
            waiting_ms_max: scenario.election_us() * 3 / 1000,
            digest_interval_ms: self.digest_interval_ms(),
            seed: scenario.seed ^ (id << 32) ^ machine.life ^ jitter,
            incarnation: machine.life,
        };
        let point = StorePoint {
            applied_index: position.applied_index,
            applied_term: position.applied_term,
            conf_state: position.conf_state,
            leases: position.leases,
            members: position.members,
        };
        let node = Node::new(config, recovered, point, machine.clock_ms(self.now_us));
        let reader = store.reader();
        Ok(Process {
            status: node.status(),
            node,
            wal,
            store,
            reader,
            inbox: Vec::new(),
            node_busy: false,
            disk_queue: VecDeque::new(),
            disk_jobs: Vec::new(),
            apply_queue: VecDeque::new(),
            apply_job: None,
            checkpoint_queued: false,
            waiters: BTreeMap::new(),
            reads: BTreeMap::new(),
            lease_questions: BTreeMap::new(),
            next_ticket: 1,
            next_command: 1,
            streams: BTreeMap::new(),
            built: None,
            arrived: None,
            incoming: None,
            held: None,
        })
    }

    fn failed_to_start(&mut self, member: usize, error: DiskError) {
        self.trace.say(self.now_us, || format!("member {} does not start: {error}", member + 1));
        match error {
            // The planned failure struck while it started.
            DiskError::Io { .. } => {
                self.after_end(member, Loss::Unsynced);
                self.plan_restart(member);
            }
            _ if self.options.rot => {
                self.condemn(member);
                self.after_end(member, Loss::Nothing);
            }
            broken => self.found(crate::history::Violation::new(
                "durability",
                format!("member {} finds its own files broken after a crash: {broken}", member + 1),
            )),
        }
    }

    /// The process ends at once.
    pub(super) fn end(&mut self, member: usize, why: End) {
        if self.machines[member].process.is_none() {
            return;
        }
        self.trace.note(self.now_us, "end of process", &[member as u64 + 1, self.machines[member].life]);
        self.trace.say(self.now_us, || format!("member {} ends: {why:?}", member + 1));
        self.counts.crashes += 1;
        self.machines[member].removed |= matches!(why, End::Removed);
        let loss = match why {
            End::Killed(loss) => {
                self.cut_short(member);
                loss
            }
            End::Disk(DiskError::Io { .. }) | End::FailedDisk => {
                *self.fault_random.pick(&[Loss::Nothing, Loss::Unsynced])
            }
            End::Disk(_) if self.machines[member].disk.has_failed() => {
                *self.fault_random.pick(&[Loss::Nothing, Loss::Unsynced])
            }
            End::Stopped | End::Removed => {
                self.stop_in_order(member);
                *self.fault_random.pick(&[Loss::Nothing, Loss::Unsynced])
            }
            End::Disk(_) if self.options.rot => {
                self.condemn(member);
                Loss::Nothing
            }
            End::Disk(broken) => {
                self.found(crate::history::Violation::new(
                    "durability",
                    format!("member {} finds its own files broken: {broken}", member + 1),
                ));
                return;
            }
        };
        self.machines[member].process = None;
        self.after_end(member, loss);
        // With its power a machine goes silently; a process alone leaves its connections to be reset.
        if loss == Loss::Nothing {
            for other in (0..self.machines.len()).filter(|other| *other != member) {
                if self.net.reaches(member, other) {
                    let delay_us = self.net.stream_delay_us();
                    let life = self.machines[other].life;
                    self.after(delay_us, Event::PeerLost { member: other, life, peer: member });
                }
            }
        }
        self.plan_restart(member);
    }

    /// A kill in the middle of what the disk or the store does: half of it is done.
    fn cut_short(&mut self, member: usize) {
        if !self.fault_random.coin() {
            return;
        }
        let changes = self.fault_random.below(8);
        let machine = &mut self.machines[member];
        let process = machine.process.as_mut().expect("the process ends after this");
        machine.disk.fail_after_changes(changes);
        // Whatever they come to: nobody is left to hear of it.
        let persists: Vec<Persist> = process
            .disk_jobs
            .drain(..)
            .filter_map(|job| match job {
                DiskJob::Persist(persist) => Some(persist),
                DiskJob::Truncate(_) => None,
            })
            .collect();
        if !persists.is_empty() {
            let _ = process.wal.append(&persists);
        }
        match process.apply_job.take() {
            Some(ApplyJob::Install(arrived)) => drop(process.store.install(arrived.1)),
            Some(ApplyJob::BuildSnapshot) => drop(process.store.snapshot()),
            Some(ApplyJob::Checkpoint) => drop(process.store.checkpoint()),
            Some(ApplyJob::Maintain) => drop(process.store.maintain(MAINTAIN_BYTES)),
            Some(ApplyJob::Entries(_)) | None => {}
        }
    }

    /// The end that a signal brings: everything queued is written, then the log is marked and the store closed.
    fn stop_in_order(&mut self, member: usize) {
        let Some(mut process) = self.machines[member].process.take() else { return };
        let queued = process.disk_jobs.drain(..).chain(process.disk_queue.drain(..));
        let persists: Vec<Persist> = queued
            .filter_map(|job| match job {
                DiskJob::Persist(persist) => Some(persist),
                DiskJob::Truncate(_) => None,
            })
            .collect();
        // A disk that fails here ends the process too, only sooner.
        let written = process.wal.append(&persists).and_then(|()| process.wal.mark_clean());
        if written.is_ok() && process.held.is_none() {
            drop(process.store.close());
        }
    }

    /// The member's files are broken and it said so: it stays down.
    fn condemn(&mut self, member: usize) {
        self.counts.refused_starts += 1;
        self.machines[member].condemned = true;
        self.live_check.excuse(member as u64 + 1);
    }

    fn after_end(&mut self, member: usize, loss: Loss) {
        let empty = self.options.plant == Some(Plant::EmptyDisk) && loss == Loss::Unsynced;
        let machine = &mut self.machines[member];
        machine.process = None;
        machine.life += 1;
        machine.paused = false;
        machine.held.clear();
        machine.disk.end_life(loss);
        self.break_streams_of(member);
        let machine = &mut self.machines[member];
        if empty {
            machine.disk = crate::disk::SimDisk::new(self.fault_random.fork());
            self.planted += 1;
        }
    }

    pub(super) fn plan_restart(&mut self, member: usize) {
        // Some operators start a removed member again.
        if self.machines[member].removed && (self.phase != super::Phase::Chaos || self.operator_random.coin()) {
            return;
        }
        if std::mem::replace(&mut self.machines[member].restarting, true) {
            return;
        }
        let after_us = if self.phase == super::Phase::Chaos {
            self.fault_random.duration_us(self.scenario.down_us)
        } else {
            self.fault_random.range(500..5_000)
        };
        self.after(after_us, Event::Restart { member });
    }

    pub(super) fn tick(&mut self, member: usize) {
        let Machine { life, drift_ppm, .. } = self.machines[member];
        // A tick of the member's own clock.
        let tick_us = self.scenario.tick_ms as i64 * 1000;
        let tick_us = (tick_us - tick_us * drift_ppm / 1_000_000) as u64;
        self.after(tick_us, Event::Tick { member, life });
        self.tell(member, Input::Tick);
        if self.options.members {
            self.reconnect(member);
        }
        self.tend_integrity(member);
    }

    /// Puts an input into the node's inbox.
    pub(super) fn tell(&mut self, member: usize, input: Input) {
        self.process(member).inbox.push(input);
        self.wake_node(member);
    }

    fn wake_node(&mut self, member: usize) {
        if std::mem::replace(&mut self.process(member).node_busy, true) {
            return;
        }
        let life = self.machines[member].life;
        let delay_us = self.random.duration_us(30);
        self.after(delay_us, Event::NodeTurn { member, life });
    }

    pub(super) fn node_turn(&mut self, member: usize) {
        let now_ms = self.machines[member].clock_ms(self.now_us);
        let process = self.process(member);
        process.node_busy = false;
        let inputs = std::mem::take(&mut process.inbox);
        let count = inputs.len();
        let snapshot_told = inputs.iter().any(|input| matches!(input, Input::SnapshotArrived { .. }));
        if self.options.printing {
            for input in inputs.iter().filter(|input| !matches!(input, Input::Tick)) {
                self.trace.say(self.now_us, || format!("member {} hears {input:?}", member + 1));
            }
        }
        let process = self.process(member);
        for input in inputs {
            process.node.handle(now_ms, input);
        }
        let effects = process.node.effects(now_ms);
        self.trace.note(self.now_us, "node", &[member as u64 + 1, count as u64, effects.len() as u64]);
        for effect in effects {
            if self.machines[member].process.is_none() {
                return;
            }
            self.trace.say(self.now_us, || format!("member {} wants {effect:?}", member + 1));
            self.carry_out(member, effect);
        }
        if snapshot_told {
            // A snapshot that the node did not want makes room for the next one.
            self.process(member).arrived = None;
        }
        self.kick_disk(member);
        self.kick_apply(member);
    }

    fn carry_out(&mut self, member: usize, effect: Effect) {
        let now_us = self.now_us;
        match effect {
            Effect::Persist(persist) => {
                for entry in &persist.entries {
                    self.log.observe_write(entry.index, entry.term, now_us);
                }
                let number = persist.number;
                self.process(member).disk_queue.push_back(DiskJob::Persist(persist));
                if self.options.plant == Some(Plant::AcknowledgeBeforeSync) {
                    self.tell(member, Input::Persisted { number });
                }
            }
            Effect::TruncateLog { up_to } => self.process(member).disk_queue.push_back(DiskJob::Truncate(up_to)),
            Effect::Send { to, message } => self.send(member, to as usize - 1, &message),
            Effect::SendSnapshot { to, message } => self.send_snapshot(member, to, message),
            Effect::Apply(entries) => self.process(member).apply_queue.push_back(ApplyJob::Entries(entries)),
            Effect::BuildSnapshot => self.process(member).apply_queue.push_back(ApplyJob::BuildSnapshot),
            Effect::InstallSnapshot(point) => {
                let process = self.process(member);
                let received = process.arrived.take().expect("a snapshot is installed after it arrived");
                process.apply_queue.push_back(ApplyJob::Install(Box::new((point, received))));
            }
            Effect::ReadReady { tickets } => {
                for ticket in tickets {
                    let life = self.machines[member].life;
                    let delay_us = self.random.duration_us(30);
                    self.after(delay_us, Event::ServeRead { member, life, ticket });
                }
            }
            Effect::ReadFailed { tickets, reason } => {
                for ticket in tickets {
                    if let Some((call, _)) = self.process(member).reads.remove(&ticket) {
                        self.refuse(call, reason);
                    }
                }
            }
            Effect::LeaseRemaining { ticket, remaining_ms } => {
                if let Some(call) = self.process(member).lease_questions.remove(&ticket) {
                    self.answer(call, Outcome::Answered(Answer::Remaining(remaining_ms)));
                }
            }
            Effect::Refused { ids, reason } => {
                for id in ids {
                    if let Some(call) = self.process(member).waiters.remove(&id) {
                        self.refuse(call, reason);
                    }
                }
            }
            Effect::Status(status) => {
                let process = self.process(member);
                if status.leader != process.status.leader && status.leader == member as u64 + 1 {
                    self.counts.leader_changes += 1;
                }
                self.process(member).status = status;
                self.trace.note(now_us, "status", &[member as u64 + 1, status.term, status.leader]);
            }
        }
    }

    fn refuse(&mut self, call: usize, reason: Refusal) {
        self.trace.say(self.now_us, || format!("call {call} refused: {reason:?}"));
        self.answer(call, Outcome::Refused);
    }

    fn send(&mut self, from: usize, to: usize, message: &PeerMessage) {
        let bytes = bytes::Bytes::from(message.encode_to_vec());
        self.trace.note_bytes(&bytes);
        let (arrivals, count) = self.net.arrivals(from, to, self.now_us);
        for arrival_us in &arrivals[..count] {
            self.at(*arrival_us, Event::Peer { from, to, message: bytes.clone() });
        }
    }

    pub(super) fn peer(&mut self, from: usize, to: usize, message: bytes::Bytes) {
        if self.machines[to].process.is_none() || !self.net.reaches(from, to) || !self.hears(from, to) {
            return;
        }
        let message = PeerMessage::decode(message).expect("what was encoded can be decoded");
        self.tell(to, Input::Peer { from: from as u64 + 1, message });
    }

    pub(super) fn peer_lost(&mut self, member: usize, peer: usize) {
        if self.machines[member].process.is_none() || !self.net.reaches(peer, member) {
            return;
        }
        let refused = self.machines[peer].process.is_none();
        self.trace.note(self.now_us, "peer lost", &[member as u64 + 1, peer as u64 + 1, u64::from(refused)]);
        self.tell(member, Input::PeerLost { peer: peer as u64 + 1, refused });
    }

    fn kick_disk(&mut self, member: usize) {
        let life = self.machines[member].life;
        let process = self.process(member);
        if !process.disk_jobs.is_empty() || process.disk_queue.is_empty() {
            return;
        }
        let truncation = matches!(process.disk_queue[0], DiskJob::Truncate(_));
        let same = process.disk_queue.iter().take_while(|job| matches!(job, DiskJob::Truncate(_)) == truncation);
        let count = if truncation { 1 } else { same.count().min(GROUP_MAX) };
        process.disk_jobs = process.disk_queue.drain(..count).collect();
        let delay_us = self.disk_delay_us(member, self.scenario.disk_us);
        self.after(delay_us, Event::DiskDone { member, life });
    }

    fn disk_delay_us(&mut self, member: usize, typical_us: u64) -> u64 {
        let delay_us = self.random.duration_us(typical_us) * self.machines[member].disk_slowness;
        delay_us.min(DISK_DELAY_US_MAX)
    }

    pub(super) fn disk_done(&mut self, member: usize) {
        let process = self.process(member);
        let mut persists = Vec::new();
        let mut result = Ok(());
        for job in std::mem::take(&mut process.disk_jobs) {
            match job {
                DiskJob::Persist(persist) => persists.push(persist),
                DiskJob::Truncate(up_to) => result = process.wal.truncate(up_to),
            }
        }
        let last = persists.last().map(|persist| persist.number);
        if !persists.is_empty() {
            result = process.wal.append(&persists);
        }
        self.trace.note(self.now_us, "disk", &[member as u64 + 1, persists.len() as u64, last.unwrap_or(0)]);
        if let Err(error) = result {
            self.end(member, End::Disk(error));
            return;
        }
        let deaf = self.options.plant == Some(Plant::DeafMember) && member == 0 && self.now_us > 300_000;
        if let Some(number) = last
            && self.options.plant != Some(Plant::AcknowledgeBeforeSync)
        {
            if deaf {
                self.planted += 1;
            } else {
                self.tell(member, Input::Persisted { number });
            }
        }
        self.kick_disk(member);
    }

    fn kick_apply(&mut self, member: usize) {
        let life = self.machines[member].life;
        let process = self.process(member);
        if process.apply_job.is_some() {
            return;
        }
        let Some(job) = process.apply_queue.pop_front() else { return };
        let disk_us = self.scenario.disk_us;
        let delay_us = match &job {
            // One entry may take very long, but not all of many.
            ApplyJob::Entries(entries) => {
                self.scenario.apply_us * (entries.len() as u64 - 1) + self.random.duration_us(self.scenario.apply_us)
            }
            ApplyJob::BuildSnapshot | ApplyJob::Install(..) | ApplyJob::Checkpoint => {
                self.disk_delay_us(member, disk_us * 4)
            }
            ApplyJob::Maintain => self.random.duration_us(disk_us),
        };
        self.process(member).apply_job = Some(job);
        self.after(delay_us, Event::ApplyDone { member, life });
    }

    fn queue_maintain(&mut self, member: usize) {
        self.process(member).apply_queue.push_back(ApplyJob::Maintain);
        self.kick_apply(member);
    }

    pub(super) fn apply_done(&mut self, member: usize) {
        let job = self.process(member).apply_job.take().expect("a turn ends what it began");
        let is_held = self.process(member).held.is_some();
        let result = match job {
            // The node builds no snapshot of such a store, and asks anew when there is another one.
            ApplyJob::BuildSnapshot | ApplyJob::Maintain if is_held => Ok(()),
            ApplyJob::Checkpoint if is_held => {
                self.process(member).checkpoint_queued = false;
                Ok(())
            }
            ApplyJob::Entries(entries) if is_held => {
                let held = self.process(member).held.as_mut().expect("it was there");
                held.hold(entries).expect("a run is small");
                Ok(())
            }
            ApplyJob::Entries(entries) => self.apply_entries(member, entries),
            ApplyJob::BuildSnapshot => self.build_snapshot(member),
            ApplyJob::Install(arrived) => self.install(member, *arrived),
            ApplyJob::Checkpoint => self.checkpoint(member),
            ApplyJob::Maintain => self.maintain(member),
        };
        match result {
            Err(error @ DiskError::Corrupt { .. })
                if self.options.integrity
                    && !self.machines[member].disk.has_failed()
                    && self.process(member).reader.members().len() > 1 =>
            {
                if self.process(member).held.is_none() {
                    self.distrust(member, &error.to_string(), Vec::new());
                }
                self.kick_apply(member);
            }
            Err(error) => self.end(member, End::Disk(error)),
            Ok(()) if self.machines[member].process.is_some() => {
                self.observe_state(member);
                let due = self.scenario.checkpoint_bytes;
                let process = self.process(member);
                if process.store.bytes_since_checkpoint() > due && !process.checkpoint_queued {
                    process.checkpoint_queued = true;
                    process.apply_queue.push_back(ApplyJob::Checkpoint);
                }
                self.kick_apply(member);
                self.poll_streams(member);
            }
            Ok(()) => {}
        }
    }

    fn apply_entries(&mut self, member: usize, entries: Vec<CommittedEntry>) -> Result<(), DiskError> {
        let mut leases: Vec<LeaseChange> = Vec::new();
        let mut last_index = entries.last().map_or(0, |entry| entry.index);
        let applied = self.process(member).reader.applied_index();
        let mut broken = None;
        let mut entries = entries.into_iter().filter(|entry| entry.index > applied).collect::<Vec<_>>().into_iter();
        while let Some(entry) = entries.next() {
            self.trace.note(self.now_us, "apply", &[member as u64 + 1, entry.index, entry.term]);
            let before = matches!(entry.payload, Payload::Members { .. }).then(|| self.log.members().list());
            let last_known = self.log.last_index();
            let judged = self.log.observe_apply(member as u64 + 1, &entry, self.now_us);
            self.held_against(judged);
            if let Some(before) = before.filter(|_| entry.index > last_known)
                && let Payload::Members { verdict: Ok(_), .. } = &entry.payload
            {
                self.members_changed(&before);
            }
            let skip = self.options.plant == Some(Plant::SkipEntry)
                && self.planted == 0
                && self.now_us > 300_000
                && matches!(entry.payload, Payload::Commands(_));
            let entry_index = entry.index;
            let kept = entry.clone();
            let entry = if integrity::has_commands(&entry) {
                let Payload::Commands(batch) = entry.payload else { unreachable!("it has commands") };
                CommittedEntry { payload: Payload::Commands(self.bent(member, entry_index, batch)), ..kept.clone() }
            } else {
                entry
            };
            let repairable = self.options.integrity && !self.machines[member].disk.has_failed();
            let Process { store, waiters, reader, .. } =
                self.machines[member].process.as_mut().expect("the process that applies runs");
            if skip {
                self.planted += 1;
                store.apply_empty(entry.index, entry.term);
                continue;
            }
            let outcome = match entry.payload {
                Payload::Empty => {
                    store.apply_empty(entry.index, entry.term);
                    Default::default()
                }
                Payload::Commands(batch) => {
                    match store.apply_commands(entry.index, entry.term, batch, &|id| waiters.contains_key(&id)) {
                        Err(error @ DiskError::Corrupt { .. }) if repairable && reader.members().len() > 1 => {
                            last_index = entry_index - 1;
                            entries = std::iter::once(kept).chain(entries).collect::<Vec<_>>().into_iter();
                            broken = Some(error.to_string());
                            break;
                        }
                        outcome => outcome?,
                    }
                }
                Payload::Members { verdict, change } => {
                    store.apply_members(entry.index, entry.term, verdict, &change, &|id| waiters.contains_key(&id))
                }
            };
            let distrusted = self.heed(member, &outcome);
            let waiters = &mut self.process(member).waiters;
            let calls: Vec<(usize, Result<Reply, Error>)> = outcome
                .replies
                .into_iter()
                .filter_map(|(id, reply)| waiters.remove(&id).map(|call| (call, reply)))
                .collect();
            leases.extend(outcome.leases.into_iter().filter(|change| !integrity::is_stray(change)));
            for (call, reply) in calls {
                self.answer(
                    call,
                    match reply {
                        Ok(Reply { revision, body }) => {
                            Outcome::Answered(Answer::Command { revision, body: body_of(body) })
                        }
                        Err(error) => Outcome::Rejected(error),
                    },
                );
            }
            self.observe_state(member);
            if distrusted.is_some() {
                last_index = entry_index;
                broken = distrusted;
                break;
            }
        }
        if self.options.plant == Some(Plant::ForgetLeases) {
            self.planted += leases.len() as u64;
            leases.clear();
        }
        if self.options.plant == Some(Plant::ExpireEarly) {
            self.expire_early(member, &leases);
        }
        self.tell(member, Input::Applied { index: last_index, leases });
        if let Some(reason) = broken {
            self.distrust(member, &reason, entries.collect());
        }
        Ok(())
    }

    /// The planted bug: the leader's word that a lease is over comes with its beginning.
    fn expire_early(&mut self, member: usize, leases: &[LeaseChange]) {
        for change in leases {
            if let LeaseChange::Granted { id, renewals, .. } = change
                && self.process(member).status.leader == member as u64 + 1
            {
                let term = self.process(member).status.term;
                let expire = LeaseExpire { id: *id, term, renewals: *renewals };
                self.planted += 1;
                self.tell(
                    member,
                    Input::Propose(vec![Command {
                        id: 0,
                        operation: Some(Operation::LeaseExpire(expire)),
                        caller: None,
                    }]),
                );
            }
        }
    }

    fn observe_state(&mut self, member: usize) {
        if self.differs(member) || self.process(member).held.is_some() {
            return;
        }
        let stats = self.process(member).reader.stats();
        let judged =
            self.state_check.observe(&self.log, member as u64 + 1, stats.applied_index, stats.digest, stats.revision);
        self.held_against(judged);
        self.trace.note(self.now_us, "state", &[member as u64 + 1, stats.applied_index, stats.digest]);
    }

    fn build_snapshot(&mut self, member: usize) -> Result<(), DiskError> {
        let process = self.process(member);
        let built = process.store.snapshot()?;
        let point = SnapshotPoint {
            index: built.checkpoint.applied_index,
            term: built.checkpoint.applied_term,
            conf_state: built.checkpoint.conf_state.clone().unwrap_or_default(),
        };
        process.built = Some(built);
        let index = point.index;
        self.trace.note(self.now_us, "snapshot built", &[member as u64 + 1, index]);
        self.tell(member, Input::SnapshotBuilt(point));
        self.tell(member, Input::Checkpointed { index });
        Ok(())
    }

    fn install(&mut self, member: usize, (point, received): (SnapshotPoint, Received)) -> Result<(), DiskError> {
        let process = self.process(member);
        process.store.install(received)?;
        process.built = None;
        let position = process.store.position();
        self.counts.snapshots += 1;
        self.trace.note(self.now_us, "snapshot installed", &[member as u64 + 1, point.index]);
        // Callers whose commands lie within the snapshot never hear of them: their clients give up by themselves.
        let (leases, members) = (position.leases, position.members);
        let index = point.index;
        self.tell(member, Input::SnapshotInstalled { point, leases, members });
        let waited = self.trust_again(member, index);
        if waited.is_empty() { Ok(()) } else { self.apply_entries(member, waited) }
    }

    fn checkpoint(&mut self, member: usize) -> Result<(), DiskError> {
        let process = self.process(member);
        process.checkpoint_queued = false;
        let index = process.store.checkpoint()?;
        self.counts.checkpoints += 1;
        self.trace.note(self.now_us, "checkpoint", &[member as u64 + 1, index]);
        self.tell(member, Input::Checkpointed { index });
        Ok(())
    }

    fn maintain(&mut self, member: usize) -> Result<(), DiskError> {
        let more = self.process(member).store.maintain(MAINTAIN_BYTES)?;
        self.trace.note(self.now_us, "maintain", &[member as u64 + 1, u64::from(more)]);
        if more {
            self.process(member).apply_queue.push_back(ApplyJob::Maintain);
        }
        Ok(())
    }

    /// Compaction left something to do.
    pub(super) fn compacted(&mut self, member: usize) {
        if self.machines[member].process.is_some() {
            self.queue_maintain(member);
        }
    }

    /// Hands a client's command to the node; answers the command's id.
    pub(super) fn propose(&mut self, member: usize, call: usize, operation: Operation) -> u64 {
        let life = self.machines[member].life;
        let process = self.process(member);
        let id = (member as u64 + 1) << 48 | life << 24 | process.next_command;
        process.next_command += 1;
        process.waiters.insert(id, call);
        let command = Command { id, operation: Some(operation), caller: None };
        if self.options.plant == Some(Plant::ProposeTwice) && self.random.below(50) == 0 {
            self.planted += 1;
            self.tell(member, Input::Propose(vec![command.clone()]));
        }
        if self.options.plant == Some(Plant::FalseRefusal) && self.random.below(50) == 0 {
            self.planted += 1;
            self.process(member).waiters.remove(&id);
            self.answer(call, Outcome::Refused);
        }
        self.tell(member, Input::Propose(vec![command]));
        id
    }

    /// Asks for leave to read.
    pub(super) fn ask_to_read(&mut self, member: usize, call: usize, request: RangeRequest) {
        let process = self.process(member);
        let ticket = process.next_ticket;
        process.next_ticket += 1;
        process.reads.insert(ticket, (call, request));
        if self.options.plant == Some(Plant::StaleRead) {
            self.planted += 1;
            self.serve_read(member, ticket);
        } else {
            self.tell(member, Input::Read { ticket });
        }
    }

    /// Asks for a lease's time.
    pub(super) fn ask_lease(&mut self, member: usize, call: usize, id: i64) {
        let process = self.process(member);
        let ticket = process.next_ticket;
        process.next_ticket += 1;
        process.lease_questions.insert(ticket, call);
        self.tell(member, Input::AskLease { ticket, id });
    }

    pub(super) fn serve_read(&mut self, member: usize, ticket: u64) {
        if let Some((call, request)) = self.process(member).reads.remove(&ticket) {
            self.serve_range(member, call, &request);
        }
    }

    /// Reads the store as it is.
    pub(super) fn serve_range(&mut self, member: usize, call: usize, request: &RangeRequest) {
        if self.process(member).held.is_some() {
            self.answer(call, Outcome::Refused);
            return;
        }
        let reply = self.process(member).reader.range(request);
        let outcome = reply.and_then(|reply| {
            let (revision, count, more) = (reply.revision, reply.count, reply.more);
            let kvs = reply.items.decode()?;
            let response = quorate_proto::etcdserverpb::RangeResponse { header: None, kvs, more, count };
            Ok(Answer::Range { revision, response })
        });
        match outcome {
            Ok(answer) => self.answer(call, Outcome::Answered(answer)),
            // A member that cannot read its own records has told so: that is all that can be asked of it.
            Err(Error::Corrupt) if self.options.rot || self.options.integrity => self.answer(call, Outcome::Unknown),
            Err(Error::Corrupt) if self.machines[member].disk.has_failed() => {
                self.answer(call, Outcome::Unknown);
                self.end(member, End::FailedDisk);
            }
            Err(error) => self.answer(call, Outcome::Rejected(error)),
        }
    }

    /// A snapshot arrived whole.
    pub(super) fn snapshot_arrived(&mut self, member: usize, received: Received, message: RaftMessage) {
        self.process(member).arrived = Some(received);
        self.tell(member, Input::SnapshotArrived { message });
    }
}
