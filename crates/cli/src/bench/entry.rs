//! The way in: arguments to an exit code.
//!
//! It owns the runtime and the printing. The invariant: results go to stdout and nothing else does, so that they can be
//! piped; all else goes to stderr.

use super::arguments::{Action, Format, Request, parse};
use super::compare;
use super::progress::Progress;
use super::report;
use super::run;
use anyhow::Context;
use std::io::Write;

const MEASURED: i32 = 0;
const FAILED: i32 = 1;

/// Runs `quorate bench` with the arguments that follow these two words.
///
/// Returns the exit code: 0 measured, 1 no connection, nothing succeeded or watch events were lost, 2 wrong usage.
#[must_use]
pub fn main(arguments: Vec<String>) -> i32 {
    let request = match parse(&arguments) {
        Ok(request) => request,
        Err(error) => {
            // The message goes where it can; its exit code says the same.
            let _ = error.print();
            return error.exit_code();
        }
    };
    match run_request(request) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            FAILED
        }
    }
}

fn run_request(request: Request) -> anyhow::Result<i32> {
    // One thread without the hand-over between threads costs the least, which is what a generator beside its server
    // should cost.
    let mut builder = match request.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let runtime = builder.enable_all().build().context("starting the runtime")?;
    let progress = |title: &str| {
        if request.progress_wanted { Progress::on_terminal(title) } else { Progress::Silent }
    };
    runtime.block_on(async {
        match &request.action {
            Action::Measure { work, load, endpoints } => {
                let progress = progress(&report::describe(*work));
                run::prepare(load, endpoints, &progress).await?;
                let measurement = run::measure(*work, load, endpoints, &progress).await?;
                write_out(&report::print(&measurement, request.format))?;
                let sound = measurement.headline.latency.count() > 0 && !measurement.wrong;
                Ok(if sound { MEASURED } else { FAILED })
            }
            Action::Compare(plan) => {
                let comparison = compare::run(plan, &progress("compare")).await?;
                write_out(&match request.format {
                    Format::Simple => compare::text(&comparison),
                    Format::Markdown => compare::markdown(&comparison),
                    Format::Json => format!("{:#}\n", compare::json(&comparison)),
                })?;
                Ok(if comparison.is_sound() { MEASURED } else { FAILED })
            }
        }
    })
}

fn write_out(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("writing the result")
}
