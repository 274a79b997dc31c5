//! Bugs planted on purpose, in the simulated shell, to show that the checkers can fail.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// A write to the log is told as durable when it begins, and a crash may still lose it.
    AcknowledgeBeforeSync,
    /// The log is written and never synced.
    LogWithoutSync,
    /// One member leaves out an entry that has commands.
    SkipEntry,
    /// Linearizable reads are served without asking anybody.
    StaleRead,
    /// One event of a watcher is left out.
    DropEvent,
    /// One delivery to a watcher is made twice.
    RepeatEvent,
    /// Somebody ends leases after half of their time.
    ExpireEarly,
    /// The nodes are never told of leases, so that nobody ends them.
    ForgetLeases,
    /// A command that was handed to the node is told to its client as certainly not done.
    FalseRefusal,
    /// A client's command is handed to the node twice.
    ProposeTwice,
    /// One member stops hearing of what its disk did.
    DeafMember,
    /// A member that lost its power comes back with an empty disk under its old name.
    EmptyDisk,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::AcknowledgeBeforeSync,
        Self::LogWithoutSync,
        Self::SkipEntry,
        Self::StaleRead,
        Self::DropEvent,
        Self::RepeatEvent,
        Self::ExpireEarly,
        Self::ForgetLeases,
        Self::FalseRefusal,
        Self::ProposeTwice,
        Self::DeafMember,
        Self::EmptyDisk,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Self::LogWithoutSync => "log-without-sync",
            Self::SkipEntry => "skip-entry",
            Self::StaleRead => "stale-read",
            Self::DropEvent => "drop-event",
            Self::RepeatEvent => "repeat-event",
            Self::ExpireEarly => "expire-early",
            Self::ForgetLeases => "forget-leases",
            Self::FalseRefusal => "false-refusal",
            Self::ProposeTwice => "propose-twice",
            Self::DeafMember => "deaf-member",
            Self::EmptyDisk => "empty-disk",
        }
    }

    /// The bug of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| plant.name() == name)
    }
}
