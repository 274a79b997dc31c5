//! Every command of etcdctl: its name, its flags, its one-line help, and what runs for it.
//!
//! Not here: what a command does (`action`). The invariant: names, flags and usage lines are etcdctl's, since both
//! scripts and error texts are made of them.

use futures::future::LocalBoxFuture;

use super::action::{about, check, make_mirror, service, shell, top, txn, user, watch};
use super::action::{
    alarm, auth, downgrade, elect, endpoint, kv, lease, lock, maintenance, member, replace, role, snapshot,
};
use super::entry::Invocation;
use super::failure::Failure;
use super::settings;
use crate::command_line::flag::{Flag, Hint, Kind};
use crate::command_line::tree::Command;

/// What runs for a command.
pub(crate) type Action = fn(Invocation) -> LocalBoxFuture<'static, Result<(), Failure>>;

const KEY_VALUE: &str = "Key-value commands";
const CLUSTER: &str = "Cluster maintenance commands";
const CONCURRENCY: &str = "Concurrency commands";
const AUTHENTICATION: &str = "Authentication commands";
const UTILITY: &str = "Utility commands";

const CONSISTENCY: Flag = Flag::new("consistency", Kind::Text, "Linearizable(l) or Serializable(s)")
    .or("l")
    .offering(Hint::OneOf(&["l", "s"]));

/// The command path under this program's own name.
pub(crate) const OWN_PROGRAM: &str = "quorate ctl";

/// The root of the tree for a program of this name: under its own, this one has commands that etcdctl has not.
pub(crate) fn root(program: &str) -> &'static Command<Action> {
    if program == OWN_PROGRAM { &OWN_ROOT } else { &ROOT }
}

static OWN_ROOT: Command<Action> = Command {
    long: "Talks to a running cluster, as etcdctl does.",
    inherited: settings::FLAGS,
    shows_inherited: false,
    lesson: "PROGRAM put greeting hello\nPROGRAM get greeting\nPROGRAM --endpoints=10.0.0.1:2379,10.0.0.2:2379 endpoint status -w table",
    ..Command::parent(
        "etcdctl",
        "",
        &[
            COMPACTION,
            DEL,
            GET,
            LEASE,
            PUT,
            TXN,
            WATCH,
            ALARM,
            DEFRAG,
            DOWNGRADE,
            ENDPOINT,
            HEALTH,
            OWN_MEMBER,
            MOVE_LEADER,
            SNAPSHOT,
            TOP,
            DISCOVER,
            ELECT,
            LOCK,
            MEMBERS,
            OBSERVE,
            REGISTER,
            AUTH,
            ROLE,
            USER,
            CHECK,
            COMPLETION,
            HELP,
            MAKE_MIRROR,
            MAN,
            OPTIONS,
            VERSION,
        ],
    )
};

/// The root of the tree.
pub(crate) static ROOT: Command<Action> = Command {
    long: "A simple command line client for etcd3.",
    inherited: settings::FLAGS,
    shows_inherited: false,
    ..Command::parent(
        "etcdctl",
        "",
        &[
            COMPACTION,
            DEL,
            GET,
            LEASE,
            PUT,
            TXN,
            WATCH,
            ALARM,
            DEFRAG,
            DOWNGRADE,
            ENDPOINT,
            MEMBER,
            MOVE_LEADER,
            SNAPSHOT,
            ELECT,
            LOCK,
            AUTH,
            ROLE,
            USER,
            CHECK,
            COMPLETION,
            HELP,
            MAKE_MIRROR,
            OPTIONS,
            VERSION,
        ],
    )
};

/// `get`; also an operation of a transaction.
pub(crate) const GET: Command<Action> = Command {
    group: KEY_VALUE,
    flags: &[
        CONSISTENCY,
        Flag::new("order", Kind::Text, "Order of results; ASCEND or DESCEND (ASCEND by default)")
            .offering(Hint::OneOf(&["ASCEND", "DESCEND"])),
        Flag::new("sort-by", Kind::Text, "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION")
            .offering(Hint::OneOf(&["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"])),
        Flag::new("limit", Kind::Int, "Maximum number of results"),
        Flag::new("prefix", Kind::Bool, "Get keys with matching prefix"),
        Flag::new(
            "from-key",
            Kind::Bool,
            "Get keys that are greater than or equal to the given key using byte compare",
        ),
        Flag::new("rev", Kind::Int, "Specify the kv revision"),
        Flag::new("keys-only", Kind::Bool, "Get only the keys"),
        Flag::new("count-only", Kind::Bool, "Get only the count"),
        Flag::new("print-value-only", Kind::Bool, "Only write values when using the \"simple\" output format"),
        Flag::new("min-create-rev", Kind::Int, "Minimum create revision"),
        Flag::new("max-create-rev", Kind::Int, "Maximum create revision"),
        Flag::new("min-mod-rev", Kind::Int, "Minimum modification revision"),
        Flag::new("max-mod-rev", Kind::Int, "Maximum modification revision"),
        Flag::new("stream", Kind::Bool, "Use the RangeStream RPC"),
    ],
    lesson: "PROGRAM get greeting\nPROGRAM get config/ --prefix --keys-only\nPROGRAM get a z --limit=10 --sort-by=MODIFY --order=DESCEND -w json",
    ..Command::leaf("get [options] <key> [range_end]", "Gets the key or a range of keys", |run| Box::pin(kv::get(run)))
};

/// `put`; also an operation of a transaction.
pub(crate) const PUT: Command<Action> = Command {
    long: "Puts the given key into the store.

A <value> that begins with '-' would be read as a flag; '--' in front of it ends the flags:

  put <key> -- <value>
  put -- <key> <value>

Without a <value>, and without --ignore-value, the value is read from standard input:

  cat file | put <key>
",
    group: KEY_VALUE,
    flags: &[
        Flag::new("lease", Kind::Text, "lease ID (in hexadecimal) to attach to the key").or("0"),
        Flag::new("prev-kv", Kind::Bool, "return the previous key-value pair before modification"),
        Flag::new("ignore-value", Kind::Bool, "updates the key using its current value"),
        Flag::new("ignore-lease", Kind::Bool, "updates the key using its current lease"),
    ],
    lesson: "PROGRAM put greeting hello\nPROGRAM put config/limits --lease=32695410dcc0ca06 < limits.json",
    ..Command::leaf(
        "put [options] <key> <value> (<value> can also be given from stdin)",
        "Puts the given key into the store",
        |run| Box::pin(kv::put(run)),
    )
};

/// `del`; also an operation of a transaction.
pub(crate) const DEL: Command<Action> = Command {
    group: KEY_VALUE,
    flags: &[
        Flag::new("prefix", Kind::Bool, "delete keys with matching prefix"),
        Flag::new("prev-kv", Kind::Bool, "return deleted key-value pairs"),
        Flag::new(
            "from-key",
            Kind::Bool,
            "delete keys that are greater than or equal to the given key using byte compare",
        ),
        Flag::new("range", Kind::Bool, "delete range of keys"),
    ],
    lesson: "PROGRAM del greeting\nPROGRAM del config/ --prefix --prev-kv",
    ..Command::leaf(
        "del [options] <key> [range_end]",
        "Removes the specified key or range of keys [key, range_end)",
        |run| Box::pin(kv::delete(run)),
    )
};

const TXN: Command<Action> = Command {
    long: "Txn processes all the requests in one transaction.

A transaction is read from standard input in three parts, each ended by an empty line: conditions, the requests if all
of them hold, and the requests if one does not.

  mod(\"key1\") > \"0\"

  put key1 \"overwrote-key1\"

  put key1 \"created-key1\"
  put key2 \"some extra key\"

A condition compares ver (or version), c (create), m (mod), val (value) or lease of a key by =, !=, < or >.
",
    group: KEY_VALUE,
    flags: &[Flag::new("interactive", Kind::Bool, "Input transaction in interactive mode").short('i')],
    ..Command::leaf("txn [options]", "Txn processes all the requests in one transaction", |run| Box::pin(txn::txn(run)))
};

const COMPACTION: Command<Action> = Command {
    aliases: &["compact"],
    group: KEY_VALUE,
    flags: &[Flag::new("physical", Kind::Bool, "'true' to wait for compaction to physically remove all old revisions")],
    lesson: "PROGRAM compaction 1234",
    ..Command::leaf("compaction [options] <revision>", "Compacts the event history in etcd", |run| {
        Box::pin(maintenance::compact(run))
    })
};

/// `watch`; also a line of its own interactive form.
pub(crate) const WATCH: Command<Action> = Command {
    group: KEY_VALUE,
    flags: &[
        Flag::new("interactive", Kind::Bool, "Interactive mode").short('i'),
        Flag::new("prefix", Kind::Bool, "Watch on a prefix if prefix is set"),
        Flag::new("rev", Kind::Int, "Revision to start watching"),
        Flag::new("prev-kv", Kind::Bool, "get the previous key-value pair before the event happens"),
        Flag::new("progress-notify", Kind::Bool, "get periodic watch progress notification from server"),
    ],
    lesson: "PROGRAM watch config/ --prefix --rev=1\nPROGRAM watch greeting -- sh -c \"echo $ETCD_WATCH_VALUE\"",
    ..Command::leaf(
        "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        "Watches events stream on keys or prefixes",
        |run| Box::pin(watch::watch(run)),
    )
};

const LEASE: Command<Action> = Command {
    group: KEY_VALUE,
    long: "Lease related commands",
    ..Command::parent(
        "lease",
        "Lease related commands. Use `etcdctl lease --help` to see subcommands",
        &[
            Command {
                lesson: "PROGRAM lease grant 60",
                ..Command::leaf("grant <ttl>", "Creates leases", |run| Box::pin(lease::grant(run)))
            },
            Command {
                flags: &[Flag::new(
                    "once",
                    Kind::Bool,
                    "Resets the keep-alive time to its original value and cobrautl.Exits immediately",
                )],
                lesson: "PROGRAM lease keep-alive 32695410dcc0ca06",
                ..Command::leaf("keep-alive [options] <leaseID>", "Keeps leases alive (renew)", |run| {
                    Box::pin(lease::keep_alive(run))
                })
            },
            Command {
                lesson: "PROGRAM lease list",
                ..Command::leaf("list", "List all active leases", |run| Box::pin(lease::list(run)))
            },
            Command {
                lesson: "PROGRAM lease revoke 32695410dcc0ca06",
                ..Command::leaf("revoke <leaseID>", "Revokes leases", |run| Box::pin(lease::revoke(run)))
            },
            Command {
                flags: &[Flag::new("keys", Kind::Bool, "Get keys attached to this lease")],
                lesson: "PROGRAM lease timetolive 32695410dcc0ca06 --keys",
                ..Command::leaf("timetolive <leaseID> [options]", "Get lease information", |run| {
                    Box::pin(lease::time_to_live(run))
                })
            },
        ],
    )
};

const ALARM: Command<Action> = Command {
    group: CLUSTER,
    long: "Alarm related commands",
    ..Command::parent(
        "alarm",
        "Alarm related commands. Use `etcdctl alarm --help` to see subcommands",
        &[
            Command {
                lesson: "PROGRAM alarm disarm",
                ..Command::leaf("disarm", "Disarms all alarms", |run| Box::pin(alarm::disarm(run)))
            },
            Command {
                lesson: "PROGRAM alarm list",
                ..Command::leaf("list", "Lists all alarms", |run| Box::pin(alarm::list(run)))
            },
        ],
    )
};

const CLUSTER_FLAG: Flag = Flag::new("cluster", Kind::Bool, "use all endpoints from the cluster member list");

const DEFRAG: Command<Action> = Command {
    group: CLUSTER,
    flags: &[CLUSTER_FLAG],
    lesson: "PROGRAM defrag --cluster",
    ..Command::leaf("defrag", "Defragments the storage of the etcd members with given endpoints", |run| {
        Box::pin(endpoint::defragment(run))
    })
};

const DOWNGRADE: Command<Action> = Command {
    group: CLUSTER,
    long: "Downgrade related commands",
    ..Command::parent(
        "downgrade",
        "Downgrade related commands. Use `etcdctl downgrade --help` to see subcommands",
        &[
            Command {
                lesson: "PROGRAM downgrade cancel",
                ..Command::leaf("cancel", "Cancel the ongoing downgrade action to cluster", |run| {
                    Box::pin(downgrade::cancel(run))
                })
            },
            Command {
                lesson: "PROGRAM downgrade enable 3.6",
                ..Command::leaf("enable <TARGET_VERSION>", "Start a downgrade action to cluster", |run| {
                    Box::pin(downgrade::enable(run))
                })
            },
            Command {
                lesson: "PROGRAM downgrade validate 3.6",
                ..Command::leaf(
                    "validate <TARGET_VERSION>",
                    "Validate downgrade capability before starting downgrade",
                    |run| Box::pin(downgrade::validate(run)),
                )
            },
        ],
    )
};

const ENDPOINT: Command<Action> = Command {
    group: CLUSTER,
    long: "Endpoint related commands",
    inherited: &[CLUSTER_FLAG],
    ..Command::parent(
        "endpoint",
        "Endpoint related commands. Use `etcdctl endpoint --help` to see subcommands",
        &[
            Command {
                flags: &[Flag::new("rev", Kind::Int, "maximum revision to hash (default: latest revision)")],
                lesson: "PROGRAM endpoint hashkv --cluster --rev=1234",
                ..Command::leaf("hashkv", "Prints the KV history hash for each endpoint in --endpoints", |run| {
                    Box::pin(endpoint::hash_kv(run))
                })
            },
            Command {
                lesson: "PROGRAM endpoint health --cluster",
                ..Command::leaf(
                    "health",
                    "Checks the healthiness of endpoints specified in `--endpoints` flag",
                    |run| Box::pin(endpoint::health(run)),
                )
            },
            Command {
                lesson: "PROGRAM endpoint status --cluster -w table",
                ..Command::leaf("status", "Prints out the status of endpoints specified in `--endpoints` flag", |run| {
                    Box::pin(endpoint::status(run))
                })
            },
        ],
    )
};

const PEER_URLS: Flag = Flag::new("peer-urls", Kind::Text, "comma separated peer URLs for the new member.");

const LEARNER: Flag = Flag::new("learner", Kind::Bool, "indicates if the new member is raft learner");

const MEMBER_ADD: Command<Action> = Command {
    flags: &[PEER_URLS, LEARNER],
    lesson: "PROGRAM member add node4 --peer-urls=http://10.0.0.4:2380 --learner",
    ..Command::leaf("add <memberName> [options]", "Adds a member into the cluster", |run| Box::pin(member::add(run)))
};

const MEMBER_LIST: Command<Action> = Command {
    long: "When --write-out is set to simple, this command prints out comma-separated member lists for \
           each endpoint.\nThe items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is \
           Learner.",
    flags: &[CONSISTENCY],
    lesson: "PROGRAM member list -w table",
    ..Command::leaf("list", "Lists all members in the cluster", |run| Box::pin(member::list(run)))
};

const MEMBER_PROMOTE: Command<Action> = Command {
    lesson: "PROGRAM member promote 8e9e05c52164694d",
    ..Command::leaf("promote <memberID>", "Promotes a non-voting member in the cluster", |run| {
        Box::pin(member::promote(run))
    })
};

const MEMBER_REMOVE: Command<Action> = Command {
    lesson: "PROGRAM member remove 8e9e05c52164694d",
    ..Command::leaf("remove <memberID>", "Removes a member from the cluster", |run| Box::pin(member::remove(run)))
};

const MEMBER_UPDATE: Command<Action> = Command {
    flags: &[Flag::new("peer-urls", Kind::Text, "comma separated peer URLs for the updated member.")],
    lesson: "PROGRAM member update 8e9e05c52164694d --peer-urls=http://10.0.0.4:2380",
    ..Command::leaf("update <memberID> [options]", "Updates a member in the cluster", |run| {
        Box::pin(member::update(run))
    })
};

const MEMBER: Command<Action> = Command {
    group: CLUSTER,
    long: "Membership related commands",
    ..Command::parent(
        "member",
        "Membership related commands. Use `etcdctl member --help` to see subcommands",
        &[MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, MEMBER_UPDATE],
    )
};

/// What `quorate ctl` has of it.
const OWN_MEMBER: Command<Action> = Command {
    group: CLUSTER,
    long: "Membership related commands",
    ..Command::parent(
        "member",
        "Membership related commands. Use `etcdctl member --help` to see subcommands",
        &[
            Command {
                flags: &[
                    PEER_URLS,
                    LEARNER,
                    Flag::new(
                        "auto-promote",
                        Kind::Bool,
                        "the new member begins as a learner, and the leader promotes it as soon as it has caught up",
                    ),
                ],
                lesson: "PROGRAM member add node4 --peer-urls=http://10.0.0.4:2380 --auto-promote",
                ..MEMBER_ADD
            },
            MEMBER_LIST,
            MEMBER_PROMOTE,
            MEMBER_REMOVE,
            Command {
                flags: &[
                    PEER_URLS,
                    Flag::new("wait", Kind::Duration, "how long the new member may take to start and to catch up")
                        .or("10m"),
                ],
                lesson: "PROGRAM member replace 8e9e05c52164694d node4 --peer-urls=http://10.0.0.4:2380",
                long: "Adds a member as a learner, waits until it was started and promoted, and removes the old one; an old \
                       one that does not run, or has the same URL, is removed first. It can be repeated.",
                ..Command::leaf(
                    "replace <oldMemberID> <newMemberName> [options]",
                    "Replaces a member by a new one",
                    |run| Box::pin(replace::replace(run)),
                )
            },
            MEMBER_UPDATE,
        ],
    )
};

const MOVE_LEADER: Command<Action> = Command {
    group: CLUSTER,
    lesson: "PROGRAM --endpoints=10.0.0.1:2379,10.0.0.2:2379 move-leader 8e9e05c52164694d",
    ..Command::leaf(
        "move-leader <transferee-member-id>",
        "Transfers leadership to another etcd cluster member.",
        |run| Box::pin(endpoint::move_leader(run)),
    )
};

const SNAPSHOT_EXAMPLES: &str = "  # Save snapshot to a given file
  PROGRAM snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address and save it to file
  PROGRAM snapshot save --endpoints=127.0.0.1:3000 /backup/etcd-snapshot.db
  
  # Get snapshot from given address with certificates
  PROGRAM --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ca.crt --cert=/etc/etcd/etcd.crt --key=/etc/etcd/etcd.key snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot with certain user and password
  PROGRAM --user=root --password=password123 snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address with timeout
  PROGRAM --endpoints=https://127.0.0.1:2379 --dial-timeout=20s snapshot save /backup/etcd-snapshot.db
  
  # Save snapshot with desirable time format
  PROGRAM snapshot save /mnt/backup/etcd/backup_$(date +%Y%m%d_%H%M%S).db";

const SNAPSHOT: Command<Action> = Command {
    group: CLUSTER,
    examples: SNAPSHOT_EXAMPLES,
    ..Command::parent(
        "snapshot",
        "Manages etcd node snapshots",
        &[Command {
            examples: SNAPSHOT_EXAMPLES,
            words: Hint::File,
            ..Command::leaf("save <filename>", "Stores an etcd node backend snapshot to a given file", |run| {
                Box::pin(snapshot::save(run))
            })
        }],
    )
};

const HEALTH: Command<Action> = Command {
    group: CLUSTER,
    flags: &[
        Flag::new("cluster", Kind::Bool, "use all endpoints from the cluster member list"),
        Flag::new("interval", Kind::Duration, "how long to wait between two rounds").or("10s"),
        Flag::new("watch", Kind::Bool, "ask again and again, and show what changes"),
    ],
    lesson: "PROGRAM health --cluster\nPROGRAM health --watch --interval=5s",
    ..Command::leaf("health [options]", "Says whether the cluster serves, once or as it changes", |run| {
        Box::pin(endpoint::cluster_health(run))
    })
};

const DISCOVER: Command<Action> = Command {
    group: CONCURRENCY,
    flags: &[Flag::new("watch", Kind::Bool, "show each change, until interrupted")],
    lesson: "PROGRAM discover services/web\nPROGRAM discover services/web --watch",
    ..Command::leaf("discover <service> [options]", "Shows the registered instances of a service", |run| {
        Box::pin(service::discover(run))
    })
};

const MEMBERS: Command<Action> = Command {
    group: CONCURRENCY,
    flags: &[Flag::new("watch", Kind::Bool, "show who comes and goes, until interrupted")],
    lesson: "PROGRAM members workers\nPROGRAM members workers --watch",
    ..Command::leaf("members <group> [options]", "Shows the members of an application's group", |run| {
        Box::pin(service::members(run))
    })
};

const OBSERVE: Command<Action> = Command {
    group: CONCURRENCY,
    flags: &[Flag::new("changes-only", Kind::Bool, "do not show the keys as they are first")],
    lesson: "PROGRAM observe config/\nPROGRAM observe config/ --changes-only",
    ..Command::leaf("observe <prefix> [options]", "Shows keys and each change of them, also over compactions", |run| {
        Box::pin(service::observe(run))
    })
};

const REGISTER: Command<Action> = Command {
    group: CONCURRENCY,
    flags: &[Flag::new("ttl", Kind::Int, "timeout for session").or("10")],
    lesson: "PROGRAM register services/web host-7 10.0.0.7:80\nPROGRAM register services/web host-7 10.0.0.7:80 -- ./web-server",
    ..Command::leaf(
        "register <service> <instance> <address> [exec-command arg1 arg2 ...]",
        "Registers an instance of a service, until interrupted or while a command runs",
        |run| Box::pin(service::register(run)),
    )
};

const ELECT: Command<Action> = Command {
    group: CONCURRENCY,
    flags: &[Flag::new("listen", Kind::Bool, "observation mode").short('l')],
    lesson: "PROGRAM elect leader node1\nPROGRAM elect leader --listen",
    ..Command::leaf("elect <election-name> [proposal]", "Observes and participates in leader election", |run| {
        Box::pin(elect::elect(run))
    })
};

const LOCK: Command<Action> = Command {
    group: CONCURRENCY,
    flags: &[Flag::new("ttl", Kind::Int, "timeout for session").or("10")],
    lesson: "PROGRAM lock backup\nPROGRAM lock backup -- tar -czf /backup/data.tgz /data",
    ..Command::leaf("lock <lockname> [exec-command arg1 arg2 ...]", "Acquires a named lock", |run| {
        Box::pin(lock::lock(run))
    })
};

const AUTH: Command<Action> = Command {
    group: AUTHENTICATION,
    long: "Enable or disable authentication",
    ..Command::parent(
        "auth",
        "Enable or disable authentication. Use `etcdctl auth --help` to see subcommands",
        &[
            Command {
                lesson: "PROGRAM --user=root:secret auth disable",
                ..Command::leaf("disable", "Disables authentication", |run| Box::pin(auth::disable(run)))
            },
            Command {
                lesson: "PROGRAM user add root:secret\nPROGRAM auth enable",
                ..Command::leaf("enable", "Enables authentication", |run| Box::pin(auth::enable(run)))
            },
            Command {
                lesson: "PROGRAM auth status",
                ..Command::leaf("status", "Returns authentication status", |run| Box::pin(auth::status(run)))
            },
        ],
    )
};

const ROLE: Command<Action> = Command {
    group: AUTHENTICATION,
    long: "Role related commands",
    ..Command::parent(
        "role",
        "Role related commands. Use `etcdctl role --help` to see subcommands",
        &[
            Command {
                lesson: "PROGRAM role add reader",
                ..Command::leaf("add <role name>", "Adds a new role", |run| Box::pin(role::add(run)))
            },
            Command {
                lesson: "PROGRAM role delete reader",
                ..Command::leaf("delete <role name>", "Deletes a role", |run| Box::pin(role::delete(run)))
            },
            Command {
                lesson: "PROGRAM role get reader",
                ..Command::leaf("get <role name>", "Gets detailed information of a role", |run| {
                    Box::pin(role::get(run))
                })
            },
            Command {
                flags: &[
                    Flag::new("prefix", Kind::Bool, "grant a prefix permission"),
                    Flag::new(
                        "from-key",
                        Kind::Bool,
                        "grant a permission of keys that are greater than or equal to the given key using byte compare",
                    ),
                ],
                lesson: "PROGRAM role grant-permission reader read config/ --prefix",
                ..Command::leaf(
                    "grant-permission [options] <role name> <permission type> <key> [endkey]",
                    "Grants a key to a role",
                    |run| Box::pin(role::grant(run)),
                )
            },
            Command {
                lesson: "PROGRAM role list",
                ..Command::leaf("list", "Lists all roles", |run| Box::pin(role::list(run)))
            },
            Command {
                flags: &[
                    Flag::new("prefix", Kind::Bool, "revoke a prefix permission"),
                    Flag::new(
                        "from-key",
                        Kind::Bool,
                        "revoke a permission of keys that are greater than or equal to the given key using byte compare",
                    ),
                ],
                lesson: "PROGRAM role revoke-permission reader config/ --prefix",
                ..Command::leaf("revoke-permission <role name> <key> [endkey]", "Revokes a key from a role", |run| {
                    Box::pin(role::revoke(run))
                })
            },
        ],
    )
};

const INTERACTIVE: Flag = Flag {
    default: "true",
    ..Flag::new("interactive", Kind::Bool, "Read password from stdin instead of interactive terminal")
};

const USER: Command<Action> = Command {
    group: AUTHENTICATION,
    long: "User related commands",
    ..Command::parent(
        "user",
        "User related commands. Use `etcdctl user --help` to see subcommands",
        &[
            Command {
                flags: &[
                    INTERACTIVE,
                    Flag::new("new-user-password", Kind::Text, "Supply password from the command line flag"),
                    Flag::new("no-password", Kind::Bool, "Create a user without password (CN based auth only)"),
                ],
                lesson: "PROGRAM user add alice\nPROGRAM user add alice:secret",
                ..Command::leaf("add <user name or user:password> [options]", "Adds a new user", |run| {
                    Box::pin(user::add(run))
                })
            },
            Command {
                lesson: "PROGRAM user delete alice",
                ..Command::leaf("delete <user name>", "Deletes a user", |run| Box::pin(user::delete(run)))
            },
            Command {
                flags: &[Flag::new("detail", Kind::Bool, "Show permissions of roles granted to the user")],
                lesson: "PROGRAM user get alice --detail",
                ..Command::leaf("get <user name> [options]", "Gets detailed information of a user", |run| {
                    Box::pin(user::get(run))
                })
            },
            Command {
                lesson: "PROGRAM user grant-role alice reader",
                ..Command::leaf("grant-role <user name> <role name>", "Grants a role to a user", |run| {
                    Box::pin(user::grant_role(run))
                })
            },
            Command {
                lesson: "PROGRAM user list",
                ..Command::leaf("list", "Lists all users", |run| Box::pin(user::list(run)))
            },
            Command {
                flags: &[Flag {
                    default: "true",
                    ..Flag::new(
                        "interactive",
                        Kind::Bool,
                        "If true, read password from stdin instead of interactive terminal",
                    )
                }],
                lesson: "PROGRAM user passwd alice",
                ..Command::leaf("passwd <user name> [options]", "Changes password of user", |run| {
                    Box::pin(user::change_password(run))
                })
            },
            Command {
                lesson: "PROGRAM user revoke-role alice reader",
                ..Command::leaf("revoke-role <user name> <role name>", "Revokes a role from a user", |run| {
                    Box::pin(user::revoke_role(run))
                })
            },
        ],
    )
};

const HELP: Command<Action> = Command {
    group: UTILITY,
    lesson: "PROGRAM help lease grant",
    ..Command::leaf("help [command]", "Help about any command", |run| Box::pin(about::help(run)))
};

const LOADS: Hint = Hint::OneOf(&["small", "medium", "large", "xLarge"]);
const AUTO_COMPACT: Flag =
    Flag::new("auto-compact", Kind::Bool, "Compact storage with last revision after test is finished.");
const AUTO_DEFRAGMENT: Flag = Flag::new("auto-defrag", Kind::Bool, "Defragment storage after test is finished.");

const CHECK: Command<Action> = Command {
    group: UTILITY,
    long: "commands for checking properties of the etcd cluster",
    ..Command::parent(
        "check",
        "commands for checking properties of the etcd cluster. Use `etcdctl check --help` to see subcommands",
        &[
            Command {
                long: "If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first \
                       endpoint will be used.",
                flags: &[
                    Flag::new(
                        "load",
                        Kind::Text,
                        "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), \
                         xl(xLarge)",
                    )
                    .or("s")
                    .offering(LOADS),
                    Flag::new("prefix", Kind::Text, "The prefix for writing the datascale check's keys.")
                        .or("/etcdctl-check-datascale/"),
                    AUTO_COMPACT,
                    AUTO_DEFRAGMENT,
                ],
                lesson: "PROGRAM --endpoints=10.0.0.1:2379 check datascale --load=m --auto-compact",
                ..Command::leaf(
                    "datascale [options]",
                    "Check the memory usage of holding data for different workloads on a given server endpoint.",
                    |run| Box::pin(check::datascale(run)),
                )
            },
            Command {
                flags: &[
                    Flag::new(
                        "load",
                        Kind::Text,
                        "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), \
                         xl(xLarge). Different workload models use different configurations in terms of number of \
                         clients and expected throughput.",
                    )
                    .or("s")
                    .offering(LOADS),
                    Flag::new("prefix", Kind::Text, "The prefix for writing the performance check's keys.")
                        .or("/etcdctl-check-perf/"),
                    AUTO_COMPACT,
                    AUTO_DEFRAGMENT,
                ],
                lesson: "PROGRAM check perf --load=m",
                ..Command::leaf("perf [options]", "Check the performance of the etcd cluster", |run| {
                    Box::pin(check::perf(run))
                })
            },
        ],
    )
};

/// `completion`; its usage is part of its errors.
pub(crate) static COMPLETION_ONLY: Command<Action> = COMPLETION;

const COMPLETION: Command<Action> = Command {
    group: UTILITY,
    long: "Writes a script to the standard output by which a shell completes commands and flags. For this session only:

  bash        source <(etcdctl completion bash)
  zsh         source <(etcdctl completion zsh)
  fish        etcdctl completion fish | source
  PowerShell  etcdctl completion powershell | Out-String | Invoke-Expression

For every session, put it where the shell looks for such scripts:

  bash        /etc/bash_completion.d/etcdctl
  zsh         a file _etcdctl in a folder of $fpath, after `autoload -U compinit; compinit` in ~/.zshrc
  fish        ~/.config/fish/completions/etcdctl.fish
  PowerShell  a file that the profile reads
",
    words: Hint::OneOf(&["bash", "zsh", "fish", "powershell"]),
    usage_names_all: true,
    lesson: "source <(PROGRAM completion bash)",
    ..Command::leaf("completion [bash|zsh|fish|powershell]", "Generate completion script", |run| {
        Box::pin(shell::completion(run))
    })
};

const MAKE_MIRROR: Command<Action> = Command {
    group: UTILITY,
    flags: &[
        Flag::new("prefix", Kind::Text, "Key-value prefix to mirror"),
        Flag::new("rev", Kind::Int, "Specify the kv revision to start to mirror"),
        Flag::new(
            "max-txn-ops",
            Kind::Uint,
            "Maximum number of operations permitted in a transaction during syncing updates.",
        )
        .or("128"),
        Flag::new(
            "dest-prefix",
            Kind::Text,
            "destination prefix to mirror a prefix to a different prefix in the destination cluster",
        ),
        Flag::new("no-dest-prefix", Kind::Bool, "mirror key-values to the root of the destination cluster"),
        Flag::new(
            "dest-cert",
            Kind::Text,
            "Identify secure client using this TLS certificate file for the destination cluster",
        )
        .offering(Hint::File),
        Flag::new("dest-key", Kind::Text, "Identify secure client using this TLS key file").offering(Hint::File),
        Flag::new("dest-cacert", Kind::Text, "Verify certificates of TLS enabled secure servers using this CA bundle")
            .offering(Hint::File),
        Flag::new("dest-insecure-transport", Kind::Bool, "Disable transport security for client connections")
            .or("true"),
        Flag::new(
            "dest-user",
            Kind::Text,
            "Destination username[:password] for authentication (prompt if password is not supplied)",
        ),
        Flag::new(
            "dest-password",
            Kind::Text,
            "Destination password for authentication (if this option is used, --user option shouldn't include \
             password)",
        ),
    ],
    lesson: "PROGRAM --endpoints=10.0.0.1:2379 make-mirror --prefix=config/ --dest-prefix=copy/ 10.0.1.1:2379",
    ..Command::leaf("make-mirror [options] <destination>", "Makes a mirror at the destination etcd cluster", |run| {
        Box::pin(make_mirror::make_mirror(run))
    })
};

const MAN: Command<Action> = Command {
    group: UTILITY,
    flags: &[Flag::new("dir", Kind::Text, "Folder to write the manual pages to").or("man").offering(Hint::File)],
    lesson: "PROGRAM man --dir=/usr/local/share/man/man1",
    ..Command::leaf("man [options]", "Writes manual pages, one for each command", |run| Box::pin(shell::man(run)))
};

const TOP: Command<Action> = Command {
    group: CLUSTER,
    flags: &[
        Flag::new("interval", Kind::Duration, "Time between two looks").or("2s"),
        Flag::new("once", Kind::Bool, "Look twice, print once and end"),
    ],
    lesson: "PROGRAM top\nPROGRAM top --once\nPROGRAM top --interval=10s -w json",
    ..Command::leaf("top [options]", "Shows members, rates, latencies and alarms, again and again", |run| {
        Box::pin(top::top(run))
    })
};

const OPTIONS: Command<Action> = Command {
    group: UTILITY,
    lesson: "PROGRAM options",
    ..Command::leaf("options", "Show the global command-line flags", |run| Box::pin(about::options(run)))
};

const VERSION: Command<Action> = Command {
    group: UTILITY,
    lesson: "PROGRAM version",
    ..Command::leaf("version", "Prints the version of etcdctl", |run| Box::pin(about::version(run)))
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_sorted_within_their_group() {
        let mut parents = vec![&ROOT];
        while let Some(parent) = parents.pop() {
            let names: Vec<&str> = parent.children.iter().map(Command::name).collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{}", parent.name());
            for pair in parent.children.windows(2) {
                assert!(pair[0].group != pair[1].group || pair[0].name() < pair[1].name(), "{}", pair[1].name());
            }
            for child in parent.children {
                assert_eq!(child.action.is_some(), child.children.is_empty(), "{}", child.name());
                parents.push(child);
            }
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        let mut commands = vec![&ROOT];
        while let Some(command) = commands.pop() {
            for flag in command.flags.iter().chain(command.inherited).filter(|flag| !flag.default.is_empty()) {
                assert_eq!(flag.check(flag.default), Ok(()), "{} --{}", command.name(), flag.name);
            }
            commands.extend(command.children);
        }
    }
}
