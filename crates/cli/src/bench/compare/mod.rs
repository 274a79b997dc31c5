//! `quorate bench compare`: the same work on two servers in turn, as ratios.
//!
//! - [`plan`]: what is compared
//! - [`cluster`]: fresh members of a server program, and [`process`]: what they use
//! - [`rounds`]: the runs, A B A B …
//! - [`comparison`]: medians, ratios and how they are printed
//!
//! The invariant: both sides get the same requests under the same conditions, and no server process or temporary
//! folder of ours outlives the command (unless the user keeps the folders).

mod cluster;
mod comparison;
mod plan;
mod process;
mod rounds;

pub(crate) use comparison::{json, markdown, text};
pub(crate) use plan::{Clusters, Pair, Plan, Sides};
pub(crate) use rounds::run;
