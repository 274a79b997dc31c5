//! The line that shows how far a check is.
//!
//! Not here: what progress is. The invariant: it goes to the standard error; where that is no terminal, only its end
//! does.

use std::io::{IsTerminal, Write};

use tokio::time::Instant;

/// How wide the bar itself is, in characters.
const WIDTH: u64 = 40;

/// A bar that fills up.
pub(super) struct Bar {
    done: u64,
    total: u64,
    started: Instant,
    /// The percentage that was drawn last: the line changes only with it.
    drawn: Option<u64>,
    at_terminal: bool,
}

impl Bar {
    /// An empty bar; `total` is at least 1.
    pub(super) fn start(total: u64) -> Self {
        let at_terminal = std::io::stderr().is_terminal();
        let mut bar = Self { done: 0, total, started: Instant::now(), drawn: None, at_terminal };
        bar.draw("\r");
        bar
    }

    /// One step more.
    pub(super) fn advance(&mut self) {
        self.done = (self.done + 1).min(self.total);
        self.draw("\r");
    }

    /// Leaves the line as it is.
    pub(super) fn finish(mut self) {
        (self.at_terminal, self.drawn) = (true, None);
        self.draw("\n");
    }

    fn draw(&mut self, end: &str) {
        let percent = self.done * 100 / self.total;
        if self.at_terminal && self.drawn != Some(percent) {
            self.drawn = Some(percent);
            // A line that cannot be shown is no failure of the check.
            let _ = write!(std::io::stderr(), "{}{end}", self.line());
        }
    }

    fn line(&self) -> String {
        let Self { done, total, .. } = *self;
        let filled = done * WIDTH / total;
        let (head, rest) = if filled < WIDTH { (">", WIDTH - filled - 1) } else { ("", 0) };
        let bar = format!("{}{head}{}", "-".repeat(filled as usize), "_".repeat(rest as usize));
        let percent = done as f64 * 100.0 / total as f64;
        let speed = done as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        format!("{done} / {total} [{bar}] {percent:.2}% {speed:.0} p/s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines() {
        let mut bar = Bar { done: 0, total: 4, started: Instant::now(), drawn: None, at_terminal: false };
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(bar.line(), format!("0 / 4 [>{}] 0.00% 0 p/s", "_".repeat(39)));
        bar.advance();
        assert_eq!(bar.line(), format!("1 / 4 [{}>{}] 25.00% 1 p/s", "-".repeat(10), "_".repeat(29)));
        (0..9).for_each(|_| bar.advance());
        assert_eq!(bar.line(), format!("4 / 4 [{}] 100.00% 4 p/s", "-".repeat(40)));
    }
}
