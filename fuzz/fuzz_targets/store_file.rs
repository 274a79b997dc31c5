//! One damaged file of a store: the first byte says which, the rest replaces it, checksums made right.
#![no_main]

#[path = "../repair.rs"]
#[allow(dead_code)]
mod repair;
#[path = "../sample.rs"]
mod sample;

use libfuzzer_sys::fuzz_target;
use quorate_store::memory_disk::MemoryDisk;
use std::sync::LazyLock;

static SAMPLE: LazyLock<MemoryDisk> = LazyLock::new(sample::disk);

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let disk = SAMPLE.fork();
    let paths = disk.paths();
    let path = &paths[choice as usize % paths.len()];
    let mut bytes = bytes.to_vec();
    if path.ends_with(".seg") {
        repair::revision_segment(&mut bytes);
    } else {
        repair::framed_file(&mut bytes);
    }
    disk.overwrite(path, &bytes);
    if let Ok(mut store) = sample::open(&disk) {
        sample::read(&mut store);
    }
});
