//! `check perf`: a minute of puts at a fixed rate, and whether the cluster kept up.
//!
//! Not here: sending the puts (`load`). The invariant: the rate is that of the requests, whatever the answers take, up
//! to the number of clients.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::bar::Bar;
use super::load::{Load, Stats};
use super::{AFTERWARDS, Workload, check_empty, clients, compact, defragment, delete, random_key};
use crate::command_line::word;
use crate::ctl::action::interrupt::Interrupt;
use crate::ctl::client::Client;
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::write_out;

const DURATION_S: u64 = 60;
/// How far the puts may lag behind their rate and catch up: the timer is not finer than a millisecond, and a stall of the
/// cluster is not to be made up for.
const CATCH_UP_MAX: Duration = Duration::from_millis(5);
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1024;
/// What part of the wanted rate a cluster must reach.
const RATE_PART_MIN: f64 = 0.9;
const SLOWEST_MAX_S: f64 = 0.5;
const DEVIATION_MAX_S: f64 = 0.1;

/// Puts per second and clients of a workload.
fn size(workload: Workload) -> (u32, usize) {
    match workload {
        Workload::Small => (150, 50),
        Workload::Medium => (1000, 200),
        Workload::Large => (8000, 500),
        Workload::ExtraLarge => (15000, 1000),
    }
}

/// `check perf`
pub(crate) async fn perf(mut run: Invocation) -> Result<(), Failure> {
    let (rate, client_count) = size(Workload::read(&run.values)?);
    let prefix = run.values.text("prefix").to_owned();
    let (auto_compact, auto_defragment) = (run.values.is_set("auto-compact"), run.values.is_set("auto-defrag"));
    let settings = run.settings()?;
    let mut clients = clients(&settings, client_count).await?;
    let mut interrupt = Interrupt::listen()?;
    tokio::select! {
        checked = check_empty(&mut clients[0], &prefix, "'etcdctl del --prefix PREFIX'") => checked?,
        () = interrupt.wait() => return Err(Failure::new(failure::SERVER, "context canceled")),
    }
    let load = Load::start(&clients);
    let key_prefix = word::bytes(&prefix);
    let was_interrupted = tokio::select! {
        () = put_keys(&load, &key_prefix, rate) => false,
        () = interrupt.wait() => true,
    };
    let stats = load.finish().await;
    clean_up(&mut clients[0], &prefix, auto_compact && !was_interrupted).await?;
    if auto_defragment {
        defragment(&settings).await?;
    }
    judge(&stats, f64::from(rate))
}

/// Hands out puts at the rate, for as long as the check lasts.
async fn put_keys(load: &Load, prefix: &[u8], rate: u32) {
    let value = Bytes::from_static(&[0; VALUE_BYTES]);
    let ends = Instant::now() + Duration::from_secs(DURATION_S);
    let period = Duration::from_secs(1) / rate;
    let mut due = Instant::now();
    let mut seconds = tokio::time::interval_at(Instant::now() + Duration::from_secs(1), Duration::from_secs(1));
    let mut bar = Bar::start(DURATION_S);
    loop {
        tokio::select! {
            _ = seconds.tick() => bar.advance(),
            () = tokio::time::sleep_until(due) => {
                let now = Instant::now();
                if now >= ends {
                    break;
                }
                load.put(random_key(prefix, KEY_BYTES), value.clone()).await;
                due = (due + period).max(now - CATCH_UP_MAX);
            }
        }
    }
    bar.finish();
}

async fn clean_up(client: &mut Client, prefix: &str, compacts: bool) -> Result<(), Failure> {
    match delete(client, prefix, Some(AFTERWARDS)).await {
        Ok(revision) if compacts => compact(client, revision).await,
        Ok(_) => Ok(()),
        Err(error) => write_out(format!("FAIL: Cleanup failed during key deletion: ERROR({error})\n").as_bytes()),
    }
}

/// Shows what was measured, and whether it is enough.
fn judge(stats: &Stats, rate: f64) -> Result<(), Failure> {
    let (text, passed) = verdict(stats, rate);
    write_out(text.as_bytes())?;
    if passed { Ok(()) } else { Err(Failure::new(failure::SERVER, "")) }
}

fn verdict(stats: &Stats, rate: f64) -> (String, bool) {
    let mut text = String::new();
    let mut passed = stats.errors.is_empty();
    if !passed {
        text.push_str("FAIL: too many errors\n");
        stats.errors.iter().for_each(|(error, count)| text.push_str(&format!("FAIL: ERROR({error}) -> {count}\n")));
    }
    let mut line = |is_good: bool, good: String, bad: String| {
        text.push_str(if is_good { &good } else { &bad });
        passed &= is_good;
    };
    let throughput = stats.answered_per_s as i64 + 1;
    line(
        stats.answered_per_s / rate > RATE_PART_MIN,
        format!("PASS: Throughput is {throughput} writes/s\n"),
        format!("FAIL: Throughput too low: {throughput} writes/s\n"),
    );
    let slowest = stats.slowest_s;
    line(
        slowest <= SLOWEST_MAX_S,
        format!("PASS: Slowest request took {slowest:.6}s\n"),
        format!("Slowest request took too long: {slowest:.6}s\n"),
    );
    let deviation = stats.deviation_s;
    // One that is not a number, since nothing was answered, fails by its throughput.
    line(
        deviation.is_nan() || deviation <= DEVIATION_MAX_S,
        format!("PASS: Stddev is {deviation:.6}s\n"),
        format!("Stddev too high: {deviation:.6}s\n"),
    );
    text.push_str(if passed { "PASS\n" } else { "FAIL\n" });
    (text, passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let good = Stats { answered_per_s: 149.9, slowest_s: 0.25, deviation_s: 0.01, ..Stats::default() };
        let text = "PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.250000s\nPASS: Stddev is \
                    0.010000s\nPASS\n";
        assert_eq!(verdict(&good, 150.0), (text.to_owned(), true));
        let errors = [("gone".to_owned(), 3)].into();
        let bad = Stats { answered_per_s: 135.0, slowest_s: 0.6, deviation_s: 0.2, errors };
        let text = "FAIL: too many errors\nFAIL: ERROR(gone) -> 3\nFAIL: Throughput too low: 136 writes/s\nSlowest \
                    request took too long: 0.600000s\nStddev too high: 0.200000s\nFAIL\n";
        assert_eq!(verdict(&bad, 150.0), (text.to_owned(), false));
    }
}
