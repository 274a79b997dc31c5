//! What the clients asked and what they were told, with times: the material of the checkers.

use crate::model::Body;
use quorate_proto::etcdserverpb::{RangeRequest, RangeResponse};
use quorate_proto::quoratepb::command::Operation;
use quorate_store::error::Error;

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Request {
    /// A replicated command.
    Command(Operation),
    /// A range; linearizable unless it says `serializable`.
    Range(RangeRequest),
    /// How much of a lease's time remains.
    LeaseRemaining(i64),
}

/// What a client was told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of a command: the revision in the header, and the body without headers.
    Command {
        /// The store's revision behind the command.
        revision: i64,
        /// The rest.
        body: Body,
    },
    /// Of a range.
    Range {
        /// The store's revision when it was read.
        revision: i64,
        /// The rest.
        response: RangeResponse,
    },
    /// Of a question for a lease's time, ms; `None`: no such lease.
    Remaining(Option<u64>),
}

/// How a call ended for its client.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// No word: it may have happened, or may still happen, or not.
    Unknown,
    /// It happened.
    Answered(Answer),
    /// It was decided against, by the store.
    Rejected(Error),
    /// It certainly did not happen, anywhere, and never will.
    Refused,
}

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Call {
    /// The client.
    pub client: usize,
    /// The member that was asked.
    pub member: u64,
    /// What was asked.
    pub request: Request,
    /// When, us of virtual time.
    pub invoked_us: u64,
    /// When the client knew the outcome, us; of an unknown outcome without meaning.
    pub completed_us: u64,
    /// The id that the member gave to the command, when it arrived there.
    pub command_id: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who found it.
    pub checker: &'static str,
    /// What was promised and what was seen.
    pub what: String,
}

impl Violation {
    /// Names a finding.
    pub fn new(checker: &'static str, what: impl Into<String>) -> Self {
        Self { checker, what: what.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.checker, self.what)
    }
}
