//! What a seed means: sizes, speeds, the mix of requests, and which faults strike how often.
//!
//! Each seed switches kinds of faults on and off (a swarm): a bug that needs peace from nine faults to be reached by the
//! tenth is found by the seeds that have only the tenth.

use crate::net::NetFaults;
use crate::random::Random;

/// A kind of fault that strikes at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A member's process ends; its disk keeps what was written.
    Kill,
    /// A member loses its power, and with it what was not synced.
    PowerLoss,
    /// All members lose their power at once.
    PowerLossOfAll,
    /// The members fall into two groups that do not hear each other.
    Partition,
    /// One member hears nobody, or is heard by nobody.
    OneWayPartition,
    /// The leader alone is cut off.
    IsolateLeader,
    /// Everybody hears everybody again.
    Join,
    /// A member does nothing for a while, and its clock goes on.
    Pause,
    /// A member's disk gets slow for a while.
    SlowDisk,
    /// A member's disk fails at some later operation; the process stops.
    FailingDisk,
    /// A watch connection breaks.
    CutWatch,
    /// Leadership is handed over.
    TransferLeader,
    /// A connection between two members breaks and is made again.
    BreakConnection,
    /// A member's process is asked to end, and ends in order.
    Stop,
}

/// All kinds, in the order of [`Scenario::fault_weights`].
pub const FAULTS: [Fault; 14] = [
    Fault::Kill,
    Fault::PowerLoss,
    Fault::PowerLossOfAll,
    Fault::Partition,
    Fault::OneWayPartition,
    Fault::IsolateLeader,
    Fault::Join,
    Fault::Pause,
    Fault::SlowDisk,
    Fault::FailingDisk,
    Fault::CutWatch,
    Fault::TransferLeader,
    Fault::BreakConnection,
    Fault::Stop,
];

/// The longest that a disk takes for anything, us.
pub const DISK_DELAY_US_MAX: u64 = 400_000;

/// Kinds of requests, in the order of [`Scenario::request_weights`].
pub const REQUEST_KINDS: usize = 10;

/// One seed's world.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where it comes from.
    pub seed: u64,
    /// Voters.
    pub members: usize,
    /// Clients that ask, each one question at a time.
    pub clients: usize,
    /// Connections that watch.
    pub watch_clients: usize,
    /// How long faults strike and clients ask, us.
    pub chaos_us: u64,
    /// A client's usual pause between two calls, us.
    pub think_us: u64,
    /// When a client gives up on a call, us.
    pub timeout_us: u64,
    /// Keys in use.
    pub keys: u64,
    /// The largest value, bytes.
    pub value_bytes_max: u64,
    /// Weights of put, delete, range, range at a revision, serializable range, transaction, grant, renewal or revocation,
    /// time to live, compaction.
    pub request_weights: [u64; REQUEST_KINDS],
    /// The network while faults strike.
    pub net: NetFaults,
    /// Weights of [`FAULTS`]; all 0: none.
    pub fault_weights: [u64; FAULTS.len()],
    /// A usual time between two faults, us.
    pub fault_every_us: u64,
    /// How long a member stays down or paused, us.
    pub down_us: u64,
    /// Whether everybody loses power when the faults end.
    pub power_loss_at_end: bool,
    /// Members' clocks are off by up to this, millionths.
    pub drift_ppm: u64,
    /// Length of a tick, ms.
    pub tick_ms: u64,
    /// Ticks to an election.
    pub election_ticks: usize,
    /// Usual time of a disk's write and sync, us.
    pub disk_us: u64,
    /// Usual time of applying an entry, us.
    pub apply_us: u64,
    /// Commands of one raft entry at the most, bytes.
    pub entry_bytes_max: usize,
    /// Log kept for followers that lag, bytes.
    pub log_bytes_max: usize,
    /// Size of a segment of the write-ahead log, bytes.
    pub wal_segment_bytes: u64,
    /// Size of a segment of the store, bytes.
    pub store_segment_bytes: u32,
    /// The store's write buffer, bytes.
    pub store_buffer_bytes: usize,
    /// A checkpoint is made after so many bytes.
    pub checkpoint_bytes: u64,
    /// A stream's queue, bytes.
    pub watch_queue_bytes_max: usize,
}

impl Scenario {
    /// The world of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5ce7_a210_0000_0000);
        let random = &mut random;
        let members = *random.pick(&[1, 3, 3, 3, 3, 3, 5]);
        let delay_us = *random.pick(&[200, 500, 500, 2_000]);
        let mut net = NetFaults::healthy(delay_us);
        net.in_order = random.coin();
        if random.coin() {
            net.loss_permille = *random.pick(&[5, 20, 100]);
        }
        if random.coin() {
            net.duplicate_permille = *random.pick(&[5, 20, 100]);
        }
        if random.coin() {
            net.straggler_permille = *random.pick(&[2, 10, 30]);
        }
        if random.coin() {
            net.client_loss_permille = *random.pick(&[5, 30]);
        }
        let mut fault_weights = [0; FAULTS.len()];
        for weight in &mut fault_weights {
            if random.permille(400) {
                *weight = random.range(1..10);
            }
        }
        // One seed in ten is peaceful: what fails there is no fault's fault.
        if random.below(10) == 0 {
            fault_weights = [0; FAULTS.len()];
            net = NetFaults::healthy(delay_us);
        }
        let mut request_weights = [10, 3, 10, 3, 3, 6, 1, 2, 1, 1];
        for weight in &mut request_weights {
            *weight = if random.permille(150) { 0 } else { *weight * random.range(1..4) };
        }
        request_weights[0] += 1;
        // Leases need seconds to run out: only some seeds wait for them.
        if random.permille(600) {
            request_weights[6] = 0;
            request_weights[7] = 0;
        }
        let store_segment_bytes = *random.pick(&[4 << 10, 16 << 10, 64 << 10]);
        Self {
            seed,
            members,
            clients: random.range(2..6) as usize,
            watch_clients: random.range(1..4) as usize,
            chaos_us: random.range(800_000..2_000_000),
            think_us: *random.pick(&[1_000, 5_000, 20_000]),
            timeout_us: *random.pick(&[150_000, 400_000, 800_000]),
            keys: *random.pick(&[2, 5, 12]),
            value_bytes_max: *random.pick(&[8, 200, 200, 1_500]),
            request_weights,
            net,
            fault_weights,
            fault_every_us: *random.pick(&[60_000, 150_000, 400_000]),
            down_us: *random.pick(&[5_000, 60_000, 250_000, 600_000]),
            power_loss_at_end: random.permille(300),
            drift_ppm: *random.pick(&[0, 500, 30_000]),
            tick_ms: *random.pick(&[10, 20, 20]),
            election_ticks: *random.pick(&[4, 5, 8]),
            disk_us: *random.pick(&[50, 300, 300, 3_000]),
            apply_us: *random.pick(&[10, 50, 1_000]),
            entry_bytes_max: *random.pick(&[300, 4 << 10, 64 << 10]),
            log_bytes_max: *random.pick(&[500, 4 << 10, 64 << 10]),
            wal_segment_bytes: *random.pick(&[8 << 10, 16 << 10, 64 << 10]),
            store_segment_bytes,
            store_buffer_bytes: *random.pick(&[0, 512, 4 << 10]),
            checkpoint_bytes: *random.pick(&[1 << 10, 8 << 10, 64 << 10]),
            watch_queue_bytes_max: *random.pick(&[64, 1 << 10, 64 << 10]),
        }
    }

    /// Ticks to an election, as time, us.
    pub fn election_us(&self) -> u64 {
        self.election_ticks as u64 * self.tick_ms * 1000
    }

    /// How long a healthy cluster may take to serve again, us: everybody's log is read, a vote may be split a few times,
    /// a snapshot may have to travel, and a client may wait once for its first try's end.
    pub fn recovery_us_max(&self) -> u64 {
        20 * self.election_us() + 2 * self.timeout_us + 3 * DISK_DELAY_US_MAX + 1_000_000
    }

    /// The shortest TTL a lease is granted, seconds: what the server demands.
    pub fn lease_ttl_s_min(&self) -> i64 {
        (self.election_us() * 3 / 2).div_ceil(1_000_000) as i64
    }
}
