//! From the words of the command line to the exit code.
//!
//! Not here: what commands do. The invariant: this is the only place that prints `Error:` and chooses the exit code.

use std::sync::Arc;

use super::action::password;
use super::client::{Client, look_up};
use super::failure::{self, Failure};
use super::print::{Printer, write_out};
use super::settings::{self, Settings, World};
use super::tree::{self, Action};
use crate::command_line::Called;
use crate::command_line::flag::Values;
use crate::command_line::select::{Selection, select};

/// One run of a command: what its words said, and what it is called.
pub(crate) struct Invocation {
    pub(crate) values: Values,
    /// The command path that help and hints name.
    pub(crate) program: &'static str,
}

impl Invocation {
    /// The words that are no flags.
    pub(crate) fn words(&self) -> &[String] {
        &self.values.words
    }

    /// Reads the global flags.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub(crate) fn settings(&mut self) -> Result<Arc<Settings>, Failure> {
        let world = World {
            variable: &|variable| std::env::var(variable).ok(),
            ask: &password::ask,
            discover: &|discovery| discovery.endpoints(look_up),
        };
        let settings = Settings::read(&mut self.values, &world)?;
        tell_unknown_variables();
        Ok(Arc::new(settings))
    }

    /// Reads the global flags and makes a client and a printer by them.
    ///
    /// # Errors
    /// As [`Invocation::settings`] and [`Client::new`].
    pub(crate) async fn client(&mut self) -> Result<(Client, Printer), Failure> {
        let settings = self.settings()?;
        let client = Client::new(&settings).await?;
        Ok((client, printer(&settings)))
    }
}

/// Says which variables look like flags and are none, in the form of the log lines of etcd's client.
fn tell_unknown_variables() {
    for (name, value) in std::env::vars_os() {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        if settings::is_unknown_variable(&name) {
            let text = serde_json::Value::from(format!("{name}={value}"));
            eprintln!(
                "{{\"level\":\"warn\",\"msg\":\"unrecognized environment variable\",\"environment-variable\":{text}}}"
            );
        }
    }
}

/// The printer that the settings ask for.
pub(crate) fn printer(settings: &Settings) -> Printer {
    Printer { format: settings.format, hex: settings.hex, values_only: false }
}

/// Runs etcdctl's commands; `arguments` are the words behind the program's name. Answers the exit code.
pub fn main(arguments: Vec<String>, called: Called) -> i32 {
    let program = match called {
        Called::AsEtcd => "etcdctl",
        Called::AsQuorate => tree::OWN_PROGRAM,
    };
    finish(select(tree::root(program), program, &arguments), program)
}

/// Does what was selected; answers the exit code.
pub(crate) fn finish(selection: Selection<Action>, program: &'static str) -> i32 {
    let result = match selection {
        Selection::Run(action, values) => run(action, Invocation { values, program }),
        Selection::Help(text) => write_out(text.as_bytes()),
        Selection::UnknownTopic(text) => {
            eprint!("{text}");
            return 0;
        }
        Selection::Refuse(text) => {
            eprint!("{text}");
            return failure::SERVER;
        }
    };
    match result {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("Error: {}", failure.message);
            }
            failure.code
        }
    }
}

fn run(action: &Action, invocation: Invocation) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(failure::SERVER, format!("cannot start: {error}")))?;
    let result = runtime.block_on(action(invocation));
    // A thread that still waits for a line of input must not hold up the end.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::tree;
    use crate::command_line::usage::help;

    #[test]
    fn summaries_name_the_tool_as_it_was_called() {
        let shown = |program: &str| help(&[tree::root(program)], program);
        assert!(shown("etcdctl").contains("Use `etcdctl lease --help`"));
        let ours = shown(tree::OWN_PROGRAM);
        assert!(ours.contains("Use `quorate ctl lease --help`") && !ours.contains("`etcdctl "), "{ours}");
    }
}
