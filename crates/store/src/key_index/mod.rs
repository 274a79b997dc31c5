//! The index of all keys in memory: key → its versions → where each lies in the revision log.
//!
//! Owns the order of keys, their histories and the counts of live keys. Does not own the bytes of values, nor which
//! revision is the compacted one. Invariant: a key in the index has at least one version, its versions are in strictly
//! rising revision order, and every count of a subtree equals the live keys below it.

mod history;
mod keys;
mod tree;
mod version;

#[cfg(test)]
mod tests;

pub use tree::KeyIndex;
pub use version::Version;
