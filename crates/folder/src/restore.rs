//! A backup (ours or real etcd's) into a new member's folder.
//!
//! Owns the checks of the file in front of it. Invariant: a file whose checksum is wrong, or missing when it must be
//! there, makes nothing.

use crate::build::{Built, Plan, build};
use crate::initial_cluster::NewCluster;
use crate::layout::Place;
use crate::reading_disk::ReadingFile;
use anyhow::{Context, bail};
use quorate_backend::bbolt::Reader;
use quorate_backend::content::Content;
use quorate_backend::export::SUM_BYTES;
use quorate_backend::import::seed_records;
use quorate_proto::quoratepb::Checkpoint;
use quorate_store::disk::DiskFile;
use sha2::{Digest, Sha256};
use std::path::Path;

/// A file with a checksum has so many bytes beyond a multiple of this.
const SUM_MODULUS: u64 = 512;
/// Read at once for the checksum, bytes.
const BLOCK_BYTES: usize = 1 << 20;

/// Whether a backup's checksum is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashCheck {
    /// It must be there, and right.
    Required,
    /// `--skip-hash-check`: for files copied out of a data folder.
    Skipped,
}

/// Verifies the SHA-256 behind a backup, in etcdutl's words.
pub fn check_sum(file: &dyn DiskFile) -> anyhow::Result<()> {
    let length = file.len()?;
    if length % SUM_MODULUS != SUM_BYTES as u64 {
        bail!("snapshot missing hash but --skip-hash-check=false");
    }
    let end = length - SUM_BYTES as u64;
    let mut expected = [0; SUM_BYTES];
    file.read_at(&mut expected, end)?;
    let mut sum = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut offset = 0;
    while offset < end {
        let wanted = (end - offset).min(BLOCK_BYTES as u64) as usize;
        let count = file.read_at(&mut block[..wanted], offset)?;
        if count == 0 {
            bail!("unexpected EOF");
        }
        sum.update(&block[..count]);
        offset += count as u64;
    }
    let found: [u8; SUM_BYTES] = sum.finalize().into();
    if found != expected {
        bail!("expected sha256 {}, got {}", numbers(&expected), numbers(&found));
    }
    Ok(())
}

/// Bytes as Go prints them.
fn numbers(bytes: &[u8]) -> String {
    format!("[{}]", bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(" "))
}

/// The checkpoint of what a file holds. Members and position are the new cluster's.
pub fn checkpoint_of(content: &Content, revision: i64) -> Checkpoint {
    let leases = content.lease_records();
    Checkpoint {
        applied_index: content.consistent_index,
        applied_term: content.term,
        revision: revision.max(content.compact_revision()),
        compact_revision: content.compact_revision(),
        lease_count: leases.len() as u64,
        leases,
        alarms: content.alarms.clone(),
        auth: content.auth.clone(),
        ..Checkpoint::default()
    }
}

/// Restores `file` into `place`. `progress` is told the records so far.
pub fn restore(
    file: &Path,
    place: &Place,
    cluster: &NewCluster,
    hash_check: HashCheck,
    revision_bump: u64,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<Built> {
    let opened = ReadingFile::open(file).with_context(|| format!("open {}", file.display()))?;
    if hash_check == HashCheck::Required {
        check_sum(&*opened)?;
    }
    let reader = Reader::open(opened)?;
    reader.check()?;
    let content = Content::read(&reader)?;
    // As etcd does it: the log of a restored member holds one change for each member.
    let position = Some((cluster.members.len() as u64, 1));
    build(place, cluster, |seed| {
        let taken = seed_records(&reader, seed, progress)?;
        let plan = Plan { position, revision_bump, ..Plan::default() };
        Ok((checkpoint_of(&content, taken.revision), plan))
    })
}
