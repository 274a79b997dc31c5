//! What a process and its folder use, from `/proc` and the file system.
//!
//! It owns the reading; sums over members are made elsewhere. Linux only.

use anyhow::Context;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The unit of CPU times in `/proc`: what the kernel calls `USER_HZ`, 100 on every architecture that servers use.
const TICKS_PER_SECOND: f64 = 100.0;

/// The unit of `st_blocks`, whatever the file system's block size.
const BLOCK_BYTES: u64 = 512;

/// The CPU time that the process has used so far, user and system.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    cpu_seconds_of(&stat).with_context(|| format!("{path} has no CPU times"))
}

fn cpu_seconds_of(stat: &str) -> Option<f64> {
    // The second field is the program's name in brackets, which may itself hold spaces and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// The most memory that the process has held at any time since it started.
pub(crate) fn peak_memory_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    peak_memory_of(&status).with_context(|| format!("{path} has no VmHWM"))
}

fn peak_memory_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The space that the folder takes on its disk, with all below it.
pub(crate) fn disk_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("reading {}", folder.display()))?,
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            // The server is at work: what was just listed may be gone.
            match std::fs::symlink_metadata(entry.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => {
                    let metadata = metadata.with_context(|| format!("reading {}", entry.path().display()))?;
                    sum += metadata.blocks() * BLOCK_BYTES;
                    if metadata.is_dir() {
                        folders.push(entry.path());
                    }
                }
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_move_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 12 0 250 150 9 9 20 0 8 0 1000 5000000 600 0\n";
        assert_eq!(cpu_seconds_of(stat), Some(4.0));
        assert_eq!(cpu_seconds_of("7 (a) S 1 7"), None);
    }

    #[test]
    fn the_peak_is_in_bytes() {
        assert_eq!(peak_memory_of("Name:\tetcd\nVmPeak:\t  9 kB\nVmHWM:\t  2048 kB\n"), Some(2 << 20));
        assert_eq!(peak_memory_of("Name:\tetcd\n"), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        let pid = std::process::id();
        let before = cpu_seconds(pid).unwrap();
        assert!(peak_memory_bytes(pid).unwrap() > 100_000);
        assert!(cpu_seconds(pid).unwrap() >= before);
    }

    #[test]
    fn disk_use_counts_folders_within_folders() {
        let folder = std::env::temp_dir().join(format!("quorate-bench-disk-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("member/wal")).unwrap();
        let before = disk_bytes(&folder).unwrap();
        std::fs::write(folder.join("member/wal/0.wal"), vec![7; 1 << 20]).unwrap();
        // A file system may allocate late, but not for data that was synced.
        std::fs::File::open(folder.join("member/wal/0.wal")).unwrap().sync_all().unwrap();
        let after = disk_bytes(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(after >= before + (1 << 20), "{before} to {after}");
        assert_eq!(disk_bytes(&folder).unwrap(), 0);
    }
}
