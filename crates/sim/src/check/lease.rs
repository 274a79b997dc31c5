//! Leases: never gone before their time, gone soon after it.
//!
//! Time is the run's own, not any member's: a member's clock may run faster or slower by the bound that the scenario
//! sets, and no more than that is allowed for.

use crate::check::log::LeaseEvent;
use crate::history::{Answer, Call, Outcome, Request, Violation};
use crate::model::LeaseStep;
use std::collections::BTreeMap;

const NAME: &str = "lease";
/// Members count whole milliseconds, at both ends.
const ROUNDING_US: u64 = 2_000;

/// What the scenario allows.
#[derive(Clone, Copy, Debug)]
pub struct LeaseBounds {
    /// How much a member's clock may be off per second, millionths.
    pub drift_ppm: u64,
    /// From when on nothing hindered the cluster, us.
    pub healthy_since_us: u64,
    /// How much later than its time a lease may end in a healthy cluster, us: finding a leader, a round, a tick.
    pub late_us_max: u64,
    /// When the run ended, us.
    pub ended_us: u64,
}

/// Judges all steps of all leases, in the order of the log.
pub fn check(events: &[LeaseEvent], calls: &[Call], bounds: LeaseBounds) -> Result<(), Violation> {
    // Since when each living lease counts, and its TTL.
    let mut running: BTreeMap<i64, (u64, i64)> = BTreeMap::new();
    for event in events {
        match event.step {
            LeaseStep::Granted(id) | LeaseStep::Renewed(id) => {
                running.insert(id, (event.applied_us, event.ttl_s));
            }
            LeaseStep::Revoked(id) => {
                running.remove(&id);
            }
            LeaseStep::Expired(id) => {
                let (since_us, ttl_s) = running.remove(&id).expect("the model expires living leases only");
                let ttl_us = ttl_s as u64 * 1_000_000;
                let shortest_us = ttl_us - ttl_us / 1_000_000 * bounds.drift_ppm - ROUNDING_US;
                if event.proposed_us < since_us + shortest_us {
                    return Err(Violation::new(
                        NAME,
                        format!(
                            "lease {id:x} with a TTL of {ttl_s} s began at {since_us} us and was ended after only {} us",
                            event.proposed_us.saturating_sub(since_us)
                        ),
                    ));
                }
            }
        }
    }
    for (id, (since_us, ttl_s)) in running {
        let ttl_us = ttl_s as u64 * 1_000_000;
        let longest_us = ttl_us + ttl_us / 1_000_000 * bounds.drift_ppm + bounds.late_us_max;
        if since_us.max(bounds.healthy_since_us) + longest_us < bounds.ended_us {
            return Err(Violation::new(
                NAME,
                format!(
                    "lease {id:x} with a TTL of {ttl_s} s began at {since_us} us and still lives at {} us, though all \
                     was well since {} us",
                    bounds.ended_us, bounds.healthy_since_us
                ),
            ));
        }
    }
    remaining(events, calls)
}

/// Nobody is told of more time than the lease was granted.
fn remaining(events: &[LeaseEvent], calls: &[Call]) -> Result<(), Violation> {
    let mut granted: BTreeMap<i64, i64> = BTreeMap::new();
    for event in events {
        if let LeaseStep::Granted(id) = event.step {
            let ttl_s = granted.entry(id).or_insert(0);
            *ttl_s = event.ttl_s.max(*ttl_s);
        }
    }
    for call in calls {
        let (Request::LeaseRemaining(id), Outcome::Answered(Answer::Remaining(Some(remaining_ms)))) =
            (&call.request, &call.outcome)
        else {
            continue;
        };
        if granted.get(id).is_none_or(|ttl_s| *remaining_ms > *ttl_s as u64 * 1000) {
            return Err(Violation::new(NAME, format!("lease {id:x} is said to have {remaining_ms} ms left")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: LeaseBounds =
        LeaseBounds { drift_ppm: 10_000, healthy_since_us: 0, late_us_max: 500_000, ended_us: 3_000_000 };

    fn event(step: LeaseStep, time_us: u64) -> LeaseEvent {
        LeaseEvent { step, ttl_s: 1, proposed_us: time_us, applied_us: time_us }
    }

    #[test]
    fn an_end_in_time_passes_and_an_early_one_is_found() {
        let granted = event(LeaseStep::Granted(1), 100);
        check(&[granted, event(LeaseStep::Expired(1), 1_000_100)], &[], BOUNDS).unwrap();
        check(&[granted, event(LeaseStep::Expired(1), 990_000)], &[], BOUNDS).unwrap();
        assert!(check(&[granted, event(LeaseStep::Expired(1), 900_000)], &[], BOUNDS).is_err());
        let renewed = event(LeaseStep::Renewed(1), 800_000);
        assert!(check(&[granted, renewed, event(LeaseStep::Expired(1), 1_000_100)], &[], BOUNDS).is_err());
        check(&[granted, renewed, event(LeaseStep::Expired(1), 1_800_000)], &[], BOUNDS).unwrap();
    }

    #[test]
    fn a_lease_that_never_ends_is_found_unless_the_cluster_was_ill() {
        let granted = event(LeaseStep::Granted(1), 100);
        assert!(check(&[granted], &[], BOUNDS).is_err());
        check(&[granted], &[], LeaseBounds { healthy_since_us: 2_000_000, ..BOUNDS }).unwrap();
        check(&[granted, event(LeaseStep::Revoked(1), 200)], &[], BOUNDS).unwrap();
    }
}
