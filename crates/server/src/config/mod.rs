//! Settings: from the command line, the environment or a file to one checked [`Config`].
//!
//! Owns every flag's name, kind, default and help (one table) and every message about a bad one. Does not open, listen
//! or create anything. The invariant: a `Config` that exists is consistent, so nothing below checks it again.

mod checks;
pub(crate) mod duration;
mod features;
mod file;
mod help;
mod integrity;
mod operability;
mod parse;
mod security;
mod table;

#[cfg(test)]
mod etcd_flags;
#[cfg(test)]
mod tests;

pub(crate) use duration::parse_nanoseconds as parse_duration;
pub(crate) use parse::parse_bool;

pub(crate) use checks::parse_cluster;
pub use checks::{Config, Finding, InitialClusterState, LogFormat, Note};
pub use features::{FEATURE_GATES, FeatureGate, Features, Stage};
pub use help::{help_text, usage_text};
pub use integrity::IntegritySettings;
pub use operability::{AutoCompaction, LogRotation, MetricsDetail, Operability, TracingConfig};
pub use parse::{ConfigError, Parsed, parse};
pub use table::{FLAGS, Flag, Kind, Section, Standing};
pub use urls::{Address, parse as parse_url};

use quorate_folder::urls;
