//! Checks of passwords that are under way, so that many log-ins of one user at a time cost one bcrypt.
//!
//! Owns who waits for which check. Knows neither passwords nor hashes: a check is known by a keyed digest of both. The
//! invariant: everybody who waits hears the outcome of a check that began with the same password against the same hash.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Callers that wait for somebody else's check at the most.
const FOLLOWERS_MAX: usize = 65_536;

/// A name, a password and a hash, as a keyed digest.
pub(crate) type Question = [u8; 32];

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<Question, Vec<oneshot::Sender<bool>>>,
    followers: usize,
}

/// All checks under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    table: Arc<Mutex<Table>>,
}

/// What a caller is in a check.
pub(crate) enum Joined {
    /// The first who asks: the check is to be made.
    Leads(Check),
    /// One who hears of it.
    Follows,
    /// Too many wait.
    Full,
}

/// A check to be made. Dropped without an outcome, it tells nobody anything: they all hear that it failed.
pub(crate) struct Check {
    checks: Checks,
    /// `None` once it was concluded: from then on the same question is a check of somebody else.
    question: Option<Question>,
}

impl Checks {
    /// Waits for the outcome of a check.
    pub(crate) fn join(&self, question: Question, answer: oneshot::Sender<bool>) -> Joined {
        let table = &mut *self.table.lock();
        if let Some(waiting) = table.waiting.get_mut(&question) {
            if table.followers >= FOLLOWERS_MAX {
                return Joined::Full;
            }
            table.followers += 1;
            waiting.push(answer);
            return Joined::Follows;
        }
        table.waiting.insert(question, vec![answer]);
        Joined::Leads(Check { checks: self.clone(), question: Some(question) })
    }

    fn take(&self, question: &Question) -> Vec<oneshot::Sender<bool>> {
        let mut table = self.table.lock();
        let waiting = table.waiting.remove(question).unwrap_or_default();
        table.followers -= waiting.len().saturating_sub(1);
        waiting
    }
}

impl Check {
    /// Whether somebody still wants to know.
    pub(crate) fn is_wanted(&self) -> bool {
        let table = self.checks.table.lock();
        let waiting = self.question.and_then(|question| table.waiting.get(&question));
        waiting.is_some_and(|waiting| waiting.iter().any(|answer| !answer.is_closed()))
    }

    /// Tells everybody.
    pub(crate) fn conclude(&mut self, matches: bool) {
        for answer in self.end() {
            // The caller may have gone.
            let _ = answer.send(matches);
        }
    }

    fn end(&mut self) -> Vec<oneshot::Sender<bool>> {
        self.question.take().map(|question| self.checks.take(&question)).unwrap_or_default()
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_answers_all_who_ask_the_same() {
        let checks = Checks::default();
        let (first, mut heard_first) = oneshot::channel();
        let (second, mut heard_second) = oneshot::channel();
        let (other, mut heard_other) = oneshot::channel();
        let Joined::Leads(mut check) = checks.join([1; 32], first) else { panic!("the first leads") };
        assert!(matches!(checks.join([1; 32], second), Joined::Follows));
        let Joined::Leads(unlike) = checks.join([2; 32], other) else { panic!("another question") };
        assert!(check.is_wanted());
        check.conclude(true);
        assert_eq!((heard_first.try_recv(), heard_second.try_recv()), (Ok(true), Ok(true)));
        drop(unlike);
        assert!(heard_other.try_recv().is_err());
        let table = checks.table.lock();
        assert!(table.waiting.is_empty() && table.followers == 0);
    }

    #[test]
    fn a_check_that_is_over_takes_no_later_one_with_it() {
        let checks = Checks::default();
        let (first, _heard_first) = oneshot::channel();
        let (second, mut heard_second) = oneshot::channel();
        let Joined::Leads(mut check) = checks.join([1; 32], first) else { panic!("the first leads") };
        check.conclude(true);
        let Joined::Leads(mut later) = checks.join([1; 32], second) else { panic!("nothing is under way") };
        drop(check);
        later.conclude(false);
        assert_eq!(heard_second.try_recv(), Ok(false));
    }

    #[test]
    fn a_check_that_nobody_waits_for_is_not_wanted() {
        let checks = Checks::default();
        let (first, heard) = oneshot::channel();
        let Joined::Leads(check) = checks.join([1; 32], first) else { panic!("the first leads") };
        drop(heard);
        assert!(!check.is_wanted());
        let (second, _heard) = oneshot::channel();
        assert!(matches!(checks.join([1; 32], second), Joined::Follows));
        assert!(check.is_wanted(), "the follower still waits");
    }

    #[test]
    fn followers_are_bounded() {
        let checks = Checks::default();
        let mut heard = Vec::new();
        let mut ask = |number: usize| {
            let (answer, receiver) = oneshot::channel();
            heard.push(receiver);
            (number, checks.join([1; 32], answer))
        };
        let (_, Joined::Leads(mut check)) = ask(0) else { panic!("the first leads") };
        for number in 1..=FOLLOWERS_MAX {
            assert!(matches!(ask(number), (_, Joined::Follows)), "{number}");
        }
        assert!(matches!(ask(FOLLOWERS_MAX + 1), (_, Joined::Full)));
        check.conclude(false);
        assert!(heard[..=FOLLOWERS_MAX].iter_mut().all(|receiver| receiver.try_recv() == Ok(false)));
    }
}
