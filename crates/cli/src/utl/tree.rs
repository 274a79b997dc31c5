//! The tree of commands, with their flags and texts.
//!
//! Not here: what they do. The invariant: names and texts of commands that etcdutl has are etcdutl's.

use super::failure::Failure;
use super::{check, etcd_only, hash, import, recover, snapshot};
use crate::command_line::flag::{Flag, Kind, Values};
use crate::command_line::shell::Shell;
use crate::command_line::tree::Command;

/// What a command does.
#[derive(Clone, Copy)]
pub(super) enum Action {
    Help,
    Version,
    /// Writes the script by which a shell completes commands and flags.
    Completion(Shell),
    /// A command whose flags and words are judged first.
    Run {
        /// Flags that must be given.
        required: &'static [&'static str],
        /// How many words it takes, if that is fixed.
        words: Option<usize>,
        run: fn(&Values) -> Result<(), Failure>,
    },
}

const fn run(run: fn(&Values) -> Result<(), Failure>) -> Action {
    Action::Run { required: &[], words: None, run }
}

const DATA_DIR: Flag = Flag::new("data-dir", Kind::Text, "Path to the output data directory");
const WAL_DIR: Flag = Flag::new("wal-dir", Kind::Text, "Path to the WAL directory (use --data-dir if none given)");
const INITIAL_CLUSTER: Flag =
    Flag::new("initial-cluster", Kind::Text, "Initial cluster configuration for restore bootstrap")
        .or("default=http://localhost:2380");
const TOKEN: Flag = Flag::new(
    "initial-cluster-token",
    Kind::Text,
    "Initial cluster token for the etcd cluster during restore bootstrap",
)
.or("etcd-cluster");
const PEER_URLS: Flag = Flag::new(
    "initial-advertise-peer-urls",
    Kind::Text,
    "List of this member's peer URLs to advertise to the rest of the cluster",
)
.or("http://localhost:2380");
const NAME: Flag = Flag::new("name", Kind::Text, "Human-readable name for this member").or("default");
const BUMP_REVISION: Flag =
    Flag::new("bump-revision", Kind::Uint, "How much to increase the latest revision after restore");
const MARK_COMPACTED: Flag = Flag::new(
    "mark-compacted",
    Kind::Bool,
    "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, \
     disallowed otherwise)",
);

static RESTORE_FLAGS: [Flag; 10] = [
    DATA_DIR,
    WAL_DIR,
    INITIAL_CLUSTER,
    TOKEN,
    PEER_URLS,
    NAME,
    Flag::new(
        "skip-hash-check",
        Kind::Bool,
        "Ignore snapshot integrity hash value (required if copied from data directory)",
    ),
    Flag::new(
        "initial-memory-map-size",
        Kind::Uint,
        "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0",
    )
    .or("10737418240"),
    BUMP_REVISION,
    MARK_COMPACTED,
];

static IMPORT_FLAGS: [Flag; 9] = [
    DATA_DIR,
    WAL_DIR,
    Flag::new("etcd-wal-dir", Kind::Text, "The --wal-dir that etcd was started with, if it was"),
    INITIAL_CLUSTER,
    TOKEN,
    PEER_URLS,
    NAME,
    BUMP_REVISION,
    MARK_COMPACTED,
];

static RECOVER_FLAGS: [Flag; 9] = [
    DATA_DIR,
    WAL_DIR,
    Flag::new("old-wal-dir", Kind::Text, "The --wal-dir that the surviving member was started with, if it was"),
    Flag::new("initial-cluster-token", Kind::Text, "Token of the new cluster: another one than the old cluster's")
        .or("recovered-cluster"),
    Flag::new("initial-advertise-peer-urls", Kind::Text, "Peer URLs of the new member (the old ones if none given)"),
    Flag::new("name", Kind::Text, "Name of the new member (the old one if none given)"),
    BUMP_REVISION,
    MARK_COMPACTED,
    Flag::new("yes", Kind::Bool, "Make it without asking"),
];

static SNAPSHOT: [Command<Action>; 2] = [
    Command {
        flags: &RESTORE_FLAGS,
        ..Command::leaf(
            "restore <filename> --data-dir {output dir} [options]",
            "Restores an etcd member snapshot to an etcd directory",
            run(snapshot::restore),
        )
    },
    Command {
        long: "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.\n\
               The items in the lists are hash, revision, total keys, total size.\n",
        ..Command::leaf("status <filename>", "Gets backend snapshot status of a given file", run(snapshot::status))
    },
];

static COMPLETION_FLAGS: [Flag; 1] = [Flag::new("no-descriptions", Kind::Bool, "disable completion descriptions")];

const fn completion(shell: Shell, usage: &'static str, short: &'static str, lesson: &'static str) -> Command<Action> {
    Command {
        lesson,
        usage_names_all: true,
        flags: &COMPLETION_FLAGS,
        ..Command::leaf(usage, short, Action::Completion(shell))
    }
}

static COMPLETION: [Command<Action>; 4] = [
    completion(
        Shell::Bash,
        "bash",
        "Generate the autocompletion script for bash",
        "source <(PROGRAM completion bash)\nPROGRAM completion bash > /etc/bash_completion.d/etcdutl",
    ),
    completion(
        Shell::Fish,
        "fish",
        "Generate the autocompletion script for fish",
        "PROGRAM completion fish | source\nPROGRAM completion fish > ~/.config/fish/completions/etcdutl.fish",
    ),
    completion(
        Shell::Posh,
        "powershell",
        "Generate the autocompletion script for powershell",
        "PROGRAM completion powershell | Out-String | Invoke-Expression",
    ),
    completion(Shell::Zsh, "zsh", "Generate the autocompletion script for zsh", "source <(PROGRAM completion zsh)"),
];

pub(super) static ROOT: Command<Action> = Command {
    inherited: &[
        Flag::new("write-out", Kind::Text, "").short('w').or("simple"),
        Flag::new("timeout", Kind::Duration, "").or("10s"),
    ],
    ..Command::parent(
        "etcdutl",
        "",
        &[
            Command {
                flags: &[
                    Flag::new("data-dir", Kind::Text, "Path to the data directory of a stopped member"),
                    Flag::new("wal-dir", Kind::Text, "The --wal-dir that the member is started with, if it is"),
                ],
                ..Command::leaf(
                    "check [data dir]",
                    "Verifies every checksum of a stopped member's files",
                    run(check::check),
                )
            },
            Command {
                long: "Generate the autocompletion script for etcdutl for the specified shell.\n\
                       See each sub-command's help for details on how to use the generated script.\n",
                ..Command::parent(
                    "completion",
                    "Generate the autocompletion script for the specified shell",
                    &COMPLETION,
                )
            },
            Command {
                flags: &[Flag::new(
                    "data-dir",
                    Kind::Text,
                    "Required. Defragments a data directory not in use by etcd.",
                )],
                ..Command::leaf(
                    "defrag",
                    "Defragments the storage of the etcd",
                    Action::Run { required: &["data-dir"], words: None, run: etcd_only::defrag },
                )
            },
            Command {
                flags: &[Flag::new("rev", Kind::Int, "maximum revision to hash (default: latest revision)")],
                ..Command::leaf(
                    "hashkv <filename>",
                    "Prints the KV history hash of a given file",
                    Action::Run { required: &[], words: Some(1), run: hash::hash },
                )
            },
            Command::leaf("help [command]", "Help about any command", Action::Help),
            Command {
                flags: &IMPORT_FLAGS,
                ..Command::leaf(
                    "import <etcd data dir> --data-dir {output dir} [options]",
                    "Makes a data directory of the one of a stopped etcd (3.4 to 3.7)",
                    run(import::import),
                )
            },
            Command {
                flags: &[
                    Flag::new("data-dir", Kind::Text, "Path to the etcd data dir"),
                    Flag::new(
                        "target-version",
                        Kind::Text,
                        "Target etcd version to migrate contents of data dir. Minimal value 3.5. Format \"X.Y\" for example 3.6.",
                    ),
                    Flag::new(
                        "force",
                        Kind::Bool,
                        "Ignore migration failure and forcefully override storage version. Not recommended.",
                    ),
                ],
                ..Command::leaf(
                    "migrate",
                    "Migrates schema of etcd data dir files to make them compatible with different etcd version",
                    Action::Run { required: &["data-dir", "target-version"], words: None, run: etcd_only::migrate },
                )
            },
            Command {
                flags: &RECOVER_FLAGS,
                ..Command::leaf(
                    "recover <surviving data dir> --data-dir {output dir} [options]",
                    "Makes a new cluster of one member out of the directory of a member that survived",
                    run(recover::recover),
                )
            },
            Command::parent("snapshot <subcommand>", "Manages etcd node snapshots", &SNAPSHOT),
            Command::leaf("version", "Prints the version of etcdutl", Action::Version),
        ],
    )
};
