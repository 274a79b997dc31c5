//! Settings of looking after the data: how often members compare, how fast the background reads, how the quota ends.
//!
//! Owns the meeting of etcd's flags for comparing with our own. The invariant is [`super::Config`]'s.

use super::checks::Lookup;
use super::features::Features;
use std::time::Duration;

/// What a member is told about its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegritySettings {
    /// `--corrupt-check-time`, or else `--quorate-digest-interval`; at most `--compact-hash-check-time` with the feature
    /// gate CompactHashCheck. Zero: never.
    pub digest_interval: Duration,
    /// `--quorate-scrub-rate`; 0: nothing is read in the background.
    pub scrub_bytes_per_second: u64,
    /// The feature gate InitialCorruptCheck: everything is read before anybody is served.
    pub initial_check: bool,
    /// `--quorate-sticky-nospace`.
    pub sticky_nospace: bool,
}

pub(super) fn resolve(given: &Lookup<'_>, features: &Features) -> IntegritySettings {
    let own = given.duration("quorate-digest-interval");
    let asked = match given.duration("corrupt-check-time") {
        Duration::ZERO => own,
        asked => asked,
    };
    let at_compactions = given.duration("compact-hash-check-time");
    let digest_interval = match asked {
        asked if !features.is_enabled("CompactHashCheck") || at_compactions.is_zero() => asked,
        Duration::ZERO => at_compactions,
        asked => asked.min(at_compactions),
    };
    IntegritySettings {
        digest_interval,
        scrub_bytes_per_second: given.unsigned("quorate-scrub-rate").saturating_mul(1 << 20),
        initial_check: features.is_enabled("InitialCorruptCheck"),
        sticky_nospace: given.switch("quorate-sticky-nospace"),
    }
}
