//! The one entry point of every check of this repository: `cargo xtask test|ci|tidy`.
//!
//! It runs cargo, go and the test programs and adds up what they report; it holds no test of the product itself.
//! Every command ends with exit code 0 only if everything it ran passed.

mod clients;
mod go;
mod run;
mod steps;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  test           every test: the workspace's own, then real processes and real clients (needs Go, Python, Node, Java)
  test --quick   the workspace's own tests only
  ci             test, then ci-lints
  ci-lints       rustfmt, clippy and tidy
  tidy           the rules of the repository that no compiler knows
  test-clients   the published Python, Node and Java clients, against the programs in target/test-bin
  test-programs  builds the binary and the test programs into target/test-bin and runs nothing";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["test"] => steps::test(),
        ["test", "--quick"] => steps::test_quick(),
        ["ci"] => steps::test().and_then(|tests| steps::lints().map(|lints| tests.and(lints))),
        ["ci-lints"] => steps::lints(),
        ["tidy"] => steps::tidy(),
        ["test-clients"] => clients::all(),
        ["test-programs"] => steps::test_programs(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(total) => {
            println!("{} passed, {} failed", total.passed, total.failed);
            if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
