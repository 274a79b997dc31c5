//! A snapshot stream, checksums made right.
#![no_main]

#[path = "../repair.rs"]
#[allow(dead_code)]
mod repair;
#[path = "../sample.rs"]
#[allow(dead_code)]
mod sample;

use libfuzzer_sys::fuzz_target;
use quorate_store::memory_disk::MemoryDisk;

fuzz_target!(|input: &[u8]| {
    let mut stream = input.to_vec();
    repair::snapshot_stream(&mut stream);
    let mut store = sample::open(&MemoryDisk::new()).expect("an empty disk opens");
    let mut sink = store.receive().expect("the disk works");
    for piece in stream.chunks(1_000) {
        if sink.write(piece).is_err() {
            return;
        }
    }
    if let Ok(received) = sink.finish()
        && store.install(received).is_ok()
    {
        sample::read(&mut store);
    }
});
