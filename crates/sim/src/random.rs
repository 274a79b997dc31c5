//! The one source of chance in a run: xoshiro256** grown from a seed.
//!
//! Written out here, not taken from a crate, so that a seed replays the same run whatever is upgraded. Independent
//! purposes draw from generators of their own ([`Random::fork`]): a draw more in one does not shift the others.

use std::ops::Range;

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        let mut next = || {
            mixer = mixer.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = mixer;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        };
        Self { state: [next(), next(), next(), next()] }
    }

    /// A generator of its own, drawn from this one.
    pub fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let state = &mut self.state;
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// A number below `bound`, which is above 0. The bias of the modulus is far below what a run could show.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a bound of 0 leaves nothing to draw");
        self.bits() % bound
    }

    /// A number of the range, which is not empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// Whether something of this probability, in thousandths, happens.
    pub fn permille(&mut self, probability: u64) -> bool {
        self.below(1000) < probability
    }

    /// One of two, evenly.
    pub fn coin(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// An element of a slice that is not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// An index, with a probability in proportion to its weight. At least one weight is above 0.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut rest = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if rest < *weight {
                return index;
            }
            rest -= weight;
        }
        unreachable!("the draw lies below the sum of the weights")
    }

    /// A duration around `typical`, sometimes much longer: most waits in a computer look like this.
    pub fn duration_us(&mut self, typical: u64) -> u64 {
        let typical = typical.max(2);
        match self.below(100) {
            0 => self.range(typical..typical * 20),
            1..10 => self.range(typical..typical * 4),
            _ => self.range(typical / 2..typical * 3 / 2),
        }
    }

    /// Puts a slice into a random order.
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for index in (1..slice.len()).rev() {
            slice.swap(index, self.below(index as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        // Recorded once: a change here would make every printed seed worthless.
        let mut random = Random::new(1);
        assert_eq!(random.bits(), 0xb3f2_af6d_0fc7_10c5);
        assert_ne!(Random::new(2).bits(), Random::new(1).bits());
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut random = Random::new(7);
        for _ in 0..10_000 {
            assert!((5..9).contains(&random.range(5..9)));
            assert!(random.weighted(&[0, 3, 0, 1]) % 2 == 1);
        }
        assert!(!random.permille(0));
        assert!(random.permille(1000));
    }
}
