//! `snapshot status` and `snapshot restore`.

use super::failure::Failure;
use super::log;
use super::output::{self, Form};
use super::place::{cluster, ensure_file, io_text, path, place, revision_bump};
use super::progress::Progress;
use crate::command_line::flag::Values;
use quorate_backend::bbolt::Reader;
use quorate_backend::status::status as status_of;
use quorate_folder::build::ensure_vacant;
use quorate_folder::reading_disk::ReadingFile;
use quorate_folder::restore::{HashCheck, restore as restore_file};
use serde_json::Value;

/// Where etcdutl's code says what a restore says.
const RESTORING: &str = "snapshot/v3_snapshot.go:306";
const RESTORED: &str = "snapshot/v3_snapshot.go:334";
const TRIMMING: &str = "schema/membership.go:125";
const ADDED: &str = "membership/cluster.go:408";
const BUMPING: &str = "snapshot/v3_snapshot.go:389";
const MARKING: &str = "snapshot/v3_snapshot.go:404";

/// Opens a backend file and looks at every page.
pub(super) fn open_sound(word: &str) -> Result<Reader, Failure> {
    let file = ReadingFile::open(&path(word)).map_err(|error| Failure::new(io_text("open", word, &error)))?;
    let reader = Reader::open(file).map_err(|error| Failure::new(error.to_string()))?;
    reader
        .check()
        .map_err(|error| Failure::new(format!("snapshot file integrity check failed. 1 errors found.\n{error}")))?;
    Ok(reader)
}

pub(super) fn status(values: &Values) -> Result<(), Failure> {
    let [file] = &values.words[..] else {
        return Err(Failure::arguments("snapshot status requires exactly one argument"));
    };
    ensure_file(file)?;
    let form = Form::read(values.text("write-out"))?;
    let reader = open_sound(file)?;
    let mut progress = Progress::new("records");
    let status =
        status_of(&reader, &mut |count| progress.tell(count)).map_err(|error| Failure::new(error.to_string()))?;
    drop(progress);
    print!("{}", output::status(&status, form)?);
    Ok(())
}

pub(super) fn restore(values: &Values) -> Result<(), Failure> {
    let [file] = &values.words[..] else {
        return Err(Failure::arguments("snapshot restore requires exactly one argument"));
    };
    let revision_bump = revision_bump(values)?;
    let cluster = cluster(values)?;
    let place = place(values, &format!("{}.etcd", values.text("name")));
    ensure_vacant(&place)?;
    let data = place.data.display().to_string();
    let wal = match values.text("wal-dir") {
        "" => place.member().join("wal").display().to_string(),
        wal => wal.to_owned(),
    };
    let fields: [(&str, Value); 5] = [
        ("path", file.as_str().into()),
        ("wal-dir", wal.into()),
        ("data-dir", data.clone().into()),
        ("snap-dir", place.member().join("snap").display().to_string().into()),
        ("initial-memory-map-size", values.uint("initial-memory-map-size").into()),
    ];
    log::info(RESTORING, "restoring snapshot", &fields);
    let check = if values.is_set("skip-hash-check") { HashCheck::Skipped } else { HashCheck::Required };
    if let Err(error) = std::fs::File::open(path(file)) {
        return Err(Failure::new(io_text("open", file, &error)));
    }
    let mut progress = Progress::new("records");
    let built = restore_file(&path(file), &place, &cluster, check, revision_bump, &mut |count| progress.tell(count))?;
    drop(progress);
    log::info(TRIMMING, "Trimming membership information from the backend...", &[]);
    if revision_bump > 0 {
        let revision = built.checkpoint.revision;
        log::info(
            BUMPING,
            "bumping latest revision",
            &[
                ("latest-revision", built.latest_revision.into()),
                ("bump-amount", revision_bump.into()),
                ("new-latest-revision", revision.into()),
            ],
        );
        log::info(MARKING, "marking revision compacted", &[("revision", revision.into())]);
    }
    for member in &cluster.members {
        log::info(
            ADDED,
            "added member",
            &[
                ("cluster-id", format!("{:x}", cluster.cluster_id).into()),
                ("local-member-id", "0".into()),
                ("added-peer-id", format!("{:x}", member.id).into()),
                ("added-peer-peer-urls", member.peer_ur_ls.clone().into()),
                ("added-peer-is-learner", false.into()),
            ],
        );
    }
    log::info(RESTORED, "restored snapshot", &fields);
    Ok(())
}
