//! `version`, `options` and `help`: what the tool says of itself.
//!
//! Not here: the texts of single commands. The invariant: none of them needs a server.

use crate::command_line::flag::Flag;
use crate::command_line::{select, usage};
use crate::ctl::entry::{Invocation, finish};
use crate::ctl::failure::Failure;
use crate::ctl::print::write_out;
use crate::ctl::{settings, tree};

/// The etcd release that this tool equals.
pub(crate) const ETCD_VERSION: &str = "3.7.3";
/// The API of that release.
pub(crate) const API_VERSION: &str = "3.7";

/// `version`
pub(crate) async fn version(_: Invocation) -> Result<(), Failure> {
    write_out(format!("etcdctl version: {ETCD_VERSION}\nAPI version: {API_VERSION}\n").as_bytes())
}

/// `options`
pub(crate) async fn options(_: Invocation) -> Result<(), Failure> {
    let flags: Vec<&Flag> = settings::FLAGS.iter().collect();
    let flags = usage::flags(&flags, "");
    write_out(format!("The following options can be passed to any command:\n\n{flags}").as_bytes())
}

/// `help`
pub(crate) async fn help(run: Invocation) -> Result<(), Failure> {
    match finish(select::help_topic(tree::root(run.program), run.program, run.words()), run.program) {
        0 => Ok(()),
        code => Err(Failure::new(code, "")),
    }
}
