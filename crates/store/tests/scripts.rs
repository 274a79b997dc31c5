//! The golden scripts of `testdata/`: commands, and below each, indented by two spaces, what the store must answer.
//!
//! Owns the walk over the files and the comparison; the notation is in `scripts/notation.rs`, what each command does in
//! `scripts/machine.rs` and `scripts/auth.rs`. What the scripts expect is etcd's behaviour: `tests/go/scripts` runs the same files against
//! real etcd. With `RECORD=1` in the environment the outputs are written anew; then every difference is to be explained.

#[path = "scripts/auth.rs"]
mod auth;
#[path = "scripts/machine.rs"]
mod machine;
#[path = "scripts/notation.rs"]
mod notation;

use machine::Machine;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The folders of `testdata/` with scripts.
const ROOMS: [&str; 8] = ["kv", "txn", "lease", "compaction", "watch", "hash", "snapshot", "auth"];

/// Runs a script's commands; answers the script as it should be.
fn produce(text: &str) -> String {
    let mut machine = Machine::new();
    let mut produced = String::new();
    for line in text.lines() {
        if line.starts_with("  ") {
            continue;
        }
        produced.push_str(line);
        produced.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        for answer in machine.run(line).lines() {
            produced.push_str("  ");
            produced.push_str(answer);
            produced.push('\n');
        }
    }
    produced
}

/// What the commands' outputs differ in, one paragraph for each command.
fn differences(path: &Path, expected: &str, produced: &str) -> String {
    let blocks = |text: &str| {
        let mut blocks: Vec<(usize, String, Vec<String>)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            match (line.strip_prefix("  "), blocks.last_mut()) {
                (Some(answer), Some(block)) => block.2.push(answer.to_owned()),
                _ => blocks.push((number + 1, line.to_owned(), Vec::new())),
            }
        }
        blocks
    };
    let mut text = String::new();
    for ((line, command, expected), (_, _, produced)) in blocks(expected).into_iter().zip(blocks(produced)) {
        if expected != produced {
            let _ = writeln!(text, "{}:{line}: {command}", path.display());
            for answer in expected {
                let _ = writeln!(text, "  expected  {answer}");
            }
            for answer in produced {
                let _ = writeln!(text, "  answered  {answer}");
            }
        }
    }
    text
}

/// Adds a folder's scripts, sorted.
fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    assert!(!paths.is_empty(), "{} holds scripts", folder.display());
    paths.sort();
    found.append(&mut paths);
}

#[test]
fn every_script_is_answered_as_written() {
    let record = std::env::var_os("RECORD").is_some_and(|value| value == "1");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths = Vec::new();
    for room in ROOMS {
        scripts(&folder.join(room), &mut paths);
    }
    let mut failures = String::new();
    for path in &paths {
        println!("{}", path.display());
        let expected = std::fs::read_to_string(path).unwrap();
        assert!(expected.starts_with("# "), "{} opens with a sentence of why", path.display());
        let produced = produce(&expected);
        if record {
            std::fs::write(path, produced).unwrap();
        } else if produced != expected {
            failures += &differences(path.strip_prefix(&folder).unwrap_or(path), &expected, &produced);
        }
    }
    assert!(failures.is_empty(), "the scripts and the store differ:\n{failures}");
}
