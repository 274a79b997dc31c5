//! Builds the Go half of the tests: real etcd and etcdctl as the peers to compare with, and the test programs.
//!
//! Everything goes into `target/test-bin`; nothing is installed on the machine. The modules are pinned by tests/go/go.sum.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run;

/// The oldest Go that etcd's modules build with.
const GO_MINOR_MIN: u32 = 26;

/// The suites, in the order they run: what answers fastest comes first.
pub(crate) const SUITES: [&str; 12] = [
    "conformance",
    "scripts",
    "etcdctl",
    "tls",
    "v2",
    "packages",
    "dashboard",
    KUBERNETES,
    "random",
    "backup",
    "stories",
    "cluster",
];

/// The suite that is a module of its own, so that what Kubernetes needs decides nothing about how real etcd is built.
const KUBERNETES: &str = "kubernetes";

/// Where the programs are.
pub(crate) fn test_bin() -> PathBuf {
    run::target_dir().join("test-bin")
}

/// Where a suite is.
fn folder(suite: &str) -> PathBuf {
    let tests = run::root().join("tests");
    if suite == KUBERNETES { tests.join(suite) } else { tests.join("go").join(suite) }
}

/// The command that runs one suite.
pub(crate) fn suite(name: &str) -> Command {
    let bin = test_bin();
    let mut command = Command::new(bin.join(format!("{name}.test")));
    command.args(["-test.v", "-test.timeout=15m"]).current_dir(folder(name)).envs([
        ("QUORATE_BIN", bin.join("etcd")),
        ("QUORATE_CTL", bin.join("etcdctl")),
        ("PEER_BIN", bin.join("etcd-peer")),
        ("PEER_CTL", bin.join("etcdctl-peer")),
        ("OLD_CTL", bin.join("etcdctl-old")),
        ("OLD_ETCD", bin.join("etcd-old")),
        ("QUORATE_UTL", bin.join("etcdutl")),
        ("PEER_UTL", bin.join("etcdutl-peer")),
    ]);
    command
}

/// Builds everything; fails with what to install when a tool is missing.
pub(crate) fn build(server: &Path) -> Result<()> {
    require_go()?;
    let bin = test_bin();
    std::fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
    for name in ["etcd", "etcdctl", "etcdutl", "quorate"] {
        link(server, &bin.join(name))?;
    }
    println!("building etcd, etcdctl and the test programs with go");
    let go = |arguments: &[&str]| {
        run::required(Command::new("go").args(arguments).current_dir(run::root().join("tests/go")))
    };
    let output = |name: &str| bin.join(name).display().to_string();
    go(&["build", "-o", &output("etcd-peer"), "./peer/etcd"])?;
    go(&["build", "-o", &output("etcdctl-peer"), "./peer/etcdctl"])?;
    go(&["build", "-o", &output("etcdutl-peer"), "./peer/etcdutl"])?;
    go(&["vet", "-composites=false", "./..."])?;
    for suite in SUITES {
        let program = output(&format!("{suite}.test"));
        run::required(
            Command::new("go").args(["test", "-vet=off", "-c", "-o", &program, "."]).current_dir(folder(suite)),
        )?;
    }
    OLD_PROGRAMS.iter().try_for_each(|program| program.provide(&bin))
}

fn require_go() -> Result<()> {
    let advice = format!(
        "the tests with real processes and clients need Go 1.{GO_MINOR_MIN} or newer in PATH: \
         see https://go.dev/doc/install (`cargo xtask test --quick` runs the tests that need no Go)"
    );
    // Asked in the module's folder: there an older go fetches the toolchain that go.mod names, and answers as that.
    let asked = Command::new("go").args(["env", "GOVERSION"]).current_dir(run::root().join("tests/go")).output();
    let Ok(output) = asked else { bail!("go was not found; {advice}") };
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let minor = version.strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    ensure!(minor.is_some_and(|minor| minor >= GO_MINOR_MIN), "go is {version:?}; {advice}");
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<()> {
    if std::fs::symlink_metadata(to).is_ok() {
        std::fs::remove_file(to).with_context(|| format!("removing {}", to.display()))?;
    }
    symlink(from, to).with_context(|| format!("linking {}", to.display()))
}

/// A program of an older release that Debian ships: from PATH, else unpacked from the Debian package.
struct OldProgram {
    name: &'static str,
    package: &'static str,
    asked: &'static str,
    /// How the answer begins.
    known: &'static [&'static str],
}

const OLD_PROGRAMS: [OldProgram; 2] = [
    OldProgram {
        name: "etcdctl",
        package: "etcd-client",
        asked: "version",
        known: &["etcdctl version: 3.4.", "etcdctl version: 3.5."],
    },
    // The last release line whose v2 API is on its own feet.
    OldProgram { name: "etcd", package: "etcd-server", asked: "--version", known: &["etcd Version: 3.4."] },
];

impl OldProgram {
    fn provide(&self, bin: &Path) -> Result<()> {
        let Self { name, package, .. } = self;
        let folder = bin.join(package);
        let candidates = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|folder| folder.join(name))
            .chain([folder.join("usr/bin").join(name)])
            .collect::<Vec<_>>();
        let found = || candidates.iter().find(|path| self.is_at(path));
        if found().is_none() {
            println!("unpacking Debian's {package}");
            std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
            let unpack =
                format!("apt-get download -q {package} && dpkg-deb -x {package}_*.deb . && rm {package}_*.deb");
            let unpacked = Command::new("sh").args(["-c", &unpack]).current_dir(&folder).status();
            ensure!(
                unpacked.is_ok_and(|status| status.success()) && found().is_some(),
                "the tests need the {name} 3.4 that distributions ship: install Debian's or Ubuntu's package {package}"
            );
        }
        link(found().expect("found above"), &bin.join(format!("{name}-old")))
    }

    fn is_at(&self, path: &Path) -> bool {
        let output = Command::new(path).arg(self.asked).env("ETCDCTL_API", "3").output();
        output.is_ok_and(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            self.known.iter().any(|known| text.starts_with(known))
        })
    }
}
