//! The printed forms of a run.

use super::*;
use crate::bench::arguments::Preparation;
use crate::bench::payload::Shape;
use std::time::Duration;
use tonic::Status;

pub(crate) fn load() -> Load {
    Load {
        connections: 8,
        clients: 64,
        limit: Limit::Calls(1000),
        pace: Pace::PerSecond(2500.0),
        shape: Shape { key_prefix: "bench/".into(), key_size: 16, key_space: 10_000, value_size: 256, seed: 0 },
        preparation: Preparation::None,
        timeout: Duration::from_secs(10),
        threads: 1,
        access: Default::default(),
    }
}

/// A run in which each call took the time given, once.
pub(crate) fn measurement(work: Work, name: &'static str, latencies_us: &[u64]) -> Measurement {
    let mut part = Series::new(name);
    for latency_us in latencies_us {
        part.latency.record(latency_us * 1_000);
    }
    Measurement {
        work,
        load: load(),
        endpoints: vec!["http://127.0.0.1:2379".into()],
        elapsed: Duration::from_millis(500),
        headline: Series { name: "calls", ..part.clone() },
        parts: vec![part],
        notes: Vec::new(),
        interrupted: false,
        wrong: false,
    }
}

fn with_failures() -> Measurement {
    let mut measurement = measurement(Work::Put, "put", &[150, 150, 150, 900]);
    for _ in 0..2 {
        measurement.parts[0].failures.record(&Status::unavailable("etcdserver: leader changed"));
        measurement.headline.failures.record(&Status::unavailable("etcdserver: leader changed"));
    }
    measurement
}

#[test]
fn text_says_it_all() {
    let want = "\
work        put
load        64 clients on 8 connections, 1,000 calls at 2,500/s, 10,000 keys of 16 bytes, values of 256 bytes
servers     http://127.0.0.1:2379
time        0.500 s
throughput  8.00 calls/s
succeeded   4
failed      2
            2 put: Unavailable: etcdserver: leader changed

latency  succeeded  failed  per second    mean     p50     p90     p99   p99.9     max
calls            4       2        8.00  338 us  151 us  900 us  900 us  900 us  900 us

up to   calls    share    so far
200 us      3  75.00 %   75.00 %  ########################################
500 us      0   0.00 %   75.00 %
1 ms        1  25.00 %  100.00 %  ##############
";
    assert_eq!(print(&with_failures(), Format::Simple), want);
}

#[test]
fn json_has_the_same_figures() {
    let value: Value = serde_json::from_str(&print(&with_failures(), Format::Json)).unwrap();
    assert_eq!((&value["succeeded"], &value["failed"], &value["per_second"]), (&json!(4), &json!(2), &json!(8.0)));
    assert_eq!(value["failures"], json!({"Unavailable: etcdserver: leader changed": 2}));
    assert_eq!(value["latency_ms"]["max"], json!(0.9));
    assert_eq!(value["latency_ms"]["p99.9"], json!(0.9));
    assert_eq!(value["histogram"][0], json!({"up_to_ms": 0.2, "count": 3}));
    assert_eq!(value["parts"][0]["name"], "put");
    assert_eq!(value["load"]["rate"], json!(2500.0));
}

#[test]
fn several_kinds_have_a_line_each() {
    let mixed = Work::Mixed { reads: 4, writes: 1, consistency: Consistency::Linearizable };
    let mut run = measurement(mixed, "read", &[100]);
    run.parts.push(measurement(mixed, "write", &[300]).parts.remove(0));
    run.headline.merge(&run.parts[1].clone());
    let text = print(&run, Format::Simple);
    for line in ["calls            2", "read             1", "write            1"] {
        assert!(text.lines().any(|printed| printed.starts_with(line)), "{line:?} in\n{text}");
    }
}

#[test]
fn a_fan_out_is_judged_by_its_events() {
    let mut run = measurement(Work::Watch { watchers: 2 }, "event", &[100, 100]);
    run.headline.name = "events";
    run.parts.push(measurement(Work::Put, "put", &[300]).parts.remove(0));
    run.notes.push(("events lost", 0));
    let text = print(&run, Format::Simple);
    assert!(text.contains("throughput  4.00 events/s\n"), "{text}");
    assert!(text.contains("note        0 events lost\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("event")).count(), 1, "{text}");
    assert_eq!(json_of(&run)["notes"], json!({"events_lost": 0}));
}

#[test]
fn a_run_without_success_can_be_printed() {
    let text = print(&measurement(Work::Txn, "txn", &[]), Format::Simple);
    assert!(text.contains("throughput  0 calls/s"), "{text}");
    assert!(text.ends_with("up to  calls  share  so far\n"), "{text}");
}
