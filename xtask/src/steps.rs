//! The steps of each command, in order. What a step does is in `run`, `go` and `tidy`.

use std::process::Command;

use anyhow::Result;

use crate::run::{Show, Total, cargo, check, required, root, target_dir, tests};
use crate::{clients, go, tidy as rules};

/// The workspace that drives the published Rust client, apart from the product's, as a user's program is.
const RUST_CLIENT: &str = "tests/rust/Cargo.toml";

/// The library for applications, a workspace of its own too, with the recipes' tests.
const RECIPES: &str = "crates/client/Cargo.toml";

/// The workspace of the coverage-guided targets. It needs a C++ compiler, and is only held to rustfmt.
const FUZZ: &str = "fuzz/Cargo.toml";

/// The programs that the command line's golden cases run against: real etcd, from which they were recorded, and ours.
const GOLDEN_SERVERS: [&str; 2] = ["etcd-peer", "etcd"];

/// `cargo xtask test --quick`
pub(crate) fn test_quick() -> Result<Total> {
    tests("workspace", cargo().args(["test", "--locked", "--workspace", "--tests", "--no-fail-fast"]), Show::All)
}

/// `cargo xtask test`
pub(crate) fn test() -> Result<Total> {
    let mut total = test_quick()?;
    build_programs()?;
    for server in GOLDEN_SERVERS {
        total = total.and(check(&format!("golden cases on {server}"), &mut golden(server))?);
    }
    for name in go::SUITES {
        total = total.and(tests(name, &mut go::suite(name), Show::Failures)?);
    }
    required(rust_client("build").args(["--quiet", "--package", "protoc"]))?;
    total = total.and(tests(
        "rust client",
        rust_client("test").args(["--quiet", "--package", "quorate-client-tests"]),
        Show::Failures,
    )?);
    let recipes = ["--quiet", "--locked", "--no-fail-fast"];
    total = total.and(tests("recipes", recipes_of_rust("test").args(recipes), Show::Failures)?);
    Ok(total.and(clients::all()?))
}

/// `cargo xtask test-programs`
pub(crate) fn test_programs() -> Result<Total> {
    build_programs()?;
    Ok(Total::of_check(true))
}

/// `cargo xtask ci-lints`
pub(crate) fn lints() -> Result<Total> {
    let mut total = check("fmt", cargo().args(["fmt", "--all", "--check"]))?;
    total = total.and(check("fmt of the rust client", rust_client("fmt").args(["--all", "--check"]))?);
    total = total.and(check("fmt of the recipes", recipes_of_rust("fmt").args(["--check"]))?);
    total = total.and(check("fmt of the fuzz targets", cargo().args(["fmt", "--manifest-path", FUZZ, "--check"]))?);
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    total = total.and(check("clippy", cargo().args(clippy))?);
    required(rust_client("build").args(["--quiet", "--package", "protoc"]))?;
    let clippy = ["--quiet", "--all-targets", "--", "-D", "warnings"];
    total = total.and(check("clippy of the rust client", rust_client("clippy").args(clippy))?);
    let clippy = ["--quiet", "--locked", "--all-targets", "--", "-D", "warnings"];
    total = total.and(check("clippy of the recipes", recipes_of_rust("clippy").args(clippy))?);
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
    // The same packages and kinds of targets as the workspace's tests: other choices switch other features of the
    // dependencies on, and everything would be compiled again.
    required(cargo().args(["build", "--locked", "--workspace", "--bins", "--tests", "--examples"]))?;
    go::build(&target_dir().join("debug/quorate"))
}

/// Runs what the command line prints against what etcdctl printed.
fn golden(server: &str) -> Command {
    let mut command = Command::new(target_dir().join("debug/examples/golden"));
    command.current_dir(root()).env("QUORATE_TEST_SERVER", go::test_bin().join(server));
    command
}

fn rust_client(subcommand: &str) -> Command {
    with_published_client(RUST_CLIENT, subcommand)
}

fn recipes_of_rust(subcommand: &str) -> Command {
    with_published_client(RECIPES, subcommand)
}

/// cargo in a workspace that stands on the published client.
fn with_published_client(manifest: &str, subcommand: &str) -> Command {
    let mut command = cargo();
    command.args([subcommand, "--manifest-path", manifest]);
    let target = target_dir().join("rust-client");
    // The published client compiles .proto files when it is built: our protoc does it, so that nobody has to install one.
    command.env("PROTOC", target.join("debug/protoc")).env("CARGO_TARGET_DIR", target);
    command.envs([
        ("QUORATE_BIN", go::test_bin().join("etcd")),
        ("QUORATE", go::test_bin().join("quorate")),
        ("PEER_BIN", go::test_bin().join("etcd-peer")),
        ("PEER_CTL", go::test_bin().join("etcdctl-peer")),
    ]);
    command
}
