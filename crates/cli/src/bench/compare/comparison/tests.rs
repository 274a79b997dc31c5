//! Medians, ratios and the printed forms of a comparison.

use super::*;
use crate::bench::arguments::{Load, Preparation, Work};
use crate::bench::compare::plan::Clusters;
use crate::bench::payload::Shape;
use crate::bench::schedule::{Limit, Pace};
use crate::bench::tally::Series;
use std::path::PathBuf;
use std::time::Duration;
use tonic::Status;

fn load() -> Load {
    Load {
        connections: 2,
        clients: 4,
        limit: Limit::Calls(100),
        pace: Pace::Unpaced,
        shape: Shape { key_prefix: "bench/".into(), key_size: 16, key_space: 1, value_size: 8, seed: 0 },
        preparation: Preparation::None,
        timeout: Duration::from_secs(10),
        threads: 1,
        access: Default::default(),
    }
}

/// A run of 100 calls of 1 ms each that took `elapsed_ms`.
fn sample(elapsed_ms: u64, cpu_seconds: f64) -> Sample {
    let mut part = Series::new("put");
    for _ in 0..100 {
        part.latency.record(1_000_000);
    }
    let measurement = Measurement {
        work: Work::Put,
        load: load(),
        endpoints: Vec::new(),
        elapsed: Duration::from_millis(elapsed_ms),
        headline: Series { name: "calls", ..part.clone() },
        parts: vec![part],
        notes: vec![("events lost", 0)],
        interrupted: false,
        wrong: false,
    };
    Sample { measurement, usage: Some(Usage { cpu_seconds, peak_memory_bytes: 40 << 20, disk_bytes: 64 << 20 }) }
}

fn comparison() -> Comparison {
    let clusters = Clusters {
        binaries: Pair { a: PathBuf::from("a"), b: PathBuf::from("b") },
        members: 3,
        server_arguments: Vec::new(),
        folder: PathBuf::new(),
        keep: false,
    };
    let names = Pair { a: "quorate".to_owned(), b: "etcd".to_owned() };
    let plan = Plan { sides: Sides::Started(clusters), names, rounds: 3, work: Work::Put, load: load() };
    let samples = Pair {
        a: vec![sample(100, 0.01), sample(200, 0.02), sample(50, 0.03)],
        b: vec![sample(200, 0.04), sample(200, 0.04), sample(200, 0.04)],
    };
    Comparison { plan, samples }
}

#[test]
fn text_has_medians_and_ratios_of_the_same_round() {
    let want = "\
put, 3 members: 4 clients on 2 connections, 100 calls, 1 key of 16 bytes, values of 8 bytes

3 rounds                               A: quorate  B: etcd                  A / B
throughput (per second)     1,000 (500 - 2,000)      500     2.00 (1.00 - 4.00)
";
    let text = text(&comparison());
    let head: Vec<&str> = text.lines().take(4).collect();
    let want: Vec<&str> = want.lines().collect();
    assert_eq!(head[0], want[0]);
    let cells = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(cells(head[2]), cells(want[2]));
    assert_eq!(cells(head[3]), cells(want[3]));
    let line = |name: &str| cells(text.lines().find(|line| line.starts_with(name)).unwrap());
    assert_eq!(line("server CPU")[1..], ["20.0 (10.0 - 30.0)", "40.0", "0.500 (0.250 - 0.750)"]);
    assert_eq!(line("peak memory")[1..], ["40.0", "40.0", "1.00"]);
    assert_eq!(line("failed")[1..], ["0", "0", "-"]);
}

#[test]
fn markdown_is_a_table() {
    let text = markdown(&comparison());
    let table: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(table.len(), 2 + FIGURES.len());
    assert!(table.iter().all(|line| line.starts_with("| ") || line.starts_with("|-")), "{text}");
    assert!(table.iter().all(|line| line.matches('|').count() == 5), "{text}");
}

#[test]
fn json_has_the_figures_and_the_runs() {
    let value = json(&comparison());
    assert_eq!(value["figures"][0]["figure"], "throughput");
    assert_eq!(value["figures"][0]["ratio"], json!({"median": 2.0, "low": 1.0, "high": 4.0}));
    assert_eq!(value["runs"]["a"].as_array().map(Vec::len), Some(3));
    assert_eq!(value["runs"]["b"][0]["usage"]["disk_bytes"], json!(64 << 20));
    assert_eq!(value["figures"][6]["ratio"], Value::Null);
}

#[test]
fn servers_of_others_have_no_usage() {
    let mut comparison = comparison();
    comparison.plan.sides = Sides::Running(Pair { a: Vec::new(), b: Vec::new() });
    for sample in comparison.samples.a.iter_mut().chain(&mut comparison.samples.b) {
        sample.usage = None;
    }
    let text = text(&comparison);
    let disk = text.lines().find(|line| line.starts_with("disk used")).unwrap();
    assert_eq!(disk.split_ascii_whitespace().filter(|cell| *cell == "-").count(), 3, "{text}");
    assert_eq!(json(&comparison)["members"], Value::Null);
}

#[test]
fn failures_and_wrong_answers_are_named() {
    let mut comparison = comparison();
    assert!(comparison.is_sound());
    assert!(!text(&comparison).contains("round 1"));
    comparison.samples.b[1].measurement.parts[0].failures.record(&Status::not_found("gone"));
    comparison.samples.a[2].measurement.notes = vec![("events lost", 7)];
    comparison.samples.a[2].measurement.wrong = true;
    assert!(!comparison.is_sound());
    let text = text(&comparison);
    assert!(text.contains("A, round 3: 7 events lost\n"), "{text}");
    assert!(text.contains("B, round 2: 1 failed: put: NotFound: gone\n"), "{text}");
    assert!(markdown(&comparison).contains("\n- A, round 3: 7 events lost\n"));
}
