//! How one run is printed.
//!
//! It owns the words and the layout. The invariant: text and JSON carry the same figures.

use super::arguments::{Answer, Consistency, Extent, Format, Load, Work};
use super::figures::{count, counted, decimal, milliseconds, nanoseconds};
use super::histogram::PERCENTILES;
use super::run::Measurement;
use super::schedule::{Limit, Pace};
use super::table::Table;
use super::tally::Series;
use serde_json::{Value, json};
use std::fmt::Write;

/// Characters of the longest bar of a histogram.
const BAR_WIDTH: u64 = 40;

/// The result of a run as the user asked for it.
pub(crate) fn print(measurement: &Measurement, format: Format) -> String {
    match format {
        Format::Json => format!("{:#}\n", json_of(measurement)),
        Format::Simple | Format::Markdown => text_of(measurement),
    }
}

/// What each call does, in words.
pub(crate) fn describe(work: Work) -> String {
    let read = |consistency| match consistency {
        Consistency::Linearizable => "linearizable",
        Consistency::Serializable => "serializable",
    };
    match work {
        Work::Put => "put".to_owned(),
        Work::Fill => "fill".to_owned(),
        Work::Range { consistency, extent, answer } => {
            let extent = match extent {
                Extent::Key => String::new(),
                Extent::Prefix { limit: 0 } => " of the prefix".to_owned(),
                Extent::Prefix { limit } => format!(" of the prefix, at most {} keys", count(limit as u64)),
            };
            let answer = if answer == Answer::Count { ", count only" } else { "" };
            format!("{} range{extent}{answer}", read(consistency))
        }
        Work::Txn => "guarded update".to_owned(),
        Work::Watch { watchers } => format!("puts seen by {}", counted(watchers as u64, "watcher")),
        Work::WatchLatency => "put until its event is seen".to_owned(),
        Work::Lease { ttl_s } => format!("lease grant, keep-alive, revoke (TTL {ttl_s} s)"),
        Work::Mixed { reads, writes, consistency } => {
            format!("{reads} {} reads to {writes} writes", read(consistency))
        }
    }
}

/// How the work is offered, in words.
pub(crate) fn describe_load(work: Work, load: &Load) -> String {
    let unit = if matches!(work, Work::Lease { .. }) { "cycle" } else { "call" };
    let amount = match load.limit {
        Limit::Calls(total) => counted(total, unit),
        Limit::Time(time) => format!("{time:?}"),
    };
    let pace = match load.pace {
        Pace::Unpaced => String::new(),
        Pace::PerSecond(rate) => format!(" at {}/s", decimal(rate)),
    };
    let shape = &load.shape;
    format!(
        "{} on {}, {amount}{pace}, {} of {}, values of {}",
        counted(load.clients as u64, "client"),
        counted(load.connections as u64, "connection"),
        counted(shape.key_space, "key"),
        counted(shape.key_size as u64, "byte"),
        counted(shape.value_size as u64, "byte")
    )
}

fn text_of(measurement: &Measurement) -> String {
    let Measurement { headline, parts, .. } = measurement;
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{name:<12}{what}");
    };
    line("work", describe(measurement.work));
    line("load", describe_load(measurement.work, &measurement.load));
    line("servers", measurement.endpoints.join(", "));
    let ended = if measurement.interrupted { ", interrupted" } else { "" };
    line("time", format!("{} s{ended}", decimal(measurement.elapsed.as_secs_f64())));
    line("throughput", format!("{} {}/s", decimal(measurement.throughput()), headline.name));
    line("succeeded", count(headline.latency.count()));
    for (name, number) in &measurement.notes {
        line("note", format!("{} {name}", count(*number)));
    }
    let failed: u64 = parts.iter().map(|part| part.failures.count()).sum();
    line("failed", count(failed));
    for part in parts {
        for (status, number) in part.failures.by_text() {
            line("", format!("{} {}: {status}", count(number), part.name));
        }
    }
    text.push('\n');
    text.push_str(&latencies(measurement).text());
    text.push('\n');
    text.push_str(&bars(headline));
    text
}

/// A line for all calls and, if there are several kinds, one for each.
fn latencies(measurement: &Measurement) -> Table {
    let names = PERCENTILES.map(|(name, _)| name);
    let mut table = Table::new([
        "latency",
        "succeeded",
        "failed",
        "per second",
        "mean",
        names[0],
        names[1],
        names[2],
        names[3],
        "max",
    ]);
    // The headline of a fan-out is one of its parts, which has its own line.
    let whole = (!matches!(measurement.work, Work::Watch { .. })).then_some(&measurement.headline);
    let parts: &[Series] = match &measurement.parts[..] {
        [_] => &[],
        parts => parts,
    };
    for series in whole.into_iter().chain(parts) {
        let latency = &series.latency;
        let mut row = vec![
            series.name.to_owned(),
            count(latency.count()),
            count(series.failures.count()),
            decimal(measurement.per_second(latency.count())),
            nanoseconds(latency.mean_ns()),
        ];
        row.extend(PERCENTILES.map(|(_, thousandths)| nanoseconds(latency.percentile_ns(thousandths))));
        row.push(nanoseconds(latency.max_ns()));
        table.push(row);
    }
    table
}

/// The histogram with one bar for each row.
fn bars(series: &Series) -> String {
    let latency = &series.latency;
    let rows = latency.rows();
    let most = rows.iter().map(|row| row.count).max().unwrap_or(0);
    let total = latency.count();
    let mut table = Table::new(["up to", series.name, "share", "so far"]);
    let mut so_far = 0;
    for row in &rows {
        so_far += row.count;
        let share = |part: u64| format!("{:.2} %", part as f64 * 100.0 / total as f64);
        table.push(vec![bound(row.up_to_ns), count(row.count), share(row.count), share(so_far)]);
    }
    let table = table.text();
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or(""));
    for (line, row) in lines.zip(&rows) {
        // A row in use has a bar, however short.
        let width = (row.count * BAR_WIDTH).div_ceil(most);
        let _ = writeln!(text, "{}", format!("{line}  {}", "#".repeat(width as usize)).trim_end());
    }
    text
}

/// The bound of a row, which is a round number.
fn bound(up_to_ns: u64) -> String {
    match up_to_ns {
        0..1_000_000 => format!("{} us", up_to_ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", up_to_ns / 1_000_000),
        _ => format!("{} s", up_to_ns / 1_000_000_000),
    }
}

/// The run as JSON. Times are in milliseconds but for `seconds`.
pub(crate) fn json_of(measurement: &Measurement) -> Value {
    let load = &measurement.load;
    let notes: serde_json::Map<String, Value> =
        measurement.notes.iter().map(|(name, number)| (name.replace(' ', "_"), json!(number))).collect();
    let mut value = series_json(&measurement.headline, measurement);
    let object = value.as_object_mut().expect("a series is an object");
    object.remove("name");
    object.insert("work".into(), json!(describe(measurement.work)));
    object.insert("load".into(), load_json(load));
    object.insert("endpoints".into(), json!(measurement.endpoints));
    object.insert("seconds".into(), json!(measurement.elapsed.as_secs_f64()));
    object.insert("interrupted".into(), json!(measurement.interrupted));
    object.insert("notes".into(), Value::Object(notes));
    object.insert("parts".into(), measurement.parts.iter().map(|part| series_json(part, measurement)).collect());
    value
}

/// The load as JSON.
pub(crate) fn load_json(load: &Load) -> Value {
    let (calls, time) = match load.limit {
        Limit::Calls(total) => (json!(total), Value::Null),
        Limit::Time(time) => (Value::Null, json!(time.as_secs_f64())),
    };
    let rate = match load.pace {
        Pace::Unpaced => 0.0,
        Pace::PerSecond(rate) => rate,
    };
    json!({
        "clients": load.clients,
        "connections": load.connections,
        "total": calls,
        "duration_seconds": time,
        "rate": rate,
        "key_prefix": load.shape.key_prefix,
        "key_size": load.shape.key_size,
        "key_space": load.shape.key_space,
        "value_size": load.shape.value_size,
        "seed": load.shape.seed,
        "timeout_seconds": load.timeout.as_secs_f64(),
        "threads": load.threads,
    })
}

fn series_json(series: &Series, measurement: &Measurement) -> Value {
    let latency = &series.latency;
    let mut times = serde_json::Map::new();
    times.insert("mean".into(), json!(milliseconds(latency.mean_ns())));
    for (name, thousandths) in PERCENTILES {
        times.insert(name.into(), json!(milliseconds(latency.percentile_ns(thousandths))));
    }
    times.insert("max".into(), json!(milliseconds(latency.max_ns())));
    let failures: serde_json::Map<String, Value> =
        series.failures.by_text().map(|(status, number)| (status.to_owned(), json!(number))).collect();
    let rows = latency.rows();
    json!({
        "name": series.name,
        "succeeded": latency.count(),
        "failed": series.failures.count(),
        "failures": failures,
        "per_second": measurement.per_second(latency.count()),
        "latency_ms": times,
        "histogram": rows.iter().map(|row| json!({"up_to_ms": milliseconds(row.up_to_ns), "count": row.count}))
            .collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
