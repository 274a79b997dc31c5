//! The first segment of a write-ahead log, checksums made right. A short input is a list of frames' bodies (length u16,
//! bytes), around which the segment is made.
#![no_main]

#[path = "../repair.rs"]
#[allow(dead_code)]
mod repair;

use libfuzzer_sys::fuzz_target;
use quorate_node::wal::{Identity, Wal, WalConfig};
use quorate_store::memory_disk::MemoryDisk;
use std::sync::Arc;

const IDENTITY: Identity = Identity { cluster_id: 7, member_id: 1 };
const CONFIG: WalConfig = WalConfig { segment_bytes: 8_192, sync: true };

/// Where a segment's frames begin.
const FIRST_FRAME_OFFSET: usize = 4_096;
const PATH: &str = "wal/0000000000000001.wal";

fn segment(empty: &[u8], input: &[u8]) -> Vec<u8> {
    let mut bytes = empty[..FIRST_FRAME_OFFSET].to_vec();
    let mut rest = input;
    let mut number = 1u64;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (body, behind) = behind.split_at(behind.len().min(u16::from_le_bytes(*length) as usize));
        rest = behind;
        bytes.extend_from_slice(b"QFrm");
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&1u64.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        number += 1;
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    let disk = Arc::new(MemoryDisk::new());
    drop(Wal::open(disk.clone(), "wal", CONFIG, IDENTITY).expect("an empty disk opens"));
    let empty = disk.contents(PATH).expect("it was just made");
    let mut bytes = if input.len() < FIRST_FRAME_OFFSET { segment(&empty, input) } else { input.to_vec() };
    repair::log_segment(&mut bytes);
    disk.overwrite(PATH, &bytes);
    if let Ok((mut wal, recovered)) = Wal::open(disk.clone(), "wal", CONFIG, IDENTITY) {
        for (entry, place) in recovered.entries.iter().zip(1..) {
            assert_eq!(entry.index, recovered.start.index + place);
        }
        wal.mark_clean().expect("the disk works");
        let again = Wal::open(disk, "wal", CONFIG, IDENTITY).expect("what was taken once is taken again").1;
        assert_eq!(again.entries, recovered.entries);
    }
});
