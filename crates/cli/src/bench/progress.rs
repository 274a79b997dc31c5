//! The line that tells how far a run is.
//!
//! It owns one line on stderr and erases it when dropped. The invariant: nothing is written unless stderr is a terminal
//! and the user wants it.

use super::figures;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is written.
pub(crate) const PERIOD: Duration = Duration::from_millis(500);

/// Moves to the start of the line and erases it.
const ERASE: &str = "\r\x1b[2K";

/// Whether and as what progress is shown.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// Not at all.
    Silent,
    /// On a line that starts with this text.
    Line(String),
}

impl Progress {
    /// Shown if stderr is a terminal.
    pub(crate) fn on_terminal(title: &str) -> Self {
        if std::io::stderr().is_terminal() { Self::Line(title.to_owned()) } else { Self::Silent }
    }

    /// The same under another title.
    pub(crate) fn titled(&self, title: &str) -> Self {
        match self {
            Self::Silent => Self::Silent,
            Self::Line(_) => Self::Line(title.to_owned()),
        }
    }

    /// Shows the title alone, for a time in which nothing is counted.
    pub(crate) fn show_title(&self) {
        if let Self::Line(title) = self {
            write(&format!("{ERASE}{title}"));
        }
    }
}

/// The line of one run.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    progress: Progress,
    started: Instant,
    last: (Instant, u64),
}

impl ProgressLine {
    pub(crate) fn start(progress: &Progress) -> Self {
        let started = Instant::now();
        Self { progress: progress.clone(), started, last: (started, 0) }
    }

    /// Writes what was done so far and the rate since the last time.
    pub(crate) fn update(&mut self, done: u64, failed: u64) {
        let Progress::Line(title) = &self.progress else { return };
        let now = Instant::now();
        let (since, before) = self.last;
        self.last = (now, done);
        let rate = done.saturating_sub(before) as f64 / (now - since).as_secs_f64().max(1e-3);
        write(&format!("{ERASE}{}", line(title, now - self.started, done, failed, rate)));
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Progress::Line(_) = self.progress {
            write(ERASE);
        }
    }
}

fn line(title: &str, time: Duration, done: u64, failed: u64, rate: f64) -> String {
    let (done, rate, failed) = (figures::count(done), figures::decimal(rate), figures::count(failed));
    format!("{title}  {} s  {done} done  {rate}/s  {failed} failed", time.as_secs())
}

/// A progress line that cannot be written is no reason to end a run.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_was_done() {
        let text = line("put", Duration::from_millis(2_600), 12_345, 2, 4_938.4);
        assert_eq!(text, "put  2 s  12,345 done  4,938/s  2 failed");
    }
}
