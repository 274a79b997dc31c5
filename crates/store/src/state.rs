//! The replicated state in memory, shared by one writer and many readers.
//!
//! Invariant: `index` and `view` fit together: under the lock, every location in the index can be read from the view.

use crate::auth::AuthView;
use crate::error::{DiskError, Error};
use crate::hash::CompactionHashes;
use crate::integrity::Round;
use crate::key_index::{KeyIndex, Version};
use crate::lease::Leases;
use crate::members::Membership;
use crate::range::KeyRange;
use crate::revlog::SegmentSet;
use crate::v2;
use bytes::Bytes;
use parking_lot::RwLock;
use quorate_proto::etcdserverpb::{AlarmMember, AlarmType};
use quorate_proto::mvccpb::KeyValue;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Everything that commands change.
pub(crate) struct State {
    pub(crate) index: KeyIndex,
    pub(crate) view: Arc<SegmentSet>,
    /// The newest revision; an empty store is at 1.
    pub(crate) revision: i64,
    /// -1: never compacted.
    pub(crate) compact_revision: i64,
    pub(crate) leases: Leases,
    pub(crate) alarms: BTreeSet<(u64, i32)>,
    /// Those of `alarms` that the cluster raised by itself.
    pub(crate) own_alarms: BTreeSet<(u64, i32)>,
    /// The newest round of digests.
    pub(crate) digest_round: Round,
    pub(crate) members: Membership,
    pub(crate) cluster_version: String,
    /// Empty: no downgrade is under way.
    pub(crate) downgrade_target: String,
    /// Users and roles; [`Core::set_auth`] shares what it is set to.
    pub(crate) auth: Arc<AuthView>,
    /// etcd's v2 keys.
    pub(crate) v2: v2::Tree,
    /// Running digest of all changes.
    pub(crate) digest: u64,
    pub(crate) applied_index: u64,
    pub(crate) applied_term: u64,
}

/// The state behind its lock, and what is read so often that it stands beside it.
pub(crate) struct Core {
    pub(crate) state: RwLock<State>,
    pub(crate) applied_index: AtomicU64,
    pub(crate) revision: AtomicI64,
    pub(crate) counters: Counters,
    /// A stored record was found broken: the member must not go on as if nothing were.
    pub(crate) corrupt: AtomicBool,
    /// The text of the first such finding.
    pub(crate) corrupt_reason: parking_lot::Mutex<Option<String>>,
    /// Stores that were installed over this one.
    pub(crate) installs: AtomicU64,
    /// The member does not trust this state any more: nothing of it may be told to clients.
    pub(crate) quarantined: AtomicBool,
    /// What compactions hashed.
    pub(crate) compaction_hashes: parking_lot::Mutex<CompactionHashes>,
    /// The compaction up to which everything unreachable was forgotten.
    pub(crate) compacted_revision: AtomicI64,
    /// Users and roles, for who does not need the rest of the state.
    pub(crate) auth: RwLock<Arc<AuthView>>,
    /// Twice the auth revision, plus 1 while auth is on: what every request looks at, without a lock.
    pub(crate) auth_mark: AtomicU64,
    /// Who waits for changes of the v2 tree. Locked after `state`, never before.
    pub(crate) v2_hub: v2::Hub,
    /// What was asked of the v2 tree.
    pub(crate) v2_stats: v2::Stats,
}

/// Since start; sizes as of the last write.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) puts: AtomicU64,
    /// Encoded bytes of them.
    pub(crate) put_bytes: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) txns: AtomicU64,
    pub(crate) ranges: AtomicU64,
    pub(crate) leases_granted: AtomicU64,
    pub(crate) leases_renewed: AtomicU64,
    pub(crate) leases_revoked: AtomicU64,
    pub(crate) leases_expired: AtomicU64,
    pub(crate) disk_bytes: AtomicU64,
    pub(crate) live_bytes: AtomicU64,
    /// Versions that compactions forgot.
    pub(crate) versions_compacted: AtomicU64,
}

impl Core {
    /// Shares the state's users and roles with the readers.
    pub(crate) fn set_auth(&self, auth: &Arc<AuthView>) {
        *self.auth.write() = auth.clone();
        self.auth_mark.store(auth_mark(auth), Ordering::Release);
    }

    /// Keeps the reason and answers what a caller is told.
    pub(crate) fn broken(&self, error: &DiskError) -> Error {
        let mut reason = self.corrupt_reason.lock();
        if reason.is_none() {
            *reason = Some(error.to_string());
        }
        self.corrupt.store(true, Ordering::Release);
        Error::Corrupt
    }
}

fn named(alarms: &BTreeSet<(u64, i32)>) -> Vec<AlarmMember> {
    alarms.iter().map(|&(member_id, alarm)| AlarmMember { member_id, alarm }).collect()
}

/// What [`Core::auth_mark`] is for a view.
pub(crate) fn auth_mark(auth: &AuthView) -> u64 {
    auth.revision() << 1 | u64::from(auth.enabled())
}

/// The version of a key that is visible at a revision.
pub(crate) fn visible(versions: &[Version], revision: i64) -> Option<&Version> {
    let newest = match versions.last() {
        Some(last) if last.main <= revision => last,
        _ => versions[..versions.partition_point(|version| version.main <= revision)].last()?,
    };
    (!newest.is_deletion()).then_some(newest)
}

impl State {
    /// Where a read at `asked` (0 or less: newest) happens, when `current` is the newest revision the reader may see.
    pub(crate) fn read_revision(&self, asked: i64, current: i64) -> Result<i64, Error> {
        if asked > current {
            return Err(Error::FutureRevision);
        }
        let revision = if asked <= 0 { current } else { asked };
        if revision < self.compact_revision {
            return Err(Error::Compacted);
        }
        Ok(revision)
    }

    /// The stored key-value of a key as of a revision, encoded; `None` when it did not exist or is compacted away.
    pub(crate) fn key_value_at(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, DiskError> {
        if revision < self.compact_revision {
            return Ok(None);
        }
        match visible(self.index.get(key), revision) {
            Some(version) => Ok(Some(self.view.read(version.location)?.key_value)),
            None => Ok(None),
        }
    }

    /// Keys of a range that exist at a revision.
    pub(crate) fn count(&self, range: &KeyRange, revision: i64) -> i64 {
        if revision >= self.revision {
            return self.index.count_live(range) as i64;
        }
        let mut count = 0;
        self.index.walk(range, &mut |_, versions| {
            count += i64::from(visible(versions, revision).is_some());
            ControlFlow::Continue(())
        });
        count
    }

    /// Whether some member's store is full: what would make it grow is refused.
    pub(crate) fn is_alarmed_full(&self) -> bool {
        self.is_alarmed(AlarmType::Nospace)
    }

    /// Whether members were found to differ and nobody can say whose data is right, so none is changed. As in etcd it can
    /// still be read. A single member that the others named is none of their business.
    pub(crate) fn is_alarmed_corrupt(&self) -> bool {
        let corrupt = AlarmType::Corrupt as i32;
        self.alarms.iter().any(|alarm| alarm.1 == corrupt && (alarm.0 == 0 || !self.own_alarms.contains(alarm)))
    }

    fn is_alarmed(&self, kind: AlarmType) -> bool {
        self.alarms.iter().any(|&(_, alarm)| alarm == kind as i32)
    }

    /// The alarms in order.
    pub(crate) fn alarm_members(&self) -> Vec<AlarmMember> {
        named(&self.alarms)
    }

    /// Those that the cluster raised by itself, in order.
    pub(crate) fn own_alarm_members(&self) -> Vec<AlarmMember> {
        named(&self.own_alarms)
    }

    /// Folds bytes into the digest.
    pub(crate) fn digest(&mut self, bytes: &[u8]) {
        let sum = u64::from(crc32c::crc32c(bytes)) | ((bytes.len() as u64) << 32);
        self.digest = (self.digest.rotate_left(5) ^ sum).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// Decodes what the store itself encoded.
pub(crate) fn decode_key_value(bytes: Bytes) -> Result<KeyValue, Error> {
    use prost::Message;
    KeyValue::decode(bytes).map_err(|_| Error::Corrupt)
}
