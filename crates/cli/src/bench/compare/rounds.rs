//! The runs of a comparison: A B A B …
//!
//! It owns the order and what is read of the servers before and after a run. The invariant: CPU time is that of the
//! measured part alone, without start-up and filling.

use super::cluster::{Cluster, Recipe};
use super::comparison::{Comparison, Sample, Usage};
use super::plan::{Pair, Plan, Sides};
use crate::bench::interrupt::interrupted;
use crate::bench::progress::Progress;
use crate::bench::run::{Measurement, measure, prepare};
use anyhow::{Context, bail};

/// Runs the whole plan.
///
/// # Errors
/// A server that does not start or cannot be reached, a run in which nothing succeeded, or an interruption.
pub(crate) async fn run(plan: &Plan, progress: &Progress) -> anyhow::Result<Comparison> {
    // Dropping the rounds drops the cluster that runs.
    tokio::select! {
        comparison = rounds(plan, progress) => comparison,
        () = interrupted() => bail!("interrupted"),
    }
}

async fn rounds(plan: &Plan, progress: &Progress) -> anyhow::Result<Comparison> {
    let mut samples = Pair { a: Vec::with_capacity(plan.rounds), b: Vec::with_capacity(plan.rounds) };
    for round in 1..=plan.rounds {
        let Pair { a, b } = &plan.names;
        let title = |side: String| progress.titled(&format!("round {round} of {}, {side}", plan.rounds));
        samples.a.push(sample_a(plan, &title(format!("A: {a}"))).await.with_context(|| format!("A: {a}"))?);
        samples.b.push(sample_b(plan, &title(format!("B: {b}"))).await.with_context(|| format!("B: {b}"))?);
    }
    Ok(Comparison { plan: plan.clone(), samples })
}

async fn sample_a(plan: &Plan, progress: &Progress) -> anyhow::Result<Sample> {
    match &plan.sides {
        Sides::Running(endpoints) => on_running(plan, &endpoints.a, progress).await,
        Sides::Started(clusters) => on_started(plan, &clusters.recipe(&clusters.binaries.a), progress).await,
    }
}

async fn sample_b(plan: &Plan, progress: &Progress) -> anyhow::Result<Sample> {
    match &plan.sides {
        Sides::Running(endpoints) => on_running(plan, &endpoints.b, progress).await,
        Sides::Started(clusters) => on_started(plan, &clusters.recipe(&clusters.binaries.b), progress).await,
    }
}

async fn on_running(plan: &Plan, endpoints: &[String], progress: &Progress) -> anyhow::Result<Sample> {
    prepare(&plan.load, endpoints, progress).await?;
    Ok(Sample { measurement: measured(plan, endpoints, progress).await?, usage: None })
}

async fn on_started(plan: &Plan, recipe: &Recipe<'_>, progress: &Progress) -> anyhow::Result<Sample> {
    progress.show_title();
    let cluster = Cluster::start(recipe).await?;
    let endpoints = cluster.endpoints();
    prepare(&plan.load, &endpoints, progress).await?;
    let cpu_seconds_before = cluster.cpu_seconds()?;
    let measurement = measured(plan, &endpoints, progress).await?;
    let usage = Usage {
        cpu_seconds: cluster.cpu_seconds()? - cpu_seconds_before,
        peak_memory_bytes: cluster.peak_memory_bytes()?,
        disk_bytes: cluster.disk_bytes()?,
    };
    progress.show_title();
    cluster.stop().await?;
    Ok(Sample { measurement, usage: Some(usage) })
}

async fn measured(plan: &Plan, endpoints: &[String], progress: &Progress) -> anyhow::Result<Measurement> {
    let measurement = measure(plan.work, &plan.load, endpoints, progress).await?;
    if measurement.interrupted {
        bail!("interrupted");
    }
    if measurement.headline.latency.count() == 0 {
        let first = measurement.parts.iter().flat_map(|part| part.failures.by_text()).next();
        bail!("nothing succeeded: {}", first.map_or("no event was seen", |(status, _)| status));
    }
    Ok(measurement)
}
