//! A log-linear histogram of latencies in nanoseconds.
//!
//! It owns the mapping from a value to its bucket and the percentiles; how a histogram is printed is the report's
//! matter. The invariant: a bucket is never wider than 1/128 of its lowest value, so that every percentile is exact to
//! 0.8 %, and the largest and the smallest value and the sum are exact.

/// Each power of two is cut into `1 << SUB_BUCKET_BITS` buckets of equal width.
const SUB_BUCKET_BITS: u32 = 7;
const SUB_BUCKETS: u64 = 1 << SUB_BUCKET_BITS;

/// The largest value that a bucket can hold, about 73 minutes; larger ones are counted as this one. It bounds a
/// histogram to 37 KiB.
pub(crate) const VALUE_NS_MAX: u64 = (1 << 42) - 1;

/// The percentiles of every report: the name and the thousandths of all values at or below it.
pub(crate) const PERCENTILES: [(&str, u64); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)];

/// Counts of latencies, see the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// Grows to the highest bucket in use; at most `index_of(VALUE_NS_MAX) + 1`.
    counts: Vec<u64>,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

/// One line of the readable histogram: the values above the line before and up to `up_to_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) up_to_ns: u64,
    pub(crate) count: u64,
}

fn index_of(value: u64) -> usize {
    if value < 2 * SUB_BUCKETS {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BUCKET_BITS;
    (u64::from(shift) * SUB_BUCKETS + (value >> shift)) as usize
}

fn lowest_of(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * SUB_BUCKETS {
        return index;
    }
    let shift = index / SUB_BUCKETS - 1;
    (index % SUB_BUCKETS + SUB_BUCKETS) << shift
}

fn highest_of(index: usize) -> u64 {
    lowest_of(index + 1) - 1
}

/// The upper bounds of the readable rows: 1, 2 and 5 of every power of ten, from one microsecond.
fn row_bound_ns(number: u32) -> u64 {
    [1_000, 2_000, 5_000][(number % 3) as usize] * 10u64.pow(number / 3)
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn record(&mut self, value_ns: u64) {
        let value_ns = value_ns.min(VALUE_NS_MAX);
        let index = index_of(value_ns);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.count += 1;
        self.sum_ns += u128::from(value_ns);
        self.max_ns = self.max_ns.max(value_ns);
    }

    /// Adds all that `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many values were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exact up to [`VALUE_NS_MAX`]; 0 when empty.
    pub(crate) fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The mean, rounded down; 0 when empty.
    pub(crate) fn mean_ns(&self) -> u64 {
        if self.count == 0 { 0 } else { (self.sum_ns / u128::from(self.count)) as u64 }
    }

    /// The smallest bucket bound with at least `thousandths` of all values at or below it; 0 when empty.
    pub(crate) fn percentile_ns(&self, thousandths: u64) -> u64 {
        assert!(thousandths <= 1000, "a percentile is a part of the whole");
        let rank = (u128::from(self.count) * u128::from(thousandths)).div_ceil(1000).max(1);
        let mut seen = 0u128;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return highest_of(index).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// The counts in bounds that people count in (1, 2, 5, 10 … microseconds), from the first row in use to the last.
    /// A bucket that lies across a bound is counted below it.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut number = 0;
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            while row_bound_ns(number) < lowest_of(index) {
                number += 1;
                if !rows.is_empty() {
                    rows.push(Row { up_to_ns: row_bound_ns(number), count: 0 });
                }
            }
            if rows.is_empty() {
                rows.push(Row { up_to_ns: row_bound_ns(number), count: 0 });
            }
            rows.last_mut().expect("a row was pushed above").count += count;
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap_and_stay_narrow() {
        for index in 0..=index_of(VALUE_NS_MAX) {
            let (low, high) = (lowest_of(index), highest_of(index));
            assert_eq!(index_of(low), index, "lowest value of bucket {index}");
            assert_eq!(index_of(high), index, "highest value of bucket {index}");
            assert!((high - low) * SUB_BUCKETS <= low, "bucket {index} is {low}..={high}");
        }
        assert_eq!(highest_of(index_of(VALUE_NS_MAX)), VALUE_NS_MAX);
    }

    #[test]
    fn percentiles_are_within_one_bucket_of_the_sorted_values() {
        let mut state = 0x5eed_u64;
        let mut histogram = Histogram::default();
        let mut values = Vec::new();
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = (state >> 33) >> ((state >> 20) % 20);
            histogram.record(value);
            values.push(value);
        }
        values.sort_unstable();
        for thousandths in [1, 10, 250, 500, 900, 990, 999, 1000] {
            let exact = values[(values.len() as u64 * thousandths).div_ceil(1000) as usize - 1];
            let given = histogram.percentile_ns(thousandths);
            assert!(given >= exact && given - exact <= exact / SUB_BUCKETS, "{thousandths}: {given} for {exact}");
        }
        assert_eq!(histogram.max_ns(), *values.last().unwrap());
        assert_eq!(histogram.mean_ns(), values.iter().sum::<u64>() / values.len() as u64);
    }

    #[test]
    fn small_counts_have_the_percentiles_one_expects() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile_ns(999), histogram.mean_ns(), histogram.max_ns()), (0, 0, 0));
        histogram.record(7);
        assert_eq!((histogram.percentile_ns(1), histogram.percentile_ns(500), histogram.percentile_ns(999)), (7, 7, 7));
        for value in [1, 2, 3, 4, 5, 6, 8, 9, 10] {
            histogram.record(value);
        }
        assert_eq!(
            (histogram.percentile_ns(500), histogram.percentile_ns(900), histogram.percentile_ns(990)),
            (5, 9, 10)
        );
    }

    #[test]
    fn a_merge_equals_counting_in_one_place() {
        let (mut left, mut right, mut whole) = (Histogram::default(), Histogram::default(), Histogram::default());
        for value in 0..1000u64 {
            let value = value * value * 77;
            if value % 3 == 0 {
                left.record(value)
            } else {
                right.record(value)
            }
            whole.record(value);
        }
        left.merge(&right);
        assert_eq!(left, whole);
    }

    #[test]
    fn values_beyond_the_last_bucket_are_held_by_it() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!((histogram.max_ns(), histogram.percentile_ns(500)), (VALUE_NS_MAX, VALUE_NS_MAX));
        assert_eq!(histogram.rows(), [Row { up_to_ns: 5_000_000_000_000, count: 1 }]);
    }

    #[test]
    fn rows_start_and_end_in_use_and_lose_nothing() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.rows(), []);
        for value in [150_000, 160_000, 1_900_000, 200] {
            histogram.record(value);
        }
        let rows = histogram.rows();
        assert_eq!(rows.first(), Some(&Row { up_to_ns: 1_000, count: 1 }));
        assert_eq!(rows.last(), Some(&Row { up_to_ns: 2_000_000, count: 1 }));
        assert!(rows.contains(&Row { up_to_ns: 200_000, count: 2 }));
        assert!(rows.windows(2).all(|pair| pair[0].up_to_ns < pair[1].up_to_ns));
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), histogram.count());
    }
}
