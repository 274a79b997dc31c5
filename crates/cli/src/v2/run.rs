//! From the words of the command line to the exit code.
//!
//! Not here: what commands do. The invariant: this is the only place that ends the process.

use super::endpoint::{discovery, endpoints, flag_or_variable};
use super::flags::{self, Given};
use super::http::{Answer, Asked, Client, Fault};
use super::tree::{COMMANDS, Command, Doing, FLAGS, OWN_COMMANDS};
use super::{CONNECTION, Exit, SERVER, help};
use crate::command_line::Called;
use crate::ctl::client::{Tls, TlsFiles};
use crate::ctl::password;
use crate::ctl::print::write_out;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// One run of a command.
pub(crate) struct Context {
    pub(super) global: Given,
    pub(super) given: Given,
}

/// Runs etcdctl's commands of v2; `arguments` are the words behind the program's name. Answers the exit code.
pub fn main(arguments: &[String], called: Called) -> i32 {
    let program = match called {
        Called::AsEtcd => ETCDCTL,
        Called::AsQuorate => "quorate ctl --v2",
    };
    match start(arguments, program) {
        Ok(()) => 0,
        Err(exit) => {
            eprint!("{}", exit.text);
            exit.code
        }
    }
}

fn print(text: &str) -> Result<(), Exit> {
    write_out(text.as_bytes()).map_err(|failure| Exit::usage(failure.message))
}

/// Wrong use: a page on standard output, and the reason on standard error.
fn misused(reason: &str, page: &str) -> Exit {
    match print(page) {
        Ok(()) => Exit::usage(reason),
        Err(exit) => exit,
    }
}

fn no_topic(name: &str) -> Exit {
    Exit { code: 3, text: format!("No help topic for '{name}'\n") }
}

fn find<'a>(commands: &'a [Command], name: &str) -> Option<&'a Command> {
    commands.iter().find(|command| command.name == name)
}

/// A command of the program; those that etcdctl has not exist only under its own name.
fn find_in(program: &str, name: &str) -> Option<&'static Command> {
    find(COMMANDS, name).or_else(|| find(own(program), name))
}

fn own(program: &str) -> &'static [Command] {
    if program == ETCDCTL { &[] } else { OWN_COMMANDS }
}

/// The program by etcd's name.
const ETCDCTL: &str = "etcdctl";

fn start(arguments: &[String], program: &'static str) -> Result<(), Exit> {
    let global = flags::read(FLAGS, true, arguments).map_err(|reason| {
        misused(&reason, &format!("Incorrect Usage. {reason}\n\n{}", help::root(program, own(program))))
    })?;
    if global.help {
        return print(&help::root(program, own(program)));
    }
    if global.version {
        return print(&help::version());
    }
    let Some((name, words)) = global.words.split_first() else { return print(&help::root(program, own(program))) };
    if matches!(name.as_str(), "help" | "h") {
        let Some(topic) = words.first() else { return print(&help::root(program, own(program))) };
        let command = find_in(program, topic).ok_or_else(|| no_topic(topic))?;
        return print(&help::command(&format!("{program} {topic}"), command));
    }
    let command = find_in(program, name).ok_or_else(|| no_topic(name))?;
    let path = format!("{program} {name}");
    match &command.action {
        Doing::Run(_) => run(command, &path, &global, words),
        Doing::Group(commands) => run_of_group(command, commands, &path, &global, words),
    }
}

fn run_of_group(
    group: &Command,
    commands: &[Command],
    path: &str,
    global: &Given,
    words: &[String],
) -> Result<(), Exit> {
    let page = help::group(path, group, commands);
    let given = flags::read(&[], false, words)
        .map_err(|reason| misused(&reason, &format!("Incorrect Usage. {reason}\n\n{page}")))?;
    if given.help {
        return print(&page);
    }
    let Some((name, words)) = given.words.split_first() else { return print(&page) };
    if matches!(name.as_str(), "help" | "h") {
        let Some(topic) = words.first() else {
            return print(&help::program(path, group.usage, &[commands], true));
        };
        let command = find(commands, topic).ok_or_else(|| no_topic(topic))?;
        return print(&help::command(&format!("{path} {topic}"), command));
    }
    let command = find(commands, name).ok_or_else(|| no_topic(name))?;
    run(command, &format!("{path} {name}"), global, words)
}

fn run(command: &Command, path: &str, global: &Given, words: &[String]) -> Result<(), Exit> {
    let page = help::command(path, command);
    let given = flags::read(command.flags, false, &flags::reordered(command.flags, words))
        .map_err(|reason| misused(&reason, &format!("Incorrect Usage: {reason}\n\n{page}")))?;
    if given.help {
        return print(&page);
    }
    let Doing::Run(action) = &command.action else { return print(&page) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Exit::usage)?;
    let result = runtime.block_on(action(Context { global: global.clone(), given }));
    // A thread that still waits for a line of input must not hold up the end.
    runtime.shutdown_background();
    result
}

impl Context {
    /// The words that are no flags.
    pub(super) fn words(&self) -> &[String] {
        &self.given.words
    }

    /// `--output`.
    pub(super) fn output(&self) -> &str {
        self.global.text("output")
    }

    /// When the command has to be done.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(Instant::now() + self.global.duration("total-timeout"))
    }

    /// How to speak TLS.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn tls(&self) -> Result<Tls, Exit> {
        let file = |flag: &str, variable: &str| flag_or_variable(&self.global, flag, variable);
        let (domain, insecure) = discovery(&self.global);
        let files = TlsFiles {
            cert: file("cert-file", "ETCDCTL_CERT_FILE"),
            key: file("key-file", "ETCDCTL_KEY_FILE"),
            cacert: file("ca-file", "ETCDCTL_CA_FILE"),
            server_name: if insecure { String::new() } else { domain },
            ..TlsFiles::default()
        };
        Tls::read(&files).map_err(Exit::usage)
    }

    /// A client of the endpoints that were named.
    ///
    /// # Errors
    /// Flags that make no sense, files that cannot be read.
    pub(super) fn client_as_told(&self) -> Result<Client, Exit> {
        let endpoints = endpoints(&self.global)?;
        let tls = Some(self.tls()?);
        let credentials = match flag_or_variable(&self.global, "username", "ETCDCTL_USERNAME") {
            user if user.is_empty() => None,
            user => Some(name_and_password(&user, "Password: ")?),
        };
        let (timeout, debug) = (self.global.duration("timeout"), self.global.is_set("debug"));
        let mut client = Client { endpoints, tls, credentials, timeout, debug };
        client.shuffle();
        Ok(client)
    }

    /// A client of the endpoints that the cluster publishes, unless `--no-sync` says otherwise.
    ///
    /// # Errors
    /// As [`Self::client_as_told`], and a cluster that cannot be reached or publishes nothing.
    pub(super) async fn client(&self) -> Result<Client, Exit> {
        let mut client = self.client_as_told()?;
        if !self.global.is_set("no-sync") {
            if client.debug {
                eprintln!("start to sync cluster using endpoints({})", client.endpoints.join(","));
            }
            match sync(&client, self.deadline()).await {
                Ok(published) => {
                    let sorted = |endpoints: &[String]| {
                        let mut sorted = endpoints.to_vec();
                        sorted.sort();
                        sorted
                    };
                    if sorted(&published) != sorted(&client.endpoints) {
                        client.endpoints = published;
                        client.shuffle();
                    }
                }
                Err(fault @ Fault::NoEndpoints) => {
                    eprintln!(
                        "etcd cluster has no published client endpoints.\nTry '--no-sync' if you want to access \
                         non-published client endpoints({}).",
                        client.endpoints.join(",")
                    );
                    return Err(Exit::error(SERVER, &fault));
                }
                Err(fault) if fault.is_connection() => return Err(Exit::error(CONNECTION, &fault)),
                Err(_) => {}
            }
            if client.debug {
                eprintln!("got endpoints({}) after sync", client.endpoints.join(","));
            }
        }
        if client.debug {
            eprintln!("Cluster-Endpoints: {}", client.endpoints.join(", "));
        }
        Ok(client)
    }
}

/// The endpoints that all members publish.
async fn sync(client: &Client, deadline: Option<Instant>) -> Result<Vec<String>, Fault> {
    let answer = client.ask(&Asked::new("GET", "/v2/members"), deadline).await?;
    let members = expect_json(&answer, &[200])?;
    let members = members["members"].as_array().cloned().unwrap_or_default();
    let urls = members.iter().flat_map(|member| member["clientURLs"].as_array().into_iter().flatten());
    let published: Vec<String> = urls.filter_map(|url| Some(url.as_str()?.to_owned())).collect();
    if published.is_empty() { Err(Fault::NoEndpoints) } else { Ok(published) }
}

/// An answer's document, if its status is one of those.
///
/// # Errors
/// Another status.
pub(super) fn expect_json(answer: &Answer, statuses: &[u16]) -> Result<Value, Fault> {
    if !statuses.contains(&answer.status) {
        return Err(Fault::Refusal(format!("unexpected status code {}", answer.status)));
    }
    serde_json::from_slice(&answer.body).map_err(|error| Fault::Refusal(error.to_string()))
}

/// `name:password`, or a name whose password is asked for.
///
/// # Errors
/// An input that cannot be read.
pub(super) fn name_and_password(text: &str, prompt: &str) -> Result<(String, String), Exit> {
    if let Some((name, password)) = text.split_once(':') {
        return Ok((name.to_owned(), password.to_owned()));
    }
    let password = password::ask(prompt);
    let password = password.map_err(|failure| Exit::usage(format!("Error reading password: {}", failure.message)))?;
    Ok((text.to_owned(), password))
}

/// What a duration flag of etcdctl means: seconds of a key's life.
pub(super) fn seconds(flag: i64) -> Option<u64> {
    u64::try_from(flag).ok().filter(|&seconds| seconds > 0)
}

/// How long `cluster-health --forever` rests.
pub(super) const HEALTH_PAUSE: Duration = Duration::from_secs(10);
