//! The run: one queue of events in the order of virtual time, and everything that it touches.
//!
//! Owns time, the queue, the members' machines, and the phases of a run: faults strike and clients ask, then everything
//! is well and the cluster has to serve and to agree, then the judges look at all of it. What happens within a member
//! is in [`member`], clients in [`clients`], watchers in [`watchers`], faults in [`faults`].
//!
//! Invariant: the order of events is decided by (time, number of insertion) alone, and every draw comes from generators
//! grown from the seed, so that a seed gives one run.

mod clients;
mod faults;
mod finish;
mod integrity;
mod member;
mod operator;
mod snapshots;
mod watchers;

use crate::check::durable::Audit;
use crate::check::live::LiveCheck;
use crate::check::log::CommittedLog;
use crate::check::state::StateCheck;
use crate::disk::SimDisk;
use crate::history::{Call, Outcome, Violation};
use crate::net::Net;
use crate::plant::Plant;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::trace::Trace;
use bytes::Bytes;
use quorate_proto::etcdserverpb::Member;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Events that one run may have at the most: a run that does not end is a finding too.
const EVENTS_MAX: u64 = 3_000_000;
/// How often the end of the run is looked for once all is well, us.
const SETTLE_POLL_US: u64 = 20_000;

/// What a run is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A bug to plant.
    pub plant: Option<Plant>,
    /// Whether the trace is printed.
    pub printing: bool,
    /// Whether faults strike ten times as long.
    pub long: bool,
    /// Whether bits of files are turned over: the member must refuse to start or serve nothing wrong.
    pub rot: bool,
    /// Whether an operator changes the members meanwhile.
    pub members: bool,
    /// Whether members compare and scrub their stores, and stores come to differ or rot and are repaired.
    pub integrity: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What the judges found, if anything.
    pub violation: Option<Violation>,
    /// Equal for equal runs.
    pub trace_digest: u64,
    /// What happened how often.
    pub counts: Counts,
}

/// What happened in a run: a run in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of the queue.
    pub events: u64,
    /// Virtual time, us.
    pub virtual_us: u64,
    /// Calls of clients.
    pub calls: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls without a known outcome.
    pub unknown: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Events that watchers got.
    pub watch_events: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Ends of processes.
    pub crashes: u64,
    /// Snapshots that members installed.
    pub snapshots: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Leases that ran out.
    pub leases_expired: u64,
    /// Elections won, as far as seen.
    pub leader_changes: u64,
    /// Members that refused to start for a broken file.
    pub refused_starts: u64,
    /// Changes of members that took effect.
    pub changes: u64,
    /// Beginnings of rounds of digests, as the members apply them.
    pub rounds: u64,
    /// Stores that came to differ.
    pub diverged: u64,
    /// Stores that were replaced because they were not to be trusted.
    pub repairs: u64,
    /// How long the slowest member took to serve after the faults, us.
    pub recovery_us: u64,
}

/// A machine: what stays when the process ends.
struct Machine {
    disk: SimDisk,
    process: Option<member::Process>,
    /// Counts the lives of the process; events of an earlier life are void.
    life: u64,
    /// While paused: until when. Its events wait in `held`.
    paused: bool,
    held: Vec<Event>,
    /// The member's clock runs so much faster, millionths; may be negative.
    drift_ppm: i64,
    /// And began here, us.
    clock_start_us: u64,
    /// Disk operations take so many times as long.
    disk_slowness: u64,
    /// The disk was found broken for good: the process stays down.
    condemned: bool,
    /// Since which entry its store differs from the others'; `u64::MAX`: from the next one on.
    differs: Option<u64>,
    /// Whether it ever was made to differ.
    ever_differed: bool,
    /// Whether a restart is on its way.
    restarting: bool,
    /// Whether it was added to a cluster that ran already.
    joins: bool,
    /// The members as somebody told it when it joined.
    table: Option<Vec<Member>>,
    /// It was told that it is out.
    removed: bool,
}

impl Machine {
    fn new(disk: SimDisk, drift_ppm: i64, clock_start_us: u64) -> Self {
        Self {
            disk,
            process: None,
            life: 0,
            paused: false,
            held: Vec::new(),
            drift_ppm,
            clock_start_us,
            disk_slowness: 1,
            condemned: false,
            differs: None,
            ever_differed: false,
            restarting: false,
            joins: false,
            table: None,
            removed: false,
        }
    }

    fn clock_ms(&self, now_us: u64) -> u64 {
        let drift_us = now_us as i64 / 1000 * self.drift_ppm / 1000;
        (self.clock_start_us as i64 + now_us as i64 + drift_us) as u64 / 1000
    }
}

/// What can be next.
#[derive(Debug)]
enum Event {
    Tick { member: usize, life: u64 },
    NodeTurn { member: usize, life: u64 },
    DiskDone { member: usize, life: u64 },
    ApplyDone { member: usize, life: u64 },
    ServeRead { member: usize, life: u64, ticket: u64 },
    StreamTurn { member: usize, life: u64, connection: u64 },
    Peer { from: usize, to: usize, message: Bytes },
    PeerLost { member: usize, life: u64, peer: usize },
    SnapshotPiece { transfer: u64 },
    SnapshotSent { member: usize, life: u64, to: u64, delivered: bool },
    ClientTurn { client: usize },
    RequestArrives { call: usize, member: usize },
    AnswerArrives { call: usize, outcome: Outcome },
    CallTimeout { call: usize },
    WatchTurn { client: usize },
    WatchRequest { client: usize, connection: u64, member: usize, request: watchers::ToServer },
    WatchArrives { client: usize, connection: u64, message: watchers::ToClient },
    Fault,
    Restart { member: usize },
    Resume { member: usize },
    DiskRecovers { member: usize },
    Heal,
    Probe { member: usize },
    Settle,
    OperatorTurn,
    Removed { member: usize, life: u64 },
}

impl Event {
    /// The member whose process has to be awake for it, and the life it belongs to (`None`: any).
    fn process(&self) -> Option<(usize, Option<u64>)> {
        match self {
            Self::Tick { member, life }
            | Self::NodeTurn { member, life }
            | Self::DiskDone { member, life }
            | Self::ApplyDone { member, life }
            | Self::ServeRead { member, life, .. }
            | Self::StreamTurn { member, life, .. }
            | Self::PeerLost { member, life, .. }
            | Self::Removed { member, life }
            | Self::SnapshotSent { member, life, .. } => Some((*member, Some(*life))),
            Self::Peer { to, .. } => Some((*to, None)),
            Self::RequestArrives { member, .. } | Self::WatchRequest { member, .. } => Some((*member, None)),
            _ => None,
        }
    }
}

struct Queued {
    time_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time_us, self.number).cmp(&(other.time_us, other.number))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Chaos,
    Settling,
    Over,
}

/// One run.
struct World {
    scenario: Scenario,
    options: Options,
    now_us: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    phase: Phase,
    healed_us: u64,
    machines: Vec<Machine>,
    net: Net,
    random: Random,
    fault_random: Random,
    operator_random: Random,
    trace: Trace,
    counts: Counts,
    violation: Option<Violation>,
    // The clients.
    clients: Vec<clients::Client>,
    calls: Vec<Call>,
    /// Calls that wait for their outcome.
    open_calls: BTreeSet<usize>,
    watch_clients: Vec<watchers::WatchClient>,
    next_connection: u64,
    transfers: BTreeMap<u64, snapshots::Transfer>,
    next_transfer: u64,
    // The judges.
    log: CommittedLog,
    state_check: StateCheck,
    live_check: LiveCheck,
    /// Planted bugs strike once or a few times: how often it did.
    planted: u64,
}

/// Runs a seed from beginning to end.
pub fn run(seed: u64, options: Options) -> Report {
    let mut scenario = Scenario::draw(seed);
    if options.long {
        scenario.chaos_us *= 10;
    }
    run_scenario(scenario, options)
}

/// Runs a scenario that somebody drew up by hand.
pub fn run_scenario(scenario: Scenario, options: Options) -> Report {
    let seed = scenario.seed;
    let whole_run = move || {
        let mut world = World::new(scenario, options);
        world.start();
        world.turn_until_over();
        world.judge();
        world.report(seed)
    };
    // A broken invariant of a member is a finding like any other. (A release build aborts instead.)
    catch_unwind(AssertUnwindSafe(whole_run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Some(Violation::new("panic", text.unwrap_or_default()));
        Report { seed, violation, trace_digest: 0, counts: Counts::default() }
    })
}

impl World {
    fn new(scenario: Scenario, options: Options) -> Self {
        let mut random = Random::new(scenario.seed);
        let net = Net::new(random.fork(), scenario.net);
        let (fault_random, mut client_random) = (random.fork(), random.fork());
        let machines = (0..scenario.members)
            .map(|_| {
                let drift_ppm = random.below(2 * scenario.drift_ppm + 1) as i64 - scenario.drift_ppm as i64;
                Machine::new(SimDisk::new(random.fork()), drift_ppm, random.below(1 << 40))
            })
            .collect();
        let clients = (0..scenario.clients).map(|_| clients::Client::new(client_random.fork())).collect();
        let watch_clients =
            (0..scenario.watch_clients).map(|_| watchers::WatchClient::new(client_random.fork())).collect();
        Self {
            trace: Trace::new(options.printing),
            log: CommittedLog::with_voters(scenario.members),
            operator_random: Random::new(scenario.seed ^ 0x6f70_6572_0000_0000),
            scenario,
            options,
            now_us: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            phase: Phase::Chaos,
            healed_us: 0,
            machines,
            net,
            random,
            fault_random,
            counts: Counts::default(),
            violation: None,
            clients,
            calls: Vec::new(),
            open_calls: BTreeSet::new(),
            watch_clients,
            next_connection: 1,
            transfers: BTreeMap::new(),
            next_transfer: 1,
            state_check: StateCheck::default(),
            live_check: LiveCheck::default(),
            planted: 0,
        }
    }

    fn start(&mut self) {
        for member in 0..self.machines.len() {
            let after_us = self.random.below(5_000);
            self.machines[member].restarting = true;
            self.after(after_us, Event::Restart { member });
        }
        for client in 0..self.clients.len() {
            let after_us = self.random.below(50_000);
            self.after(after_us, Event::ClientTurn { client });
        }
        for client in 0..self.watch_clients.len() {
            let after_us = self.random.below(200_000);
            self.after(after_us, Event::WatchTurn { client });
        }
        if self.scenario.fault_weights.iter().any(|weight| *weight > 0) {
            let after_us = self.fault_random.duration_us(self.scenario.fault_every_us);
            self.after(after_us, Event::Fault);
        }
        if self.options.members {
            let after_us = self.operator_random.duration_us(self.scenario.fault_every_us);
            self.after(after_us, Event::OperatorTurn);
        }
        self.after(self.scenario.chaos_us, Event::Heal);
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    fn at(&mut self, time_us: u64, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Queued { time_us, number: self.queued, event }));
    }

    fn found(&mut self, violation: Violation) {
        self.trace.say(self.now_us, || format!("VIOLATION {violation}"));
        self.violation.get_or_insert(violation);
        self.phase = Phase::Over;
    }

    fn held_against(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.found(violation);
        }
    }

    fn turn_until_over(&mut self) {
        while self.phase != Phase::Over {
            let Some(Reverse(Queued { time_us, event, .. })) = self.queue.pop() else { break };
            self.now_us = time_us;
            self.counts.events += 1;
            if self.counts.events > EVENTS_MAX {
                self.found(Violation::new("liveness", "the run does not come to an end"));
            }
            if let Some((member, life)) = event.process() {
                let machine = &mut self.machines[member];
                if life.is_some_and(|life| life != machine.life) {
                    continue;
                }
                if machine.paused && machine.process.is_some() {
                    machine.held.push(event);
                    continue;
                }
            }
            self.dispatch(event);
        }
    }

    fn dispatch(&mut self, event: Event) {
        let now_us = self.now_us;
        match event {
            Event::Tick { member, .. } => self.tick(member),
            Event::NodeTurn { member, .. } => self.node_turn(member),
            Event::DiskDone { member, .. } => self.disk_done(member),
            Event::ApplyDone { member, .. } => self.apply_done(member),
            Event::ServeRead { member, ticket, .. } => self.serve_read(member, ticket),
            Event::StreamTurn { member, connection, .. } => self.stream_turn(member, connection),
            Event::Peer { from, to, message } => {
                self.trace.note(now_us, "peer", &[from as u64 + 1, to as u64 + 1]);
                self.peer(from, to, message);
            }
            Event::PeerLost { member, peer, .. } => self.peer_lost(member, peer),
            Event::SnapshotPiece { transfer } => self.snapshot_piece(transfer),
            Event::SnapshotSent { member, to, delivered, .. } => self.snapshot_sent(member, to, delivered),
            Event::ClientTurn { client } => self.client_turn(client),
            Event::RequestArrives { call, member } => self.request_arrives(call, member),
            Event::AnswerArrives { call, outcome } => self.answer_arrives(call, outcome),
            Event::CallTimeout { call } => self.call_timeout(call),
            Event::WatchTurn { client } => self.watch_turn(client),
            Event::WatchRequest { client, connection, member, request } => {
                self.watch_request(client, connection, member, request);
            }
            Event::WatchArrives { client, connection, message } => self.watch_arrives(client, connection, message),
            Event::Fault => self.fault(),
            Event::Restart { member } => self.restart(member),
            Event::Resume { member } => self.resume(member),
            Event::DiskRecovers { member } => self.machines[member].disk_slowness = 1,
            Event::Heal => self.heal(),
            Event::Probe { member } => self.probe(member),
            Event::Settle => self.settle(),
            Event::OperatorTurn => self.operator_turn(),
            Event::Removed { member, .. } => self.end(member, member::End::Removed),
        }
    }

    fn report(mut self, seed: u64) -> Report {
        self.counts.virtual_us = self.now_us;
        self.counts.calls = self.calls.len() as u64;
        for call in &self.calls {
            match call.outcome {
                Outcome::Answered(_) | Outcome::Rejected(_) => self.counts.answered += 1,
                Outcome::Unknown => self.counts.unknown += 1,
                Outcome::Refused => self.counts.refused += 1,
            }
        }
        self.counts.entries = self.log.last_index();
        self.counts.recovery_us = self.live_check.slowest_us();
        let events = self.counts.events;
        self.trace.note(self.now_us, "end", &[events, self.counts.entries]);
        Report { seed, violation: self.violation, trace_digest: self.trace.digest(), counts: self.counts }
    }
}
