//! What applying an entry came to.

use crate::error::Error;
use crate::operation_counts::OperationCounts;
use crate::v2::Answer;
use quorate_proto::etcdserverpb::{AlarmMember, DeleteRangeResponse, Member, PutResponse, TxnResponse};

/// The result of one entry.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the callers that wait at this member: the command's id and what it came to.
    pub replies: Vec<(u64, Result<Reply, Error>)>,
    /// What happened to leases, in order.
    pub leases: Vec<LeaseChange>,
    /// Whether members, their addresses or the cluster version changed.
    pub members_changed: bool,
    /// Whether alarms were raised or cleared.
    pub alarms_changed: bool,
    /// Of a round of digests that begins: its entry, and this member's digest as of there, which is to be reported.
    pub digest_asked: Option<(u64, u64)>,
    /// Members that differ from the majority; 0: there is no majority.
    pub differing: Vec<u64>,
    /// What the entry held.
    pub operations: OperationCounts,
}

/// A command's answer; headers are filled in by the member that answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The store's revision behind the command.
    pub revision: i64,
    /// The command's own part.
    pub body: ReplyBody,
}

/// The kinds of answers. Boxed where large, since most are a bare put.
#[derive(Clone, Debug)]
pub enum ReplyBody {
    /// Of a put.
    Put(Box<PutResponse>),
    /// Of a delete.
    DeleteRange(Box<DeleteRangeResponse>),
    /// Of a transaction.
    Txn(Box<TxnResponse>),
    /// Of a grant or renewal: the lease and its granted TTL in seconds.
    Lease {
        /// The lease.
        id: i64,
        /// Its granted time to live, seconds.
        ttl_s: i64,
    },
    /// Of an alarm request: the alarms it names.
    Alarms(Vec<AlarmMember>),
    /// Of a change of members: all of them behind it, by id.
    Members(Vec<Member>),
    /// Of a change of the v2 tree.
    V2(Box<Answer>),
    /// Of everything that answers with its header only.
    Done,
}

/// A lease's life, for whoever keeps the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It exists, with this time to live in seconds.
    Granted {
        /// The lease.
        id: i64,
        /// Seconds.
        ttl_s: i64,
        /// The grant's count, see [`crate::lease::Lease::renewals`].
        renewals: u64,
    },
    /// Its time starts over.
    Renewed {
        /// The lease.
        id: i64,
        /// The renewal's count.
        renewals: u64,
    },
    /// It is gone.
    Ended {
        /// The lease.
        id: i64,
    },
}
