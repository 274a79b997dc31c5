//! Command batches, one behind the other (length u16, bytes), applied to a store; again after a restart all is the same.
#![no_main]

#[path = "../sample.rs"]
mod sample;

use libfuzzer_sys::fuzz_target;
use quorate_store::memory_disk::MemoryDisk;
use std::sync::LazyLock;

static SAMPLE: LazyLock<MemoryDisk> = LazyLock::new(sample::disk);

fuzz_target!(|input: &[u8]| {
    let disk = SAMPLE.fork();
    let mut store = sample::open(&disk).expect("the sample opens");
    let mut index = store.position().applied_index;
    let mut rest = input;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (batch, behind) = behind.split_at(behind.len().min(u16::from_le_bytes(*length) as usize));
        rest = behind;
        index += 1;
        let _ = store.apply_commands(index, 1, batch.to_vec().into(), &|_| true);
    }
    sample::read(&mut store);
    let before = store.reader().stats().digest;
    store.close().expect("the disk works");
    assert_eq!(sample::open(&disk).expect("it opens again").reader().stats().digest, before);
});
