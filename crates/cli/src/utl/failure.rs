//! Failures of offline commands: what is shown and with which code the process ends. The codes are etcdutl's.

/// Why a command ended without success.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: i32,
    /// Shown behind `Error: `; empty where the command has already said what is wrong.
    pub(super) message: String,
}

impl Failure {
    /// It could not be done.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// The wish is understood but not possible, such as an unknown output form.
    pub(super) fn feature(message: impl Into<String>) -> Self {
        Self { code: 4, message: message.into() }
    }

    /// The words of the command line are wrong.
    pub(super) fn arguments(message: impl Into<String>) -> Self {
        Self { code: 128, message: message.into() }
    }

    /// What was wrong was shown.
    pub(super) fn shown() -> Self {
        Self::new("")
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}
