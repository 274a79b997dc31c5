//! `compaction`.
//!
//! Not here: compactions that the server makes by itself. The invariant: only a revision that was typed is compacted.

use quorate_proto::etcdserverpb as pb;

use crate::command_line::go_text::parse_int;
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::write_out;

/// `compaction`
pub(crate) async fn compact(mut run: Invocation) -> Result<(), Failure> {
    let [revision] = run.words() else { return Err(Failure::arguments("compaction command needs 1 argument")) };
    let revision = parse_int(revision, 10).map_err(|reason| Failure::new(failure::SERVER, reason))?;
    let physical = run.values.is_set("physical");
    let (mut client, _) = run.client().await?;
    // Waiting for the data to be gone takes as long as it takes.
    let deadline = if physical { None } else { client.command_deadline() };
    client.call(pb::CompactionRequest { revision, physical }, deadline).await?;
    write_out(format!("compacted revision {revision}\n").as_bytes())
}
