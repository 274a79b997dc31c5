//! Failures of a command: what is shown and with which code the process ends.
//!
//! Not here: deciding that something failed. The invariant: the codes are etcdctl's; scripts tell by them whether to
//! try again.

use std::fmt;

/// The server refused, or could not be asked in time.
pub(crate) const SERVER: i32 = 1;
/// No client could be made: no endpoint, or the login failed.
pub(crate) const CONNECTION: i32 = 2;
/// The input (of a transaction, of an interactive watch) cannot be read.
pub(crate) const INPUT: i32 = 3;
/// The wish is understood but not possible, such as an unknown output form.
pub(crate) const FEATURE: i32 = 4;
/// What ran was ended from outside, such as a watch by the server.
pub(crate) const INTERRUPTED: i32 = 5;
/// The words of the command line are wrong.
pub(crate) const ARGUMENTS: i32 = 128;

/// Why a command ended without success.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    /// Shown behind `Error: `; empty where the command has already said what is wrong.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The words of the command line are wrong.
    pub(crate) fn arguments(message: impl Into<String>) -> Self {
        Self::new(ARGUMENTS, message)
    }

    /// The input cannot be read.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(INPUT, message)
    }
}

/// Why a call to the cluster failed, in the words of etcd's client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    /// What the server or the transport answered; `DeadlineExceeded` also where the time ran out here.
    pub(crate) code: tonic::Code,
    pub(crate) message: String,
}

impl CallError {
    /// The time that the command has is over.
    pub(crate) fn deadline() -> Self {
        Self { code: tonic::Code::DeadlineExceeded, message: "context deadline exceeded".to_owned() }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            _ if self.message.starts_with("etcdserver: ") => formatter.write_str(&self.message),
            tonic::Code::DeadlineExceeded => formatter.write_str("context deadline exceeded"),
            code => write!(formatter, "rpc error: code = {code:?} desc = {}", self.message),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(SERVER, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_like_the_go_clients() {
        let text = |code, message: &str| CallError { code, message: message.to_owned() }.to_string();
        let known = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(text(tonic::Code::OutOfRange, known), known);
        assert_eq!(text(tonic::Code::DeadlineExceeded, "Timeout expired"), "context deadline exceeded");
        assert_eq!(text(tonic::Code::Unknown, "auth: failed"), "rpc error: code = Unknown desc = auth: failed");
    }
}
