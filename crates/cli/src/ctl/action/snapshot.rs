//! `snapshot save`: a member's whole state in a file.
//!
//! Not here: reading such a file (`utl`). The invariant: the file appears under its name only when it is complete and
//! on the disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::maintenance_client::MaintenanceClient;

use crate::ctl::client::{Client, Deadline, before};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, CallError, Failure};
use crate::ctl::print::write_out;
use crate::ctl::settings::io_error_text;

/// The file behind the data is a SHA-256 of it; the data is whole pages of at least this many bytes.
const HASH_BYTES: u64 = 32;
const PAGE_BYTES: u64 = 512;

/// `snapshot save`
pub(crate) async fn save(mut run: Invocation) -> Result<(), Failure> {
    let [path] = run.words() else {
        return Err(Failure::arguments("snapshot save expects one argument <filename>"));
    };
    let path = path.clone();
    let settings = run.settings()?;
    // A snapshot takes as long as it takes, unless a time was set.
    let is_limited = run.values.is_given("command-timeout");
    if settings.endpoints.len() > 1 {
        let endpoints = settings.endpoints.join(" ");
        let message = format!("snapshot must be requested to one selected node, not multiple [{endpoints}]");
        return Err(interrupted(message));
    }
    let mut client = Client::new(&settings).await?;
    let part = format!("{path}.part");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
    let mut file =
        file.map_err(|error| interrupted(format!("could not open {part} (open {part}: {})", io_error_text(&error))))?;
    let deadline = if is_limited { client.command_deadline() } else { None };
    let received = match before(deadline, receive(&mut client, &mut file, deadline)).await {
        Ok(received) => received,
        Err(error) => Err(interrupted(error.to_string())),
    };
    // Whatever broke when the time was over, that is why.
    let is_over = deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline);
    let received = received.map_err(|failure| match is_over {
        true => interrupted(CallError::deadline().to_string()),
        false => failure,
    });
    let saved = received.and_then(|version| {
        let keep = file.sync_all().and_then(|()| std::fs::rename(&part, &path)).and_then(|()| sync_folder(&path));
        keep.map_err(|error| interrupted(format!("could not rename {part} to {path} ({error})")))?;
        Ok(version)
    });
    if saved.is_err() {
        // What is there of it is of no use, and its absence is what matters.
        let _ = std::fs::remove_file(&part);
    }
    let version = saved?;
    write_out(format!("Snapshot saved at {path}\n").as_bytes())?;
    if version.is_empty() { Ok(()) } else { write_out(format!("Server version {version}\n").as_bytes()) }
}

/// Writes the stream into the file; answers the storage version that it begins with.
async fn receive(client: &mut Client, file: &mut File, deadline: Deadline) -> Result<String, Failure> {
    let channel = client.connection(deadline).await.map_err(|error| interrupted(error.to_string()))?;
    let request = client.request(pb::SnapshotRequest {}, deadline);
    let mut service = MaintenanceClient::new(channel).max_decoding_message_size(client.settings().receive_bytes_max);
    let parts = service.snapshot(request).await;
    let mut failed = |status: tonic::Status| interrupted(client.judge(&status).to_string());
    let mut parts = parts.map_err(&mut failed)?.into_inner();
    let mut version = String::new();
    let mut length = 0;
    while let Some(part) = parts.message().await.map_err(&mut failed)? {
        if version.is_empty() {
            version = part.version;
        }
        length += part.blob.len() as u64;
        file.write_all(&part.blob).map_err(|error| interrupted(io_error_text(&error)))?;
    }
    if length % PAGE_BYTES != HASH_BYTES {
        return Err(interrupted(format!("sha256 checksum not found [bytes: {length}]")));
    }
    Ok(version)
}

/// Makes a new name in a folder last.
fn sync_folder(path: &str) -> std::io::Result<()> {
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn interrupted(message: String) -> Failure {
    Failure::new(failure::INTERRUPTED, message)
}
