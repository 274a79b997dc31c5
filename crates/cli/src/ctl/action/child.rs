//! Commands that run under a lock or for an event.
//!
//! Not here: when they run. The invariant: a child writes to this process's outputs, and has nothing on its input.

use std::process::{ExitStatus, Stdio};

use tokio::process::Command;

use crate::command_line::word;
use crate::ctl::settings::io_error_text;

/// How a child ended without success.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChildFault {
    /// The exit code for this process.
    pub(crate) code: i32,
    /// In the words of Go's `os/exec`.
    pub(crate) message: String,
}

/// Runs a command to its end.
///
/// # Errors
/// It could not be started, or ended without success.
pub(crate) async fn run(words: &[String], variables: &[(&str, String)]) -> Result<(), ChildFault> {
    let [program, arguments @ ..] = words else { return Ok(()) };
    let mut command = Command::new(word::os_string(program));
    command.args(arguments.iter().map(|argument| word::os_string(argument))).stdin(Stdio::null());
    command.envs(variables.iter().map(|(name, value)| (*name, word::os_string(value))));
    match command.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ChildFault { code: status.code().unwrap_or(1), message: status_text(status) }),
        Err(error) => Err(ChildFault { code: 1, message: start_error(program, &error) }),
    }
}

fn status_text(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}

fn start_error(program: &str, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound && !program.contains('/') {
        return format!("exec: \"{program}\": executable file not found in $PATH");
    }
    format!("fork/exec {program}: {}", io_error_text(error))
}
