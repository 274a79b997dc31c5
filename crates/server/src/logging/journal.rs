//! The journal of systemd as an output: one datagram a line, with the fields that etcd sends.
//!
//! The invariant: what the journal does not take goes to stderr, so that no line is lost.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// A way to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    /// The program's name.
    identifier: String,
}

impl Journal {
    /// Fails, in etcd's words, where there is no journal.
    pub(super) fn open() -> Result<Self, String> {
        Self::open_at(SOCKET)
    }

    fn open_at(path: &str) -> Result<Self, String> {
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            // A journal that does not read must not hold up the server.
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket =
            connect().map_err(|error: io::Error| format!("can't find journal (dial unixgram {path}: {error})"))?;
        let program = std::env::args_os().next().unwrap_or_default();
        let name = std::path::Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { socket, identifier: name.unwrap_or_else(|| "etcd".to_owned()) })
    }

    /// Sends a line, which ends with its only newline.
    pub(super) fn write(&self, line: &[u8], level: &str) -> io::Result<()> {
        let mut datagram = Vec::with_capacity(line.len() + 64);
        write!(datagram, "PRIORITY={}\nSYSLOG_IDENTIFIER={}\nMESSAGE=", priority(level), self.identifier)?;
        datagram.extend_from_slice(line);
        match self.socket.send(&datagram) {
            Ok(_) => Ok(()),
            Err(_) => io::stderr().lock().write_all(line),
        }
    }
}

/// Syslog's number of a level.
fn priority(level: &str) -> u8 {
    match level {
        "debug" => 7,
        "info" => 6,
        "warn" => 4,
        "error" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_datagram() {
        let path = std::env::temp_dir().join(format!("quorate-journal-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixDatagram::bind(&path).expect("bind");
        let journal = Journal::open_at(path.to_str().expect("text")).expect("open");
        journal.write(b"{\"level\":\"warn\"}\n", "warn").expect("write");
        let mut bytes = [0; 1024];
        let length = listener.recv(&mut bytes).expect("datagram");
        let text = std::str::from_utf8(&bytes[..length]).expect("text");
        assert!(text.starts_with("PRIORITY=4\nSYSLOG_IDENTIFIER="), "{text}");
        assert!(text.ends_with("\nMESSAGE={\"level\":\"warn\"}\n"), "{text}");
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn without_a_journal_the_start_is_refused() {
        let Err(reason) = Journal::open_at("/nonexistent/socket") else { panic!("opened") };
        assert!(reason.starts_with("can't find journal (dial unixgram /nonexistent/socket: "), "{reason}");
    }
}
