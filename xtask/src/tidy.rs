//! The rules of the repository that no compiler knows, as code.
//!
//! A rule is a function from a file's text (or a manifest) to problems; it never changes a file. Which files a rule
//! sees is decided here; how Rust text is read is `source`.

mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The crates and the crates of ours that each may name. An edge is added here, in a commit that says why.
const EDGES: [(&str, &[&str]); 13] = [
    // Asking name servers: both who starts a member and who talks to one may have to.
    ("quorate-dns", &[]),
    ("quorate-proto", &[]),
    ("quorate-store", &["quorate-proto"]),
    ("quorate-node", &["quorate-proto", "quorate-store"]),
    // etcd's backend file is made of the store, and read into one.
    ("quorate-backend", &["quorate-proto", "quorate-store"]),
    // A data folder is a store, a log and their places; both the server and the offline tools need it.
    ("quorate-folder", &["quorate-proto", "quorate-store", "quorate-node", "quorate-backend"]),
    (
        "quorate-server",
        &["quorate-proto", "quorate-store", "quorate-node", "quorate-backend", "quorate-folder", "quorate-dns"],
    ),
    ("quorate-cli", &["quorate-proto", "quorate-store", "quorate-backend", "quorate-folder", "quorate-dns"]),
    ("quorate-sim", &["quorate-proto", "quorate-store", "quorate-node"]),
    ("quorate", &["quorate-server", "quorate-cli"]),
    // The coverage-guided targets reach every decoder; those of the server are included as files.
    ("quorate-fuzz", &["quorate-proto", "quorate-store", "quorate-node"]),
    // For applications, against any store with etcd's API: it knows the published client only.
    ("quorate-client", &[]),
    ("xtask", &[]),
];

/// The crates whose code is a function of its inputs: time, randomness, disks and sockets come in as arguments.
const PURE: [&str; 2] = ["crates/store/src/", "crates/node/src/"];

/// A file longer than this needs a line in `tidy/long_files.txt`.
const LINES_MAX: usize = 1200;

/// A build script or a file of tests up to this long may go without an opening comment.
const SHORT_LINES_MAX: usize = 100;

/// One line that breaks a rule: where, and which.
pub(crate) type Problem = String;

/// Checks the whole repository.
pub(crate) fn problems(root: &Path) -> Result<Vec<Problem>> {
    let mut found = Vec::new();
    let mut files = Vec::new();
    for path in listed(root)? {
        if let Ok(text) = std::fs::read_to_string(root.join(&path)) {
            files.push((path, text));
        }
    }
    let test_modules = test_modules(&files);
    for (path, text) in &files {
        if path.ends_with("Cargo.toml") {
            found.extend(edges(path, text));
        }
        if [".rs", ".go", ".py", ".sh", ".proto", ".toml"].iter().any(|end| path.ends_with(end)) || path == ".ci/run" {
            found.extend(unfinished(path, text));
        }
        if path.ends_with(".rs") {
            found.extend(opening(path, text));
            if PURE.iter().any(|room| path.starts_with(room)) && !is_test(path, &test_modules) {
                found.extend(impure(path, text));
            }
        }
    }
    let exceptions = std::fs::read_to_string(root.join("xtask/src/tidy/long_files.txt")).context("long_files.txt")?;
    found.extend(lengths(&files, &exceptions));
    Ok(found)
}

fn listed(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut paths: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The crates know each other only along [`EDGES`].
fn edges(path: &str, manifest: &str) -> Vec<Problem> {
    let mut package = "";
    let mut section = "";
    let mut named = Vec::new();
    for (number, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').trim_matches('[');
            if let Some((_, name)) = section.rsplit_once("dependencies.") {
                named.push((number + 1, name));
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.trim();
            if section == "package" && key == "name" {
                package = value.trim().trim_matches('"');
            } else if section.ends_with("dependencies") && section != "workspace.dependencies" {
                named.push((number + 1, key.split('.').next().unwrap_or(key)));
            }
        }
    }
    named.retain(|(_, name)| *name == "quorate" || name.starts_with("quorate-") || *name == "xtask");
    let allowed = EDGES.iter().find(|(name, _)| *name == package).map(|(_, allowed)| *allowed);
    named
        .iter()
        .filter(|(_, name)| !allowed.unwrap_or(&[]).contains(name))
        .map(|(number, name)| format!("{path}:{number}: {package} may not depend on {name} (xtask/src/tidy.rs, EDGES)"))
        .collect()
}

/// Nothing is left for later.
fn unfinished(path: &str, text: &str) -> Vec<Problem> {
    let words = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("TO", "DO")];
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in words {
            if line.contains(word) {
                found.push(format!("{path}:{}: {word} marks unfinished work", number + 1));
            }
        }
    }
    found
}

/// A file opens with what it owns.
fn opening(path: &str, text: &str) -> Vec<Problem> {
    let short = text.lines().count() <= SHORT_LINES_MAX && (path.ends_with("build.rs") || path.ends_with("tests.rs"));
    if short || text.starts_with("//!") {
        return Vec::new();
    }
    vec![format!("{path}:1: the file does not open with `//!` (what it owns, what it refuses to own)")]
}

fn lengths(files: &[(String, String)], exceptions: &str) -> Vec<Problem> {
    let mut excused = Vec::new();
    let mut found = Vec::new();
    for line in exceptions.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(' ') {
            Some((path, reason)) if !reason.trim().is_empty() => excused.push(path),
            _ => found.push(format!("xtask/src/tidy/long_files.txt: no reason given for {line}")),
        }
    }
    let long = |text: &str| text.lines().count() > LINES_MAX;
    for (path, text) in files.iter().filter(|(path, text)| path.ends_with(".rs") && long(text)) {
        if !excused.contains(&path.as_str()) {
            let lines = text.lines().count();
            found.push(format!("{path}:1: {lines} lines, more than {LINES_MAX} (xtask/src/tidy/long_files.txt)"));
        }
    }
    for path in excused {
        if !files.iter().any(|(file, text)| file == path && long(text)) {
            found.push(format!("xtask/src/tidy/long_files.txt: {path} is not a long file any more"));
        }
    }
    found
}

/// The files and folders that a `#[cfg(test)] mod name;` makes tests, whatever their name.
fn test_modules(files: &[(String, String)]) -> Vec<String> {
    let mut modules = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
        };
        for module in source::test_modules(&source::code(text)) {
            modules.push(format!("{folder}/{module}"));
        }
    }
    modules
}

fn is_test(path: &str, test_modules: &[String]) -> bool {
    let inside =
        |module: &String| path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'));
    path.ends_with("/tests.rs") || path.contains("/tests/") || test_modules.iter().any(inside)
}

/// The deterministic crates name no clock, generator, file, socket or randomly seeded map.
fn impure(path: &str, text: &str) -> Vec<Problem> {
    let code = source::without_test_items(&source::code(text));
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut report = |what: &str| {
            found.push(format!("{path}:{}: {what} in a crate that must be a function of its inputs", number + 1));
        };
        for word in
            ["Instant", "SystemTime", "thread_rng", "OsRng", "from_entropy", "from_os_rng", "tokio", "RandomState"]
        {
            if source::has_word(line, word) {
                report(word);
            }
        }
        for name in ["std::fs", "std::net", "rand::rng", "rand::random"] {
            if source::has_word(line, name) {
                report(name);
            }
        }
        if let Some((_, group)) = line.split_once("std::{") {
            for name in ["fs", "net"] {
                if source::has_word(group.split('}').next().unwrap_or(group), name) {
                    report(&format!("std::{name}"));
                }
            }
        }
        for map in ["HashMap", "HashSet"] {
            if source::randomly_seeded(line, map) {
                report(&format!("{map} with a random seed"));
            }
        }
    }
    found
}
