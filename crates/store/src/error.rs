//! What a caller may be told: outcomes that are equal on every member. Broken files and disks are not among them.

use crate::auth::AuthError;
use thiserror::Error;

/// An outcome of a well-formed request, as etcd names it. `server` maps each to a status and etcd's text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A key that a put with `ignore_value` or `ignore_lease`, or an empty operation, needs.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// The revision is at or below what compaction removed.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision has not happened.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// The quota is used up; only operations that free space are let through.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease of that id exists.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// More than 9,000,000,000 seconds.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// A stored record could not be read back as it was written.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// The caller may not do it, or a change of users and roles cannot be made.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A member of that id is there.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    /// Another member is reached at one of the URLs.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// No such member, or one that was removed.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// Only learners are promoted.
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    /// `--max-learners` are there.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// The change would leave too few members that ever started, or none.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStartedMembers,
    /// The cluster's version is not decided.
    #[error("etcdserver: cluster version not found during downgrade")]
    ClusterVersionUnavailable,
    /// A cluster goes down by one minor version at a time.
    #[error("etcdserver: invalid downgrade target version")]
    InvalidDowngradeTarget,
    /// It goes down already.
    #[error("etcdserver: cluster has a downgrade job in progress")]
    DowngradeInProcess,
    /// There is nothing to cancel.
    #[error("etcdserver: no inflight downgrade job")]
    NoInflightDowngrade,
}

/// What opening, reading or writing the member's own files can come to. The member stops; the text says which file,
/// which offset, and what to do.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Its word.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not those that were written.
    #[error(
        "{path}: corrupt at offset {offset}: {what}. The file was changed or the disk is failing. Restore this member \
         from a backup, or remove it from the cluster and add it again with an empty data folder"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// Where in it, bytes.
        offset: u64,
        /// What was found, and what was expected.
        what: String,
    },
    /// The file is of a version that this program does not read.
    #[error("{path}: format version {found} is not supported (this release reads {supported}); use a matching release")]
    Version {
        /// The file.
        path: String,
        /// The version in it.
        found: u32,
        /// What this release reads.
        supported: u32,
    },
}

impl DiskError {
    /// Wraps the operating system's word with the file's name.
    pub fn io(path: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// Names a broken place.
    pub fn corrupt(path: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), offset, what: what.into() }
    }
}
