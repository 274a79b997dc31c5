//! What goes into a [`crate::Node`] and what comes out: the seam between consensus and the world.
//!
//! A node never waits. The world hands it an [`Input`] with the time, later collects its [`Effect`]s, carries them out,
//! and tells the results as further inputs. `server` does so with threads, `sim` with turns.

use bytes::Bytes;
use quorate_proto::quoratepb::{Command, ConfState, LeaseRecord, LogEntry, PeerMessage, RaftMessage};
use quorate_store::error::Error;
use quorate_store::members::Membership;
use quorate_store::outcome::LeaseChange;

/// How a node is made. Every value that the members must agree on is marked so.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This member; never 0.
    pub id: u64,
    /// Ticks (heartbeat intervals) without a word from the leader before an election, 2 at least.
    pub election_ticks: usize,
    /// Length of a tick, ms.
    pub tick_ms: u64,
    /// Commands of one raft entry together at the most, bytes.
    pub entry_bytes_max: usize,
    /// Entries kept in memory for followers that lag, beyond those not applied yet, bytes. A follower that needs more
    /// gets a snapshot.
    pub log_bytes_max: usize,
    /// Commands that wait for a leader, for their turn, or for the log to be applied, at the most; more are refused.
    pub waiting_max: usize,
    /// How long a command waits for a leader before it is refused, ms.
    pub waiting_ms_max: u64,
    /// Seed of everything random (election jitter).
    pub seed: u64,
    /// How often a leader lets the members compare digests of their state, ms; 0: never.
    pub digest_interval_ms: u64,
    /// New at every start of the process, greater than before: tells forwarded commands of different lives apart.
    pub incarnation: u64,
}

/// Raft's state that must survive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term seen.
    pub term: u64,
    /// Whom this member voted for in it; 0: nobody.
    pub vote: u64,
    /// The highest index known to be committed.
    pub commit: u64,
}

/// The position of a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotPoint {
    /// The last index that it holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Voters and learners at it.
    pub conf_state: ConfState,
}

/// Where the store stands when a node starts.
#[derive(Clone, Debug, Default)]
pub struct StorePoint {
    /// The last applied index; 0: a new store.
    pub applied_index: u64,
    /// That entry's term.
    pub applied_term: u64,
    /// Voters and learners at it. A cluster that bootstraps names its first voters at index 0; a member that joins names
    /// none, and begins with a snapshot.
    pub conf_state: ConfState,
    /// The leases in it.
    pub leases: Vec<LeaseRecord>,
    /// The members at it.
    pub members: Membership,
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// One heartbeat interval passed.
    Tick,
    /// Callers here want these commands replicated. Each has an id of its own.
    Propose(Vec<Command>),
    /// A caller here wants to read what is newest; answered by [`Effect::ReadReady`] or [`Effect::ReadFailed`].
    Read {
        /// The caller's ticket.
        ticket: u64,
    },
    /// How much of a lease's time remains; answered by [`Effect::LeaseRemaining`].
    AskLease {
        /// The caller's ticket.
        ticket: u64,
        /// The lease.
        id: i64,
    },
    /// A member said something.
    Peer {
        /// The sender, as its connection proved.
        from: u64,
        /// Its words.
        message: PeerMessage,
    },
    /// The connection to a member broke. `refused`: connecting again was refused, so that its process is gone.
    PeerLost {
        /// The member.
        peer: u64,
        /// Whether nobody listens there any more.
        refused: bool,
    },
    /// A [`Persist`] is durable (they complete in order; this covers all up to it).
    Persisted {
        /// Its number.
        number: u64,
    },
    /// The store applied everything up to `index`.
    Applied {
        /// The last applied index.
        index: u64,
        /// What happened to leases on the way, in order.
        leases: Vec<LeaseChange>,
    },
    /// The store's checkpoint at `index` is durable: older log is no longer needed for start-up.
    Checkpointed {
        /// What it covers.
        index: u64,
    },
    /// A snapshot asked for by [`Effect::BuildSnapshot`] can be sent.
    SnapshotBuilt(SnapshotPoint),
    /// Sending a snapshot came to its end.
    SnapshotSent {
        /// To whom.
        to: u64,
        /// Whether the receiver has all of it.
        delivered: bool,
    },
    /// A snapshot arrived whole, verified and durable, beside the store in use.
    SnapshotArrived {
        /// The raft message that came with it.
        message: RaftMessage,
    },
    /// The store is that of the snapshot ([`Effect::InstallSnapshot`]), durably; its leases begin anew.
    SnapshotInstalled {
        /// Its position.
        point: SnapshotPoint,
        /// The leases in it. With their renewals: an expiry that names another count is void.
        leases: Vec<LeaseRecord>,
        /// The members in it.
        members: Membership,
    },
    /// The store turned out wrong or unreadable and applies nothing more ([`crate::held`]): another one is needed.
    StoreBroken,
    /// Whether an alarm that the cluster raised over this member's data stands in what was applied. At start, too.
    OwnAlarm {
        /// Whether it does.
        stands: bool,
    },
    /// The store applied the beginning of a round of digests.
    DigestAsked {
        /// The entry with it.
        index: u64,
        /// The store's digest there.
        digest: u64,
    },
    /// Hand leadership to a member; 0: to whoever is best placed. Ignored by followers.
    TransferLeader {
        /// The member.
        to: u64,
    },
}

/// What is to be done outside.
#[derive(Debug)]
pub enum Effect {
    /// Write and sync, then tell [`Input::Persisted`]. In order. A failure ends the process.
    Persist(Persist),
    /// Send to a member; may get lost.
    Send {
        /// To whom.
        to: u64,
        /// What.
        message: PeerMessage,
    },
    /// Stream the built snapshot of the message's position together with the message; tell [`Input::SnapshotSent`].
    SendSnapshot {
        /// To whom.
        to: u64,
        /// The raft message.
        message: RaftMessage,
    },
    /// Committed entries, for the store, in order; then tell [`Input::Applied`].
    Apply(Vec<CommittedEntry>),
    /// Make a snapshot of the store as it is; tell [`Input::SnapshotBuilt`].
    BuildSnapshot,
    /// Replace the store by the arrived snapshot; tell [`Input::SnapshotInstalled`]. Entries that it holds already may be
    /// handed out afterwards: the store passes them over.
    InstallSnapshot(SnapshotPoint),
    /// Segments of the log that hold nothing beyond this index may be recycled.
    TruncateLog {
        /// The last index not needed.
        up_to: u64,
    },
    /// These callers may read the store as it is.
    ReadReady {
        /// Their tickets.
        tickets: Vec<u64>,
    },
    /// These callers can't read what is newest.
    ReadFailed {
        /// Their tickets.
        tickets: Vec<u64>,
        /// Why.
        reason: Refusal,
    },
    /// The answer to [`Input::AskLease`]: `None` when no such lease is known here.
    LeaseRemaining {
        /// The caller's ticket.
        ticket: u64,
        /// What remains, ms.
        remaining_ms: Option<u64>,
    },
    /// These commands were certainly not proposed, here or anywhere.
    Refused {
        /// Their ids.
        ids: Vec<u64>,
        /// Why.
        reason: Refusal,
    },
    /// The node's view of the cluster changed.
    Status(NodeStatus),
}

/// Why a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody leads, for too long.
    NoLeader,
    /// Too much waits already.
    TooManyRequests,
    /// Leadership was lost on the way.
    LeaderChanged,
    /// The member is stopping.
    Stopped,
    /// The learner that is to be promoted lacks too much of the log.
    LearnerNotReady,
    /// The learner that is to be promoted is no member.
    MemberNotFound,
}

/// One write to the log: the disk makes all of it durable with one sync, or none of it counts.
#[derive(Clone, Debug, Default)]
pub struct Persist {
    /// Counts up by one.
    pub number: u64,
    /// The new hard state, when it changed.
    pub hard_state: Option<HardState>,
    /// Entries; the first one's index cuts off whatever the log holds from there on.
    pub entries: Vec<LogEntry>,
    /// The log begins anew behind this position (the store holds the snapshot already).
    pub snapshot: Option<SnapshotPoint>,
}

/// A committed entry, decoded as far as raft's own part goes.
#[derive(Clone, Debug)]
pub struct CommittedEntry {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it says.
    pub payload: Payload,
}

/// The kinds of entries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A new leader's empty entry.
    Empty,
    /// An encoded `CommandBatch`.
    Commands(Bytes),
    /// A change of members.
    Members {
        /// The configuration from here on, or why the change was refused: the same on every member.
        verdict: Result<ConfState, Error>,
        /// The encoded `Command` that asked for it; empty when raft changed by itself.
        change: Bytes,
    },
}

/// What a node knows of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// This member.
    pub id: u64,
    /// The current term.
    pub term: u64,
    /// Who leads; 0: nobody known.
    pub leader: u64,
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// Whether this member is the only voter and leads: then what it has applied is what is newest.
    pub sole_voter: bool,
    /// The highest committed index known.
    pub commit: u64,
    /// The last index in the log.
    pub last_index: u64,
    /// Votes or leaders changed this often since start.
    pub leader_changes: u64,
}
