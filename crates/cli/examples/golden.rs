//! Runs the golden cases of `ctl` against a server: `golden [--record] [TOOL]`.
//!
//! The server is the new member at `QUORATE_TEST_ENDPOINT`, or is started from the program `QUORATE_TEST_SERVER`, which
//! takes etcd's flags (`etcd`, or `quorate server`). TOOL is what is run for `etcdctl`; without it, this workspace's
//! own `ctl` is. With `--record` the cases are written anew by what TOOL prints: only the real etcdctl's word counts.

#[path = "../tests/golden/runner.rs"]
mod runner;

use std::path::Path;
use std::process::ExitCode;

use runner::{Program, Recorded, Server};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| quorate_cli::argument(&word)).collect();
    if arguments.first().is_some_and(|word| word == "ctl") {
        let code = quorate_cli::ctl::main(arguments[1..].to_vec(), quorate_cli::Called::AsEtcd);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    match golden(&arguments) {
        Ok(count) => {
            println!("{count} cases hold");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn golden(arguments: &[String]) -> Result<usize, String> {
    let (recorded, tool) = match arguments {
        [flag, tool @ ..] if flag == "--record" => (Recorded::IsReplaced, tool),
        tool => (Recorded::Holds, tool),
    };
    let tool = match tool {
        [] => {
            let this = std::env::current_exe().map_err(|error| error.to_string())?;
            Program { words: vec![this.display().to_string(), "ctl".to_owned()] }
        }
        words => Program { words: words.to_vec() },
    };
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ctl.txt");
    if let Ok(endpoint) = std::env::var("QUORATE_TEST_ENDPOINT") {
        return runner::run(&cases, &tool, &endpoint, recorded);
    }
    let server = std::env::var("QUORATE_TEST_SERVER")
        .map_err(|_| "neither QUORATE_TEST_ENDPOINT nor QUORATE_TEST_SERVER says where the server is".to_owned())?;
    let server = Server::start(&Program::read(&server))?;
    runner::run(&cases, &tool, &server.endpoint, recorded)
}
