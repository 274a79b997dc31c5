//! Makes a member's folder out of history from elsewhere.
//!
//! Owns the order: store, what is applied on top, what the new cluster is, and the log last, without which no member
//! starts on it. Invariant: a folder that could not be made whole is removed again.

use crate::disk::{Durability, RealDisk};
use crate::initial_cluster::NewCluster;
use crate::layout::{Place, REVISION_LOG, STORE, WAL, WAL_CONFIG, is_vacant};
use crate::lock::lock_folder;
use anyhow::{Context, bail};
use bytes::Bytes;
use quorate_node::api::{HardState, Persist, SnapshotPoint};
use quorate_node::wal::{Identity, Wal};
use quorate_proto::quoratepb::{Checkpoint, ConfState};
use quorate_store::disk::Disk;
use quorate_store::seed::{StoreSeed, amend};
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use std::sync::Arc;

/// An entry that is applied on top of the seeded store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Its place.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Encoded commands; `None`: nothing.
    pub batch: Option<Bytes>,
}

/// What a folder is made of, beside its records.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Applied on top.
    pub replayed: Vec<Replayed>,
    /// Where the new log begins, index and term; `None`: where the store stands.
    pub position: Option<(u64, u64)>,
    /// Added to the newest revision; everything before is then compacted. 0: nothing.
    pub revision_bump: u64,
}

/// What was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The store's own account.
    pub checkpoint: Checkpoint,
    /// The newest revision before it was raised.
    pub latest_revision: i64,
}

/// Refuses places that hold something, in etcdutl's words.
pub fn ensure_vacant(place: &Place) -> anyhow::Result<()> {
    if !is_vacant(&place.data) {
        bail!("data-dir {:?} not empty or could not be read", place.data.display().to_string());
    }
    match &place.wal {
        Some(wal) if wal.exists() => bail!("wal-dir {:?} exists", wal.display().to_string()),
        _ => Ok(()),
    }
}

/// Makes a folder. `seed` appends the records and says everything else; `plan` is asked for behind it.
pub fn build(
    place: &Place,
    cluster: &NewCluster,
    seed: impl FnOnce(&mut StoreSeed) -> anyhow::Result<(Checkpoint, Plan)>,
) -> anyhow::Result<Built> {
    ensure_vacant(place)?;
    let had_data = place.data.is_dir();
    let made = make(place, cluster, seed);
    if made.is_err() {
        // Nothing of it may pass for a member. What can't be removed has no log, and does not start.
        let _ = std::fs::remove_dir_all(place.member());
        if !had_data {
            let _ = std::fs::remove_dir(&place.data);
        }
        if let Some(wal) = &place.wal {
            let _ = std::fs::remove_dir_all(wal);
        }
    }
    made
}

fn make(
    place: &Place,
    cluster: &NewCluster,
    seed: impl FnOnce(&mut StoreSeed) -> anyhow::Result<(Checkpoint, Plan)>,
) -> anyhow::Result<Built> {
    let _lock = lock_folder(&place.member(), Durability::Synced)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(place.member(), Durability::Synced));
    let mut seeding = StoreSeed::begin(disk.clone(), STORE, REVISION_LOG)?;
    let (checkpoint, plan) = seed(&mut seeding)?;
    seeding.finish(checkpoint)?;
    replay(&disk, &plan.replayed)?;
    let bump = i64::try_from(plan.revision_bump).ok().context("--bump-revision is too large")?;
    let voters: Vec<u64> = cluster.members.iter().map(|member| member.id).collect();
    let conf_state = ConfState { voters, ..ConfState::default() };
    let mut latest_revision = 0;
    let mut is_too_large = false;
    let checkpoint = amend(disk, STORE, |checkpoint| {
        latest_revision = checkpoint.revision;
        checkpoint.members = cluster.members.clone();
        checkpoint.removed_members = Vec::new();
        checkpoint.auto_promoted = Vec::new();
        checkpoint.conf_state = Some(conf_state.clone());
        // The first leader says which version its cluster speaks.
        checkpoint.cluster_version = String::new();
        checkpoint.downgrade_target = String::new();
        if let Some((index, term)) = plan.position {
            (checkpoint.applied_index, checkpoint.applied_term) = (index, term);
        }
        if bump > 0 {
            is_too_large = checkpoint.revision.checked_add(bump).is_none();
            checkpoint.revision = checkpoint.revision.saturating_add(bump);
            checkpoint.compact_revision = checkpoint.revision;
        }
    })?;
    if is_too_large {
        bail!("--bump-revision is too large: the newest revision is {latest_revision}");
    }
    begin_log(place, cluster, &checkpoint, conf_state)?;
    Ok(Built { checkpoint, latest_revision })
}

fn replay(disk: &Arc<dyn Disk>, entries: &[Replayed]) -> anyhow::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let config = StoreConfig { revlog: REVISION_LOG };
    let mut store = Store::open(disk.clone(), STORE, config, Bootstrap::default())?;
    for entry in entries {
        match &entry.batch {
            Some(batch) => {
                // What a command was refused for then, it is refused for again.
                store.apply_commands(entry.index, entry.term, batch.clone(), &|_| false)?;
            }
            None => store.apply_empty(entry.index, entry.term),
        }
    }
    store.close()?;
    Ok(())
}

fn begin_log(
    place: &Place,
    cluster: &NewCluster,
    checkpoint: &Checkpoint,
    conf_state: ConfState,
) -> anyhow::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(place.wal_root(), Durability::Synced));
    let identity = Identity { cluster_id: cluster.cluster_id, member_id: cluster.member_id };
    let (mut wal, _) = Wal::open(disk, WAL, WAL_CONFIG, identity)?;
    let (index, term) = (checkpoint.applied_index, checkpoint.applied_term);
    wal.append(&[Persist {
        number: 1,
        hard_state: Some(HardState { term, vote: 0, commit: index }),
        entries: Vec::new(),
        snapshot: Some(SnapshotPoint { index, term, conf_state }),
    }])?;
    Ok(())
}
