//! The network between members: late, lossy, repeating, reordering, and sometimes cut, one way or both.
//!
//! Decides when a message arrives, and how often. Knows nothing of what it says.

use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// How bad the network is. All probabilities in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct NetFaults {
    /// A usual way, us.
    pub delay_us: u64,
    /// Messages lost.
    pub loss_permille: u64,
    /// Messages that arrive twice.
    pub duplicate_permille: u64,
    /// Messages that take a hundred times as long.
    pub straggler_permille: u64,
    /// Whether messages between two members keep their order, as on one connection.
    pub in_order: bool,
    /// Requests and answers of clients that are lost.
    pub client_loss_permille: u64,
}

impl NetFaults {
    /// A network that is only slow.
    pub fn healthy(delay_us: u64) -> Self {
        Self {
            delay_us,
            loss_permille: 0,
            duplicate_permille: 0,
            straggler_permille: 0,
            in_order: true,
            client_loss_permille: 0,
        }
    }
}

/// The network.
pub struct Net {
    random: Random,
    /// How bad it is at the moment.
    pub faults: NetFaults,
    /// Directions that carry nothing: (from, to).
    cut: BTreeSet<(usize, usize)>,
    last_arrival_us: BTreeMap<(usize, usize), u64>,
}

impl Net {
    /// A network where everybody reaches everybody.
    pub fn new(random: Random, faults: NetFaults) -> Self {
        Self { random, faults, cut: BTreeSet::new(), last_arrival_us: BTreeMap::new() }
    }

    /// Stops messages of one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Every direction works again.
    pub fn join_all(&mut self) {
        self.cut.clear();
    }

    /// Whether a direction works.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// When a message sent at `now_us` arrives: never, once, or twice.
    pub fn arrivals(&mut self, from: usize, to: usize, now_us: u64) -> ([u64; 2], usize) {
        let faults = self.faults;
        if !self.reaches(from, to) || self.random.permille(faults.loss_permille) {
            return ([0; 2], 0);
        }
        let count = if self.random.permille(faults.duplicate_permille) { 2 } else { 1 };
        let mut arrivals = [0; 2];
        for arrival_us in &mut arrivals[..count] {
            let mut delay_us = self.random.duration_us(faults.delay_us);
            if self.random.permille(faults.straggler_permille) {
                delay_us *= 100;
            }
            *arrival_us = now_us + delay_us;
            if faults.in_order {
                let last_us = self.last_arrival_us.entry((from, to)).or_insert(0);
                *arrival_us = (*arrival_us).max(*last_us + 1);
                *last_us = *arrival_us;
            }
        }
        (arrivals, count)
    }

    /// How long a client's message takes, us; `None`: it is lost.
    pub fn client_delay_us(&mut self) -> Option<u64> {
        if self.random.permille(self.faults.client_loss_permille) {
            return None;
        }
        Some(self.random.duration_us(self.faults.delay_us))
    }

    /// How long a piece of a stream takes, us; streams lose nothing while they stand.
    pub fn stream_delay_us(&mut self) -> u64 {
        self.random.duration_us(self.faults.delay_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_one_way_and_ends() {
        let mut net = Net::new(Random::new(1), NetFaults::healthy(100));
        net.cut(0, 1);
        assert_eq!(net.arrivals(0, 1, 5).1, 0);
        assert_eq!(net.arrivals(1, 0, 5).1, 1);
        net.join_all();
        assert_eq!(net.arrivals(0, 1, 5).1, 1);
    }

    #[test]
    fn loss_duplication_and_order_are_as_asked() {
        let faults = NetFaults { loss_permille: 300, duplicate_permille: 300, ..NetFaults::healthy(100) };
        let mut net = Net::new(Random::new(1), faults);
        let mut counts = [0; 3];
        let mut last = 0;
        for _ in 0..1000 {
            let (arrivals, count) = net.arrivals(0, 1, 5);
            counts[count] += 1;
            for arrival_us in &arrivals[..count] {
                assert!(*arrival_us > last, "in order");
                last = *arrival_us;
            }
        }
        assert!(counts.iter().all(|count| *count > 150), "{counts:?}");
    }
}
