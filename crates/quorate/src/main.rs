//! The one program: `quorate server|ctl|utl|bench`, and the same by its name when called as `etcd`, `etcdctl` or
//! `etcdutl`, so that three symbolic links make a drop-in.
//!
//! Owns the choice between them, and nothing else.

use quorate_cli::Called;
use quorate_server::entry;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "Quorate keeps a small amount of important data on several machines at once, and speaks etcd's API.

Usage:
  quorate server [flags]       run a member (all of etcd's flags; see quorate server --help)
  quorate ctl COMMAND          talk to a cluster, as etcdctl does (see quorate ctl --help)
  quorate utl COMMAND          work on snapshots and data folders, as etcdutl does (see quorate utl --help)
  quorate bench COMMAND        measure a cluster (see quorate bench --help)
  quorate --version            show the version

First steps, in two terminals:
  quorate server               one member on this machine; data in ./default.etcd, clients on port 2379
  quorate ctl put greeting hello
  quorate ctl get greeting
  quorate ctl watch greeting   shows every further change as it happens

Called as etcd, etcdctl or etcdutl (by a symbolic link), this program behaves exactly as those do.
";

fn main() -> ExitCode {
    // Keys and values may hold any bytes; the command line's crate knows how they travel.
    let mut arguments = std::env::args_os().map(|argument| quorate_cli::argument(&argument));
    let program = arguments.next().unwrap_or_default();
    let mut arguments: Vec<String> = arguments.collect();
    let name = program.rsplit('/').next().unwrap_or_default();
    let code = match name {
        "etcd" => entry::main(&arguments, entry::Called::AsEtcd),
        "etcdctl" if std::env::var_os("ETCDCTL_API").is_some_and(|api| api == "2") => {
            quorate_cli::v2::main(&arguments, Called::AsEtcd)
        }
        "etcdctl" => quorate_cli::ctl::main(arguments, Called::AsEtcd),
        "etcdutl" => quorate_cli::utl::main(arguments, Called::AsEtcd),
        _ => {
            let command = if arguments.is_empty() { String::new() } else { arguments.remove(0) };
            run(&command, arguments)
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn run(command: &str, arguments: Vec<String>) -> i32 {
    match command {
        "server" => entry::main(&arguments, entry::Called::AsQuorate),
        "ctl" if arguments.first().is_some_and(|first| first == "--v2") => {
            quorate_cli::v2::main(&arguments[1..], Called::AsQuorate)
        }
        "ctl" => quorate_cli::ctl::main(arguments, Called::AsQuorate),
        "utl" => quorate_cli::utl::main(arguments, Called::AsQuorate),
        "bench" => quorate_cli::bench::main(arguments),
        "--version" | "-V" | "version" => {
            println!("{}", entry::version_text());
            0
        }
        "--help" | "-h" | "help" => {
            print!("{HELP}");
            0
        }
        "" => {
            eprint!("{HELP}");
            2
        }
        unknown => {
            eprintln!(
                "quorate: unknown command {unknown:?}: use server, ctl, utl or bench (quorate --help tells more)"
            );
            2
        }
    }
}
