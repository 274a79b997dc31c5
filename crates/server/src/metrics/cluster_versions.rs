//! The versions that the cluster had since this process started, for the gauge that names each.
//!
//! Invariant: a version that was named once stays on the page, with 0, as in etcd.

use parking_lot::Mutex;
use std::collections::BTreeSet;

/// Versions at the most: more are not named.
const VERSIONS_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ClusterVersions {
    seen: Mutex<BTreeSet<String>>,
}

impl ClusterVersions {
    /// Notes the current version (`major.minor`, not empty); all of them, and which one is current.
    pub(crate) fn see(&self, current: &str) -> Vec<(String, bool)> {
        let mut seen = self.seen.lock();
        if seen.len() < VERSIONS_MAX {
            seen.insert(current.to_owned());
        }
        seen.iter().map(|version| (version.clone(), version == current)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_version_is_marked() {
        let versions = ClusterVersions::default();
        assert_eq!(versions.see("3.7"), [("3.7".to_owned(), true)]);
        assert_eq!(versions.see("3.6"), [("3.6".to_owned(), true), ("3.7".to_owned(), false)]);
        assert_eq!(versions.see("3.7"), [("3.6".to_owned(), false), ("3.7".to_owned(), true)]);
    }
}
