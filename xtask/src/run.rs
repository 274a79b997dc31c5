//! Runs one program and counts the tests that its output reports.
//!
//! It owns the reading of the reports of cargo, go, pytest, Maven and Node; what is run, and in which order, is `steps`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// How many tests passed and failed. A program that fails without a report counts as one failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Total {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }

    /// One check that has no report of its own.
    pub(crate) fn of_check(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed) }
    }
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the root").to_owned()
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => std::path::absolute(&path).unwrap_or_else(|_| path.into()),
        None => root().join("target"),
    }
}

/// cargo, as it started us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// What a line of a report adds to the total.
pub(crate) fn counted(line: &str) -> Total {
    if let Some(report) = line.strip_prefix("test result: ") {
        let number = |word: &str| {
            let before = report.split(word).next().filter(|before| before.len() < report.len())?;
            before.trim_end().rsplit([' ', '.', ';']).next()?.parse().ok()
        };
        return Total { passed: number(" passed").unwrap_or(0), failed: number(" failed").unwrap_or(0) };
    }
    if let Some(total) = counted_of_others(line) {
        return total;
    }
    let line = line.trim_start();
    Total { passed: u64::from(line.starts_with("--- PASS: ")), failed: u64::from(line.starts_with("--- FAIL: ")) }
}

/// The last line of pytest, and the summaries of Maven's classes and of Node's runs.
fn counted_of_others(line: &str) -> Option<Total> {
    if let Some(report) = line.strip_prefix("===").and_then(|line| line.strip_suffix("===")) {
        let words: Vec<&str> = report.split([' ', ',', '=']).filter(|word| !word.is_empty()).collect();
        let number = |wanted: &[&str]| -> u64 {
            words
                .windows(2)
                .filter(|pair| wanted.contains(&pair[1]))
                .filter_map(|pair| pair[0].parse::<u64>().ok())
                .sum()
        };
        let failed = number(&["failed", "error", "errors", "skipped", "xfailed", "xpassed"]);
        return Some(Total { passed: number(&["passed"]), failed });
    }
    let field = |name: &str| line.split_once(name)?.1.split(',').next()?.trim().parse::<u64>().ok();
    if let (true, Some(run)) = (line.contains("Time elapsed:"), field("Tests run:")) {
        let failed = field("Failures:")? + field("Errors:")? + field("Skipped:")?;
        return Some(Total { passed: run.checked_sub(failed)?, failed });
    }
    let node = |name: &str| line.strip_prefix(name)?.parse::<u64>().ok();
    if let Some(passed) = node("# pass ") {
        return Some(Total { passed, failed: 0 });
    }
    let failed = ["# fail ", "# cancelled ", "# skipped ", "# todo "].iter().find_map(|name| node(name))?;
    Some(Total { passed: 0, failed })
}

/// Runs a program that must work for anything else to make sense.
pub(crate) fn required(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

/// Runs a check that passes or fails as a whole, its output going to ours.
pub(crate) fn check(name: &str, command: &mut Command) -> Result<Total> {
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let total = Total::of_check(status.success());
    conclude(name, total, started);
    Ok(total)
}

/// How much of a test program's output is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Every line as it comes.
    All,
    /// Nothing if all passed, else all of it.
    Failures,
}

/// Runs a test program and adds up its report.
pub(crate) fn tests(name: &str, command: &mut Command, show: Show) -> Result<Total> {
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let output = child.stdout.take().expect("stdout is piped");
    let mut total = Total::default();
    let mut kept = String::new();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("reading the test program's output")?;
        let line = String::from_utf8_lossy(&line);
        total = total.and(counted(&line));
        match show {
            Show::All => println!("{line}"),
            Show::Failures => {
                kept.push_str(&line);
                kept.push('\n');
            }
        }
    }
    let success = child.wait().context("waiting for the test program")?.success();
    if !success && total.failed == 0 {
        total.failed = 1;
    }
    if !success {
        print!("{kept}");
    }
    conclude(name, total, started);
    Ok(total)
}

fn conclude(name: &str, total: Total, started: Instant) {
    let word = if total.failed == 0 { "ok  " } else { "FAIL" };
    println!(
        "{word} {name}: {} passed, {} failed, {:.1} s",
        total.passed,
        total.failed,
        started.elapsed().as_secs_f64()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_cargo_and_go_are_counted() {
        let total = |passed, failed| Total { passed, failed };
        assert_eq!(
            counted("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out"),
            total(12, 0)
        );
        assert_eq!(counted("test result: FAILED. 3 passed; 14 failed; 0 ignored"), total(3, 14));
        assert_eq!(counted("--- PASS: TestRange (0.41s)"), total(1, 0));
        assert_eq!(counted("    --- FAIL: TestRange/sort (0.41s)"), total(0, 1));
        assert_eq!(counted("=== RUN   TestRange"), total(0, 0));
        assert_eq!(counted("ok"), total(0, 0));
    }

    #[test]
    fn reports_of_pytest_maven_and_node_are_counted() {
        let total = |passed, failed| Total { passed, failed };
        assert_eq!(counted("==== 1 failed, 9 passed, 2 errors, 104 warnings in 6.32s ===="), total(9, 3));
        assert_eq!(
            counted("============================== 10 passed in 13.33s =============================="),
            total(10, 0)
        );
        assert_eq!(
            counted("=================================== FAILURES ==================================="),
            total(0, 0)
        );
        let class =
            "[ERROR] Tests run: 7, Failures: 1, Errors: 2, Skipped: 0, Time elapsed: 3.1 s <<< FAILURE! -- in Keys";
        assert_eq!(counted(class), total(4, 3));
        assert_eq!(counted("[INFO] Tests run: 7, Failures: 0, Errors: 0, Skipped: 0"), total(0, 0));
        assert_eq!(counted("# pass 12"), total(12, 0));
        assert_eq!(counted("# fail 2"), total(0, 2));
        assert_eq!(counted("# tests 14"), total(0, 0));
    }

    #[test]
    fn a_program_that_fails_without_a_report_is_a_failure() {
        let total = tests("false", &mut Command::new("false"), Show::Failures).unwrap();
        assert_eq!(total, Total { passed: 0, failed: 1 });
    }
}
