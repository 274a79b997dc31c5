//! Thousands of worlds: every seed is green, every seed is the same twice, and seeds that were red stay.

use quorate_sim::world::{Counts, Options, Report, run};

fn again(seed: u64, flags: &str) -> String {
    format!("cargo run --release -p quorate-sim --bin sim -- --seed {seed}{flags} --trace")
}

#[track_caller]
fn green(report: &Report, flags: &str) {
    if let Some(violation) = &report.violation {
        panic!("seed {}: {violation}\n  again: {}", report.seed, again(report.seed, flags));
    }
}

/// Runs seeds and answers what happened in all of them together.
fn all_green(seeds: std::ops::Range<u64>) -> Counts {
    let mut sum = Counts::default();
    for seed in seeds {
        let report = run(seed, Options::default());
        green(&report, "");
        sum.answered += report.counts.answered;
        sum.unknown += report.counts.unknown;
        sum.refused += report.counts.refused;
        sum.watch_events += report.counts.watch_events;
        sum.crashes += report.counts.crashes;
        sum.snapshots += report.counts.snapshots;
        sum.checkpoints += report.counts.checkpoints;
        sum.leases_expired += report.counts.leases_expired;
        sum.leader_changes += report.counts.leader_changes;
    }
    sum
}

/// A run in which nothing happens proves nothing: each kind of thing happened, and most calls were answered.
fn lively(sum: Counts) {
    assert!(sum.answered > 60_000, "{sum:?}");
    assert!(sum.answered > 2 * (sum.unknown + sum.refused), "{sum:?}");
    assert!(sum.watch_events > 30_000, "{sum:?}");
    let rarer = [sum.crashes, sum.snapshots, sum.checkpoints, sum.leases_expired, sum.leader_changes, sum.unknown];
    assert!(rarer.iter().all(|count| *count > 100), "{sum:?}");
}

#[test]
fn seeds_0_to_700_are_green() {
    lively(all_green(0..700));
}

#[test]
fn seeds_700_to_1400_are_green() {
    lively(all_green(700..1400));
}

#[test]
fn seeds_1400_to_2100_are_green() {
    lively(all_green(1400..2100));
}

#[test]
fn seeds_2100_to_2800_are_green() {
    lively(all_green(2100..2800));
}

/// An operator adds, promotes, moves, removes and replaces members while all the faults strike.
fn green_with_changing_members(seeds: std::ops::Range<u64>) {
    let (mut changes, mut snapshots, mut answered) = (0, 0, 0);
    for seed in seeds {
        let report = run(seed, Options { members: true, ..Options::default() });
        green(&report, " --members");
        changes += report.counts.changes;
        snapshots += report.counts.snapshots;
        answered += report.counts.answered;
    }
    assert!(changes > 1_000 && snapshots > 500 && answered > 30_000, "{changes} {snapshots} {answered}");
}

#[test]
fn seeds_0_to_500_are_green_with_changing_members() {
    green_with_changing_members(0..500);
}

#[test]
fn seeds_500_to_1000_are_green_with_changing_members() {
    green_with_changing_members(500..1000);
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for (seed, members) in (5000..5150).map(|seed| (seed, seed % 3 == 0)) {
        let options = Options { members, ..Options::default() };
        let (first, second) = (run(seed, options), run(seed, options));
        assert_eq!(
            (first.trace_digest, first.counts),
            (second.trace_digest, second.counts),
            "seed {seed} went two ways\n  again: {}",
            again(seed, " --twice")
        );
    }
}

#[test]
fn a_member_with_a_broken_file_refuses_to_start_or_serves_nothing_wrong() {
    let mut refused = 0;
    for seed in 0..250 {
        let report = run(seed, Options { rot: true, ..Options::default() });
        green(&report, " --rot");
        refused += report.counts.refused_starts;
    }
    assert!(refused > 100, "only {refused} of 250 broken files were noticed");
}

/// As long as the voters that can run are a quorum, they serve; fewer of them tell nothing wrong.
#[test]
fn a_broken_member_among_changing_ones_costs_nothing_while_there_is_a_quorum() {
    let (mut refused, mut changes) = (0, 0);
    for seed in 20_500..20_750 {
        let report = run(seed, Options { rot: true, members: true, ..Options::default() });
        green(&report, " --rot --members");
        refused += report.counts.refused_starts;
        changes += report.counts.changes;
    }
    assert!(refused > 100 && changes > 250, "{refused} broken files noticed, {changes} changes");
}

/// Seeds of bugs in BUGS.md, each red when its fix is taken out. After a change in what seeds draw, find new ones that way.
#[test]
fn seeds_that_were_red_stay_green() {
    for seed in [138, 166, 214, 233, 332, 102_224] {
        green(&run(seed, Options::default()), "");
    }
    for seed in [87, 114, 223] {
        green(&run(seed, Options { members: true, ..Options::default() }), " --members");
    }
}

/// Stores come to differ behind the members' backs: whoever differs is named, and no other; serves nobody; and is like
/// the others again in the end.
#[test]
fn stores_that_differ_are_found_and_repaired() {
    let (mut diverged, mut repairs, mut rounds) = (0, 0, 0);
    for seed in 0..600 {
        let report = run(seed, Options { integrity: true, ..Options::default() });
        green(&report, " --integrity");
        diverged += report.counts.diverged;
        repairs += report.counts.repairs;
        rounds += report.counts.rounds;
    }
    assert!(diverged > 100 && repairs > 100 && rounds > 5_000, "{diverged} {repairs} {rounds}");
}

/// A bit of a store turns over: the record is found by a reader or in the background, never served, and the member gets
/// another store from the others.
#[test]
fn stores_that_rot_are_repaired() {
    let mut repairs = 0;
    for seed in 0..600 {
        let report = run(seed, Options { integrity: true, rot: true, ..Options::default() });
        green(&report, " --integrity --rot");
        repairs += report.counts.repairs;
    }
    assert!(repairs > 10, "{repairs}");
}
