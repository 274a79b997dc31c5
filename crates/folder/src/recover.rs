//! A new cluster of one member, out of the folder of a member that survived its cluster.
//!
//! Owns what is taken and what is given up. Reads the old folder and never changes it. Invariant: everything in the old
//! member's log arrives, also what it did not know to be committed: that may have been acknowledged, and what was not is
//! of unknown outcome to whoever asked for it.

use crate::build::{Built, Plan, Replayed, build};
use crate::initial_cluster::NewCluster;
use crate::layout::{Place, REVISION_LOG, STORE, WAL};
use crate::lock::ensure_unused;
use crate::reading_disk::ReadingDisk;
use anyhow::{Context, bail};
use quorate_node::wal::{Identity, Recovered, Wal};
use quorate_proto::quoratepb::{Checkpoint, LogEntry};
use quorate_store::disk::Disk;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use std::sync::Arc;

/// An entry of the log that holds commands, as the node numbers kinds.
const ENTRY_COMMANDS: u32 = 0;

/// What a surviving folder holds.
pub struct Survivor {
    store: Store,
    recovered: Recovered,
    /// Whose folder it is.
    pub identity: Identity,
}

/// What a recovery keeps and what it gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The newest entry that will be applied.
    pub index: u64,
    /// The newest revision in the store's own files; entries of the log may raise it.
    pub revision: i64,
    /// Entries of the log that will be applied on top of the store.
    pub replayed: u64,
    /// Those of them that were not known to be committed.
    pub uncommitted: u64,
    /// The members that the new cluster has no more: names and peer URLs.
    pub members_lost: Vec<(u64, String, String)>,
    /// Keys that exist.
    pub keys: u64,
    /// Leases.
    pub leases: u64,
}

/// Opens a folder for reading.
pub fn survey(place: &Place) -> anyhow::Result<Survivor> {
    if !place.has_store() {
        match place.etcd_file() {
            Some(_) => bail!("{} is a data folder of etcd: use `utl import`", place.data.display()),
            None => bail!("{} is no data folder of a member", place.data.display()),
        }
    }
    ensure_unused(&place.member())?;
    let disk: Arc<dyn Disk> = Arc::new(ReadingDisk::new(place.member()));
    let wal_disk = ReadingDisk::new(place.wal_root());
    let in_folder = || format!("in {}", place.data.display());
    let Some((identity, recovered)) = Wal::read(&wal_disk, WAL).with_context(in_folder)? else {
        bail!("{} has no log (was it in another place? --wal-dir)", place.data.display());
    };
    let config = StoreConfig { revlog: REVISION_LOG };
    let store = Store::open(disk, STORE, config, Bootstrap::default()).with_context(in_folder)?;
    recovered.check(WAL, store.position().applied_index).with_context(in_folder)?;
    Ok(Survivor { store, recovered, identity })
}

impl Survivor {
    /// Entries behind the store.
    fn entries(&self) -> Vec<&LogEntry> {
        let applied = self.store.position().applied_index;
        self.recovered.entries.iter().filter(|entry| entry.index > applied).collect()
    }

    /// What will be kept and given up, when `cluster` is the new one.
    pub fn outlook(&self) -> Outlook {
        let entries = self.entries();
        let commit = self.recovered.hard_state.commit;
        let stats = self.store.reader().stats();
        let others = self.store.reader().members().into_iter().filter(|member| member.id != self.identity.member_id);
        Outlook {
            index: entries.last().map_or(stats.applied_index, |entry| entry.index),
            revision: stats.revision,
            replayed: entries.len() as u64,
            uncommitted: entries.iter().filter(|entry| entry.index > commit).count() as u64,
            members_lost: others.map(|member| (member.id, member.name, member.peer_ur_ls.join(","))).collect(),
            keys: stats.keys,
            leases: stats.leases,
        }
    }

    /// The old member's own name and peer URLs.
    pub fn member(&self) -> (String, Vec<String>) {
        let members = self.store.reader().members().into_iter();
        members
            .filter(|member| member.id == self.identity.member_id)
            .map(|member| (member.name, member.peer_ur_ls))
            .next()
            .unwrap_or_default()
    }

    /// Makes the new cluster's only member in `place`.
    pub fn recover(
        &self,
        place: &Place,
        cluster: &NewCluster,
        revision_bump: u64,
        progress: &mut dyn FnMut(u64),
    ) -> anyhow::Result<Built> {
        let moment = self.store.moment();
        let entries = self.entries();
        let replayed = entries.iter().map(|entry| Replayed {
            index: entry.index,
            term: entry.term,
            // Changes of members are those of the old cluster.
            batch: (entry.entry_type == ENTRY_COMMANDS && !entry.data.is_empty()).then(|| entry.data.clone()),
        });
        let plan = Plan { replayed: replayed.collect(), position: None, revision_bump };
        build(place, cluster, |seed| {
            let mut records = moment.records()?;
            let mut count = 0;
            while let Some(record) = records.next()? {
                seed.append(record.revision, record.deletion, &record.key_value)?;
                count += 1;
                progress(count);
            }
            let old = moment.checkpoint().clone();
            // A log begins behind an entry: 0 would be a member that never ran.
            let applied_index = old.applied_index.max(1);
            let applied_term = old.applied_term.max(1);
            Ok((Checkpoint { applied_index, applied_term, ..old }, plan))
        })
    }
}
