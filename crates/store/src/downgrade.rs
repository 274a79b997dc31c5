//! The cluster's version and the way down from it: which target a downgrade may have.
//!
//! Owns the rule and the reading of versions. Who lowers the version, and when, is the server's. Invariant: [`check`] is a
//! pure function of the state, so that every member decides alike.

use crate::error::Error;
use std::fmt;

/// A version as far as clusters have one: its patch is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MinorVersion {
    /// The first number.
    pub major: i64,
    /// The second number.
    pub minor: i64,
}

impl MinorVersion {
    /// Reads `major.minor.patch` with what semantic versions may have behind it, or `major.minor`, as etcd does; the rest
    /// is forgotten. `None`: neither.
    pub fn parse(text: &str) -> Option<Self> {
        parse_whole(text).or_else(|| parse_whole(&format!("{text}.0")))
    }

    /// The only version that a cluster of this one can go down to.
    pub fn lower(self) -> Self {
        Self { minor: self.minor - 1, ..self }
    }
}

impl fmt::Display for MinorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

fn parse_whole(text: &str) -> Option<MinorVersion> {
    let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (numbers, pre_release) = text.split_once('-').unwrap_or((text, ""));
    if !is_identifier(metadata) || !is_identifier(pre_release) {
        return None;
    }
    let mut parsed = numbers.splitn(3, '.').map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse::<i64>().ok()).flatten()
    });
    let (major, minor, _patch) = (parsed.next()??, parsed.next()??, parsed.next()??);
    Some(MinorVersion { major, minor })
}

fn is_identifier(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    text.is_empty() || text.split('.').all(is_part)
}

/// Whether a cluster of this version may begin to go down to `target`; `current_target` is empty unless it already does.
pub fn check(cluster_version: &str, current_target: &str, target: &str) -> Result<(), Error> {
    let cluster = MinorVersion::parse(cluster_version).ok_or(Error::ClusterVersionUnavailable)?;
    if MinorVersion::parse(target) != Some(cluster.lower()) {
        return Err(Error::InvalidDowngradeTarget);
    }
    if !current_target.is_empty() {
        return Err(Error::DowngradeInProcess);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        for good in
            ["3.6", "3.6.0", "3.6.7", "03.6", "3.06", "3.6.0-alpha", "3.6.0+b", "3.6.0-rc.1+b.2", "3.6.0-+", "3.6.0+-"]
        {
            assert_eq!(MinorVersion::parse(good), Some(MinorVersion { major: 3, minor: 6 }), "{good}");
        }
        for bad in [
            "",
            "x",
            "3",
            "v3.6",
            "3.6 ",
            "3.-1",
            "-1.2",
            "+3.6",
            "3.+6",
            "99999999999999999999.1",
            "3.6.",
            "3.6.1.2",
            "3.6-alpha",
            "3.6.0-a..b",
            "3.6.0-a_b",
            "3.6.0+a+b",
        ] {
            assert_eq!(MinorVersion::parse(bad), None, "{bad}");
        }
        assert_eq!(MinorVersion::parse("3.6.7").map(|version| version.to_string()), Some("3.6.0".to_owned()));
    }

    #[test]
    fn a_cluster_goes_down_one_step_at_a_time() {
        assert_eq!(check("3.7.0", "", "3.6.0"), Ok(()));
        assert_eq!(check("3.7.0", "3.6.0", "3.6.0"), Err(Error::DowngradeInProcess));
        assert_eq!(check("3.7.0", "3.6.0", "3.5.0"), Err(Error::InvalidDowngradeTarget));
        assert_eq!(check("3.6.0", "3.6.0", "3.5.0"), Err(Error::DowngradeInProcess));
        for wrong in ["3.7.0", "3.8.0", "3.5.0", "2.6.0", ""] {
            assert_eq!(check("3.7.0", "", wrong), Err(Error::InvalidDowngradeTarget), "{wrong}");
        }
        assert_eq!(check("", "", "3.6.0"), Err(Error::ClusterVersionUnavailable));
    }
}
