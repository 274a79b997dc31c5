//! What is compared.
//!
//! It owns the description only; the checks are those of the arguments.

use super::cluster::Recipe;
use crate::bench::arguments::{Load, Work};
use std::path::{Path, PathBuf};

/// One of each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair<T> {
    pub(crate) a: T,
    pub(crate) b: T,
}

/// Where the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sides {
    /// Running already, at these URLs.
    Running(Pair<Vec<String>>),
    /// To be started, a fresh cluster for each run.
    Started(Clusters),
}

/// The clusters to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clusters {
    pub(crate) binaries: Pair<PathBuf>,
    /// 1 or 3.
    pub(crate) members: usize,
    /// Further arguments for both programs.
    pub(crate) server_arguments: Vec<String>,
    /// Where the temporary folders go.
    pub(crate) folder: PathBuf,
    /// Whether the temporary folders stay.
    pub(crate) keep: bool,
}

impl Clusters {
    pub(crate) fn recipe<'a>(&'a self, binary: &'a Path) -> Recipe<'a> {
        let Self { members, server_arguments, folder, keep, .. } = self;
        Recipe { binary, members: *members, server_arguments, folder, keep: *keep }
    }
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) sides: Sides,
    pub(crate) names: Pair<String>,
    /// At least 1.
    pub(crate) rounds: usize,
    pub(crate) work: Work,
    pub(crate) load: Load,
}
