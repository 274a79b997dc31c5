//! The disk keeps its promises, and takes away the rest.

use super::*;
use quorate_store::disk::read_exact_at;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Random::new(seed))
}

#[test]
fn synced_bytes_and_names_survive_every_loss() {
    for seed in 0..200 {
        let disk = disk(seed);
        let handle = disk.handle();
        handle.create_folder("a/b").unwrap();
        let file = handle.create("a/b/f").unwrap();
        file.write_at(&[7; 2000], 100).unwrap();
        file.sync().unwrap();
        handle.sync_dir("a/b").unwrap();
        file.write_at(&[9; 3000], 2100).unwrap();
        disk.end_life(Loss::Unsynced);
        let file = disk.handle().open("a/b/f").unwrap();
        let read = read_exact_at(&*file, 100, 2000).unwrap();
        assert!(read[..1900].iter().all(|byte| *byte == 7), "seed {seed}");
    }
}

#[test]
fn unsynced_sectors_are_kept_lost_and_torn() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..400 {
        let disk = disk(seed);
        let handle = disk.handle();
        let file = handle.create("f").unwrap();
        file.write_at(&[1; 4096], 0).unwrap();
        file.sync().unwrap();
        handle.sync_dir("").unwrap();
        file.write_at(&[2; 4096], 0).unwrap();
        disk.end_life(Loss::Unsynced);
        let bytes = disk.content("f").unwrap();
        assert_eq!(bytes.len(), 4096);
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is written whole, seed {seed}");
        }
        match bytes.iter().filter(|byte| **byte == 2).count() {
            0 => lost += 1,
            4096 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(kept > 50 && lost > 50 && torn > 50, "kept {kept} lost {lost} torn {torn}");
}

#[test]
fn unsynced_names_may_vanish_and_removals_may_come_undone() {
    let (mut created, mut removed) = (0, 0);
    for seed in 0..200 {
        let disk = disk(seed);
        let handle = disk.handle();
        handle.create("old").unwrap();
        handle.sync_dir("").unwrap();
        handle.create("new").unwrap();
        handle.remove("old").unwrap();
        disk.end_life(Loss::Unsynced);
        created += usize::from(disk.content("new").is_some());
        removed += usize::from(disk.content("old").is_none());
    }
    assert!((20..180).contains(&created), "created {created}");
    assert!((20..180).contains(&removed), "removed {removed}");
}

#[test]
fn a_rename_leaves_the_old_or_the_new_target_never_neither() {
    for seed in 0..200 {
        let disk = disk(seed);
        let handle = disk.handle();
        for (name, byte) in [("target", 1), ("aside", 2)] {
            let file = handle.create(name).unwrap();
            file.write_at(&[byte; 10], 0).unwrap();
            file.sync().unwrap();
        }
        handle.sync_dir("").unwrap();
        handle.rename("aside", "target").unwrap();
        disk.end_life(Loss::Unsynced);
        let target = disk.content("target").unwrap();
        assert!(target == [1; 10] || target == [2; 10], "seed {seed}");
        assert_eq!(disk.content("aside").is_some(), target == [1; 10], "seed {seed}");
    }
}

#[test]
fn the_end_of_the_process_alone_loses_nothing_and_kills_its_handles() {
    let disk = disk(1);
    let handle = disk.handle();
    let file = handle.create("f").unwrap();
    file.write_at(b"hello", 0).unwrap();
    disk.end_life(Loss::Nothing);
    assert!(file.write_at(b"late", 0).is_err());
    assert!(handle.open("f").is_err());
    assert_eq!(disk.content("f").unwrap(), b"hello");
    // The bytes are still unsynced: a later loss of power may take them.
    let gone = (0..100).any(|seed| {
        let disk = SimDisk::new(Random::new(seed));
        disk.handle().create("f").unwrap().write_at(b"hello", 0).unwrap();
        disk.end_life(Loss::Nothing);
        disk.end_life(Loss::Unsynced);
        disk.content("f").is_none()
    });
    assert!(gone);
}

#[test]
fn a_planned_failure_fails_everything_after_it_until_the_next_life() {
    let disk = disk(3);
    let handle = disk.handle();
    let file = handle.create("f").unwrap();
    disk.fail_after_changes(1);
    file.write_at(b"one", 0).unwrap();
    assert!(file.sync().is_err());
    assert!(file.write_at(b"two", 0).is_err());
    assert!(file.read_at(&mut [0; 1], 0).is_err());
    disk.end_life(Loss::Nothing);
    assert!(disk.handle().open("f").is_ok());
}

#[test]
fn a_shrunken_file_may_come_back_longer() {
    let longer = (0..100).any(|seed| {
        let disk = disk(seed);
        let handle = disk.handle();
        let file = handle.create("f").unwrap();
        file.write_at(&[5; 2048], 0).unwrap();
        file.sync().unwrap();
        handle.sync_dir("").unwrap();
        file.set_len(10).unwrap();
        disk.end_life(Loss::Unsynced);
        disk.content("f").unwrap() == vec![5; 2048]
    });
    assert!(longer);
}
