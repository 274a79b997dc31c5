//! What etcdutl has a command for and our data folders have no need of: `defrag` and `migrate`.
//!
//! Invariant: on a folder of ours they change nothing, say why, and succeed, so that scripts go on; on a real etcd's
//! folder they refuse and say what to do.

use super::failure::Failure;
use super::place::{io_text, path};
use crate::command_line::flag::Values;
use quorate_folder::layout::Place;

/// What a folder turned out to be.
enum Found {
    Ours,
    Etcds,
    /// The reason in etcdutl's words.
    Neither(String),
}

fn look(values: &Values) -> Found {
    let word = values.text("data-dir");
    let place = Place::new(path(word));
    if place.has_store() {
        return Found::Ours;
    }
    if place.etcd_file().is_some() {
        return Found::Etcds;
    }
    let file = place.member().join("snap").join("db");
    match std::fs::metadata(&file) {
        Err(error) => Found::Neither(io_text("stat", &file.display().to_string(), &error)),
        Ok(_) => Found::Neither(format!("{} is no file", file.display())),
    }
}

pub(super) fn defrag(values: &Values) -> Result<(), Failure> {
    let failed = |reason: &str| {
        Err(Failure::new(format!("Failed to defragment etcd data[{}] ({reason})", values.text("data-dir"))))
    };
    match look(values) {
        Found::Ours => {
            println!("Nothing to defragment: space is given back while the member runs, as it becomes free.");
            Ok(())
        }
        Found::Etcds => failed("this is a folder of etcd: use etcd's own etcdutl on it, or `import` it"),
        Found::Neither(reason) => failed(&reason),
    }
}

pub(super) fn migrate(values: &Values) -> Result<(), Failure> {
    let target = values.text("target-version");
    let Some((major, minor)) = target.split_once('.').filter(|(_, minor)| !minor.contains('.')) else {
        return Err(Failure::arguments(format!("wrong target version format, expected \"X.Y\", got {target:?}")));
    };
    let (Ok(major), Ok(minor)) = (major.parse::<u64>(), minor.parse::<u64>()) else {
        return Err(Failure::arguments(format!(
            "failed to parse target version: {target}.0 is not in dotted-tri format"
        )));
    };
    if (major, minor) < (3, 5) {
        return Err(Failure::arguments(format!("target version \"{major}.{minor}\" not supported. Minimal \"3.5\"")));
    }
    match look(values) {
        Found::Ours => {
            println!(
                "Nothing to migrate: this folder is Quorate's. To go to etcd {target}, take a snapshot of the running \
                 member (ctl snapshot save) and restore it with etcd's etcdutl."
            );
            Ok(())
        }
        Found::Etcds => Err(Failure::new(
            "this is a folder of etcd: use etcd's own etcdutl on it, or `import` it into one of Quorate's",
        )),
        Found::Neither(reason) => Err(Failure::new(reason)),
    }
}
