//! Each rule, held against a text that keeps it and one that breaks it.

use super::*;

#[test]
fn an_edge_that_is_not_listed_is_a_problem() {
    let manifest = |dependency: &str| {
        format!("[package]\nname = \"quorate-store\"\n[dependencies]\n{dependency}\nbytes = \"1\"\n")
    };
    assert!(edges("Cargo.toml", &manifest("quorate-proto.workspace = true")).is_empty());
    assert_eq!(edges("Cargo.toml", &manifest("quorate-node.workspace = true")).len(), 1);
    assert_eq!(edges("Cargo.toml", &manifest("quorate-node = { path = \"../node\" }")).len(), 1);
    assert_eq!(edges("Cargo.toml", "[package]\nname = \"quorate-store\"\n[dev-dependencies.quorate-sim]\n").len(), 1);
    assert_eq!(edges("Cargo.toml", "[package]\nname = \"other\"\n[dev-dependencies]\nquorate = \"1\"\n").len(), 1);
    assert!(edges("Cargo.toml", "[workspace.dependencies]\nquorate-node = { path = \"crates/node\" }\n").is_empty());
}

#[test]
fn unfinished_work_is_a_problem() {
    assert!(unfinished("a.rs", "fn finished() {}\n").is_empty());
    for word in [concat!("to", "do!()"), concat!("// TO", "DO: more"), concat!("unimple", "mented!()")] {
        let found = unfinished("a.rs", &format!("fn f() {{\n{word}\n}}"));
        assert_eq!(found.len(), 1, "{word}");
        assert!(found[0].starts_with("a.rs:2: "), "{found:?}");
    }
}

#[test]
fn a_file_opens_with_its_purpose() {
    assert!(opening("a.rs", "//! Owns a.\n").is_empty());
    assert_eq!(opening("a.rs", "// Owns a.\n").len(), 1);
    assert_eq!(opening("a.rs", "").len(), 1);
    assert!(opening("a/build.rs", "fn main() {}\n").is_empty());
    assert_eq!(opening("a/tests.rs", &"fn test() {}\n".repeat(101)).len(), 1);
}

#[test]
fn a_long_file_needs_a_reason_and_a_reason_needs_a_long_file() {
    let files = [("a.rs".to_owned(), "x\n".repeat(1201)), ("b.rs".to_owned(), "x\n".repeat(1200))];
    assert_eq!(lengths(&files, "# comment\n").len(), 1);
    assert!(lengths(&files, "a.rs one table of errors\n").is_empty());
    assert_eq!(lengths(&files, "a.rs \n").len(), 2);
    assert_eq!(lengths(&files, "a.rs reason\nb.rs reason\n").len(), 1);
}

#[test]
fn a_deterministic_crate_names_no_outside() {
    for line in [
        "use std::time::{Duration, Instant};",
        "let now = SystemTime::now();",
        "use std::{collections::BTreeMap, fs};",
        "std::net::TcpStream::connect(a)",
        "let mut rng = rand::rng();",
        "use tokio::sync::mpsc;",
        "let map: HashMap<u64, Vec<(u8, u8)>> = build();",
        "let map = HashMap::new();",
        "let set = HashSet::<u64>::default();",
    ] {
        assert_eq!(impure("a.rs", line).len(), 1, "{line}");
    }
    for line in [
        "use std::time::Duration;",
        "// Instant is not for us",
        "let text = \"SystemTime tokio\";",
        "let text = r#\"a \"tokio\" b\"#; let c = 'x'; let d = '\\'';",
        "type Map = HashMap<u64, Vec<(u8, u8)>, FixedState>;",
        "struct Instantaneous;",
        "let std_fs = offset;",
        "#[cfg(test)]\nmod tests {\n fn f() { if a { Instant::now() } }\n}",
        "#[cfg(test)]\nuse std::fs;",
    ] {
        assert_eq!(impure("a.rs", line), Vec::<String>::new(), "{line}");
    }
    assert_eq!(impure("a.rs", "#[cfg(test)]\nuse std::fs;\nuse std::net;").len(), 1);
}

#[test]
fn a_module_under_cfg_test_is_a_test_file() {
    let files = [("crates/store/src/lib.rs".to_owned(), "#[cfg(test)]\nmod memory;\nmod real;".to_owned())];
    let modules = test_modules(&files);
    assert!(is_test("crates/store/src/memory.rs", &modules));
    assert!(is_test("crates/store/src/memory/disk.rs", &modules));
    assert!(!is_test("crates/store/src/real.rs", &modules));
    assert!(is_test("crates/store/src/real/tests.rs", &modules));
}
