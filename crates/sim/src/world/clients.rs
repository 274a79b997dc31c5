//! Clients: each asks one thing at a time, of any member, and gives up after a while.

use super::operator::OPERATOR;
use super::{Event, Phase, World};
use crate::history::{Answer, Call, Outcome, Request};
use crate::random::Random;
use crate::workload;
use quorate_proto::quoratepb::command::Operation;

/// How often a client asks another member than before, thousandths.
const ROAMING_PERMILLE: u64 = 200;
/// Calls of one run at the most.
const CALLS_MAX: usize = 4_000;

/// One client.
pub(super) struct Client {
    random: Random,
    member: usize,
    /// The newest revision that it was told of.
    revision: i64,
}

impl Client {
    pub(super) fn new(random: Random) -> Self {
        Self { random, member: 0, revision: 1 }
    }
}

impl World {
    /// The newest revision that any client was told of.
    pub(super) fn known_revision(&self) -> i64 {
        self.clients.iter().map(|client| client.revision).max().unwrap_or(1)
    }

    pub(super) fn client_turn(&mut self, number: usize) {
        if self.phase != Phase::Chaos || self.calls.len() >= CALLS_MAX {
            return;
        }
        let members = self.machines.len() as u64;
        let client = &mut self.clients[number];
        if client.random.permille(ROAMING_PERMILLE) {
            client.member = client.random.below(members) as usize;
        }
        let member = client.member;
        let request = workload::request(&mut client.random, &self.scenario, client.revision);
        self.invoke(number, member, request);
    }

    /// A client's question leaves it.
    pub(super) fn invoke(&mut self, client: usize, member: usize, request: Request) -> usize {
        let call = self.calls.len();
        self.trace.note(self.now_us, "call", &[call as u64, client as u64, member as u64 + 1]);
        self.trace.say(self.now_us, || format!("call {call}: {request:?}"));
        self.calls.push(Call {
            client,
            member: member as u64 + 1,
            request,
            invoked_us: self.now_us,
            completed_us: 0,
            command_id: None,
            outcome: Outcome::Unknown,
        });
        self.open_calls.insert(call);
        if let Some(delay_us) = self.net.client_delay_us() {
            self.after(delay_us, Event::RequestArrives { call, member });
        }
        self.after(self.scenario.timeout_us, Event::CallTimeout { call });
        call
    }

    pub(super) fn request_arrives(&mut self, call: usize, member: usize) {
        self.trace.note(self.now_us, "request", &[call as u64, member as u64 + 1]);
        if self.machines[member].process.is_none() {
            // Nobody listens: the connection is refused.
            self.answer(call, Outcome::Refused);
            return;
        }
        if self.machines[member].process.as_ref().is_some_and(|process| process.held.is_some()) {
            self.answer(call, Outcome::Refused);
            return;
        }
        match self.calls[call].request.clone() {
            Request::Command(operation) => {
                let compaction = matches!(operation, Operation::Compact(_));
                let id = self.propose(member, call, operation);
                self.calls[call].command_id = Some(id);
                if compaction {
                    self.compacted(member);
                }
            }
            Request::Range(request) if request.serializable => self.serve_range(member, call, &request),
            Request::Range(request) => self.ask_to_read(member, call, request),
            Request::LeaseRemaining(id) => self.ask_lease(member, call, id),
        }
    }

    /// A member's answer leaves it.
    pub(super) fn answer(&mut self, call: usize, outcome: Outcome) {
        if let Some(delay_us) = self.net.client_delay_us() {
            self.after(delay_us, Event::AnswerArrives { call, outcome });
        }
    }

    pub(super) fn answer_arrives(&mut self, number: usize, outcome: Outcome) {
        if !self.open_calls.remove(&number) {
            return;
        }
        self.trace.say(self.now_us, || format!("call {number} ends: {outcome:?}"));
        let (kind, revision) = match &outcome {
            Outcome::Answered(Answer::Command { revision, .. } | Answer::Range { revision, .. }) => (1, *revision),
            Outcome::Answered(Answer::Remaining(_)) => (2, 0),
            Outcome::Rejected(_) => (3, 0),
            Outcome::Refused => (4, 0),
            Outcome::Unknown => (5, 0),
        };
        self.trace.note(self.now_us, "answer", &[number as u64, kind, revision as u64]);
        let call = &mut self.calls[number];
        call.completed_us = self.now_us;
        call.outcome = outcome;
        let (client, member) = (call.client, call.member);
        match self.clients.get_mut(client) {
            None if client == OPERATOR => {}
            Some(client) => client.revision = client.revision.max(revision),
            None if kind == 1 => self.live_check.served(member, self.now_us),
            None => {}
        }
        self.next_turn(client, member);
    }

    pub(super) fn call_timeout(&mut self, number: usize) {
        if self.open_calls.remove(&number) {
            self.trace.note(self.now_us, "timeout", &[number as u64]);
            let (client, member) = (self.calls[number].client, self.calls[number].member);
            self.next_turn(client, member);
        }
    }

    fn next_turn(&mut self, client: usize, member: u64) {
        if client == OPERATOR {
            return;
        }
        if client >= self.clients.len() {
            // A probe goes on until its member serves.
            if !self.live_check.is_served(member) {
                self.after(10_000, Event::Probe { member: member as usize - 1 });
            }
            return;
        }
        let delay_us = self.clients[client].random.duration_us(self.scenario.think_us);
        self.after(delay_us, Event::ClientTurn { client });
    }

    /// When all is well again: a write through each member.
    pub(super) fn probe(&mut self, member: usize) {
        let put = quorate_proto::etcdserverpb::PutRequest { key: "probe".into(), ..Default::default() };
        self.invoke(self.clients.len() + member, member, Request::Command(Operation::Put(put)));
    }
}
