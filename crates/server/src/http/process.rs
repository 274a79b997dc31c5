//! What the operating system says of this process.

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
    pub(crate) virtual_bytes_max: u64,
    pub(crate) threads: u64,
    /// Of the whole network namespace, as Prometheus' own library counts it.
    pub(crate) network_received_bytes: u64,
    pub(crate) network_sent_bytes: u64,
}

/// Kernel ticks of `/proc/self/stat`; 100 a second on every Linux.
pub(super) const TICKS_PER_SECOND: f64 = 100.0;
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
    if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
        figures.open_files_max = field(&limits, "Max open files").unwrap_or(0);
        // "unlimited" is no number.
        figures.virtual_bytes_max = field(&limits, "Max address space").unwrap_or(u64::MAX);
    }
    if let Ok(text) = fs::read_to_string("/proc/self/net/netstat") {
        figures.network_received_bytes = column(&text, "IpExt:", "InOctets").unwrap_or(0);
        figures.network_sent_bytes = column(&text, "IpExt:", "OutOctets").unwrap_or(0);
    }
    figures
}

/// The first number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The number below `column` in the two lines that begin with `table`.
fn column(text: &str, table: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(table));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == column)?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

/// Fields are counted behind the program's name, which may hold anything.
fn read_stat(stat: &str, figures: &mut Figures) {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return;
    };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    figures.cpu_seconds = (number(11) + number(12)) as f64 / TICKS_PER_SECOND;
    figures.threads = number(17);
    figures.start_time_seconds = number(19) as f64 / TICKS_PER_SECOND;
    figures.virtual_bytes = number(20);
    figures.resident_bytes = number(21) * PAGE_BYTES;
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
        assert_eq!(figures.threads, 5);
        assert_eq!(figures.resident_bytes, 3 * PAGE_BYTES);
    }

    #[test]
    fn tables_of_two_lines_are_read_by_column() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InOctets OutOctets\nIpExt: 30 40\n";
        assert_eq!(column(text, "IpExt:", "OutOctets"), Some(40));
        assert_eq!(column(text, "IpExt:", "None"), None);
    }

    #[test]
    fn this_process_has_figures() {
        let figures = figures();
        assert!(figures.resident_bytes > 0 && figures.open_files > 0 && figures.start_time_seconds > 1e9);
    }
}
