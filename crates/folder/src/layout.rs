//! Where the parts of a data folder lie, and the sizes of their files.

use quorate_node::wal::WalConfig;
use quorate_store::revlog::RevLogConfig;
use std::path::{Path, PathBuf};

/// The folder that holds everything, in the data folder.
pub const MEMBER: &str = "member";
/// The store, in the member's folder.
pub const STORE: &str = "store";
/// The log, in the member's folder or in `--wal-dir`.
pub const WAL: &str = "wal";

/// A segment of the log, bytes. The log keeps one that grows and up to two spares beside what followers may need, so this
/// is what an idle member's log costs, three times.
pub const WAL_SEGMENT_BYTES: u64 = 16 << 20;
/// A segment of the revision log, bytes: what one rewriting moves at the most.
pub const REVISION_SEGMENT_BYTES: u32 = 16 << 20;
/// Revisions kept in memory before they are written to their file, bytes.
pub const REVISION_BUFFER_BYTES: usize = 256 << 10;

/// Sizes of the revision log.
pub const REVISION_LOG: RevLogConfig =
    RevLogConfig { segment_bytes: REVISION_SEGMENT_BYTES, buffer_bytes: REVISION_BUFFER_BYTES };
/// How the log is written by what runs offline.
pub const WAL_CONFIG: WalConfig = WalConfig { segment_bytes: WAL_SEGMENT_BYTES, sync: true };

/// A data folder and, if it lies elsewhere, the folder of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `--data-dir`.
    pub data: PathBuf,
    /// `--wal-dir`.
    pub wal: Option<PathBuf>,
}

impl Place {
    /// A data folder with its log inside.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), wal: None }
    }

    /// The folder of the member.
    pub fn member(&self) -> PathBuf {
        self.data.join(MEMBER)
    }

    /// The folder that the log's folder lies in.
    pub fn wal_root(&self) -> PathBuf {
        self.wal.clone().unwrap_or_else(|| self.member())
    }

    /// Whether the folder holds a store of ours.
    pub fn has_store(&self) -> bool {
        self.member().join(STORE).join("CURRENT").is_file()
    }

    /// The data file of a real etcd's folder, if it is one.
    pub fn etcd_file(&self) -> Option<PathBuf> {
        let path = self.member().join("snap").join("db");
        path.is_file().then_some(path)
    }
}

/// Whether a folder is absent or empty.
pub fn is_vacant(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
