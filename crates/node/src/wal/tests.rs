//! What the log promises, against a disk that forgets.

use super::*;
use bytes::Bytes;
use quorate_store::memory_disk::MemoryDisk;

const IDENTITY: Identity = Identity { cluster_id: 7, member_id: 1 };

fn config(segment_bytes: u64) -> WalConfig {
    WalConfig { segment_bytes, sync: true }
}

fn entry(index: u64, term: u64, data: &str) -> LogEntry {
    LogEntry { entry_type: 0, term, index, data: Bytes::copy_from_slice(data.as_bytes()), context: Bytes::new() }
}

fn open(disk: &MemoryDisk, segment_bytes: u64) -> Result<(Wal, Recovered), DiskError> {
    Wal::open(Arc::new(disk.clone()), "wal", config(segment_bytes), IDENTITY)
}

#[test]
fn entries_and_the_hard_state_come_back() {
    let disk = MemoryDisk::new();
    let (mut wal, recovered) = open(&disk, 8192).expect("a new log opens");
    assert_eq!(recovered, Recovered::default());
    let hard_state = HardState { term: 2, vote: 1, commit: 1 };
    let persist = Persist {
        number: 1,
        hard_state: Some(hard_state),
        entries: vec![entry(1, 1, "a"), entry(2, 2, "b")],
        snapshot: None,
    };
    wal.append(&[persist]).expect("the disk works");
    drop(wal);
    let (_, recovered) = open(&disk, 8192).expect("the log opens again");
    assert_eq!(recovered.hard_state, hard_state);
    assert_eq!(recovered.entries, [entry(1, 1, "a"), entry(2, 2, "b")]);
    assert!(!recovered.clean);
}
