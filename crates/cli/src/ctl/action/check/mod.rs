//! `check`: does a cluster carry a load, and how much memory do its keys take.
//!
//! Not here: measuring one's own workload (`bench`). The invariant: whatever a check wrote is deleted when it ends, also
//! when it is interrupted.

mod bar;
mod datascale;
mod load;
mod memory;
mod perf;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use tokio::time::Instant;

pub(crate) use datascale::datascale;
pub(crate) use perf::perf;

use crate::command_line::flag::Values;
use crate::command_line::go_text::quote;
use crate::command_line::word;
use crate::ctl::client::Client;
use crate::ctl::failure::{self, CallError, Failure};
use crate::ctl::print::{prefix_end, write_out};
use crate::ctl::settings::Settings;

/// How long what follows a check may take, each call.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// The workloads, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    Small,
    Medium,
    Large,
    ExtraLarge,
}

impl Workload {
    fn read(values: &Values) -> Result<Self, Failure> {
        match values.text("load") {
            "s" | "small" => Ok(Self::Small),
            "m" | "medium" => Ok(Self::Medium),
            "l" | "large" => Ok(Self::Large),
            "xl" | "xLarge" => Ok(Self::ExtraLarge),
            other => Err(Failure::new(failure::FEATURE, format!("unknown load option {other}"))),
        }
    }
}

/// A connection for each client of a workload.
async fn clients(settings: &Arc<Settings>, number: usize) -> Result<Vec<Client>, Failure> {
    let mut clients = Vec::with_capacity(number);
    for _ in 0..number {
        clients.push(Client::new(settings).await?);
    }
    Ok(clients)
}

/// Refuses a prefix under which there is something: it would be deleted. `command` is how help names deletion.
async fn check_empty(client: &mut Client, prefix: &str, command: &str) -> Result<(), Failure> {
    let request = pb::RangeRequest { limit: 1, ..range(prefix) };
    if client.call(request, None).await?.kvs.is_empty() {
        return Ok(());
    }
    let quoted = quote(&word::bytes(prefix));
    Err(Failure::input(format!("prefix {quoted} has keys. Delete with {} first", command.replace("PREFIX", prefix))))
}

fn range(prefix: &str) -> pb::RangeRequest {
    let key = word::bytes(prefix);
    let (key, range_end) = if key.is_empty() { (vec![0], vec![0]) } else { (key.clone(), prefix_end(&key)) };
    pb::RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

/// Deletes everything under the prefix; answers the revision at which that was done.
async fn delete(client: &mut Client, prefix: &str, within: Option<Duration>) -> Result<i64, CallError> {
    let pb::RangeRequest { key, range_end, .. } = range(prefix);
    let deadline = within.map(|within| Instant::now() + within);
    let reply = client.call(pb::DeleteRangeRequest { key, range_end, prev_kv: false }, deadline).await?;
    Ok(reply.header.unwrap_or_default().revision)
}

async fn compact(client: &mut Client, revision: i64) -> Result<(), Failure> {
    write_out(format!("Compacting with revision {revision}\n").as_bytes())?;
    let deadline = Some(Instant::now() + AFTERWARDS);
    client.call(pb::CompactionRequest { revision, physical: true }, deadline).await?;
    write_out(format!("Compacted with revision {revision}\n").as_bytes())
}

async fn defragment(settings: &Arc<Settings>) -> Result<(), Failure> {
    for endpoint in &settings.endpoints {
        let quoted = quote(endpoint.as_bytes());
        write_out(format!("Defragmenting {quoted}\n").as_bytes())?;
        let mut client = Client::of_endpoints(settings, vec![endpoint.clone()]).await?;
        client.call(pb::DefragmentRequest {}, Some(Instant::now() + AFTERWARDS)).await?;
        write_out(format!("Defragmented {quoted}\n").as_bytes())?;
    }
    Ok(())
}

/// A key of this length under the prefix, whose start is drawn.
fn random_key(prefix: &[u8], length: usize) -> Bytes {
    let mut key = prefix.to_vec();
    // The number's varint, as etcdctl writes it; the rest is zero.
    let mut rest = rand::random::<u64>() & !1;
    while rest >= 0x80 {
        key.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    key.push(rest as u8);
    key.resize(prefix.len() + length, 0);
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_length() {
        for _ in 0..100 {
            let key = random_key(b"p/", 256);
            assert_eq!((key.len(), &key[..2]), (258, &b"p/"[..]));
        }
    }

    #[test]
    fn an_empty_prefix_is_everything() {
        assert_eq!((range("").key.as_ref(), range("").range_end.as_ref()), (&b"\0"[..], &b"\0"[..]));
        assert_eq!(range("a/").range_end.as_ref(), b"a0");
    }
}
