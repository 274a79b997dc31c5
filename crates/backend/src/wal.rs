//! Reads a real etcd's write-ahead log: the entries that its data file does not hold yet.
//!
//! Owns the format of that log (length-prefixed records with a running CRC-32C). Does not own what entries do. Invariant:
//! every byte that is used was covered by a checksum; a torn end is told from damage as etcd does it (a sector of zeros).

use crate::messages::{Entry, HardState, InternalRequest, WalRecord};
use bytes::Bytes;
use prost::Message;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Caller, Command, CommandBatch};
use quorate_store::disk::{DiskFile, read_exact_at};
use std::sync::Arc;
use thiserror::Error;

const KIND_ENTRY: i64 = 2;
const KIND_STATE: i64 = 3;
const KIND_CRC: i64 = 4;
const KINDS: std::ops::RangeInclusive<i64> = 1..=5;
/// Entries of this kind hold requests; others change members.
const ENTRY_NORMAL: i32 = 0;
/// Length of a record in front of it.
const LENGTH_BYTES: u64 = 8;
/// A write that was torn left one of these all zeros, bytes.
const SECTOR_BYTES: u64 = 512;
/// A record at the most, bytes.
const RECORD_BYTES_MAX: u64 = 1 << 30;

/// Why a log can't be read.
#[derive(Debug, Error)]
pub enum WalError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Its word.
        source: std::io::Error,
    },
    /// It is broken.
    #[error("{path}: corrupt at offset {offset}: {what}")]
    Corrupt {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// It does not go on where the data file ends.
    #[error(
        "the log begins at entry {first}, but the data file ends at entry {applied}: files of the log are missing. Take a \
         snapshot of the running cluster (etcdctl snapshot save) and restore that"
    )]
    Gap {
        /// Of the data file.
        applied: u64,
        /// In the log.
        first: u64,
    },
}

/// A file of the log.
pub struct WalFile {
    /// For messages.
    pub path: String,
    /// The file.
    pub file: Arc<dyn DiskFile>,
}

/// An entry that the data file does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct WalEntry {
    /// Its place.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it asks for, as our own log would; `None`: nothing that is taken over.
    pub batch: Option<Bytes>,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WalTail {
    /// In order, without gaps; the first one follows the data file's.
    pub entries: Vec<WalEntry>,
    /// The highest index known to be committed.
    pub commit: u64,
    /// The newest term.
    pub term: u64,
}

/// Reads a log's files, oldest first, for what lies behind entry `applied`.
pub fn read_tail(files: &[WalFile], applied: u64) -> Result<WalTail, WalError> {
    let mut log = Log { applied, entries: Vec::new(), state: HardState::default(), crc: 0 };
    for (position, file) in files.iter().enumerate() {
        log.read_file(file, position + 1 == files.len())?;
    }
    if let Some(first) = log.entries.first()
        && first.index > applied + 1
    {
        return Err(WalError::Gap { applied, first: first.index });
    }
    let mut entries = Vec::with_capacity(log.entries.len());
    for entry in &log.entries {
        entries.push(WalEntry { index: entry.index, term: entry.term, batch: batch_of(entry) });
    }
    Ok(WalTail { entries, commit: log.state.commit, term: log.state.term })
}

struct Log {
    applied: u64,
    /// Those behind `applied`.
    entries: Vec<Entry>,
    state: HardState,
    crc: u32,
}

impl Log {
    fn read_file(&mut self, file: &WalFile, is_last: bool) -> Result<(), WalError> {
        let io = |source| WalError::Io { path: file.path.clone(), source };
        let corrupt =
            |offset: u64, what: &str| Err(WalError::Corrupt { path: file.path.clone(), offset, what: what.to_owned() });
        let length = file.file.len().map_err(io)?;
        let mut offset = 0;
        while offset + LENGTH_BYTES <= length {
            let head = read_exact_at(&*file.file, offset, LENGTH_BYTES as usize).map_err(io)?;
            let head = u64::from_le_bytes(head.try_into().expect("eight bytes"));
            if head == 0 {
                // The file was made longer than what is written so far.
                break;
            }
            // The low 56 bits are the length; a set top bit says that its low three bits of the top byte are padding.
            let record_bytes = head & ((1 << 56) - 1);
            let padding_bytes = if head >> 63 == 1 { head >> 56 & 0x7 } else { 0 };
            let start = offset + LENGTH_BYTES;
            let end = start.saturating_add(record_bytes).saturating_add(padding_bytes);
            if record_bytes > RECORD_BYTES_MAX || end > length {
                return if is_last { Ok(()) } else { corrupt(offset, "a record beyond the end of the file") };
            }
            let data = read_exact_at(&*file.file, start, (end - start) as usize).map_err(io)?;
            let record = WalRecord::decode(&data[..record_bytes as usize]);
            let taken = match record {
                Ok(record) => self.take(&record),
                Err(_) => Err("a record that cannot be read"),
            };
            if let Err(what) = taken {
                return if is_last && is_torn(&data, start) { Ok(()) } else { corrupt(offset, what) };
            }
            offset = end;
        }
        Ok(())
    }

    fn take(&mut self, record: &WalRecord) -> Result<(), &'static str> {
        let data = record.data.clone().unwrap_or_default();
        if record.kind == KIND_CRC {
            if self.crc != 0 && self.crc != record.crc {
                return Err("a checksum that does not go on from the file before");
            }
            self.crc = record.crc;
            return Ok(());
        }
        let crc = crc32c::crc32c_append(self.crc, &data);
        if crc != record.crc {
            return Err("a record with a wrong checksum");
        }
        self.crc = crc;
        match record.kind {
            KIND_ENTRY => self.take_entry(Entry::decode(data).map_err(|_| "an entry that cannot be read")?),
            KIND_STATE => {
                self.state = HardState::decode(data).map_err(|_| "a hard state that cannot be read")?;
                Ok(())
            }
            kind if KINDS.contains(&kind) => Ok(()),
            _ => Err("a record of an unknown kind"),
        }
    }

    fn take_entry(&mut self, entry: Entry) -> Result<(), &'static str> {
        if entry.index <= self.applied {
            self.entries.clear();
            return Ok(());
        }
        if let Some(first) = self.entries.first().map(|first| first.index) {
            if entry.index < first {
                self.entries.clear();
            } else if entry.index > first + self.entries.len() as u64 {
                return Err("an entry that leaves a gap behind the one before");
            } else {
                self.entries.truncate((entry.index - first) as usize);
            }
        }
        self.entries.push(entry);
        Ok(())
    }
}

/// Whether a part of the record that lies in one sector is all zeros: it was never written.
fn is_torn(data: &[u8], start: u64) -> bool {
    let mut at = 0;
    while at < data.len() {
        let to_boundary = SECTOR_BYTES - (start + at as u64) % SECTOR_BYTES;
        let end = data.len().min(at + to_boundary as usize);
        if data[at..end].iter().all(|&byte| byte == 0) {
            return true;
        }
        at = end;
    }
    false
}

/// What an entry asks for, as a batch of ours; on behalf of whom it was asked.
fn batch_of(entry: &Entry) -> Option<Bytes> {
    if entry.kind != ENTRY_NORMAL || entry.data.is_empty() {
        return None;
    }
    // What etcd's second version wrote (names of members, the cluster's version) is not taken over.
    let request = InternalRequest::decode(&entry.data[..]).ok()?;
    let operation = None
        .or(request.put.map(Operation::Put))
        .or(request.delete_range.map(Operation::DeleteRange))
        .or(request.txn.map(Operation::Txn))
        .or(request.compaction.map(Operation::Compact))
        .or(request.lease_grant.map(Operation::LeaseGrant))
        .or(request.lease_revoke.map(Operation::LeaseRevoke))
        .or(request.alarm.map(Operation::Alarm))
        .or(request.auth_enable.map(Operation::AuthEnable))
        .or(request.auth_disable.map(Operation::AuthDisable))
        .or(request.auth_user_add.map(Operation::AuthUserAdd))
        .or(request.auth_user_delete.map(Operation::AuthUserDelete))
        .or(request.auth_user_change_password.map(Operation::AuthUserChangePassword))
        .or(request.auth_user_grant_role.map(Operation::AuthUserGrantRole))
        .or(request.auth_user_revoke_role.map(Operation::AuthUserRevokeRole))
        .or(request.auth_role_add.map(Operation::AuthRoleAdd))
        .or(request.auth_role_delete.map(Operation::AuthRoleDelete))
        .or(request.auth_role_grant_permission.map(Operation::AuthRoleGrantPermission))
        .or(request.auth_role_revoke_permission.map(Operation::AuthRoleRevokePermission))?;
    let header = request.header.filter(|header| header.auth_revision != 0);
    let caller =
        header.map(|header| Caller { user: header.username, auth_revision: header.auth_revision, cluster: false });
    let command = Command { id: 0, operation: Some(operation), caller };
    Some(CommandBatch { commands: vec![command] }.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::RequestHeader;
    use quorate_proto::etcdserverpb::{AuthUserAddRequest, PutRequest};
    use quorate_store::disk::Disk;
    use quorate_store::memory_disk::{MemoryDisk, SeededRandom};

    /// Writes a log as etcd does.
    #[derive(Default)]
    struct Writing {
        bytes: Vec<u8>,
        crc: u32,
    }

    impl Writing {
        fn record(&mut self, kind: i64, data: Vec<u8>) {
            if kind != KIND_CRC {
                self.crc = crc32c::crc32c_append(self.crc, &data);
            }
            let record = WalRecord { kind, crc: self.crc, data: Some(data.into()) }.encode_to_vec();
            let padding = (8 - record.len() % 8) % 8;
            let mut head = record.len() as u64;
            if padding > 0 {
                head |= (0x80 | padding as u64) << 56;
            }
            self.bytes.extend_from_slice(&head.to_le_bytes());
            self.bytes.extend_from_slice(&record);
            self.bytes.resize(self.bytes.len() + padding, 0);
        }

        fn entry(&mut self, index: u64, term: u64, request: Option<InternalRequest>) {
            let data = request.map(|request| request.encode_to_vec()).unwrap_or_default().into();
            self.record(KIND_ENTRY, Entry { kind: ENTRY_NORMAL, term, index, data }.encode_to_vec());
        }

        fn state(&mut self, term: u64, commit: u64) {
            self.record(KIND_STATE, HardState { term, vote: 1, commit }.encode_to_vec());
        }
    }

    fn put(value: &str) -> Option<InternalRequest> {
        let put = PutRequest { key: "k".into(), value: value.to_owned().into(), ..PutRequest::default() };
        Some(InternalRequest { put: Some(put), ..InternalRequest::default() })
    }

    fn sample() -> Vec<u8> {
        let mut log = Writing::default();
        log.record(KIND_CRC, Vec::new());
        log.record(1, b"metadata".to_vec());
        for index in 1..=5 {
            log.entry(index, 1, put(&format!("old {index}")));
        }
        log.state(1, 3);
        // A new leader replaced the last two.
        log.entry(4, 2, None);
        log.entry(5, 2, put("new"));
        log.state(2, 5);
        log.bytes
    }

    fn file(path: &str, bytes: &[u8]) -> WalFile {
        let disk = MemoryDisk::new();
        let file = disk.create(path).expect("memory");
        file.write_at(bytes, 0).expect("memory");
        WalFile { path: path.to_owned(), file }
    }

    fn tail(bytes: &[u8], applied: u64) -> Result<WalTail, WalError> {
        read_tail(&[file("1.wal", bytes)], applied)
    }

    #[test]
    fn what_follows_the_data_file_is_told_as_it_ended_up() {
        let found = tail(&sample(), 2).expect("valid");
        let entries: Vec<_> =
            found.entries.iter().map(|entry| (entry.index, entry.term, entry.batch.is_some())).collect();
        assert_eq!(entries, [(3, 1, true), (4, 2, false), (5, 2, true)]);
        assert_eq!((found.commit, found.term), (5, 2));
        assert!(tail(&sample(), 5).expect("valid").entries.is_empty());
    }

    #[test]
    fn a_log_goes_on_in_the_next_file() {
        let mut log = Writing::default();
        log.record(KIND_CRC, Vec::new());
        log.entry(1, 1, put("a"));
        let first = std::mem::take(&mut log.bytes);
        log.record(KIND_CRC, Vec::new());
        log.entry(2, 1, put("b"));
        let files = [file("1.wal", &first), file("2.wal", &log.bytes)];
        assert_eq!(read_tail(&files, 0).expect("valid").entries.len(), 2);
        assert!(read_tail(&files[1..], 1).is_ok(), "a later file alone");
        assert!(matches!(read_tail(&files[1..], 0), Err(WalError::Gap { applied: 0, first: 2 })));
        let mut other = Writing { crc: 7, ..Writing::default() };
        other.record(KIND_CRC, Vec::new());
        assert!(matches!(
            read_tail(&[file("1.wal", &first), file("2.wal", &other.bytes)], 0),
            Err(WalError::Corrupt { .. })
        ));
    }

    #[test]
    fn a_torn_end_is_cut_and_damage_is_not() {
        let whole = sample();
        let mut torn = whole.clone();
        let mut log = Writing { bytes: std::mem::take(&mut torn), crc: 0 };
        let at = log.bytes.len();
        log.record(KIND_ENTRY, vec![7; 2_000]);
        log.bytes[at + 100..].fill(0);
        log.bytes.resize(16 << 10, 0);
        assert_eq!(tail(&log.bytes, 0).expect("torn").entries.len(), 5);
        let mut damaged = whole.clone();
        damaged[60] ^= 1;
        assert!(matches!(tail(&damaged, 0), Err(WalError::Corrupt { .. })));
    }

    #[test]
    fn damage_never_panics() {
        let whole = sample();
        for seed in 0..3_000 {
            let mut random = SeededRandom::new(seed);
            let mut bytes = whole.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = if random.one_in(2) { random.next_u64() as u8 } else { bytes[at] ^ (1 << random.below(8)) };
            }
            if random.one_in(4) {
                bytes.truncate(random.below(bytes.len() as u64) as usize);
            }
            if let Ok(found) = tail(&bytes, 0) {
                assert!(found.entries.len() <= 5, "seed {seed}");
            }
        }
    }

    #[test]
    fn changes_of_users_and_their_callers_arrive() {
        let mut log = Writing::default();
        log.record(KIND_CRC, Vec::new());
        let header = RequestHeader { username: "root".to_owned(), auth_revision: 4 };
        let add = AuthUserAddRequest { name: "u".to_owned(), ..AuthUserAddRequest::default() };
        let request =
            InternalRequest { auth_user_add: Some(add.clone()), header: Some(header), ..InternalRequest::default() };
        log.entry(1, 1, Some(request));
        let found = tail(&log.bytes, 0).expect("valid");
        let batch = CommandBatch::decode(found.entries[0].batch.clone().expect("a command")).expect("ours");
        assert_eq!(batch.commands[0].operation, Some(Operation::AuthUserAdd(add)));
        let caller = Caller { user: "root".to_owned(), auth_revision: 4, cluster: false };
        assert_eq!(batch.commands[0].caller, Some(caller));
    }
}
