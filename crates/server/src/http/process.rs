//! What the operating system says of this process.

use serde_json::json;
use std::fs;

/// Figures of the process; zero where the system tells nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    /// Since 1970.
    pub(crate) start_time_seconds: f64,
    pub(crate) open_files: u64,
    pub(crate) open_files_max: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
}

/// Kernel ticks of `/proc/self/stat`; 100 a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// Reads them.
pub(crate) fn figures() -> Figures {
    let mut figures = Figures::default();
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        read_stat(&stat, &mut figures);
    }
    if let Some(boot) = fs::read_to_string("/proc/stat").ok().and_then(|text| field(&text, "btime ")) {
        figures.start_time_seconds += boot as f64;
    }
    figures.open_files = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    if let Some(max) = fs::read_to_string("/proc/self/limits").ok().and_then(|text| field(&text, "Max open files")) {
        figures.open_files_max = max;
    }
    figures
}

/// The first number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields are counted behind the program's name, which may hold anything.
fn read_stat(stat: &str, figures: &mut Figures) {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return;
    };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    figures.cpu_seconds = (number(11) + number(12)) as f64 / TICKS_PER_SECOND;
    figures.start_time_seconds = number(19) as f64 / TICKS_PER_SECOND;
    figures.virtual_bytes = number(20);
    figures.resident_bytes = number(21) * PAGE_BYTES;
}

/// The text of `/debug/vars`. The command line is left out: it may hold secrets.
pub(crate) fn variables() -> String {
    let figures = figures();
    json!({
        "file_descriptor_limit": figures.open_files_max,
        "memstats": { "Sys": figures.virtual_bytes, "HeapSys": figures.resident_bytes },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_counted_behind_the_name() {
        let mut figures = Figures::default();
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 5 0 1000 8192 3 18446744073709551615";
        read_stat(stat, &mut figures);
        assert_eq!(figures.cpu_seconds, 3.0);
        assert_eq!(figures.start_time_seconds, 10.0);
        assert_eq!(figures.virtual_bytes, 8192);
        assert_eq!(figures.resident_bytes, 3 * PAGE_BYTES);
    }

    #[test]
    fn this_process_has_figures() {
        let figures = figures();
        assert!(figures.resident_bytes > 0 && figures.open_files > 0 && figures.start_time_seconds > 1e9);
    }
}
