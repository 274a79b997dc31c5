//! Passwords asked for at the terminal, or read from whatever the standard input is.
//!
//! Not here: flags that carry passwords. The invariant: nothing that is typed as a password appears on the terminal.

use std::io::{BufRead, IsTerminal};
use std::process::{Command, Stdio};

use crate::ctl::failure::{self, Failure};
use crate::ctl::print::write_out;

/// Shows a prompt and reads a line.
///
/// # Errors
/// An input that cannot be read.
pub(crate) fn ask(prompt: &str) -> Result<String, Failure> {
    let at_terminal = std::io::stdin().is_terminal();
    // Before the prompt: who types at once is not to be read by others.
    if at_terminal {
        set_echo("-echo");
    }
    let line = write_out(prompt.as_bytes()).and_then(|()| read_line());
    if at_terminal {
        set_echo("echo");
    }
    write_out(b"\n")?;
    Ok(line?.trim().to_owned())
}

/// Reads the first word of a line; there need not be one.
///
/// # Errors
/// An input that cannot be read.
pub(crate) fn read() -> Result<String, Failure> {
    Ok(read_line()?.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Reads a line; the end of the input ends it as well.
fn read_line() -> Result<String, Failure> {
    let mut line = Vec::new();
    let reading = std::io::stdin().lock().read_until(b'\n', &mut line);
    reading.map_err(|error| Failure::new(failure::INPUT, error.to_string()))?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Asks for a new password, twice.
///
/// # Errors
/// An empty line, two different answers, or as [`ask`].
pub(crate) fn ask_new(user: &str) -> Result<String, Failure> {
    let password = ask(&format!("Password of {user}: "))?;
    if password.is_empty() {
        return Err(Failure::arguments("empty password"));
    }
    if ask(&format!("Type password of {user} again for confirmation: "))? != password {
        return Err(Failure::arguments("given passwords are different"));
    }
    Ok(password)
}

/// Turns the terminal's echo on or off; where that fails the password is visible, which is no reason to give up.
fn set_echo(mode: &str) {
    let _ = Command::new("stty").arg(mode).stdin(Stdio::inherit()).status();
}
