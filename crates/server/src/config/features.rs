//! `--feature-gates`: the gates' names, their stages and what they are set to.
//!
//! Owns the reading of the flag in Go's words. Which gate means anything here is decided where it is asked for. The
//! invariant: a gate that etcd 3.7 does not know stops the start.

use super::parse::parse_bool;

/// How far etcd stands behind a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off unless asked for.
    Alpha,
    /// On unless switched off.
    Beta,
}

impl Stage {
    /// The name in metrics and in the help.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
        }
    }
}

/// A switch of `--feature-gates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGate {
    /// As it is written.
    pub name: &'static str,
    /// Its stage.
    pub stage: Stage,
    /// Without the flag.
    pub default: bool,
}

const fn gate(name: &'static str, stage: Stage, default: bool) -> FeatureGate {
    FeatureGate { name, stage, default }
}

const ALL_ALPHA: usize = 0;
const ALL_BETA: usize = 1;

/// Every gate, by name. The first two switch all others of their stage that are not named themselves.
pub const FEATURE_GATES: [FeatureGate; 11] = [
    gate("AllAlpha", Stage::Alpha, false),
    gate("AllBeta", Stage::Beta, false),
    gate("CompactHashCheck", Stage::Alpha, false),
    gate("FastLeaseKeepAlive", Stage::Beta, true),
    gate("InitialCorruptCheck", Stage::Alpha, false),
    gate("LeaseCheckpoint", Stage::Alpha, false),
    gate("LeaseCheckpointPersist", Stage::Alpha, false),
    gate("PriorityRequest", Stage::Alpha, false),
    gate("SetMemberLocalAddr", Stage::Alpha, false),
    gate("StopGRPCServiceOnDefrag", Stage::Alpha, false),
    gate("TxnModeWriteWithSharedBuffer", Stage::Beta, true),
];

/// What the gates are set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    enabled: [bool; FEATURE_GATES.len()],
}

impl Default for Features {
    fn default() -> Self {
        Self { enabled: FEATURE_GATES.map(|gate| gate.default) }
    }
}

impl Features {
    /// Reads `NAME=true,NAME=false`; the reason in Go's words if it cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut named: [Option<bool>; FEATURE_GATES.len()] = [None; FEATURE_GATES.len()];
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(format!("missing bool value for {}", pair.trim()));
            };
            let (name, value) = (name.trim(), value.trim());
            let Some(on) = parse_bool(value) else {
                return Err(format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
                ));
            };
            let Some(at) = FEATURE_GATES.iter().position(|gate| gate.name == name) else {
                return Err(format!("unrecognized feature gate: {name}"));
            };
            named[at] = Some(on);
        }
        let mut features = Self::default();
        for (at, gate) in FEATURE_GATES.iter().enumerate() {
            let all = if gate.stage == Stage::Alpha { named[ALL_ALPHA] } else { named[ALL_BETA] };
            features.enabled[at] = named[at].or(all).unwrap_or(gate.default);
        }
        Ok(features)
    }

    /// Whether a gate is open; `name` is one of [`FEATURE_GATES`].
    pub fn is_enabled(&self, name: &str) -> bool {
        self.all().any(|(gate, enabled)| gate.name == name && enabled)
    }

    /// Every gate and what it is set to.
    pub fn all(&self) -> impl Iterator<Item = (FeatureGate, bool)> {
        FEATURE_GATES.into_iter().zip(self.enabled)
    }

    /// Gates that were moved away from their defaults.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &'static str> {
        let enabled = self.enabled;
        FEATURE_GATES.iter().zip(enabled).filter(|(gate, on)| gate.default != *on).map(|(gate, _)| gate.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_set_one_by_one_and_by_stage() {
        assert_eq!(Features::parse(""), Ok(Features::default()));
        let changed = |text: &str| Features::parse(text).expect("good").changed().collect::<Vec<_>>();
        assert_eq!(changed("InitialCorruptCheck=true,CompactHashCheck=T"), ["CompactHashCheck", "InitialCorruptCheck"]);
        assert_eq!(changed(" FastLeaseKeepAlive = false ,"), ["FastLeaseKeepAlive"]);
        assert_eq!(changed("AllBeta=false"), ["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"]);
        assert_eq!(changed("AllAlpha=true,PriorityRequest=false").len(), 7);
        assert!(!Features::parse("AllAlpha=true,PriorityRequest=false").expect("good").is_enabled("PriorityRequest"));
    }

    #[test]
    fn what_is_wrong_is_said_in_gos_words() {
        for (text, reason) in [
            ("Nonsense=true", "unrecognized feature gate: Nonsense"),
            ("CompactHashCheck", "missing bool value for CompactHashCheck"),
            (
                "CompactHashCheck=maybe",
                "invalid value of CompactHashCheck=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(Features::parse(text), Err(reason.to_owned()), "{text}");
        }
    }
}
