//! Why a request has no event: etcd's codes, with what clients are told beside them.

/// The codes that the tree gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No node of that path.
    KeyNotFound,
    /// A previous value or index is another.
    TestFailed,
    /// A directory where a file is needed.
    NotFile,
    /// A file where a directory is needed.
    NotDirectory,
    /// Something of that path exists.
    NodeExists,
    /// The root, or a first part of the tree, cannot be changed.
    RootReadOnly,
    /// Only empty directories go without `recursive`.
    DirectoryNotEmpty,
    /// The history no longer reaches back to the index.
    EventIndexCleared,
    /// More watchers than [`super::WATCHERS_MAX`].
    TooManyWatchers,
}

impl Code {
    /// The API's number.
    pub fn number(self) -> u16 {
        match self {
            Self::KeyNotFound => 100,
            Self::TestFailed => 101,
            Self::NotFile => 102,
            Self::NotDirectory => 104,
            Self::NodeExists => 105,
            Self::RootReadOnly => 107,
            Self::DirectoryNotEmpty => 108,
            Self::TooManyWatchers => 300,
            Self::EventIndexCleared => 401,
        }
    }
}

/// A request that nothing came of; the tree is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub code: Code,
    /// A path (with the tree's first part) or what was compared.
    pub cause: Vec<u8>,
    /// The tree's index.
    pub index: u64,
}
