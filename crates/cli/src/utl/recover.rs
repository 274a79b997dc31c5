//! `recover`: a new cluster of one member, out of a folder that survived.
//!
//! Invariant: what would be lost is shown first, and nothing is made unless somebody agreed.

use super::failure::Failure;
use super::place::{path, place, revision_bump};
use super::progress::Progress;
use crate::command_line::flag::Values;
use quorate_folder::build::ensure_vacant;
use quorate_folder::initial_cluster::NewCluster;
use quorate_folder::layout::Place;
use quorate_folder::recover::{Outlook, survey};
use std::io::{BufRead, IsTerminal, Write};

pub(super) fn recover(values: &Values) -> Result<(), Failure> {
    let [from] = &values.words[..] else {
        return Err(Failure::arguments(
            "recover requires exactly one argument: the data folder of the surviving member",
        ));
    };
    let revision_bump = revision_bump(values)?;
    let old_wal = values.text("old-wal-dir");
    let source = Place { data: path(from), wal: (!old_wal.is_empty()).then(|| path(old_wal)) };
    let survivor = survey(&source)?;
    let (old_name, old_urls) = survivor.member();
    let name = if values.is_given("name") { values.text("name").to_owned() } else { old_name };
    let urls = if values.is_given("initial-advertise-peer-urls") {
        values.text("initial-advertise-peer-urls").to_owned()
    } else {
        old_urls.join(",")
    };
    let members: Vec<String> = urls.split(',').map(|url| format!("{name}={url}")).collect();
    let token = values.text("initial-cluster-token");
    let cluster = NewCluster::parse(&members.join(","), token, &name, &urls).map_err(Failure::new)?;
    let place = place(values, &format!("{name}.recovered"));
    ensure_vacant(&place)?;
    print!("{}", outlook_text(&survivor.outlook(), revision_bump));
    if !values.is_set("yes") && !is_agreed(&place)? {
        return Err(Failure::new("nothing was made"));
    }
    let mut progress = Progress::new("records");
    let built = survivor.recover(&place, &cluster, revision_bump, &mut |count| progress.tell(count))?;
    drop(progress);
    println!("Recovered into {}: revision {}", place.data.display(), built.checkpoint.revision);
    println!("Start it with: --name {name} --data-dir {}", place.data.display());
    Ok(())
}

fn outlook_text(outlook: &Outlook, revision_bump: u64) -> String {
    let mut text = format!(
        "Kept: everything up to entry {}: revision {} of the store and {} entries of the log behind it, {} keys, {} leases\n",
        outlook.index, outlook.revision, outlook.replayed, outlook.keys, outlook.leases
    );
    for (id, name, urls) in &outlook.members_lost {
        text.push_str(&format!("Lost: member {id:x} {name} {urls}\n"));
    }
    if !outlook.members_lost.is_empty() {
        text.push_str("Lost: whatever the other members committed and this one had not learned of, acknowledged writes included\n");
    }
    if outlook.uncommitted > 0 {
        text.push_str(&format!(
            "Kept: among them {} entries that this member did not know to be committed: they may have been acknowledged\n",
            outlook.uncommitted
        ));
    }
    if revision_bump == 0 {
        text.push_str(
            "Note: the revision is not raised. Watchers and caches that saw later revisions of the old cluster can be \
             misled; --bump-revision 1000000000 --mark-compacted makes them start over\n",
        );
    }
    text
}

fn is_agreed(place: &Place) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("nobody to ask: say --yes to go on"));
    }
    print!("Make a new cluster of one member in {}? [y/N] ", place.data.display());
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| Failure::new(error.to_string()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_named_before_anything_is_made() {
        let outlook = Outlook {
            index: 12,
            revision: 9,
            replayed: 2,
            uncommitted: 1,
            members_lost: vec![(0xab, "m1".to_owned(), "http://b:2380".to_owned())],
            keys: 3,
            leases: 1,
        };
        let text = outlook_text(&outlook, 0);
        for part in ["up to entry 12", "Lost: member ab m1 http://b:2380", "among them 1 entries", "--bump-revision"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!outlook_text(&Outlook { uncommitted: 0, members_lost: Vec::new(), ..outlook }, 7).contains("Lost"));
    }
}
