//! `check datascale`: how much memory a server takes for a number of keys.
//!
//! Not here: asking the server for its memory (`memory`). The invariant: the difference is that of one server, the
//! first endpoint.

use bytes::Bytes;

use super::bar::Bar;
use super::load::Load;
use super::memory::resident_bytes;
use super::{Workload, check_empty, clients, compact, defragment, delete, random_key};
use crate::command_line::word;
use crate::ctl::action::interrupt::Interrupt;
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::write_out;

const KEY_BYTES: usize = 512;
const VALUE_BYTES: usize = 512;

/// Keys and clients of a workload.
fn size(workload: Workload) -> (u64, usize) {
    match workload {
        Workload::Small => (10_000, 50),
        Workload::Medium => (100_000, 200),
        Workload::Large => (1_000_000, 500),
        Workload::ExtraLarge => (3_000_000, 1000),
    }
}

/// `check datascale`
pub(crate) async fn datascale(mut run: Invocation) -> Result<(), Failure> {
    let (key_count, client_count) = size(Workload::read(&run.values)?);
    let prefix = run.values.text("prefix").to_owned();
    let (auto_compact, auto_defragment) = (run.values.is_set("auto-compact"), run.values.is_set("auto-defrag"));
    let settings = run.settings()?;
    let mut clients = clients(&settings, client_count).await?;
    check_empty(&mut clients[0], &prefix, "etcdctl del --prefix PREFIX").await?;
    let endpoint = settings.endpoints[0].clone();
    let before = resident_bytes(&settings, &endpoint).await.map_err(|reason| unread(&reason, "before"))?;
    let start = format!(
        "Start data scale check for work load [{key_count} key-value pairs, {} bytes per key-value, {client_count} \
         concurrent clients].\n",
        KEY_BYTES + VALUE_BYTES
    );
    write_out(start.as_bytes())?;
    let load = Load::start(&clients);
    let key_prefix = word::bytes(&prefix);
    let value = Bytes::from_static(&[0; VALUE_BYTES]);
    let mut interrupt = Interrupt::listen()?;
    let mut bar = Bar::start(key_count);
    let mut was_interrupted = false;
    for _ in 0..key_count {
        tokio::select! {
            () = load.put(random_key(&key_prefix, KEY_BYTES), value.clone()) => bar.advance(),
            () = interrupt.wait() => {
                was_interrupted = true;
                break;
            }
        }
    }
    let stats = load.finish().await;
    bar.finish();
    let after = resident_bytes(&settings, &endpoint).await;
    let deleted = delete(&mut clients[0], &prefix, None).await;
    let after = after.map_err(|reason| unread(&reason, "after"))?;
    let revision = deleted?;
    if was_interrupted {
        return Err(Failure::new(failure::SERVER, "context canceled"));
    }
    if auto_compact {
        compact(&mut clients[0], revision).await?;
    }
    if auto_defragment {
        defragment(&settings).await?;
    }
    if !stats.errors.is_empty() {
        let errors = stats.errors.iter().map(|(error, count)| format!("FAIL: ERROR({error}) -> {count}\n"));
        write_out(format!("FAIL: too many errors\n{}", errors.collect::<String>()).as_bytes())?;
        return Err(Failure::new(failure::SERVER, ""));
    }
    let used_mib = (after - before) / (1024.0 * 1024.0);
    write_out(format!("PASS: Approximate system memory used : {used_mib:.2} MB.\n").as_bytes())
}

/// The server did not say how much memory it has.
fn unread(reason: &str, when: &str) -> Failure {
    let text = format!("{reason}\nFAIL: Could not read process_resident_memory_bytes {when} the put operations.\n");
    match write_out(text.as_bytes()) {
        Ok(()) => Failure::new(failure::SERVER, ""),
        Err(failure) => failure,
    }
}
