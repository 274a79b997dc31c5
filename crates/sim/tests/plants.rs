//! Each checker can fail: bugs planted in the simulated shell are found, each within a few seeds, and by the checker
//! whose promise they break.

use quorate_sim::plant::Plant;
use quorate_sim::world::{Options, run};

/// Runs seeds with a bug planted until one of these checkers finds it; other findings on the way are its consequences.
fn found_within(plant: Plant, seeds_max: u64, checkers: &[&str]) {
    let mut others = Vec::new();
    for seed in 0..seeds_max {
        let report = run(seed, Options { plant: Some(plant), ..Options::default() });
        match report.violation {
            Some(violation) if checkers.contains(&violation.checker) => return,
            Some(violation) => others.push((seed, violation.checker)),
            None => {}
        }
    }
    panic!("{} is not found by {checkers:?} within {seeds_max} seeds, only {others:?}", plant.name());
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    found_within(Plant::AcknowledgeBeforeSync, 200, &["log", "durability", "linearizability"]);
}

#[test]
fn a_log_that_is_never_synced_is_found() {
    found_within(Plant::LogWithoutSync, 200, &["log", "durability", "linearizability"]);
}

#[test]
fn a_skipped_entry_is_found() {
    found_within(Plant::SkipEntry, 10, &["state"]);
}

#[test]
fn a_stale_read_is_found() {
    found_within(Plant::StaleRead, 50, &["linearizability"]);
}

#[test]
fn a_dropped_event_is_found() {
    found_within(Plant::DropEvent, 10, &["watch"]);
}

#[test]
fn a_repeated_event_is_found() {
    found_within(Plant::RepeatEvent, 10, &["watch"]);
}

#[test]
fn a_lease_that_ends_early_is_found() {
    found_within(Plant::ExpireEarly, 30, &["lease"]);
}

#[test]
fn leases_that_never_end_are_found() {
    found_within(Plant::ForgetLeases, 30, &["lease"]);
}

#[test]
fn a_refusal_of_what_happens_all_the_same_is_found() {
    found_within(Plant::FalseRefusal, 20, &["linearizability"]);
}

#[test]
fn a_command_that_takes_effect_twice_is_found() {
    found_within(Plant::ProposeTwice, 20, &["log"]);
}

#[test]
fn a_member_that_never_serves_again_is_found() {
    found_within(Plant::DeafMember, 20, &["liveness"]);
}

#[test]
fn a_member_that_forgot_what_it_promised_is_found() {
    found_within(Plant::EmptyDisk, 100, &["log", "durability", "linearizability"]);
}
