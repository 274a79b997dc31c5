//! A histogram of atomics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts values by buckets whose bounds grow exponentially.
#[derive(Debug)]
pub struct Histogram {
    bounds: Vec<f64>,
    /// One more than `bounds`: the last is for what lies above all of them.
    counts: Vec<AtomicU64>,
    /// An `f64`'s bits.
    sum: AtomicU64,
}

impl Histogram {
    /// `count` buckets, the first up to `start`, each next `factor` times wider (Prometheus' ExponentialBuckets).
    pub fn exponential(start: f64, factor: f64, count: usize) -> Self {
        Self::with_bounds(std::iter::successors(Some(start), |bound| Some(bound * factor)).take(count).collect())
    }

    /// Buckets with these upper bounds, in ascending order.
    pub fn with_bounds(bounds: Vec<f64>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        self.observe_times(value, 1);
    }

    /// Counts a value as many times.
    pub fn observe_times(&self, value: f64, times: u64) {
        let bucket = self.bounds.iter().position(|&bound| value <= bound).unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(times, Relaxed);
        let total = value * times as f64;
        let added = |bits: u64| Some((f64::from_bits(bits) + total).to_bits());
        self.sum.fetch_update(Relaxed, Relaxed, added).expect("the update never declines");
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Upper bounds and how many values lie at or below each; all values; their sum.
    pub(crate) fn read(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut total = 0;
        let mut cumulated = Vec::with_capacity(self.bounds.len());
        for (&bound, count) in self.bounds.iter().zip(&self.counts) {
            total += count.load(Relaxed);
            cumulated.push((bound, total));
        }
        total += self.counts[self.bounds.len()].load(Relaxed);
        (cumulated, total, f64::from_bits(self.sum.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_that_holds_them() {
        let histogram = Histogram::exponential(1.0, 2.0, 3);
        for value in [0.5, 1.0, 1.5, 4.0, 100.0] {
            histogram.observe(value);
        }
        assert_eq!(histogram.read(), (vec![(1.0, 2), (2.0, 3), (4.0, 4)], 5, 107.0));
        histogram.observe_times(3.0, 2);
        assert_eq!(histogram.read(), (vec![(1.0, 2), (2.0, 3), (4.0, 6)], 7, 113.0));
    }
}
