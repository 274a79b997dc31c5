//! Linearizable reads: which callers wait, for which round, and for which index.
//!
//! One read-index round serves every ticket that was waiting when it began; tickets that come later wait for the next
//! one. Owns the tickets only: rounds are raft's. Invariant: a ticket is answered exactly once, and with success only
//! when the store has applied what was committed at a moment after the ticket came.

use std::collections::VecDeque;

/// A lost question or answer is repeated after so many ticks.
pub(crate) const RETRY_TICKS: u64 = 2;

#[derive(Clone, Copy, Debug)]
struct Ticket {
    number: u64,
    since_ms: u64,
}

struct Round {
    counter: u64,
    tickets: Vec<Ticket>,
    asked: Asked,
}

/// Whom a round asked, and when: another leader or a long silence means to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) leader: u64,
    pub(crate) term: u64,
    pub(crate) tick: u64,
}

/// The tickets.
#[derive(Default)]
pub(crate) struct Reads {
    waiting: VecDeque<Ticket>,
    round: Option<Round>,
    /// Tickets whose index is known, by rising index.
    confirmed: VecDeque<(u64, Vec<Ticket>)>,
    count: usize,
}

impl Reads {
    /// Queues a ticket; `false` when there are `max` already.
    pub(crate) fn add(&mut self, now_ms: u64, number: u64, max: usize) -> bool {
        if self.count >= max {
            return false;
        }
        self.count += 1;
        self.waiting.push_back(Ticket { number, since_ms: now_ms });
        true
    }

    /// All that waits may read at `index`, without a round.
    pub(crate) fn confirm_waiting(&mut self, index: u64) {
        let mut tickets: Vec<Ticket> = self.waiting.drain(..).collect();
        if let Some(round) = self.round.take() {
            tickets.extend(round.tickets);
        }
        self.confirm(index, tickets);
    }

    /// The context's counter of the round that is to be asked at this moment, if any: a new one for what waits, or
    /// the present one again. `counter` is used if a new round begins.
    pub(crate) fn ask(&mut self, counter: u64, asked: Asked) -> Option<u64> {
        if let Some(round) = &mut self.round {
            let same = round.asked.leader == asked.leader && round.asked.term == asked.term;
            if same && asked.tick < round.asked.tick + RETRY_TICKS {
                return None;
            }
            round.asked = asked;
            return Some(round.counter);
        }
        if self.waiting.is_empty() {
            return None;
        }
        self.round = Some(Round { counter, tickets: self.waiting.drain(..).collect(), asked });
        Some(counter)
    }

    /// A round ended: what it asked for is known.
    pub(crate) fn round_ended(&mut self, counter: u64, index: u64) {
        if let Some(round) = self.round.take_if(|round| round.counter == counter) {
            self.confirm(index, round.tickets);
        }
    }

    fn confirm(&mut self, index: u64, tickets: Vec<Ticket>) {
        if tickets.is_empty() {
            return;
        }
        // An index below an earlier one happens after a change of leader, and waiting for the higher one is correct.
        let index = self.confirmed.back().map_or(index, |(newest, _)| index.max(*newest));
        self.confirmed.push_back((index, tickets));
    }

    /// Whether tickets wait for the store to apply more.
    pub(crate) fn awaits_applied(&self) -> bool {
        !self.confirmed.is_empty()
    }

    /// Takes the tickets that may read a store that has applied `applied`.
    pub(crate) fn take_ready(&mut self, applied: u64) -> Vec<u64> {
        let mut ready = Vec::new();
        while self.confirmed.front().is_some_and(|(index, _)| *index <= applied)
            && let Some((_, tickets)) = self.confirmed.pop_front()
        {
            ready.extend(tickets.iter().map(|ticket| ticket.number));
        }
        self.count -= ready.len();
        ready
    }

    /// Takes the tickets that came before `before_ms` and whose index is unknown.
    pub(crate) fn take_expired(&mut self, before_ms: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        if let Some(round) = &mut self.round {
            round.tickets.retain(|ticket| {
                let keep = ticket.since_ms > before_ms;
                if !keep {
                    expired.push(ticket.number);
                }
                keep
            });
            if round.tickets.is_empty() {
                self.round = None;
            }
        }
        while self.waiting.front().is_some_and(|ticket| ticket.since_ms <= before_ms)
            && let Some(ticket) = self.waiting.pop_front()
        {
            expired.push(ticket.number);
        }
        self.count -= expired.len();
        expired
    }
}
