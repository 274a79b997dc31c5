//! Which commands there are, with their flags and texts: those of etcdctl 3.4.
//!
//! Not here: what they do.

use super::flags::{Flag, Kind};
use super::run::Context;
use super::{Exit, accounts, copy, health, keys, members, watch};
use std::future::Future;
use std::pin::Pin;

/// What a command does.
pub(super) type Action = fn(Context) -> Pin<Box<dyn Future<Output = Result<(), Exit>>>>;

/// A command.
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) usage: &'static str,
    pub(super) words: &'static str,
    pub(super) description: &'static str,
    pub(super) flags: &'static [Flag],
    pub(super) action: Doing,
}

/// What a command is.
pub(super) enum Doing {
    Run(Action),
    Group(&'static [Command]),
}

const fn flag(names: &'static [&'static str], kind: Kind, usage: &'static str) -> Flag {
    let default = if matches!(kind, Kind::Int) { "0" } else { "" };
    Flag { names, kind, usage, default }
}

const fn or(flag: Flag, default: &'static str) -> Flag {
    Flag { default, ..flag }
}

pub(super) const FLAGS: &[Flag] = &[
    flag(&["debug"], Kind::Bool, "output cURL commands which can be used to reproduce the request"),
    flag(&["no-sync"], Kind::Bool, "don't synchronize cluster information before sending request"),
    or(
        flag(&["output", "o"], Kind::Text, "output response in the given format (`simple`, `extended` or `json`)"),
        "simple",
    ),
    flag(&["discovery-srv", "D"], Kind::Text, "domain name to query for SRV records describing cluster endpoints"),
    flag(&["insecure-discovery"], Kind::Bool, "accept insecure SRV records describing cluster endpoints"),
    flag(&["peers", "C"], Kind::Text, "DEPRECATED - \"--endpoints\" should be used instead"),
    flag(&["endpoint"], Kind::Text, "DEPRECATED - \"--endpoints\" should be used instead"),
    flag(
        &["endpoints"],
        Kind::Text,
        "a comma-delimited list of machine addresses in the cluster (default: \
         \"http://127.0.0.1:2379,http://127.0.0.1:4001\")",
    ),
    flag(&["cert-file"], Kind::Text, "identify HTTPS client using this SSL certificate file"),
    flag(&["key-file"], Kind::Text, "identify HTTPS client using this SSL key file"),
    flag(&["ca-file"], Kind::Text, "verify certificates of HTTPS-enabled servers using this CA bundle"),
    flag(&["username", "u"], Kind::Text, "provide username[:password] and prompt if password is not supplied."),
    or(flag(&["timeout"], Kind::Duration, "connection timeout per request"), "2s"),
    or(flag(&["total-timeout"], Kind::Duration, "timeout for the command execution (except watch)"), "5s"),
];

const TTL: Flag = flag(&["ttl"], Kind::Int, "key time-to-live in seconds");
const SORT: Flag = flag(&["sort"], Kind::Bool, "returns result in sorted order");
const QUORUM: Flag = flag(&["quorum", "q"], Kind::Bool, "require quorum for get request");
const AFTER_INDEX: Flag = flag(&["after-index"], Kind::Int, "watch after the given index");
const ROLES: &[Flag] = &[flag(&["roles"], Kind::Texts, "List of roles to grant or revoke")];

const SET_DESCRIPTION: &str = "Set sets the value of a key.

   When <value> begins with '-', <value> is interpreted as a flag.
   Insert '--' for workaround:

   $ set -- <key> <value>";

macro_rules! command {
    ($name:literal, $usage:literal, $words:literal, $flags:expr, $action:expr) => {
        Command {
            name: $name,
            usage: $usage,
            words: $words,
            description: "",
            flags: $flags,
            action: Doing::Run(|context| Box::pin($action(context))),
        }
    };
}

const fn group(name: &'static str, usage: &'static str, commands: &'static [Command]) -> Command {
    Command { name, usage, words: "", description: "", flags: &[], action: Doing::Group(commands) }
}

pub(super) const COMMANDS: &[Command] = &[
    command!("backup", "backup an etcd directory", " ", BACKUP, health::backup),
    command!(
        "cluster-health",
        "check the health of the etcd cluster",
        " ",
        &[flag(&["forever", "f"], Kind::Bool, "forever check the health every 10 second until CTRL+C")],
        health::cluster_health
    ),
    command!(
        "mk",
        "make a new key with a given value",
        "<key> <value>",
        &[flag(&["in-order"], Kind::Bool, "create in-order key under directory <key>"), TTL],
        keys::mk
    ),
    command!("mkdir", "make a new directory", "<key>", &[TTL], keys::mkdir),
    command!(
        "rm",
        "remove a key or a directory",
        "<key>",
        &[
            flag(&["dir"], Kind::Bool, "removes the key if it is an empty directory or a key-value pair"),
            flag(&["recursive", "r"], Kind::Bool, "removes the key and all child keys(if it is a directory)"),
            flag(&["with-value"], Kind::Text, "previous value"),
            flag(&["with-index"], Kind::Int, "previous index"),
        ],
        keys::rm
    ),
    command!("rmdir", "removes the key if it is an empty directory or a key-value pair", "<key>", &[], keys::rmdir),
    command!("get", "retrieve the value of a key", "<key>", &[SORT, QUORUM], keys::get),
    command!(
        "ls",
        "retrieve a directory",
        "[key]",
        &[
            SORT,
            flag(&["recursive", "r"], Kind::Bool, "returns all key names recursively for the given path"),
            flag(&["p"], Kind::Bool, "append slash (/) to directories"),
            QUORUM,
        ],
        keys::ls
    ),
    Command {
        description: SET_DESCRIPTION,
        ..command!(
            "set",
            "set the value of a key",
            "<key> <value>",
            &[
                TTL,
                flag(&["swap-with-value"], Kind::Text, "previous value"),
                flag(&["swap-with-index"], Kind::Int, "previous index"),
            ],
            keys::set
        )
    },
    command!("setdir", "create a new directory or update an existing directory TTL", "<key>", &[TTL], keys::setdir),
    command!("update", "update an existing key with a given value", "<key> <value>", &[TTL], keys::update),
    command!("updatedir", "update an existing directory", "<key> <value>", &[TTL], keys::updatedir),
    command!(
        "watch",
        "watch a key for changes",
        "<key>",
        &[
            flag(&["forever", "f"], Kind::Bool, "forever watch a key until CTRL+C"),
            AFTER_INDEX,
            flag(&["recursive", "r"], Kind::Bool, "returns all values for key and child keys"),
        ],
        watch::watch
    ),
    command!(
        "exec-watch",
        "watch a key for changes and exec an executable",
        "<key> <command> [args...]",
        &[AFTER_INDEX, flag(&["recursive", "r"], Kind::Bool, "watch all values for key and child keys")],
        watch::exec_watch
    ),
    group(
        "member",
        "member add, remove and list subcommands",
        &[
            command!("list", "enumerate existing cluster members", " ", &[], members::list),
            command!("add", "add a new member to the etcd cluster", "<name> <peerURL>", &[], members::add),
            command!("remove", "remove an existing member from the etcd cluster", "<memberID>", &[], members::remove),
            command!(
                "update",
                "update an existing member in the etcd cluster",
                "<memberID> <peerURLs>",
                &[],
                members::update
            ),
        ],
    ),
    group(
        "user",
        "user add, grant and revoke subcommands",
        &[
            command!("add", "add a new user for the etcd cluster", "<user>", &[], accounts::user_add),
            command!("get", "get details for a user", "<user>", &[], accounts::user_get),
            command!("list", "list all current users", "<user>", &[], accounts::user_list),
            command!("remove", "remove a user for the etcd cluster", "<user>", &[], accounts::user_remove),
            command!("grant", "grant roles to an etcd user", "<user>", ROLES, accounts::user_grant),
            command!("revoke", "revoke roles for an etcd user", "<user>", ROLES, accounts::user_revoke),
            command!("passwd", "change password for a user", "<user>", &[], accounts::user_passwd),
        ],
    ),
    group(
        "role",
        "role add, grant and revoke subcommands",
        &[
            command!("add", "add a new role for the etcd cluster", "<role> ", &[], accounts::role_add),
            command!("get", "get details for a role", "<role>", &[], accounts::role_get),
            command!("list", "list all roles", " ", &[], accounts::role_list),
            command!("remove", "remove a role from the etcd cluster", "<role>", &[], accounts::role_remove),
            command!(
                "grant",
                "grant path matches to an etcd role",
                "<role>",
                &[
                    flag(&["path"], Kind::Text, "Path granted for the role to access"),
                    flag(&["read"], Kind::Bool, "Grant read-only access"),
                    flag(&["write"], Kind::Bool, "Grant write-only access"),
                    flag(&["readwrite", "rw"], Kind::Bool, "Grant read-write access"),
                ],
                accounts::role_grant
            ),
            command!(
                "revoke",
                "revoke path matches for an etcd role",
                "<role>",
                &[
                    flag(&["path"], Kind::Text, "Path revoked for the role to access"),
                    flag(&["read"], Kind::Bool, "Revoke read access"),
                    flag(&["write"], Kind::Bool, "Revoke write access"),
                    flag(&["readwrite", "rw"], Kind::Bool, "Revoke read-write access"),
                ],
                accounts::role_revoke
            ),
        ],
    ),
    group(
        "auth",
        "overall auth controls",
        &[
            command!("enable", "enable auth access controls", " ", &[], accounts::auth_enable),
            command!("disable", "disable auth access controls", " ", &[], accounts::auth_disable),
        ],
    ),
];

const BACKUP: &[Flag] = &[
    flag(&["data-dir"], Kind::Text, "Path to the etcd data dir"),
    flag(&["wal-dir"], Kind::Text, "Path to the etcd wal dir"),
    flag(&["backup-dir"], Kind::Text, "Path to the backup dir"),
    flag(&["backup-wal-dir"], Kind::Text, "Path to the backup wal dir"),
    flag(&["with-v3"], Kind::Bool, "Backup v3 backend data"),
];

/// What etcdctl has not; only of the program by its own name.
pub(super) const OWN_COMMANDS: &[Command] = &[command!(
    "copy",
    "copy the keys of another cluster, with their times to live, while both run",
    " ",
    &[
        flag(&["from"], Kind::Text, "a comma-delimited list of machine addresses of the other cluster"),
        flag(&["from-username"], Kind::Text, "username[:password] at the other cluster"),
        or(flag(&["prefix"], Kind::Text, "the directory to copy"), "/"),
        flag(&["follow", "f"], Kind::Bool, "go on with every change of the other cluster until CTRL+C"),
    ],
    copy::copy
)];
