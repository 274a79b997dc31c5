//! Whole nodes in a world that the test holds in its hand.

mod cluster;
mod safety;
mod scripts;
mod units;
