//! Sorting an answer as etcd does, down to the order of equal elements.
//!
//! etcd sorts with Go's `sort.Sort`, which is not stable: what comes first of two keys with, say, the same version
//! depends on the algorithm. Clients compare answers of different servers, so the same permutation is produced here.
//! The algorithm is pattern-defeating quicksort (Orson Peters, arXiv:2106.05123) with the parameters that Go's
//! documentation and behaviour show; `testdata/tie_order.txt` holds permutations that a Go program printed.

use std::cmp::Ordering;

/// Up to this many elements insertion sort is used.
const INSERTION_MAX: usize = 12;
/// From here on the pivot is a pseudo-median of nine.
const NINTHER_MIN: usize = 50;
/// Swaps while choosing a pivot that mean descending order.
const SWAPS_MAX: usize = 4 * 3;
/// Elements that a nearly sorted slice may have moved.
const PARTIAL_STEPS_MAX: usize = 5;
/// A slice shorter than this is not worth repairing.
const PARTIAL_LENGTH_MIN: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Unknown,
    Increasing,
    Decreasing,
}

/// Sorts as Go's `sort.Sort` would with `less`.
pub(crate) fn sort<T>(data: &mut [T], less: &mut dyn FnMut(&T, &T) -> bool) {
    let length = data.len();
    let limit = (usize::BITS - length.leading_zeros()) as usize;
    Sorter { data, less }.quick(0, length, limit);
}

/// Sorts by a key, ascending or descending (Go: `sort.Sort`, `sort.Sort(sort.Reverse(..))`).
pub(crate) fn sort_by<T>(data: &mut [T], descending: bool, compare: &dyn Fn(&T, &T) -> Ordering) {
    if descending {
        sort(data, &mut |left, right| compare(right, left).is_lt());
    } else {
        sort(data, &mut |left, right| compare(left, right).is_lt());
    }
}

struct Sorter<'a, T> {
    data: &'a mut [T],
    less: &'a mut dyn FnMut(&T, &T) -> bool,
}

impl<T> Sorter<'_, T> {
    fn less(&mut self, left: usize, right: usize) -> bool {
        (self.less)(&self.data[left], &self.data[right])
    }

    fn insertion(&mut self, from: usize, to: usize) {
        for next in from + 1..to {
            let mut at = next;
            while at > from && self.less(at, at - 1) {
                self.data.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    fn sift_down(&mut self, low: usize, high: usize, first: usize) {
        let mut root = low;
        loop {
            let mut child = 2 * root + 1;
            if child >= high {
                return;
            }
            if child + 1 < high && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.data.swap(first + root, first + child);
            root = child;
        }
    }

    fn heap(&mut self, from: usize, to: usize) {
        let length = to - from;
        if length > 1 {
            for root in (0..=(length - 1) / 2).rev() {
                self.sift_down(root, length, from);
            }
        }
        for last in (0..length).rev() {
            self.data.swap(from, from + last);
            self.sift_down(0, last, from);
        }
    }

    fn quick(&mut self, mut from: usize, mut to: usize, mut limit: usize) {
        let (mut was_balanced, mut was_partitioned) = (true, true);
        loop {
            let length = to - from;
            if length <= INSERTION_MAX {
                return self.insertion(from, to);
            }
            if limit == 0 {
                return self.heap(from, to);
            }
            if !was_balanced {
                self.break_patterns(from, to);
                limit -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(from, to);
            if hint == Hint::Decreasing {
                self.data[from..to].reverse();
                pivot = (to - 1) - (pivot - from);
                hint = Hint::Increasing;
            }
            if was_balanced && was_partitioned && hint == Hint::Increasing && self.repair(from, to) {
                return;
            }
            if from > 0 && !self.less(from - 1, pivot) {
                from = self.partition_equal(from, to, pivot);
                continue;
            }
            let (middle, already) = self.partition(from, to, pivot);
            was_partitioned = already;
            let (left, right) = (middle - from, to - middle);
            let balance = length / 8;
            if left < right {
                was_balanced = left >= balance;
                self.quick(from, middle, limit);
                from = middle + 1;
            } else {
                was_balanced = right >= balance;
                self.quick(middle + 1, to, limit);
                to = middle;
            }
        }
    }

    /// Moves what is less than the pivot before it; answers its place, and whether nothing had to move.
    fn partition(&mut self, from: usize, to: usize, pivot: usize) -> (usize, bool) {
        self.data.swap(from, pivot);
        let (mut low, mut high) = (from + 1, to - 1);
        while low <= high && self.less(low, from) {
            low += 1;
        }
        while low <= high && !self.less(high, from) {
            high -= 1;
        }
        if low > high {
            self.data.swap(high, from);
            return (high, true);
        }
        self.data.swap(low, high);
        low += 1;
        high -= 1;
        loop {
            while low <= high && self.less(low, from) {
                low += 1;
            }
            while low <= high && !self.less(high, from) {
                high -= 1;
            }
            if low > high {
                break;
            }
            self.data.swap(low, high);
            low += 1;
            high -= 1;
        }
        self.data.swap(high, from);
        (high, false)
    }

    /// Splits into what equals the pivot and what is greater; answers where the latter begins.
    fn partition_equal(&mut self, from: usize, to: usize, pivot: usize) -> usize {
        self.data.swap(from, pivot);
        let (mut low, mut high) = (from + 1, to - 1);
        loop {
            while low <= high && !self.less(from, low) {
                low += 1;
            }
            while low <= high && self.less(from, high) {
                high -= 1;
            }
            if low > high {
                return low;
            }
            self.data.swap(low, high);
            low += 1;
            high -= 1;
        }
    }

    /// Sorts a slice that is nearly sorted; whether that was enough.
    fn repair(&mut self, from: usize, to: usize) -> bool {
        let mut at = from + 1;
        for _ in 0..PARTIAL_STEPS_MAX {
            while at < to && !self.less(at, at - 1) {
                at += 1;
            }
            if at == to {
                return true;
            }
            if to - from < PARTIAL_LENGTH_MIN {
                return false;
            }
            self.data.swap(at, at - 1);
            if at - from >= 2 {
                for place in (from + 1..at).rev() {
                    if !self.less(place, place - 1) {
                        break;
                    }
                    self.data.swap(place, place - 1);
                }
            }
            if to - at >= 2 {
                for place in at + 1..to {
                    if !self.less(place, place - 1) {
                        break;
                    }
                    self.data.swap(place, place - 1);
                }
            }
        }
        false
    }

    /// Scatters three elements so that patterns that make partitions lopsided break. Seeded by the length alone.
    fn break_patterns(&mut self, from: usize, to: usize) {
        let length = to - from;
        if length < 8 {
            return;
        }
        let mut random = length as u64;
        let modulus = 1usize << (usize::BITS - length.leading_zeros());
        let middle = from + (length / 4) * 2;
        for offset in 0..3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut other = (random as usize) & (modulus - 1);
            if other >= length {
                other -= length;
            }
            self.data.swap(middle - 1 + offset, from + other);
        }
    }

    fn choose_pivot(&mut self, from: usize, to: usize) -> (usize, Hint) {
        let length = to - from;
        let mut swaps = 0;
        let (mut low, mut middle, mut high) = (from + length / 4, from + length / 4 * 2, from + length / 4 * 3);
        if length >= 8 {
            if length >= NINTHER_MIN {
                low = self.median(low - 1, low, low + 1, &mut swaps);
                middle = self.median(middle - 1, middle, middle + 1, &mut swaps);
                high = self.median(high - 1, high, high + 1, &mut swaps);
            }
            middle = self.median(low, middle, high, &mut swaps);
        }
        match swaps {
            0 => (middle, Hint::Increasing),
            SWAPS_MAX => (middle, Hint::Decreasing),
            _ => (middle, Hint::Unknown),
        }
    }

    fn order(&mut self, low: usize, high: usize, swaps: &mut usize) -> (usize, usize) {
        if self.less(high, low) {
            *swaps += 1;
            return (high, low);
        }
        (low, high)
    }

    fn median(&mut self, low: usize, middle: usize, high: usize, swaps: &mut usize) -> usize {
        let (low, middle) = self.order(low, middle, swaps);
        let (middle, _) = self.order(middle, high, swaps);
        let (_, middle) = self.order(low, middle, swaps);
        middle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line: the keys to sort by; `|`; where each element of the sorted slice stood before (Go's `sort.Sort`).
    #[test]
    fn gives_the_permutations_of_go() {
        let script = include_str!("../testdata/tie_order.txt");
        let mut cases = 0;
        for line in script.lines().filter(|line| !line.starts_with('#')) {
            let (direction, rest) = line.split_once(' ').unwrap();
            let (keys, want) = rest.split_once('|').unwrap();
            let numbers = |text: &str| -> Vec<u32> { text.split_whitespace().map(|n| n.parse().unwrap()).collect() };
            let mut elements: Vec<(u32, u32)> =
                numbers(keys).into_iter().enumerate().map(|(place, key)| (key, place as u32)).collect();
            sort_by(&mut elements, direction == "descend", &|left, right| left.0.cmp(&right.0));
            let got: Vec<u32> = elements.iter().map(|element| element.1).collect();
            assert_eq!(got, numbers(want), "{direction} {keys}");
            cases += 1;
        }
        assert!(cases > 300);
    }
}
