//! Prepares and runs the published clients of other languages than Go and Rust: Python, Node, Java.
//!
//! Everything that is fetched or built lands in `target/clients`; the folders under `tests` stay as they are. Each suite
//! is given both servers (QUORATE_BIN, PEER_BIN) and reports its tests in a form that `run` counts. A tool that is
//! missing fails the run with what to install.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::go::test_bin;
use crate::run::{Show, Total, required, root, target_dir, tests};

/// One file of cases per client, each a process of its own: the clients' generated messages share their names.
const PYTHON_SUITES: [&str; 6] = ["etcd3", "etcd3gw", "aetcd", "python_etcd", "patroni", "tooz"];

/// The oldest Python with what the tests use.
const PYTHON_MINOR_MIN: u32 = 11;

/// The oldest Node whose test runner reports as the tests need it.
const NODE_MAJOR_MIN: u32 = 18;

/// The release of Java that the tests are compiled for.
const JAVA_MAJOR_MIN: u32 = 17;

/// Prepares all of them, one after the other, and runs them side by side: they wait for leases to end and servers to come
/// back most of the time, each on servers of its own.
pub(crate) fn all() -> Result<Total> {
    let mut suites = python()?;
    suites.push(node()?);
    suites.push(java()?);
    std::thread::scope(|scope| {
        let running: Vec<_> = suites
            .iter_mut()
            .map(|(name, command)| scope.spawn(move || tests(name, command, Show::Failures)))
            .collect();
        running.into_iter().try_fold(Total::default(), |total, suite| {
            Ok(total.and(suite.join().expect("running a suite does not panic")?))
        })
    })
}

/// A suite that is prepared: its name and the command that runs it.
type Suite = (String, Command);

fn python() -> Result<Vec<Suite>> {
    let folder = target_dir().join("clients/python");
    let sources = root().join("tests/python");
    let advice = format!(
        "the Python clients need Python 3.{PYTHON_MINOR_MIN} or newer with venv: Debian's packages python3 and python3-venv"
    );
    let version = answer("python3", &["-c", "import sys; print(*sys.version_info[:2])"], &advice)?;
    let minor = version.strip_prefix("3 ").and_then(|minor| minor.parse::<u32>().ok());
    ensure!(minor.is_some_and(|minor| minor >= PYTHON_MINOR_MIN), "python3 is {version:?}; {advice}");
    let interpreter = folder.join("bin/python");
    prepared(&folder, &[sources.join("requirements.txt")], || {
        println!("fetching the Python clients");
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).status();
        ensure!(made.is_ok_and(|status| status.success()), "python3 -m venv failed; {advice}");
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        required(Command::new(&interpreter).args(install).arg(sources.join("requirements.txt")))
    })?;
    let suite = |name: &&str| {
        let mut command = Command::new(&interpreter);
        command.args(["-m", "pytest", &format!("test_{name}.py")]).current_dir(&sources);
        with_servers(&mut command).env("PYTHONDONTWRITEBYTECODE", "1");
        (format!("python {name}"), command)
    };
    Ok(PYTHON_SUITES.iter().map(suite).collect())
}

fn node() -> Result<Suite> {
    let folder = target_dir().join("clients/node");
    let sources = root().join("tests/node");
    let advice =
        format!("the Node client needs Node {NODE_MAJOR_MIN} or newer and npm: Debian's packages nodejs and npm");
    let version = answer("node", &["--version"], &advice)?;
    let major = version.strip_prefix('v').and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    ensure!(major.is_some_and(|major| major >= NODE_MAJOR_MIN), "node is {version:?}; {advice}");
    let pins = ["package.json", "package-lock.json"];
    prepared(&folder, &pins.map(|name| sources.join(name)), || {
        println!("fetching the Node client");
        answer("npm", &["--version"], &advice)?;
        for name in pins {
            std::fs::copy(sources.join(name), folder.join(name)).with_context(|| format!("copying {name}"))?;
        }
        let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        required(Command::new("npm").args(install).current_dir(&folder))
    })?;
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=tap", "etcd3.test.js", "node-etcd.test.js"]).current_dir(&sources);
    with_servers(&mut command).env("NODE_PATH", folder.join("node_modules"));
    Ok(("node".to_owned(), command))
}

fn java() -> Result<Suite> {
    let advice = format!(
        "the Java client needs a JDK {JAVA_MAJOR_MIN} or newer and Maven: \
         Debian's packages openjdk-17-jdk-headless and maven"
    );
    let version = answer("javac", &["-version"], &advice)?;
    let major = version.strip_prefix("javac ").and_then(|rest| rest.split(['.', '-']).next()?.parse::<u32>().ok());
    ensure!(major.is_some_and(|major| major >= JAVA_MAJOR_MIN), "javac is {version:?}; {advice}");
    answer("mvn", &["--version"], &advice)?;
    let folder = target_dir().join("clients/java");
    let mut command = Command::new("mvn");
    command.args([
        "--batch-mode",
        "--no-transfer-progress",
        "-Dstyle.color=never",
        &format!("-Dbuild.folder={}", folder.display()),
        "test",
    ]);
    let sources = root().join("tests/java");
    with_servers(&mut command).env("TOXIPROXY", toxiproxy(&sources.join("toxiproxy"))?).current_dir(sources);
    Ok(("java jetcd".to_owned(), command))
}

/// The proxy that cuts a Java node off, built from its Go module.
fn toxiproxy(module: &Path) -> Result<PathBuf> {
    let folder = target_dir().join("clients/toxiproxy");
    let program = folder.join("toxiproxy");
    prepared(&folder, &["go.mod", "go.sum"].map(|name| module.join(name)), || {
        println!("building toxiproxy with go");
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&program).arg("github.com/Shopify/toxiproxy/v2/cmd/server");
        required(build.current_dir(module))
    })?;
    Ok(program)
}

/// Gives the suite both servers.
fn with_servers(command: &mut Command) -> &mut Command {
    command.envs([
        ("QUORATE_BIN", test_bin().join("etcd")),
        ("PEER_BIN", test_bin().join("etcd-peer")),
        ("OLD_ETCD", test_bin().join("etcd-old")),
    ])
}

/// Runs `prepare` unless it was run in this folder for files of this content.
fn prepared(folder: &Path, pins: &[PathBuf], prepare: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut wanted = Vec::new();
    for path in pins {
        wanted.extend(std::fs::read(path).with_context(|| format!("reading {}", path.display()))?);
    }
    let stamp = folder.join("prepared-for");
    if std::fs::read(&stamp).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    prepare()?;
    std::fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

/// The first line that a tool answers, or the advice if there is no such tool.
fn answer(tool: &str, arguments: &[&str], advice: &str) -> Result<String> {
    match Command::new(tool).args(arguments).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
        }
        Ok(output) => bail!("{tool} fails: {}; {advice}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => bail!("{tool} does not run: {error}; {advice}"),
    }
}
