//! Looking after this member's own data: hands what readers found broken to the store's owner, and reads everything in
//! the background.
//!
//! Owns the pace of the scrub. Judges nothing: a record is broken when its checksum says so. Invariant: from the first
//! broken record on nothing is done here but telling; what follows is decided where the store is owned (`threads`).

use crate::metrics::Metrics;
use crate::threads::apply::ApplyTask;
use crate::threads::queue::Sender;
use quorate_store::error::Error;
use quorate_store::reader::StoreReader;
use quorate_store::scrub::Scrubbed;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon after a reader found a broken record the store's owner hears of it, at the latest.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// One step of a scrub.
const STEP_BYTES: u64 = 1 << 20;
/// Between two passes, and before the first one: a start has better to do.
const PASS_PAUSE: Duration = Duration::from_secs(60);

/// Tells the store's owner of what readers find, for as long as the member runs.
pub(crate) async fn watch(reader: StoreReader, apply: Sender<ApplyTask>) {
    let mut told = false;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match reader.corrupt_reason() {
            Some(_) if told => {}
            Some(reason) => told = apply.try_send(ApplyTask::Distrust(reason)).is_ok(),
            // It is another store.
            None => told = false,
        }
    }
}

/// Reads all records again and again, `bytes_per_second` at the most.
pub(crate) async fn scrub(reader: StoreReader, metrics: Arc<Metrics>, bytes_per_second: u64) {
    loop {
        tokio::time::sleep(PASS_PAUSE).await;
        if reader.corrupt_reason().is_some() {
            continue;
        }
        let started = Instant::now();
        match pass(&reader, &metrics, Some(bytes_per_second)).await {
            Ok(bytes) => {
                metrics.scrub.passes.increment();
                tracing::debug!(
                    bytes,
                    took = crate::config::duration::text(started.elapsed()),
                    "all records are whole"
                );
            }
            Err(_) => metrics.scrub.broken.increment(),
        }
    }
}

/// One pass; answers how much it read. Reading the disk is not for the network thread.
async fn pass(reader: &StoreReader, metrics: &Metrics, bytes_per_second: Option<u64>) -> Result<u64, Error> {
    let mut scrub = reader.scrub();
    let mut total = 0;
    loop {
        let stepped = tokio::task::spawn_blocking(move || (scrub.step(STEP_BYTES), scrub)).await;
        let Ok((step, rest)) = stepped else { return Ok(total) };
        scrub = rest;
        let (bytes, has_ended) = match step? {
            Scrubbed::Bytes(bytes) => (bytes, false),
            Scrubbed::Ended(bytes) => (bytes, true),
        };
        total += bytes;
        metrics.scrub.bytes.add(bytes);
        if has_ended {
            return Ok(total);
        }
        if let Some(rate) = bytes_per_second {
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
    }
}

/// Reads everything once, before anybody is served. Whether all of it is whole.
pub(crate) fn check_at_start(reader: &StoreReader) -> bool {
    let mut scrub = reader.scrub();
    loop {
        match scrub.step(STEP_BYTES) {
            Ok(Scrubbed::Bytes(_)) => {}
            Ok(Scrubbed::Ended(_)) => return true,
            Err(_) => return false,
        }
    }
}
