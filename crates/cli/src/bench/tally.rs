//! What a run counts: latencies of successes, and failures by the text of their status.
//!
//! It owns the counting, not the timing. The invariant: one recorded call is one more success or one more failure,
//! and no number of different texts makes a tally grow without bound.

use super::histogram::Histogram;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, MutexGuard};
use tonic::{Code, Status};

/// How many different failure texts are told apart; further ones are counted together.
const FAILURE_TEXTS_MAX: usize = 64;
/// How many characters of a status message are kept.
const FAILURE_TEXT_CHARACTERS_MAX: usize = 160;
const OTHER_FAILURES: &str = "(further texts)";

/// Failed calls by what the status said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    by_text: BTreeMap<String, u64>,
    count: u64,
}

/// `Code: message`, with the first cause where the message alone says little (as `transport error` does).
fn text_of(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = status.source();
    while let Some(next) = cause.and_then(Error::source) {
        cause = Some(next);
    }
    if let Some(cause) = cause.map(ToString::to_string).filter(|cause| !text.contains(cause.as_str())) {
        text = format!("{text}: {cause}");
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(FAILURE_TEXT_CHARACTERS_MAX).collect()
}

impl Failures {
    pub(crate) fn record(&mut self, status: &Status) {
        self.add(&text_of(status), 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (text, count) in &other.by_text {
            self.add(text, *count);
        }
    }

    /// How many calls failed.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The texts and how often each came, in the order of the texts.
    pub(crate) fn by_text(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_text.iter().map(|(text, count)| (text.as_str(), *count))
    }

    fn add(&mut self, text: &str, count: u64) {
        self.count += count;
        if let Some(known) = self.by_text.get_mut(text) {
            *known += count;
            return;
        }
        let text = if self.by_text.len() < FAILURE_TEXTS_MAX { text } else { OTHER_FAILURES };
        *self.by_text.entry(text.to_owned()).or_default() += count;
    }
}

/// All calls of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    /// What the calls are, as the report names them.
    pub(crate) name: &'static str,
    /// The latencies of the calls that succeeded.
    pub(crate) latency: Histogram,
    /// The calls that did not.
    pub(crate) failures: Failures,
}

impl Series {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, latency: Histogram::default(), failures: Failures::default() }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.failures.merge(&other.failures);
    }
}

/// The counts of the clients of one connection.
#[derive(Debug)]
pub(crate) struct Tally {
    series: Mutex<Vec<Series>>,
}

impl Tally {
    /// A tally of the kinds of calls that a run makes.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        Self { series: Mutex::new(names.iter().map(|name| Series::new(name)).collect()) }
    }

    /// Counts one call of the kind at this place among the names.
    pub(crate) fn record(&self, kind: usize, latency_ns: u64, outcome: Result<(), &Status>) {
        let mut series = self.lock();
        match outcome {
            Ok(()) => series[kind].latency.record(latency_ns),
            Err(status) => series[kind].failures.record(status),
        }
    }

    /// How many calls succeeded and how many failed so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.lock().iter().fold((0, 0), |sum, series| (sum.0 + series.latency.count(), sum.1 + series.failures.count()))
    }

    /// Adds what was counted to `sums`, kind by kind.
    pub(crate) fn add_to(&self, sums: &mut [Series]) {
        for (sum, series) in sums.iter_mut().zip(self.lock().iter()) {
            sum.merge(series);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Series>> {
        self.series.lock().expect("nothing panics while it counts")
    }
}

/// The status of a call that had no answer in time, in the generator's own words.
pub(crate) fn no_answer(timeout: std::time::Duration) -> Status {
    Status::new(Code::DeadlineExceeded, format!("no answer within {timeout:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_counted_once() {
        let tally = Tally::new(&["read", "write"]);
        tally.record(0, 5, Ok(()));
        tally.record(1, 6, Ok(()));
        tally.record(1, 7, Err(&Status::unavailable("etcdserver: leader changed")));
        tally.record(1, 8, Err(&Status::unavailable("etcdserver: leader changed")));
        assert_eq!(tally.counts(), (2, 2));
        let mut sums = vec![Series::new("read"), Series::new("write")];
        tally.add_to(&mut sums);
        tally.add_to(&mut sums);
        assert_eq!((sums[0].latency.count(), sums[1].latency.count()), (2, 2));
        let texts: Vec<_> = sums[1].failures.by_text().collect();
        assert_eq!(texts, [("Unavailable: etcdserver: leader changed", 4)]);
    }

    #[test]
    fn texts_are_bounded_and_nothing_is_lost() {
        let mut failures = Failures::default();
        for number in 0..1000 {
            failures.record(&Status::internal(format!("request {number}\n{}", "x".repeat(1000))));
        }
        assert_eq!(failures.count(), 1000);
        assert_eq!(failures.by_text().map(|(_, count)| count).sum::<u64>(), 1000);
        assert_eq!(failures.by_text().count(), FAILURE_TEXTS_MAX + 1);
        assert!(failures.by_text().all(|(text, _)| text.chars().count() <= FAILURE_TEXT_CHARACTERS_MAX));
        assert!(failures.by_text().all(|(text, _)| !text.contains('\n')));
    }

    #[test]
    fn the_cause_is_named_where_the_message_is_mute() {
        let status = Status::from_error(Box::new(std::io::Error::other("connection refused")));
        assert!(text_of(&status).contains("connection refused"), "{}", text_of(&status));
        assert_eq!(text_of(&Status::not_found("lease")), "NotFound: lease");
    }
}
