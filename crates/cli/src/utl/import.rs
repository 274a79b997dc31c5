//! `import`: the data folder of a stopped etcd into a new one of ours.

use super::failure::Failure;
use super::place::{cluster, path, place, revision_bump};
use super::progress::Progress;
use crate::command_line::flag::Values;
use quorate_folder::import::import as import_folder;

pub(super) fn import(values: &Values) -> Result<(), Failure> {
    let [from] = &values.words[..] else {
        return Err(Failure::arguments("import requires exactly one argument: the data folder of a stopped etcd"));
    };
    let revision_bump = revision_bump(values)?;
    let cluster = cluster(values)?;
    let place = place(values, &format!("{}.quorate", values.text("name")));
    let old_wal = values.text("etcd-wal-dir");
    let old_wal = (!old_wal.is_empty()).then(|| path(old_wal));
    let mut progress = Progress::new("records");
    let imported = import_folder(&path(from), old_wal.as_deref(), &place, &cluster, revision_bump, &mut |count| {
        progress.tell(count)
    })?;
    drop(progress);
    let checkpoint = &imported.built.checkpoint;
    println!(
        "Imported {from} into {}: {} records of its data file and {} entries of its log, {} leases, revision {}",
        place.data.display(),
        imported.records,
        imported.replayed,
        checkpoint.leases.len(),
        checkpoint.revision,
    );
    if imported.uncommitted > 0 {
        println!(
            "Left out: {} entries at the end of its log that were not known to be committed. If another member of that \
             cluster has more, import that one instead.",
            imported.uncommitted
        );
    }
    let own = cluster.members.iter().find(|member| member.id == cluster.member_id);
    let name = own.map_or("", |member| member.name.as_str());
    println!("Start it with: --name {name} --data-dir {}", place.data.display());
    Ok(())
}
