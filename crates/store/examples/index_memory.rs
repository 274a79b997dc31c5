//! Measures what a million keys cost: bytes of the key index per key, and the time that start-up takes to read the
//! revision log. Run it with `cargo run --release -p quorate-store --example index_memory`. Times are of the processor,
//! so that other programs disturb little; it reads its own resident size and times, so it needs Linux.

use quorate_proto::Message;
use quorate_proto::mvccpb::KeyValue;
use quorate_proto::quoratepb::SegmentRef;
use quorate_store::disk::Disk;
use quorate_store::key_index::{KeyIndex, Version};
use quorate_store::memory_disk::{MemoryDisk, SeededRandom};
use quorate_store::range::KeyRange;
use quorate_store::revision::Revision;
use quorate_store::revlog::{LoadedEntry, Location, RevLog, RevLogConfig};
use std::hint::black_box;
use std::sync::Arc;

const KEYS: u64 = 1_000_000;
const CONFIG: RevLogConfig = RevLogConfig { segment_bytes: 64 << 20, buffer_bytes: 1 << 20 };

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux tells a process's memory");
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("the second number");
    pages * 4096
}

/// Nanoseconds that this thread ran.
fn processor_ns() -> f64 {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's times");
    status.split(' ').next().and_then(|number| number.parse().ok()).expect("the first number")
}

/// Runs a piece of work and answers what it took, nanoseconds.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = processor_ns();
    let outcome = work();
    (processor_ns() - start, outcome)
}

/// A key of 41 bytes.
fn key(number: u64) -> Vec<u8> {
    format!("/registry/pods/namespace-{:03}/{number:012}", number % 1_000).into_bytes()
}

fn shuffled() -> Vec<u64> {
    let random = &mut SeededRandom::new(7);
    let mut numbers: Vec<u64> = (0..KEYS).collect();
    for position in (1..numbers.len()).rev() {
        numbers.swap(position, random.below(position as u64 + 1) as usize);
    }
    numbers
}

fn version(main: i64) -> Version {
    let location = Location { segment: 1, offset: main as u32, length: 100 };
    Version { main, sub: 0, create_revision: main, version: 1, lease: 0, location }
}

fn measure_index(label: &str, keys: &[Vec<u8>]) -> KeyIndex {
    let before = resident_bytes();
    let mut index = KeyIndex::new();
    let (elapsed, ()) = timed(|| {
        for (key, main) in keys.iter().zip(2..) {
            index.append(key, version(main));
        }
    });
    let per_key = resident_bytes().saturating_sub(before) as f64 / KEYS as f64;
    println!("{label}: {per_key:.1} bytes per key, {:.0} ns per append", elapsed / KEYS as f64);
    let (elapsed, ()) = timed(|| {
        for key in keys {
            black_box(index.get(key));
        }
    });
    println!("  get: {:.0} ns", elapsed / KEYS as f64);
    let ranges: Vec<KeyRange> =
        keys[..100_000].iter().map(|key| KeyRange::new(key.clone().into(), vec![0].into())).collect();
    let (elapsed, ()) = timed(|| {
        for range in &ranges {
            black_box(index.count_live(range));
        }
    });
    println!("  count of a range: {:.0} ns", elapsed / ranges.len() as f64);
    let (elapsed, last) = timed(|| index.prune(None, usize::MAX, KEYS as i64 + 2, &mut |_| {}));
    assert_eq!(last, None);
    println!("  prune of all keys with nothing to drop: {:.0} ms", elapsed / 1e6);
    index
}

fn write_log(disk: &Arc<dyn Disk>, keys: &[Vec<u8>]) -> Vec<SegmentRef> {
    let mut log = RevLog::open(disk.clone(), "log", CONFIG, &[], &mut |_| {}).expect("an empty log");
    let payload = |key: &Vec<u8>, main| {
        let fields = KeyValue {
            key: key.clone().into(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            value: vec![b'v'; 100].into(),
            lease: 0,
        };
        (main, fields.encode_to_vec())
    };
    let payloads: Vec<(i64, Vec<u8>)> = keys.iter().zip(2..).map(|(key, main)| payload(key, main)).collect();
    let (elapsed, ()) = timed(|| {
        for (main, payload) in &payloads {
            log.append(Revision { main: *main, sub: 0 }, false, payload).expect("the disk is memory");
        }
    });
    let references = log.sync().expect("the disk is memory");
    let per_record = log.disk_bytes() as f64 / KEYS as f64;
    let raw = payloads.iter().map(|(_, payload)| payload.len()).sum::<usize>() as f64 / KEYS as f64;
    println!("log: {:.0} ns per append, {per_record:.1} bytes per record of {raw:.1}", elapsed / KEYS as f64);
    let (elapsed, count) = timed(|| log.view().scan(0).filter(|record| record.is_ok()).count());
    println!("  scan of {count} records: {:.0} ms", elapsed / 1e6);
    references
}

fn measure_load(label: &str, disk: &Arc<dyn Disk>, references: &[SegmentRef], entry: &mut dyn FnMut(LoadedEntry<'_>)) {
    let (elapsed, log) = timed(|| RevLog::open(disk.clone(), "log", CONFIG, references, entry));
    assert!(log.is_ok_and(|log| log.live_bytes() > 0), "the log is whole");
    println!("{label}: {:.0} ms", elapsed / 1e6);
}

fn main() {
    let keys: Vec<Vec<u8>> = shuffled().into_iter().map(key).collect();
    let mut rising = keys.clone();
    rising.sort_unstable();
    // Both are kept, so that the second takes its memory from the system as the first did.
    let indexes = [measure_index("index, random keys", &keys), measure_index("index, rising keys", &rising)];
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let references = write_log(&disk, &keys);
    measure_load("open the log, entries only counted", &disk, &references, &mut |entry| {
        black_box(entry.key.len());
    });
    let mut index = KeyIndex::new();
    measure_load("open the log into an index", &disk, &references, &mut |entry| {
        index.append(
            entry.key,
            Version {
                main: entry.revision.main,
                sub: entry.revision.sub as u32,
                create_revision: entry.create_revision,
                version: entry.version,
                lease: entry.lease,
                location: entry.location,
            },
        );
    });
    assert!(indexes.iter().chain([&index]).all(|index| index.live() == KEYS));
}
