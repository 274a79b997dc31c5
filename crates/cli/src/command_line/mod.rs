//! The command line as etcd's tools take it: words, flags, help texts and Go's way of writing values.
//!
//! Not here: what a command does. The invariant: [`Tree`](tree::Command) is the only description of a tool's commands;
//! parsing, help and error texts are all read off it, so they cannot disagree.
//!
//! This is no general parser: which word is the command, where a flag's value ends, and what an error looks like are
//! fixed by what etcd's tools accept and print, down to the suggestions for a misspelt command.

pub(crate) mod flag;
pub(crate) mod go_text;
pub(crate) mod manual;
pub(crate) mod select;
pub(crate) mod shell;
pub(crate) mod tree;
pub(crate) mod usage;
pub(crate) mod word;

/// By which name a tool was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// As `etcdctl` or `etcdutl`.
    AsEtcd,
    /// As `quorate ctl` or `quorate utl`: the same output, with this command path in help and hints.
    AsQuorate,
}
