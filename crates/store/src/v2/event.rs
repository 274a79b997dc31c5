//! Events, and nodes as they were at one.

use bytes::Bytes;

const NS_PER_S: i64 = 1_000_000_000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read; never in the history.
    Get,
    /// Made, or made anew.
    Set,
    /// Made where nothing was.
    Create,
    /// Changed in place.
    Update,
    /// Removed.
    Delete,
    /// Removed by age.
    Expire,
    /// Changed in place under a condition.
    CompareAndSwap,
    /// Removed under a condition.
    CompareAndDelete,
}

impl Action {
    const ALL: [Self; 8] = [
        Self::Get,
        Self::Set,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Expire,
        Self::CompareAndSwap,
        Self::CompareAndDelete,
    ];

    /// The API's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Expire => "expire",
            Self::CompareAndSwap => "compareAndSwap",
            Self::CompareAndDelete => "compareAndDelete",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Whether the node is gone.
    pub(super) fn removes(self) -> bool {
        matches!(self, Self::Delete | Self::Expire | Self::CompareAndDelete)
    }
}

/// A node as an answer shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// With the tree's first part.
    pub path: Bytes,
    /// Of a file that is there; empty values are told.
    pub value: Option<Bytes>,
    /// Whether it is a directory.
    pub dir: bool,
    /// When it dies, ns since 1970.
    pub expiration_ns: Option<i64>,
    /// The seconds left to it, rounded up; 0 or less when it is late.
    pub ttl_s: i64,
    /// The index of its newest change.
    pub modified_index: u64,
    /// The index at which it was made.
    pub created_index: u64,
    /// Of a directory that was read.
    pub children: Vec<Self>,
}

/// One change, or one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What kind.
    pub action: Action,
    /// The node behind it.
    pub node: Image,
    /// The node before it.
    pub prev_node: Option<Image>,
    /// Only the time to live was renewed: nobody is woken.
    pub refresh: bool,
}

impl Event {
    /// The event's index.
    pub fn index(&self) -> u64 {
        self.node.modified_index
    }

    /// Whether it made something that was not there.
    pub fn is_creation(&self) -> bool {
        self.action == Action::Create || (self.action == Action::Set && self.prev_node.is_none())
    }

    /// Bytes that a waiting copy holds at the most.
    pub(super) fn bytes(&self) -> usize {
        let of = |image: &Image| image.path.len() + image.value.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + of(&self.node) + self.prev_node.as_ref().map_or(0, of)
    }
}

/// What is left until `expiration_ns`, seconds, rounded up.
pub(super) fn seconds_left(expiration_ns: i64, now_ns: i64) -> i64 {
    let left = expiration_ns.saturating_sub(now_ns);
    left / NS_PER_S + i64::from(left % NS_PER_S > 0)
}
