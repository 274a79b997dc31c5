//! `completion` and `man`: texts for the shell and for the manual, made from the tree of commands.
//!
//! Not here: how they are written (`command_line::shell`, `command_line::manual`). The invariant: neither needs a
//! server.

use std::path::Path;

use crate::command_line::go_text::quote;
use crate::command_line::shell::{Shell, script};
use crate::command_line::{manual, usage, word};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::write_out;
use crate::ctl::settings::io_error_text;
use crate::ctl::tree;

/// `completion`
pub(crate) async fn completion(run: Invocation) -> Result<(), Failure> {
    let refused = |message: String| {
        let root = tree::root(run.program);
        let usage = usage::usage(&[root, &tree::COMPLETION_ONLY], run.program);
        Failure::new(failure::SERVER, format!("{message}\n{usage}"))
    };
    let [name] = run.words() else {
        return Err(refused(format!("accepts 1 arg(s), received {}", run.words().len())));
    };
    let Some((_, shell)) = Shell::NAMES.iter().find(|(shell, _)| shell == name) else {
        let name = quote(&word::bytes(name));
        return Err(refused(format!("invalid argument {name} for \"{} completion\"", run.program)));
    };
    write_out(script(*shell, tree::root(run.program), run.program).as_bytes())
}

/// `man`
pub(crate) async fn man(run: Invocation) -> Result<(), Failure> {
    if !run.words().is_empty() {
        return Err(Failure::arguments("man command accepts no arguments"));
    }
    let folder = Path::new(run.values.text("dir"));
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::new(failure::SERVER, format!("open {}: {}", path.display(), io_error_text(error)))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let pages = manual::pages(tree::root(run.program), run.program);
    for page in &pages {
        let path = folder.join(&page.file_name);
        std::fs::write(&path, &page.text).map_err(|error| failed(&path, &error))?;
    }
    write_out(format!("{} manual pages written to {}\n", pages.len(), folder.display()).as_bytes())
}
