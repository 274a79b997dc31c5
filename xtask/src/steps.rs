//! The steps of each command, in order. What a step does is in `run`, `go` and `tidy`.

use std::process::Command;

use anyhow::Result;

use crate::run::{Show, Total, cargo, check, required, root, target_dir, tests};
use crate::{go, tidy as rules};

/// The crate that drives the published Rust client; a workspace of its own, as a user's program is.
const RUST_CLIENT: &str = "tests/rust/Cargo.toml";

/// `cargo xtask test --quick`
pub(crate) fn test_quick() -> Result<Total> {
    tests("workspace", cargo().args(["test", "--workspace", "--no-fail-fast"]), Show::All)
}

/// `cargo xtask test`
pub(crate) fn test() -> Result<Total> {
    let mut total = test_quick()?;
    build_programs()?;
    for name in go::SUITES {
        total = total.and(tests(name, &mut go::suite(name), Show::Failures)?);
    }
    Ok(total.and(tests("rust client", &mut rust_client("test"), Show::Failures)?))
}

/// `cargo xtask test-programs`
pub(crate) fn test_programs() -> Result<Total> {
    build_programs()?;
    Ok(Total::of_check(true))
}

/// `cargo xtask ci-lints`
pub(crate) fn lints() -> Result<Total> {
    let mut total = check("fmt", cargo().args(["fmt", "--all", "--check"]))?;
    total = total.and(check("fmt of the rust client", rust_client("fmt").arg("--check"))?);
    let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    total = total.and(check("clippy", cargo().args(clippy))?);
    let mut client = rust_client("clippy");
    total = total
        .and(check("clippy of the rust client", client.args(["--all-targets", "--quiet", "--", "-D", "warnings"]))?);
    Ok(total.and(tidy()?))
}

/// `cargo xtask tidy`
pub(crate) fn tidy() -> Result<Total> {
    let problems = rules::problems(&root())?;
    for problem in &problems {
        println!("{problem}");
    }
    println!("{} tidy: {} problems", if problems.is_empty() { "ok  " } else { "FAIL" }, problems.len());
    Ok(Total::of_check(problems.is_empty()))
}

fn build_programs() -> Result<()> {
    required(cargo().args(["build", "--profile", "fast", "--bin", "quorate", "--package", "quorate"]))?;
    go::build(&target_dir().join("fast/quorate"))
}

fn rust_client(subcommand: &str) -> Command {
    let mut command = cargo();
    command.args([subcommand, "--manifest-path", RUST_CLIENT]);
    command.env("CARGO_TARGET_DIR", target_dir().join("rust-client")).env("QUORATE_BIN", go::test_bin().join("etcd"));
    command
}
