//! What a comparison found, and how it is printed.
//!
//! It owns the figures, their medians and ratios. The invariant: a ratio is A's figure over B's of the same round, so
//! that what slows the machine for a minute slows both; the median of these ratios is what the table gives.

use super::plan::{Pair, Plan, Sides};
use crate::bench::figures::{counted, decimal, median, milliseconds};
use crate::bench::report::{describe, describe_load, json_of, load_json};
use crate::bench::run::Measurement;
use crate::bench::table::Table;
use serde_json::{Value, json};

const MEBIBYTE: f64 = (1u64 << 20) as f64;

/// What the servers used during one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Of all members, during the measured part.
    pub(crate) cpu_seconds: f64,
    /// Of the largest member.
    pub(crate) peak_memory_bytes: u64,
    /// Of the largest member.
    pub(crate) disk_bytes: u64,
}

/// One run on one side.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) measurement: Measurement,
    /// `None` for servers that were not started here.
    pub(crate) usage: Option<Usage>,
}

/// All runs; each side has as many samples as there were rounds.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) plan: Plan,
    pub(crate) samples: Pair<Vec<Sample>>,
}

/// A figure of a run.
struct Figure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Sample) -> Option<f64>,
}

/// The lines of the table.
const FIGURES: [Figure; 7] = [
    Figure { name: "throughput", unit: "per second", of: |sample| Some(sample.measurement.throughput()) },
    Figure { name: "latency p50", unit: "ms", of: |sample| percentile_ms(sample, 500) },
    Figure { name: "latency p99", unit: "ms", of: |sample| percentile_ms(sample, 990) },
    Figure { name: "server CPU per 100,000", unit: "s", of: cpu_seconds_per_100_000 },
    Figure { name: "peak memory", unit: "MiB", of: |sample| Some(sample.usage?.peak_memory_bytes as f64 / MEBIBYTE) },
    Figure { name: "disk used", unit: "MiB", of: |sample| Some(sample.usage?.disk_bytes as f64 / MEBIBYTE) },
    Figure { name: "failed", unit: "calls", of: |sample| Some(failed(sample) as f64) },
];

fn percentile_ms(sample: &Sample, thousandths: u64) -> Option<f64> {
    Some(milliseconds(sample.measurement.headline.latency.percentile_ns(thousandths)))
}

fn cpu_seconds_per_100_000(sample: &Sample) -> Option<f64> {
    let succeeded = sample.measurement.headline.latency.count();
    let usage = sample.usage?;
    (succeeded > 0).then(|| usage.cpu_seconds * 100_000.0 / succeeded as f64)
}

fn failed(sample: &Sample) -> u64 {
    sample.measurement.parts.iter().map(|part| part.failures.count()).sum()
}

/// The middle and the ends of the values of all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// `None` unless every round has a value.
    fn of(values: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let values: Vec<f64> = values.collect::<Option<_>>()?;
        let low = values.iter().copied().min_by(f64::total_cmp)?;
        let high = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { median: median(&values)?, low, high })
    }

    fn text(spread: Option<Self>) -> String {
        match spread {
            None => "-".to_owned(),
            Some(Self { median, low, high }) if low == high => decimal(median),
            Some(Self { median, low, high }) => format!("{} ({} - {})", decimal(median), decimal(low), decimal(high)),
        }
    }

    fn json(spread: Option<Self>) -> Value {
        spread.map_or(Value::Null, |spread| json!({"median": spread.median, "low": spread.low, "high": spread.high}))
    }
}

/// One line of the table.
struct Line {
    figure: &'static Figure,
    a: Option<Spread>,
    b: Option<Spread>,
    ratio: Option<Spread>,
}

impl Comparison {
    /// Whether all runs measured something and no server answered wrongly.
    pub(crate) fn is_sound(&self) -> bool {
        let sound = |sample: &Sample| sample.measurement.headline.latency.count() > 0 && !sample.measurement.wrong;
        self.samples.a.iter().chain(&self.samples.b).all(sound)
    }

    fn lines(&self) -> Vec<Line> {
        let Pair { a, b } = &self.samples;
        FIGURES
            .iter()
            .map(|figure| {
                let ratio = |(a, b): (&Sample, &Sample)| {
                    let (a, b) = ((figure.of)(a)?, (figure.of)(b)?);
                    (b != 0.0).then(|| a / b)
                };
                Line {
                    figure,
                    a: Spread::of(a.iter().map(figure.of)),
                    b: Spread::of(b.iter().map(figure.of)),
                    ratio: Spread::of(a.iter().zip(b).map(ratio)),
                }
            })
            .collect()
    }

    fn table(&self) -> Table {
        let names = &self.plan.names;
        let head = [
            &*counted(self.plan.rounds as u64, "round"),
            &*format!("A: {}", names.a),
            &*format!("B: {}", names.b),
            "A / B",
        ];
        let mut table = Table::new(head);
        for line in self.lines() {
            let name = format!("{} ({})", line.figure.name, line.figure.unit);
            table.push(vec![name, Spread::text(line.a), Spread::text(line.b), Spread::text(line.ratio)]);
        }
        table
    }

    fn caption(&self) -> String {
        let members = match &self.plan.sides {
            Sides::Running(_) => String::new(),
            Sides::Started(clusters) => format!(", {}", counted(clusters.members as u64, "member")),
        };
        format!("{}{members}: {}", describe(self.plan.work), describe_load(self.plan.work, &self.plan.load))
    }

    /// What went wrong, if anything did, as lines.
    fn troubles(&self) -> String {
        let mut text = String::new();
        for (side, samples) in [("A", &self.samples.a), ("B", &self.samples.b)] {
            for (round, sample) in samples.iter().enumerate() {
                let round = round + 1;
                for part in &sample.measurement.parts {
                    for (status, number) in part.failures.by_text() {
                        text.push_str(&format!("{side}, round {round}: {number} failed: {}: {status}\n", part.name));
                    }
                }
                for (note, number) in sample.measurement.notes.iter().filter(|_| sample.measurement.wrong) {
                    text.push_str(&format!("{side}, round {round}: {number} {note}\n"));
                }
            }
        }
        text
    }
}

/// For a terminal.
pub(crate) fn text(comparison: &Comparison) -> String {
    format!("{}\n\n{}{}", comparison.caption(), comparison.table().text(), comparison.troubles())
}

/// For a page.
pub(crate) fn markdown(comparison: &Comparison) -> String {
    let troubles: String = comparison.troubles().lines().map(|line| format!("\n- {line}")).collect();
    let list = if troubles.is_empty() { String::new() } else { format!("{troubles}\n") };
    format!("{}\n\n{}{list}", comparison.caption(), comparison.table().markdown())
}

/// For programs: the figures of the table, and every run in full.
pub(crate) fn json(comparison: &Comparison) -> Value {
    let Comparison { plan, samples } = comparison;
    let members = match &plan.sides {
        Sides::Running(_) => Value::Null,
        Sides::Started(clusters) => json!(clusters.members),
    };
    let line_json = |line: Line| {
        json!({
            "figure": line.figure.name,
            "unit": line.figure.unit,
            "a": Spread::json(line.a),
            "b": Spread::json(line.b),
            "ratio": Spread::json(line.ratio),
        })
    };
    let run_json = |sample: &Sample| {
        let mut run = json_of(&sample.measurement);
        let usage = sample.usage.map_or(Value::Null, |usage| {
            json!({
                "cpu_seconds": usage.cpu_seconds,
                "peak_memory_bytes": usage.peak_memory_bytes,
                "disk_bytes": usage.disk_bytes,
            })
        });
        run.as_object_mut().expect("a run is an object").insert("usage".into(), usage);
        run
    };
    json!({
        "work": describe(plan.work),
        "load": load_json(&plan.load),
        "members": members,
        "rounds": plan.rounds,
        "names": {"a": plan.names.a, "b": plan.names.b},
        "figures": comparison.lines().into_iter().map(line_json).collect::<Vec<_>>(),
        "runs": {
            "a": samples.a.iter().map(run_json).collect::<Vec<_>>(),
            "b": samples.b.iter().map(run_json).collect::<Vec<_>>(),
        },
    })
}

#[cfg(test)]
mod tests;
