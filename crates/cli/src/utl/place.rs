//! Flags that name folders and clusters, as values.
//!
//! Invariant: `--wal-dir` names the folder that a member is started with, and the log lies in `wal` below it.

use super::failure::Failure;
use crate::command_line::flag::Values;
use crate::command_line::word;
use quorate_folder::initial_cluster::NewCluster;
use quorate_folder::layout::Place;
use std::path::PathBuf;

/// A path that a word names.
pub(super) fn path(word: &str) -> PathBuf {
    PathBuf::from(word::os_string(word))
}

/// The folders of `--data-dir` (or `default`) and `--wal-dir`.
pub(super) fn place(values: &Values, default: &str) -> Place {
    let data = match values.text("data-dir") {
        "" => default,
        text => text,
    };
    let wal = values.text("wal-dir");
    Place { data: path(data), wal: (!wal.is_empty()).then(|| path(wal)) }
}

/// The cluster that the flags of a restore describe.
pub(super) fn cluster(values: &Values) -> Result<NewCluster, Failure> {
    NewCluster::parse(
        values.text("initial-cluster"),
        values.text("initial-cluster-token"),
        values.text("name"),
        values.text("initial-advertise-peer-urls"),
    )
    .map_err(Failure::new)
}

/// `--bump-revision`, which goes with `--mark-compacted` only.
pub(super) fn revision_bump(values: &Values) -> Result<u64, Failure> {
    let bump = values.uint("bump-revision");
    if (bump > 0) != values.is_set("mark-compacted") {
        return Err(Failure::arguments("--mark-compacted required if --revision-bump > 0"));
    }
    Ok(bump)
}

/// The operating system's word on a path, as Go says it.
pub(super) fn io_text(what: &str, path: &str, error: &std::io::Error) -> String {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        std::io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => error.to_string(),
    };
    format!("{what} {path}: {reason}")
}

/// Refuses a file that is not there.
pub(super) fn ensure_file(word: &str) -> Result<(), Failure> {
    std::fs::metadata(path(word)).map(drop).map_err(|error| Failure::new(io_text("stat", word, &error)))
}
