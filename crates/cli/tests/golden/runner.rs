//! Runs a script of command lines against a server and holds what they print against what etcdctl printed.
//!
//! Not here: the script (`ctl.txt`), and what the commands do. The invariant: what differs from run to run (IDs, terms,
//! durations, hashes, sizes) is replaced by its name in both the recorded and the printed text; everything else counts,
//! byte for byte.
//!
//! A script consists of cases:
//!
//! ```text
//! # why
//! $ [NAME=value ...] [until=LINES] etcdctl WORDS
//! stdin> a line for the standard input
//! a line of the standard output
//! 2> a line of the standard error
//! [rc CODE]
//! ```
//!
//! Words may be quoted by `'…'`; `\n` inside is a line feed, `\xNN` a byte. `@LEASE` and `@ADDED` stand for the lease
//! and the member that an earlier case made, `@MEMBER` for the server's own member. `until=LINES` interrupts a command that does not end by itself
//! as soon as it has printed that many lines; its code is then that of the interrupt.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A word of hexadecimal digits, among them decimal ones, with at least this many is an ID: leading zeros are left out.
const ID_HEX_DIGITS_MIN: usize = 12;
/// How long a server may take to answer, and a command to print what it is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a line for the standard input begins with.
const INPUT: &str = "stdin>";
/// A number with at least this many digits is an ID.
const ID_DIGITS_MIN: usize = 17;

/// A program with its first words, such as `quorate ctl`.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) words: Vec<String>,
}

impl Program {
    /// Reads a program from words separated by blanks.
    pub(crate) fn read(text: &str) -> Self {
        Self { words: text.split_whitespace().map(str::to_owned).collect() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }
}

/// A server with one new member, which ends with this value.
pub(crate) struct Server {
    process: Child,
    folder: PathBuf,
    pub(crate) endpoint: String,
}

impl Server {
    /// Starts a server that takes etcd's flags, on free ports, with its data in a new folder.
    pub(crate) fn start(program: &Program) -> Result<Self, String> {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let (client, peer) = free().and_then(|client| Ok((client, free()?))).map_err(|error| error.to_string())?;
        let (endpoint, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let folder = std::env::temp_dir().join(format!("quorate-golden-{}-{}", std::process::id(), client.port()));
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let log = std::fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
        let process = program
            .command()
            .args(["--name", "m0", "--data-dir"])
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m0={peer}")])
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.words[0]))?;
        Ok(Self { process, folder, endpoint })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What to do with the text that a script has for what its commands print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Compare it.
    Holds,
    /// Replace it.
    IsReplaced,
}

/// Runs the script in `path` with `tool` against the member at `endpoint`, which must be new.
///
/// Every case runs, also after one that failed, since later cases build on what earlier ones wrote.
///
/// # Errors
/// Every case that printed something else than recorded, or why the script could not run.
pub(crate) fn run(path: &Path, tool: &Program, endpoint: &str, recorded: Recorded) -> Result<usize, String> {
    let script = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut names = Names::learn(tool, endpoint)?;
    let (mut replaced, mut wrong, mut count) = (String::new(), Vec::new(), 0);
    for section in sections(&script) {
        let Some(case) = Case::read(section) else {
            replaced.push_str(section);
            continue;
        };
        count += 1;
        let printed = case.run(tool, endpoint, &mut names)?;
        replaced.push_str(&format!("{}{printed}", case.asked));
        if printed != case.expected {
            wrong.push(format!("{}--- recorded\n{}--- printed\n{printed}", case.asked, case.expected));
        }
    }
    match recorded {
        Recorded::IsReplaced => {
            std::fs::write(path, replaced).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(count)
        }
        Recorded::Holds if wrong.is_empty() => Ok(count),
        Recorded::Holds => Err(format!("{} of {count} cases differ\n\n{}", wrong.len(), wrong.join("\n"))),
    }
}

/// Cuts a script into cases and the lines between them.
fn sections(script: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = Vec::new();
    let (mut offset, mut inside) = (0, false);
    for line in script.split_inclusive('\n') {
        if !inside {
            starts.push(offset);
        }
        inside = (inside || line.starts_with("$ ")) && !line.starts_with("[rc ");
        // A case that nobody has recorded yet ends where the next begins.
        if inside && line.starts_with("$ ") && starts.last() != Some(&offset) {
            starts.push(offset);
        }
        offset += line.len();
    }
    starts.push(script.len());
    starts.windows(2).map(|pair| &script[pair[0]..pair[1]]).collect()
}

/// One command line and what it should print.
struct Case<'script> {
    /// The command line and the lines for its input, as they stand in the script.
    asked: String,
    variables: Vec<(&'script str, &'script str)>,
    lines_until_interrupt: Option<usize>,
    words: Vec<Vec<u8>>,
    input: String,
    expected: &'script str,
}

impl<'script> Case<'script> {
    fn read(section: &'script str) -> Option<Self> {
        let line = section.lines().next()?.strip_prefix("$ ")?;
        let (before, words) = line.split_once("etcdctl").unwrap_or((line, ""));
        let mut case = Self {
            asked: format!("$ {line}\n"),
            variables: Vec::new(),
            lines_until_interrupt: None,
            words: split(words),
            input: String::new(),
            expected: "",
        };
        for (name, value) in before.split_whitespace().filter_map(|word| word.split_once('=')) {
            match name {
                "until" => case.lines_until_interrupt = value.parse().ok(),
                _ => case.variables.push((name, value)),
            }
        }
        for input in section.lines().skip(1).map_while(|line| line.strip_prefix(INPUT)) {
            case.asked.push_str(&format!("{INPUT}{input}\n"));
            case.input.push_str(input.strip_prefix(' ').unwrap_or(input));
            case.input.push('\n');
        }
        case.expected = &section[case.asked.len().min(section.len())..];
        Some(case)
    }

    /// Runs it; answers what it printed, with names in place of what differs from run to run.
    fn run(&self, tool: &Program, endpoint: &str, names: &mut Names) -> Result<String, String> {
        let mut command = tool.command();
        command.args(self.words.iter().map(|word| OsString::from_vec(names.fill_in(word))));
        command.envs(self.variables.iter().copied());
        if !self.words.iter().any(|word| word == b"--endpoints") {
            command.env("ETCDCTL_ENDPOINTS", endpoint);
        }
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", tool.words[0]))?;
        if let Some(mut input) = process.stdin.take() {
            // A command that does not read its input to the end is no failure here.
            let _ = input.write_all(self.input.as_bytes());
        }
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut stderr = process.stderr.take().expect("piped");
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).map(|_| text)
        });
        let (done, ended) = mpsc::channel::<()>();
        let process_id = process.id();
        let guard = std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                signal(process_id, "KILL");
            }
        });
        let output = self.read_output(stdout, process_id)?;
        let errors = errors.join().expect("it does not panic").map_err(|error| error.to_string())?;
        let status = process.wait().map_err(|error| error.to_string())?;
        drop(done);
        guard.join().expect("it does not panic");
        let code = status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap_or(-1);
        let output = names.replace(&String::from_utf8_lossy(&output));
        let errors = names.replace(&String::from_utf8_lossy(&errors));
        let mut printed = String::new();
        for line in output.split_inclusive('\n') {
            printed.push_str(line);
        }
        if !output.is_empty() && !output.ends_with('\n') {
            printed.push_str("(no line feed)\n");
        }
        // etcd's client logs to the standard error; that is no part of what its tool prints.
        for line in errors.lines().filter(|line| !line.starts_with("{\"level\":") && !line.starts_with("stty:")) {
            printed.push_str(&format!("2> {line}\n"));
        }
        printed.push_str(&format!("[rc {code}]\n"));
        Ok(printed)
    }

    /// Reads the standard output to its end, interrupting the process when it has printed enough.
    fn read_output(&self, mut stdout: impl BufRead, process: u32) -> Result<Vec<u8>, String> {
        let mut output = Vec::new();
        if let Some(lines) = self.lines_until_interrupt {
            for _ in 0..lines {
                let read = stdout.read_until(b'\n', &mut output).map_err(|error| error.to_string())?;
                if read == 0 {
                    break;
                }
            }
            signal(process, "INT");
        }
        stdout.read_to_end(&mut output).map_err(|error| error.to_string())?;
        Ok(output)
    }
}

/// Sends a signal to a process; one that has ended already needs none.
fn signal(process: u32, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &process.to_string()]).stderr(Stdio::null()).status();
}

/// Splits a command line into words.
fn split(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        words.push(unescape(word));
        rest = after.trim_start();
    }
    words
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at..];
        let byte = escape.get(2..4).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match (escape.get(..2), byte) {
            (Some("\\n"), _) => {
                bytes.push(b'\n');
                &escape[2..]
            }
            (Some("\\x"), Some(byte)) => {
                bytes.push(byte);
                &escape[4..]
            }
            _ => {
                bytes.push(b'\\');
                &escape[1..]
            }
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What stands for the things that differ from run to run.
struct Names {
    /// Texts of this run and their names, the longest first.
    known: Vec<(String, &'static str)>,
    member: String,
    lease: String,
    added: String,
}

impl Names {
    /// Asks the member who and where it is.
    fn learn(tool: &Program, endpoint: &str) -> Result<Self, String> {
        let deadline = Instant::now() + PATIENCE;
        let members = loop {
            let mut command = tool.command();
            command.args(["member", "list", "-w", "fields"]).env("ETCDCTL_ENDPOINTS", endpoint);
            let output = command.stdin(Stdio::null()).output();
            let output = output.map_err(|error| format!("{}: {error}", tool.words[0]))?;
            if output.status.success() {
                break String::from_utf8_lossy(&output.stdout).into_owned();
            }
            if Instant::now() >= deadline {
                return Err(format!("{endpoint} does not answer: {}", String::from_utf8_lossy(&output.stderr)));
            }
        };
        let field = |name: &str| {
            let start = format!("\"{name}\" : ");
            let value = members.lines().find_map(|line| line.strip_prefix(&start));
            value.map(|value| value.trim_matches('"').to_owned()).ok_or(format!("no {name} in the list of members"))
        };
        let (cluster, member) = (field("ClusterID")?, field("MemberID")?);
        let hex = |id: &str| id.parse::<u64>().map(|id| format!("{id:x}")).map_err(|error| error.to_string());
        let mut known = vec![
            (format!("cluster {:>16}", hex(&cluster)?), "cluster <CLUSTER HEX>"),
            (hex(&cluster)?, "<CLUSTER HEX>"),
            (hex(&member)?, "<MEMBER HEX>"),
            (cluster, "<CLUSTER>"),
            (member.clone(), "<MEMBER>"),
            (field("PeerURL")?, "<PEER>"),
            (endpoint.to_owned(), "<ENDPOINT>"),
        ];
        known.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let member = hex(&member)?;
        Ok(Self { known, member, lease: String::new(), added: String::new() })
    }

    /// Puts what the placeholders of a word stand for.
    fn fill_in(&self, word: &[u8]) -> Vec<u8> {
        match word {
            b"@LEASE" => self.lease.clone().into_bytes(),
            b"@ADDED" => self.added.clone().into_bytes(),
            b"@MEMBER" => self.member.clone().into_bytes(),
            word => word.to_vec(),
        }
    }

    /// Puts names in place of what differs, and remembers what was made.
    fn replace(&mut self, text: &str) -> String {
        let word_after = |start: &str| Some(text.split_once(start)?.1.split_whitespace().next()?.to_owned());
        if text.contains(" granted with TTL(") && !text.contains("remaining") {
            self.lease = word_after("lease ").unwrap_or_default();
        }
        if text.contains(" added ") {
            self.added = word_after("Member ").unwrap_or_default();
        }
        let mut replaced =
            text.lines().map(|line| squeeze_table(&sort_initial_cluster(line))).collect::<Vec<_>>().join("\n");
        if text.ends_with('\n') {
            replaced.push('\n');
        }
        if !self.added.is_empty() {
            let padded = format!("Member {:>16}", self.added);
            replaced = replaced.replace(&padded, "Member <ADDED>").replace(&self.added, "<ADDED>");
        }
        for (known, name) in &self.known {
            replaced = replaced.replace(known, name);
        }
        replaced = replace_ids(&replaced);
        for start in ["took = ", "took ", "\"took\":\"", "\"Took\" : "] {
            replaced = replace_after(&replaced, start, "<TOOK>", |character| {
                character.is_ascii_digit() || matches!(character, '.' | 'm' | 's' | 'µ' | 'n')
            });
        }
        for (start, name) in VARYING {
            replaced = replace_after(&replaced, start, name, |character| character.is_ascii_digit());
        }
        replaced
    }
}

/// The members of a cluster come in the order of their IDs, which differ from run to run.
fn sort_initial_cluster(line: &str) -> String {
    let Some(members) = line.strip_prefix("ETCD_INITIAL_CLUSTER=\"").and_then(|line| line.strip_suffix('"')) else {
        return line.to_owned();
    };
    let mut members: Vec<&str> = members.split(',').collect();
    members.sort_unstable();
    format!("ETCD_INITIAL_CLUSTER=\"{}\"", members.join(","))
}

/// A table's columns are as wide as the IDs and URLs in them.
fn squeeze_table(line: &str) -> String {
    let mut squeezed = String::new();
    let is_table = line.starts_with(['┌', '├', '└', '│']);
    for character in line.chars() {
        if !(is_table && matches!(character, '─' | ' ') && squeezed.ends_with(character)) {
            squeezed.push(character);
        }
    }
    squeezed
}

/// Numbers that differ from run to run, by what stands before them.
const VARYING: [(&str, &str); 18] = [
    ("\"raft_term\":", "<TERM>"),
    ("\"raftTerm\":", "<TERM>"),
    ("\"RaftTerm\" : ", "<TERM>"),
    ("\"raftIndex\":", "<INDEX>"),
    ("\"raftAppliedIndex\":", "<INDEX>"),
    ("\"RaftIndex\" : ", "<INDEX>"),
    ("\"RaftAppliedIndex\" : ", "<INDEX>"),
    ("\"dbSize\":", "<SIZE>"),
    ("\"dbSizeInUse\":", "<SIZE>"),
    ("\"DBSize\" : ", "<SIZE>"),
    ("\"DBSizeInUse\" : ", "<SIZE>"),
    ("\"DBSizeQuota\" : ", "<SIZE>"),
    ("\"dbSizeQuota\":", "<SIZE>"),
    ("\"hash\":", "<HASH>"),
    ("\"Hash\" : ", "<HASH>"),
    ("remaining(", "<REST>"),
    ("\"ttl\":", "<REST>"),
    ("\"TTL\" : ", "<REST>"),
];

/// Replaces every stretch of `text` that follows `start` and consists of such characters.
fn replace_after(text: &str, start: &str, name: &str, belongs: impl Fn(char) -> bool) -> String {
    let mut parts = text.split(start);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character| !belongs(character)).unwrap_or(part.len());
        let is_value = part[..end].starts_with(|character: char| character.is_ascii_digit());
        replaced.push_str(start);
        replaced.push_str(if is_value { name } else { &part[..end] });
        replaced.push_str(&part[end..]);
    }
    replaced
}

/// Replaces long numbers and words of hexadecimal digits; what is zero but for its end was typed by the script.
fn replace_ids(text: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end.max(first.len_utf8()));
        let is_number = word.len() >= ID_DIGITS_MIN && word.chars().all(|digit| digit.is_ascii_digit());
        let is_hex = (ID_HEX_DIGITS_MIN..=16).contains(&word.len())
            && !word.starts_with("00000000")
            && word.chars().any(|digit| digit.is_ascii_digit())
            && word.chars().all(|digit| digit.is_ascii_digit() || matches!(digit, 'a'..='f'));
        replaced.push_str(if is_number {
            "<ID>"
        } else if is_hex {
            "<ID HEX>"
        } else {
            word
        });
        rest = after;
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let known =
            vec![("http://127.0.0.1:7".to_owned(), "<ENDPOINT>"), ("ca50e9357181d758".to_owned(), "<MEMBER HEX>")];
        Names { known, member: "ca50e9357181d758".to_owned(), lease: String::new(), added: String::new() }
    }

    #[test]
    fn what_differs_is_replaced() {
        let mut names = names();
        let check = |names: &mut Names, text: &str, expected: &str| assert_eq!(names.replace(text), expected);
        check(&mut names, "lease 5758a1fdfc4a6e15 granted with TTL(100s)", "lease <ID HEX> granted with TTL(100s)");
        assert_eq!(names.fill_in(b"@LEASE"), b"5758a1fdfc4a6e15");
        check(&mut names, "\"raft_term\":12},\"x\":12", "\"raft_term\":<TERM>},\"x\":12");
        check(&mut names, "\"ID\":6293958591481802259", "\"ID\":<ID>");
        check(
            &mut names,
            "http://127.0.0.1:7 took = 2.9ms, ca50e9357181d758",
            "<ENDPOINT> took = <TOOK>, <MEMBER HEX>",
        );
        check(&mut names, "│   ID    │\n├─────────┤", "│ ID │\n├─┤");
        check(&mut names, "ETCD_INITIAL_CLUSTER=\"b=2,a=1\"\n", "ETCD_INITIAL_CLUSTER=\"a=1,b=2\"\n");
        check(&mut names, "lease 0000000000000123 already expired", "lease 0000000000000123 already expired");
    }

    #[test]
    fn scripts_fall_into_cases() {
        let script = "# why\n$ A=b until=3 etcdctl put 'a \\x41\\n' @LEASE\nstdin> in\nstdin>\nOK\n2> no\n[rc 0]\n\n$ etcdctl get\n[rc 1]\n";
        let sections = sections(script);
        assert_eq!(sections.concat(), script);
        let cases: Vec<Case<'_>> = sections.iter().filter_map(|section| Case::read(section)).collect();
        let [first, second] = cases.as_slice() else { panic!("{} cases", cases.len()) };
        assert_eq!(first.variables, [("A", "b")]);
        assert_eq!(first.lines_until_interrupt, Some(3));
        assert_eq!(first.words, [b"put".to_vec(), b"a A\n".to_vec(), b"@LEASE".to_vec()]);
        assert_eq!((first.input.as_str(), first.expected), ("in\n\n", "OK\n2> no\n[rc 0]\n"));
        assert_eq!((second.words.len(), second.expected), (1, "[rc 1]\n"));
    }
}
