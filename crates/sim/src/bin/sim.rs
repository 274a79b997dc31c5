//! The command line of the simulator: runs seeds, and says how to run a red one again.

use clap::Parser;
use quorate_sim::plant::Plant;
use quorate_sim::world::{Counts, Options, Report, run};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs clusters under virtual time, one per seed.
#[derive(Parser)]
struct Arguments {
    /// One seed.
    #[arg(long, value_parser = number, conflicts_with_all = ["seeds", "seconds"])]
    seed: Option<u64>,
    /// Seeds FROM..TO.
    #[arg(long, value_parser = seeds, conflicts_with = "seconds")]
    seeds: Option<(u64, u64)>,
    /// Seeds from --first on, for this long.
    #[arg(long)]
    seconds: Option<u64>,
    /// The first seed of --seconds.
    #[arg(long, value_parser = number, default_value = "0")]
    first: u64,
    /// Run each seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Plant a bug; the run is red when it is found.
    #[arg(long, value_parser = plant)]
    plant: Option<Plant>,
    /// Turn bits over in a member's files.
    #[arg(long)]
    rot: bool,
    /// Let an operator change the members meanwhile.
    #[arg(long)]
    members: bool,
    /// Let stores differ, and rot with --rot, and be repaired.
    #[arg(long)]
    integrity: bool,
    /// Let faults strike ten times as long.
    #[arg(long)]
    long: bool,
    /// Go on after a red seed.
    #[arg(long)]
    keep_going: bool,
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    parsed.map_err(|error| error.to_string())
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("expected FROM..TO")?;
    Ok((number(from)?, number(to)?))
}

fn plant(text: &str) -> Result<Plant, String> {
    Plant::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.name()).collect();
        format!("no such bug; there are {}", names.join(", "))
    })
}

static SEED: AtomicU64 = AtomicU64::new(0);

fn replay(seed: u64, options: Options) -> String {
    let plant = options.plant.map_or(String::new(), |plant| format!(" --plant {}", plant.name()));
    let long = if options.long { " --long" } else { "" };
    let rot = if options.rot { " --rot" } else { "" };
    let members = if options.members { " --members" } else { "" };
    let integrity = if options.integrity { " --integrity" } else { "" };
    let flags = format!("{plant}{long}{rot}{members}{integrity}");
    format!("cargo run --release -p quorate-sim --bin sim -- --seed {seed}{flags} --trace")
}

fn add(sum: &mut Counts, counts: &Counts) {
    sum.events += counts.events;
    sum.virtual_us += counts.virtual_us;
    sum.calls += counts.calls;
    sum.answered += counts.answered;
    sum.unknown += counts.unknown;
    sum.refused += counts.refused;
    sum.watch_events += counts.watch_events;
    sum.entries += counts.entries;
    sum.crashes += counts.crashes;
    sum.snapshots += counts.snapshots;
    sum.checkpoints += counts.checkpoints;
    sum.leases_expired += counts.leases_expired;
    sum.leader_changes += counts.leader_changes;
    sum.refused_starts += counts.refused_starts;
    sum.changes += counts.changes;
    sum.rounds += counts.rounds;
    sum.diverged += counts.diverged;
    sum.repairs += counts.repairs;
    sum.recovery_us = sum.recovery_us.max(counts.recovery_us);
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        plant: arguments.plant,
        printing: arguments.trace,
        long: arguments.long,
        rot: arguments.rot,
        members: arguments.members,
        integrity: arguments.integrity,
    };
    let usual_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let seed = SEED.load(Ordering::Relaxed);
        println!("RED seed {seed}: a panic\n  again: {}", replay(seed, options));
        usual_hook(panic);
    }));
    let begun = Instant::now();
    let (from, to) = match (arguments.seed, arguments.seeds, arguments.seconds) {
        (Some(seed), _, _) => (seed, seed + 1),
        (None, Some(range), _) => range,
        (None, None, Some(_)) => (arguments.first, u64::MAX),
        (None, None, None) => (0, 1000),
    };
    let deadline = arguments.seconds.map(|seconds| begun + Duration::from_secs(seconds));
    let (mut sum, mut runs, mut red) = (Counts::default(), 0u64, 0u64);
    for seed in from..to {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
        SEED.store(seed, Ordering::Relaxed);
        let report = run(seed, options);
        runs += 1;
        add(&mut sum, &report.counts);
        let mut broken = report.violation.as_ref().map(ToString::to_string);
        if arguments.twice {
            let again: Report = run(seed, Options { printing: false, ..options });
            if again.trace_digest != report.trace_digest || again.counts != report.counts {
                broken = Some("determinism: the second run went another way".to_owned());
            }
        }
        if let Some(what) = broken {
            red += 1;
            println!("RED seed {seed}: {what}\n  again: {}", replay(seed, options));
            if !arguments.keep_going {
                break;
            }
        } else if arguments.seed.is_some() {
            println!("green seed {seed}, trace {:016x}", report.trace_digest);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{runs} seeds, {red} red, {seconds:.1} s ({:.1} ms a seed); {sum:?}",
        seconds * 1000.0 / runs.max(1) as f64
    );
    if red > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
