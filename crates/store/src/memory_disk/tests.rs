//! What the disk promises, and that it keeps no more than that.

use super::{MemoryDisk, SECTOR_BYTES};
use crate::disk::{Disk, DiskFile};
use std::collections::BTreeSet;
use std::sync::Arc;

fn disk_with_folder() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_folder("data").unwrap();
    disk
}

fn create_durable(disk: &MemoryDisk, path: &str, contents: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(path).unwrap();
    file.write_at(contents, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir("data").unwrap();
    file
}

#[test]
fn synced_bytes_and_names_survive_every_crash() {
    for seed in 0..50 {
        let disk = disk_with_folder();
        create_durable(&disk, "data/a", &[7; 2_000]);
        disk.crash(seed);
        assert_eq!(disk.contents("data/a"), Some(vec![7; 2_000]), "seed {seed}");
    }
}

#[test]
fn unsynced_sectors_survive_in_any_subset() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let disk = disk_with_folder();
        let file = create_durable(&disk, "data/a", &[1; 3 * SECTOR_BYTES]);
        file.write_at(&[2; 3 * SECTOR_BYTES], 0).unwrap();
        disk.crash(seed);
        let contents = disk.contents("data/a").unwrap();
        assert_eq!(contents.len(), 3 * SECTOR_BYTES);
        let sectors: Vec<u8> = contents.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect();
        assert!(contents.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|&byte| byte == sector[0])));
        outcomes.insert(sectors);
    }
    assert_eq!(outcomes.len(), 8, "each of three sectors is there or not");
}

#[test]
fn unsynced_growth_may_leave_any_length() {
    let lengths: BTreeSet<usize> = (0..300)
        .map(|seed| {
            let disk = disk_with_folder();
            let file = create_durable(&disk, "data/a", b"abc");
            file.write_at(&[9; 1_200], 3).unwrap();
            disk.crash(seed);
            let contents = disk.contents("data/a").unwrap();
            assert_eq!(&contents[..3], b"abc", "synced bytes stay");
            contents.len()
        })
        .collect();
    assert!(lengths.contains(&3) && lengths.contains(&1_203) && lengths.len() > 2, "{lengths:?}");
}

#[test]
fn unsynced_names_survive_or_not_and_a_rename_is_whole() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let disk = disk_with_folder();
        create_durable(&disk, "data/a", b"old");
        let file = disk.create("data/b").unwrap();
        file.write_at(b"new", 0).unwrap();
        file.sync().unwrap();
        disk.rename("data/b", "data/a").unwrap();
        disk.crash(seed);
        let contents = disk.contents("data/a").expect("a replaced file is never absent");
        outcomes.insert((contents, disk.contents("data/b").is_some()));
    }
    let old = b"old".to_vec();
    let expected = BTreeSet::from([(b"new".to_vec(), false), (old.clone(), true), (old, false)]);
    assert_eq!(outcomes, expected);
}

#[test]
fn a_fault_strikes_once_and_a_halt_stays() {
    let disk = disk_with_folder();
    let file = create_durable(&disk, "data/a", b"abc");
    disk.fail_after(1);
    file.write_at(b"x", 0).unwrap();
    file.write_at(b"y", 1).unwrap_err();
    file.write_at(b"z", 2).unwrap();
    assert_eq!(disk.contents("data/a").unwrap(), b"xbz");
    disk.halt_after(0);
    file.sync().unwrap_err();
    file.write_at(b"q", 0).unwrap_err();
    disk.list("data").unwrap_err();
    file.len().unwrap_err();
    disk.crash(1);
    file.len().unwrap_err();
    assert_eq!(disk.open("data/a").unwrap().len().unwrap(), 3);
}

#[test]
fn a_removed_file_stays_readable_through_its_handle_only() {
    let disk = disk_with_folder();
    let file = create_durable(&disk, "data/a", b"abc");
    disk.remove("data/a").unwrap();
    disk.sync_dir("data").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(file.read_at(&mut buffer, 1).unwrap(), 2);
    assert_eq!(&buffer[..2], b"bc");
    assert!(disk.open("data/a").is_err());
    disk.crash(3);
    assert!(disk.paths().is_empty());
}

#[test]
fn a_removed_folder_is_gone_for_good_once_the_one_above_is_synced() {
    let mut came_back = BTreeSet::new();
    for seed in 0..40 {
        let disk = disk_with_folder();
        disk.create_folder("data/old").unwrap();
        disk.create("data/old/a").unwrap();
        disk.sync_dir("data/old").unwrap();
        disk.remove_folder("data/old").unwrap();
        assert!(disk.list_folders("data").unwrap().is_empty());
        let synced = disk.fork();
        synced.sync_dir("data").unwrap();
        synced.crash(seed);
        assert!(synced.paths().is_empty(), "seed {seed}");
        disk.crash(seed);
        came_back.insert(!disk.list("data/old").unwrap().is_empty());
    }
    assert_eq!(came_back.len(), 2);
}
