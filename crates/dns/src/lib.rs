//! SRV records: what a domain's name servers list for a service.
//!
//! Not here: what is made of them, and when they are asked for. The invariant: an answer counts only if it is one to the
//! question that was asked, and whatever else is in it is passed over without reading beyond its end.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use rand::RngCore;

/// The port of name servers.
const PORT: u16 = 53;
/// How long one server is waited for, as often as [`ATTEMPTS`].
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;
/// The largest answer by UDP without an agreement on more; a longer one is cut and asked for again by TCP.
const UDP_BYTES_MAX: usize = 512;
/// A name in an answer may refer to an earlier place this often before it is taken for a trap.
const REFERENCES_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 63;
const HEADER_BYTES: usize = 12;
const TYPE_SRV: u16 = 33;
const CLASS_INTERNET: u16 = 1;
const RESPONSE_NAME_ERROR: u16 = 3;

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// The lowest is asked first.
    pub priority: u16,
    /// The share of what one of equal priority gets.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// With the dot at its end.
    pub target: String,
}

/// Asks the system's name servers.
///
/// # Errors
/// Why there are no records, in Go's words.
pub fn look_up(name: &str) -> Result<Vec<Srv>, String> {
    let configuration = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    look_up_at(&name_servers(&configuration), name)
}

/// The name servers that a resolver's configuration lists; this machine if it lists none.
fn name_servers(configuration: &str) -> Vec<SocketAddr> {
    let listed = configuration.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT))
    });
    let listed: Vec<SocketAddr> = listed.collect();
    if listed.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], PORT))] } else { listed }
}

fn look_up_at(servers: &[SocketAddr], name: &str) -> Result<Vec<Srv>, String> {
    let failed = |server: SocketAddr, reason: &str| format!("lookup {name} on {server}: {reason}");
    let mut last = format!("lookup {name}: no name server");
    for _ in 0..ATTEMPTS {
        for &server in servers {
            match ask(server, name) {
                Ok(Answer::Records(records)) => return Ok(records),
                Ok(Answer::None) => return Err(failed(server, "no such host")),
                Ok(Answer::Failure) => last = failed(server, "server misbehaving"),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    last = failed(server, "i/o timeout");
                }
                Err(error) => last = failed(server, &error.to_string()),
            }
        }
    }
    Err(last)
}

#[derive(Debug, PartialEq)]
enum Answer {
    Records(Vec<Srv>),
    /// There is no such name, or it has no such records.
    None,
    /// The server could not say.
    Failure,
}

fn ask(server: SocketAddr, name: &str) -> std::io::Result<Answer> {
    let id = u16::try_from(rand::rng().next_u32() & 0xffff).expect("masked");
    let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "no such host");
    let question = question(id, name).ok_or_else(invalid)?;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&question)?;
    let mut bytes = [0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut bytes)?;
        match read_answer(&bytes[..length], &question) {
            // Somebody else's answer, or none.
            None => {}
            Some(Reading::Cut) => return ask_by_tcp(server, &question),
            Some(Reading::Whole(answer)) => return Ok(answer),
        }
    }
}

fn ask_by_tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = u16::try_from(question.len()).expect("a question is short");
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(match read_answer(&bytes, question) {
        Some(Reading::Whole(answer)) => answer,
        _ => Answer::Failure,
    })
}

/// A question's message; None for what is no domain name.
fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut message = id.to_be_bytes().to_vec();
    // One question, with the wish that the server asks others.
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        message.push(u8::try_from(label.len()).ok()?);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&TYPE_SRV.to_be_bytes());
    message.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    Some(message)
}

#[derive(Debug, PartialEq)]
enum Reading {
    Whole(Answer),
    /// The answer did not fit.
    Cut,
}

/// Reads an answer; None for one to another question, or one that breaks off.
fn read_answer(message: &[u8], question: &[u8]) -> Option<Reading> {
    let flags = number(message, 2)?;
    let asked = message.get(HEADER_BYTES..question.len())?;
    let is_answer = flags & 0x8000 != 0 && number(message, 4)? == 1;
    if message.get(..2)? != &question[..2] || !is_answer || !asked.eq_ignore_ascii_case(&question[HEADER_BYTES..]) {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Reading::Cut);
    }
    match flags & 0xf {
        0 => {}
        RESPONSE_NAME_ERROR => return Some(Reading::Whole(Answer::None)),
        _ => return Some(Reading::Whole(Answer::Failure)),
    }
    let mut records = Vec::new();
    let mut at = question.len();
    for _ in 0..number(message, 6)? {
        (_, at) = domain_name(message, at)?;
        let (kind, class, length) = (number(message, at)?, number(message, at + 2)?, number(message, at + 8)?);
        let data = at + 10;
        at = data + usize::from(length);
        if kind == TYPE_SRV && class == CLASS_INTERNET {
            let (target, _) = domain_name(message, data + 6)?;
            let [priority, weight, port] = [0, 2, 4].map(|offset| number(message, data + offset));
            records.push(Srv { priority: priority?, weight: weight?, port: port?, target });
        }
    }
    Some(Reading::Whole(if records.is_empty() { Answer::None } else { Answer::Records(records) }))
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// Reads a name; answers it with a dot at its end, and where the message goes on behind it.
fn domain_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut after = None;
    let mut references = 0;
    loop {
        let length = usize::from(*message.get(at)?);
        if length & 0xc0 == 0xc0 {
            references += 1;
            if references > REFERENCES_MAX {
                return None;
            }
            after = after.or(Some(at + 2));
            at = usize::from(number(message, at)? & 0x3fff);
        } else if length == 0 {
            return Some((name, after.unwrap_or(at + 1)));
        } else {
            name.push_str(&String::from_utf8_lossy(message.get(at + 1..at + 1 + length)?));
            name.push('.');
            at += 1 + length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with one record whose target refers to the question's name.
    fn answer(question: &[u8]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
        message.extend_from_slice(&[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 11]);
        message.extend_from_slice(&[0, 1, 0, 2, 0x09, 0x4b, 2, b'm', b'1', 0xc0, 12]);
        message
    }

    #[test]
    fn answers_are_read() {
        let question = question(7, "_etcd-client._tcp.example.com").expect("a name");
        let target = "m1._etcd-client._tcp.example.com.".to_owned();
        let record = Srv { priority: 1, weight: 2, port: 2379, target };
        let whole = answer(&question);
        assert_eq!(read_answer(&whole, &question), Some(Reading::Whole(Answer::Records(vec![record]))));
        for length in 0..whole.len() {
            assert_eq!(read_answer(&whole[..length], &question), None, "{length} bytes");
        }
        let with_flags = |high, low| {
            let mut message = answer(&question);
            message[2..4].copy_from_slice(&[high, low]);
            read_answer(&message, &question)
        };
        assert_eq!(with_flags(0x83, 0x80), Some(Reading::Cut));
        assert_eq!(with_flags(0x81, 0x83), Some(Reading::Whole(Answer::None)));
        assert_eq!(with_flags(0x81, 0x82), Some(Reading::Whole(Answer::Failure)));
        assert_eq!(with_flags(0x01, 0x00), None);
        let mut other = answer(&question);
        other[0] = 9;
        assert_eq!(read_answer(&other, &question), None);
    }

    #[test]
    fn a_name_that_refers_to_itself_is_given_up() {
        assert_eq!(domain_name(&[0xc0, 0], 0), None);
        assert_eq!(question(1, "a..b"), None);
        assert_eq!(question(1, &"x".repeat(64)), None);
    }

    #[test]
    fn servers_of_the_configuration() {
        let listed = name_servers("# c\nnameserver 10.0.0.1\nsearch x\nnameserver ::1\nnameserver zz\n");
        assert_eq!(listed, ["10.0.0.1:53".parse().expect("an address"), "[::1]:53".parse().expect("an address")]);
        assert_eq!(name_servers(""), ["127.0.0.1:53".parse().expect("an address")]);
    }

    #[test]
    fn a_server_is_asked_over_udp() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = server.local_addr().expect("bound");
        let serving = std::thread::spawn(move || {
            let mut bytes = [0; UDP_BYTES_MAX];
            let (length, client) = server.recv_from(&mut bytes).expect("a question");
            server.send_to(&[0; 3], client).expect("sent");
            server.send_to(&answer(&bytes[..length]), client).expect("sent");
        });
        let found = look_up_at(&[address], "_etcd-client._tcp.example.com").expect("an answer");
        assert_eq!((found.len(), found[0].port), (1, 2379));
        serving.join().expect("it does not panic");
    }
}
