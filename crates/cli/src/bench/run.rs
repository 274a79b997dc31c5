//! One measured run.
//!
//! It owns the clients' tasks from the first connection to the sums. The invariant: connections, watches and the
//! filling of the key space are done before the clock starts.

use super::arguments::{Load, Preparation, Work};
use super::caller::{Caller, Shared, kinds};
use super::connect::{Connection, connect};
use super::fan_out::FanOut;
use super::interrupt::interrupted;
use super::progress::{PERIOD, Progress, ProgressLine};
use super::schedule::{Limit, Pace, Schedule};
use super::tally::{Series, Tally};
use anyhow::{Context, bail};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a run measured.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    pub(crate) work: Work,
    pub(crate) load: Load,
    pub(crate) endpoints: Vec<String>,
    pub(crate) elapsed: Duration,
    /// What the run is judged by: the events of a fan-out, else all calls.
    pub(crate) headline: Series,
    /// Each kind of call; at least one.
    pub(crate) parts: Vec<Series>,
    /// Further counts, with their names.
    pub(crate) notes: Vec<(&'static str, u64)>,
    /// Whether the user ended the run before its limit.
    pub(crate) interrupted: bool,
    /// Whether the server answered wrongly: watch events lost, repeated or out of order.
    pub(crate) wrong: bool,
}

impl Measurement {
    /// Successes per second.
    pub(crate) fn throughput(&self) -> f64 {
        self.per_second(self.headline.latency.count())
    }

    pub(crate) fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Writes the whole key space if the load asks for it.
///
/// # Errors
/// No connection, a write that failed, or an interruption: nothing can be measured on keys that are not there.
pub(crate) async fn prepare(load: &Load, endpoints: &[String], progress: &Progress) -> anyhow::Result<()> {
    match load.preparation {
        Preparation::None => return Ok(()),
        Preparation::Fill => (),
    }
    let load = Load {
        limit: Limit::Calls(load.shape.key_space),
        pace: Pace::Unpaced,
        connections: load.connections.min(load.clients),
        ..load.clone()
    };
    let filled = measure(Work::Fill, &load, endpoints, &progress.titled("fill")).await?;
    if filled.interrupted {
        bail!("interrupted while the key space was written");
    }
    if let Some((text, count)) = filled.headline.failures.by_text().next() {
        bail!("{count} puts failed while the key space was written: {text}");
    }
    Ok(())
}

/// Runs the work and measures it.
///
/// # Errors
/// Connections or watches that could not be opened. Calls that fail are part of the measurement.
pub(crate) async fn measure(
    work: Work,
    load: &Load,
    endpoints: &[String],
    progress: &Progress,
) -> anyhow::Result<Measurement> {
    let channels = connect(endpoints, &load.access, load.connections, load.timeout).await?;
    let tag = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let shared = Arc::new(Shared::new(work, load, tag));
    let mut readers = JoinSet::new();
    let (fan_out, caller_channels) = match work {
        Work::Watch { watchers } => {
            let (fan_out, streams) = FanOut::open(&shared, &channels, watchers).await.context("opening the watches")?;
            for stream in streams {
                readers.spawn(stream.run());
            }
            (Some(fan_out), connect(endpoints, &load.access, load.connections.min(load.clients), load.timeout).await?)
        }
        _ => (None, channels),
    };
    let (tallies, callers) = callers(&shared, load.clients, &caller_channels).await?;

    let schedule = Arc::new(Schedule::start(load.limit, load.pace));
    let mut clients = JoinSet::new();
    for caller in callers {
        clients.spawn(caller.run(schedule.clone()));
    }
    let counts = Counts { tallies, fan_out };
    let mut end = pin!(end_of(clients, &counts, load.timeout));
    let mut interruption = pin!(interrupted());
    let mut ticks = tokio::time::interval(PERIOD);
    let mut line = ProgressLine::start(progress);
    let (end, interrupted) = loop {
        tokio::select! {
            end = &mut end => break (end?, false),
            () = &mut interruption => break (Instant::now(), true),
            _ = ticks.tick() => {
                let (done, failed) = counts.so_far();
                line.update(done, failed);
            }
        }
    };
    drop(line);

    let mut parts: Vec<Series> = kinds(work).iter().map(|name| Series::new(name)).collect();
    for tally in &counts.tallies {
        tally.add_to(&mut parts);
    }
    let mut measurement = Measurement {
        work,
        load: load.clone(),
        endpoints: endpoints.to_vec(),
        elapsed: end - schedule.started(),
        headline: Series::new("calls"),
        parts,
        notes: Vec::new(),
        interrupted,
        wrong: false,
    };
    if work == Work::Txn {
        measurement.notes.push(("guards that did not hold", shared.guard_conflicts()));
    }
    match &counts.fan_out {
        Some(fan_out) => measurement.take_events(fan_out),
        None => {
            for part in &measurement.parts {
                measurement.headline.merge(part);
            }
        }
    }
    Ok(measurement)
}

/// The clients, spread over the channels, and a tally for each channel.
async fn callers(
    shared: &Arc<Shared>,
    clients: usize,
    channels: &[Connection],
) -> anyhow::Result<(Vec<Arc<Tally>>, Vec<Caller>)> {
    let tallies: Vec<_> = channels.iter().map(|_| Arc::new(Tally::new(kinds(shared.work)))).collect();
    let mut callers = Vec::with_capacity(clients);
    for (number, (tally, channel)) in tallies.iter().zip(channels).cycle().take(clients).enumerate() {
        let mut caller = Caller::new(shared.clone(), tally.clone(), number as u64, channel.clone());
        caller.prepare().await.context("opening the watch of a client")?;
        callers.push(caller);
    }
    Ok((tallies, callers))
}

/// Waits for the clients and for the events of their puts; returns when the last of them came.
async fn end_of(mut clients: JoinSet<()>, counts: &Counts, timeout: Duration) -> anyhow::Result<Instant> {
    while let Some(outcome) = clients.join_next().await {
        outcome.context("a client of the generator broke")?;
    }
    let clients_end = Instant::now();
    let Some(fan_out) = &counts.fan_out else { return Ok(clients_end) };
    fan_out.wait_for(counts.calls().0, timeout).await;
    // Streams that broke early do not shorten the run that their events are divided by.
    Ok(fan_out.delivered(0).last_event.map_or(clients_end, |last_event| last_event.max(clients_end)))
}

/// Where a run under way counts.
struct Counts {
    tallies: Vec<Arc<Tally>>,
    fan_out: Option<FanOut>,
}

impl Counts {
    /// Calls of the clients that succeeded and that failed.
    fn calls(&self) -> (u64, u64) {
        self.tallies.iter().map(|tally| tally.counts()).fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
    }

    /// What the progress line shows: events where there are watchers, and all failures.
    fn so_far(&self) -> (u64, u64) {
        let (done, failed) = self.calls();
        match self.fan_out.as_ref().map(FanOut::counts) {
            Some((events, broken)) => (events, failed + broken),
            None => (done, failed),
        }
    }
}

impl Measurement {
    /// Judges the run by the events of its watchers.
    fn take_events(&mut self, fan_out: &FanOut) {
        let puts = self.parts[1].latency.count();
        let delivered = fan_out.delivered(puts);
        self.parts[0].merge(&delivered.events);
        self.headline = Series { name: "events", ..self.parts[0].clone() };
        if !self.interrupted {
            self.notes.push(("events lost", delivered.lost));
            self.wrong = delivered.lost > 0;
        }
        self.notes.push(("events repeated or out of order", delivered.misordered));
        self.wrong |= delivered.misordered > 0;
    }
}
