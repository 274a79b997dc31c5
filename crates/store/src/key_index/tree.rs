//! The ordered tree: keys and histories in leaves, counts of live keys in the nodes above them.
//!
//! Owns how the tree grows, splits and shrinks. Does not own what a version means (see `history`).
//! Invariant: all leaves are equally deep; `separators[i]` is above every key of child `i` and not above any key of
//! child `i + 1`; `live[i]` counts the live keys below child `i`.

use super::history::{History, Remains};
use super::keys::{KeyList, make_room};
use super::version::Version;
use crate::range::{KeyRange, RangeEnd};
use crate::revlog::Location;
use std::iter;
use std::mem;
use std::ops::ControlFlow;

/// Keys of a leaf, at most.
const LEAF_KEYS_MAX: usize = 64;
/// Children of an inner node, at most.
const CHILDREN_MAX: usize = 64;
/// A node with more bytes of keys than this splits before it is full, so that an insertion moves few bytes.
const NODE_KEY_BYTES_MAX: usize = 16 << 10;
/// Long keys do not split a node with fewer children than this.
const CHILDREN_MIN_TO_SPLIT: usize = 4;

/// What a walk shows each key and its versions to; it says whether to go on.
type Visit<'a> = dyn FnMut(&[u8], &[Version]) -> ControlFlow<()> + 'a;

/// An ordered index with subtree counts.
#[derive(Default)]
pub struct KeyIndex {
    root: Node,
    keys: u64,
    live: u64,
    versions: u64,
}

impl KeyIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keys that exist at the head revision (their newest version is no deletion).
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Keys held, deleted ones that compaction has not reached included.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Versions held, deletions included.
    pub fn versions(&self) -> u64 {
        self.versions
    }

    /// Adds the newest version of a key; answers the version that was newest before.
    ///
    /// Panics when the key has a version that is not older: changes come in revision order.
    pub fn append(&mut self, key: &[u8], version: Version) -> Option<Version> {
        let appended = self.root.append(key, version, Edge::Right);
        if let Some(split) = appended.split {
            self.root = Node::above(mem::take(&mut self.root), split);
        }
        self.live = changed(self.live, appended.live_change);
        self.versions += 1;
        if appended.previous.is_none() {
            self.keys += 1;
        }
        appended.previous
    }

    /// All versions of a key in revision order; empty when the key is unknown.
    pub fn get(&self, key: &[u8]) -> &[Version] {
        let leaf = self.root.leaf(key);
        match leaf.keys.search(key) {
            Ok(position) => leaf.histories[position].versions(),
            Err(_) => &[],
        }
    }

    /// Keys of the range that exist at the head revision, in O(log n).
    pub fn count_live(&self, range: &KeyRange) -> u64 {
        match &range.end {
            _ if range.is_empty() => 0,
            RangeEnd::Single => self.get(&range.start).last().is_some_and(|newest| !newest.is_deletion()).into(),
            RangeEnd::Open => self.live - self.root.live_below(&range.start),
            RangeEnd::Before(end) => self.root.live_below(end) - self.root.live_below(&range.start),
        }
    }

    /// Visits keys of the range in order, with their versions, until told to stop. To go on later, begin a range right
    /// behind the last key: the key followed by a zero byte.
    pub fn walk(&self, range: &KeyRange, visit: &mut Visit<'_>) {
        match &range.end {
            _ if range.is_empty() => {}
            RangeEnd::Single => {
                let versions = self.get(&range.start);
                if !versions.is_empty() {
                    let _ = visit(&range.start, versions);
                }
            }
            RangeEnd::Open => {
                let _ = self.root.walk(&range.start, None, visit);
            }
            RangeEnd::Before(end) => {
                let _ = self.root.walk(&range.start, Some(end), visit);
            }
        }
    }

    /// Drops what compaction at `compact_revision` makes unreachable, for at most `keys_max` keys (at least one) after
    /// `after`. Of each key the newest version at or below `compact_revision` stays, unless it is a deletion below it;
    /// all later versions stay. Answers the last key looked at, to go on from, or `None` at the end.
    pub fn prune(
        &mut self,
        after: Option<&[u8]>,
        keys_max: usize,
        compact_revision: i64,
        dead: &mut dyn FnMut(Location),
    ) -> Option<Vec<u8>> {
        let mut pruning = Pruning {
            compact_revision,
            keys_left: keys_max.max(1),
            dead,
            last: None,
            keys_removed: 0,
            versions_removed: 0,
        };
        self.root.prune(after, &mut pruning);
        let Pruning { last, keys_removed, versions_removed, .. } = pruning;
        self.keys -= keys_removed;
        self.versions -= versions_removed;
        loop {
            match &mut self.root {
                Node::Inner(inner) if inner.children.len() <= 1 => {
                    self.root = inner.children.pop().unwrap_or_default();
                }
                _ => return last,
            }
        }
    }

    /// The record of a version moved. Answers whether the version (at `from`) is still there.
    pub fn relocate(&mut self, key: &[u8], main: i64, sub: u32, from: Location, to: Location) -> bool {
        let leaf = self.root.leaf_mut(key);
        let Ok(position) = leaf.keys.search(key) else { return false };
        let versions = leaf.histories[position].versions_mut();
        let Ok(found) = versions.binary_search_by_key(&(main, sub), |version| (version.main, version.sub)) else {
            return false;
        };
        let version = &mut versions[found];
        if version.location != from {
            return false;
        }
        version.location = to;
        true
    }

    /// Panics unless every invariant of the tree holds.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut totals = (0, 0, 0);
        self.root.check(None, None, &mut totals);
        assert_eq!(totals, (self.keys, self.live, self.versions), "keys, live keys and versions");
    }
}

/// Where in the tree a node lies: only along the right edge do appended keys fill leaves for good.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Right,
    Inside,
}

/// What an insertion did to a subtree.
struct Appended {
    previous: Option<Version>,
    live_change: i64,
    split: Option<Split>,
}

/// The right part of a node that was full. `separator` is above all keys that stayed and not above any that left.
struct Split {
    separator: Vec<u8>,
    right: Node,
}

/// One call of `prune` on its way through the tree.
struct Pruning<'a> {
    compact_revision: i64,
    keys_left: usize,
    dead: &'a mut dyn FnMut(Location),
    last: Option<Vec<u8>>,
    keys_removed: u64,
    versions_removed: u64,
}

enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

#[derive(Default)]
struct Leaf {
    keys: KeyList,
    histories: Vec<History>,
}

struct Inner {
    separators: KeyList,
    children: Vec<Node>,
    live: Vec<u64>,
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Leaf::default())
    }
}

impl Node {
    /// A new root over a root that was split.
    fn above(left: Self, split: Split) -> Self {
        let mut separators = KeyList::default();
        separators.insert(0, &split.separator);
        let live = vec![left.live(), split.right.live()];
        Self::Inner(Inner { separators, children: vec![left, split.right], live })
    }

    fn live(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.live_before(leaf.histories.len()),
            Self::Inner(inner) => inner.live.iter().sum(),
        }
    }

    fn leaf(&self, key: &[u8]) -> &Leaf {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return leaf,
                Self::Inner(inner) => node = &inner.children[inner.separators.up_to(key)],
            }
        }
    }

    fn leaf_mut(&mut self, key: &[u8]) -> &mut Leaf {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return leaf,
                Self::Inner(inner) => node = &mut inner.children[inner.separators.up_to(key)],
            }
        }
    }

    /// Live keys below `key`.
    fn live_below(&self, key: &[u8]) -> u64 {
        let (mut node, mut count) = (self, 0);
        loop {
            match node {
                Self::Leaf(leaf) => return count + leaf.live_before(leaf.keys.below(key)),
                Self::Inner(inner) => {
                    let position = inner.separators.up_to(key);
                    count += inner.live[..position].iter().sum::<u64>();
                    node = &inner.children[position];
                }
            }
        }
    }

    fn append(&mut self, key: &[u8], version: Version, edge: Edge) -> Appended {
        match self {
            Self::Leaf(leaf) => leaf.append(key, version, edge),
            Self::Inner(inner) => inner.append(key, version, edge),
        }
    }

    fn walk(&self, start: &[u8], end: Option<&[u8]>, visit: &mut Visit<'_>) -> ControlFlow<()> {
        match self {
            Self::Leaf(leaf) => {
                let from = leaf.keys.below(start);
                let to = end.map_or(leaf.keys.len(), |end| leaf.keys.below(end));
                for position in from..to {
                    visit(leaf.keys.get(position), leaf.histories[position].versions())?;
                }
            }
            Self::Inner(inner) => {
                let from = inner.separators.up_to(start);
                let to = end.map_or(inner.separators.len(), |end| inner.separators.below(end));
                for child in inner.children.iter().take(to + 1).skip(from) {
                    child.walk(start, end, visit)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn prune(&mut self, after: Option<&[u8]>, pruning: &mut Pruning<'_>) {
        match self {
            Self::Leaf(leaf) => leaf.prune(after, pruning),
            Self::Inner(inner) => inner.prune(after, pruning),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.histories.is_empty(),
            Self::Inner(inner) => inner.children.is_empty(),
        }
    }

    /// Whether two neighbours fill no more than half a node together: then one of them is enough for a long time.
    fn fits_with(&self, right: &Self) -> bool {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                left.histories.len() + right.histories.len() <= LEAF_KEYS_MAX / 2
                    && left.keys.byte_length() + right.keys.byte_length() <= NODE_KEY_BYTES_MAX / 2
            }
            (Self::Inner(left), Self::Inner(right)) => {
                left.children.len() + right.children.len() <= CHILDREN_MAX / 2
                    && left.separators.byte_length() + right.separators.byte_length() <= NODE_KEY_BYTES_MAX / 2
            }
            _ => false,
        }
    }

    /// Takes the right neighbour in.
    fn merge(&mut self, separator: &[u8], right: Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                left.keys.append(&right.keys);
                left.histories.reserve_exact(right.histories.len());
                left.histories.extend(right.histories);
            }
            (Self::Inner(left), Self::Inner(right)) => {
                left.separators.insert(left.separators.len(), separator);
                left.separators.append(&right.separators);
                left.children.extend(right.children);
                left.live.extend(right.live);
            }
            _ => unreachable!("neighbours are equally deep"),
        }
    }

    #[cfg(test)]
    fn check(&self, low: Option<&[u8]>, high: Option<&[u8]>, totals: &mut (u64, u64, u64)) {
        let in_bounds = |key: &[u8]| low.is_none_or(|low| key >= low) && high.is_none_or(|high| key < high);
        match self {
            Self::Leaf(leaf) => {
                assert_eq!(leaf.keys.len(), leaf.histories.len());
                assert!(leaf.keys.len() <= LEAF_KEYS_MAX);
                for (position, history) in leaf.histories.iter().enumerate() {
                    assert!(in_bounds(leaf.keys.get(position)), "a key lies between its separators");
                    assert!(position == 0 || leaf.keys.get(position - 1) < leaf.keys.get(position), "keys rise");
                    assert!(!history.versions().is_empty(), "a key has a version");
                    totals.0 += 1;
                    totals.1 += u64::from(history.is_live());
                    totals.2 += history.versions().len() as u64;
                }
            }
            Self::Inner(inner) => {
                assert_eq!(inner.separators.len() + 1, inner.children.len());
                assert_eq!(inner.live.len(), inner.children.len());
                assert!(inner.children.len() <= CHILDREN_MAX);
                for (position, child) in inner.children.iter().enumerate() {
                    assert!(!child.is_empty(), "no node is empty");
                    assert_eq!(inner.live[position], child.live(), "the count of a subtree");
                    let below = if position == 0 { low } else { Some(inner.separators.get(position - 1)) };
                    let above = if position == inner.separators.len() {
                        high
                    } else {
                        assert!(in_bounds(inner.separators.get(position)));
                        Some(inner.separators.get(position))
                    };
                    child.check(below, above, totals);
                }
            }
        }
    }
}

impl Leaf {
    fn live_before(&self, position: usize) -> u64 {
        self.histories[..position].iter().filter(|history| history.is_live()).count() as u64
    }

    fn append(&mut self, key: &[u8], version: Version, edge: Edge) -> Appended {
        let live = i64::from(!version.is_deletion());
        match self.keys.search(key) {
            Ok(position) => {
                let history = &mut self.histories[position];
                let previous = *history.newest();
                history.push(version);
                let live_change = live - i64::from(!previous.is_deletion());
                Appended { previous: Some(previous), live_change, split: None }
            }
            Err(position) => {
                self.keys.insert(position, key);
                make_room(&mut self.histories, 1);
                self.histories.insert(position, History::One(version));
                let count = self.histories.len();
                let full = count > LEAF_KEYS_MAX || (self.keys.byte_length() > NODE_KEY_BYTES_MAX && count > 1);
                let at = if edge == Edge::Right && position + 1 == count { count - 1 } else { count / 2 };
                Appended { previous: None, live_change: live, split: full.then(|| self.split(at)) }
            }
        }
    }

    fn split(&mut self, position: usize) -> Split {
        let separator = shortest_separator(self.keys.get(position - 1), self.keys.get(position)).to_vec();
        let keys = self.keys.split_off(position);
        let histories = self.histories.split_off(position);
        self.histories.shrink_to_fit();
        Split { separator, right: Node::Leaf(Self { keys, histories }) }
    }

    fn prune(&mut self, after: Option<&[u8]>, pruning: &mut Pruning<'_>) {
        let from = after.map_or(0, |after| self.keys.up_to(after));
        let count = (self.histories.len() - from).min(pruning.keys_left);
        pruning.keys_left -= count;
        if pruning.keys_left == 0 && count > 0 {
            pruning.last = Some(self.keys.get(from + count - 1).to_vec());
        }
        let mut removed = [false; LEAF_KEYS_MAX];
        let mut removed_count = 0;
        for (position, history) in self.histories.iter_mut().enumerate().skip(from).take(count) {
            let (remains, dropped) = history.prune(pruning.compact_revision, pruning.dead);
            pruning.versions_removed += dropped;
            if remains == Remains::Nothing {
                removed[position] = true;
                removed_count += 1;
            }
        }
        if removed_count > 0 {
            pruning.keys_removed += removed_count;
            self.keys.retain(|position| !removed[position]);
            let mut flags = removed.iter();
            self.histories.retain(|_| !flags.next().expect("a flag for every key"));
            self.histories.shrink_to_fit();
        }
    }
}

impl Inner {
    fn append(&mut self, key: &[u8], version: Version, edge: Edge) -> Appended {
        let position = self.separators.up_to(key);
        let is_last = position + 1 == self.children.len();
        let child_edge = if is_last { edge } else { Edge::Inside };
        let mut appended = self.children[position].append(key, version, child_edge);
        self.live[position] = changed(self.live[position], appended.live_change);
        if let Some(split) = appended.split.take() {
            let right_live = split.right.live();
            self.live[position] -= right_live;
            make_room(&mut self.live, 1);
            self.live.insert(position + 1, right_live);
            self.separators.insert(position, &split.separator);
            make_room(&mut self.children, 1);
            self.children.insert(position + 1, split.right);
            let count = self.children.len();
            let full = count > CHILDREN_MAX
                || (self.separators.byte_length() > NODE_KEY_BYTES_MAX && count >= CHILDREN_MIN_TO_SPLIT);
            let at = if edge == Edge::Right && is_last { count - 1 } else { count / 2 };
            appended.split = full.then(|| self.split(at));
        }
        appended
    }

    /// Children from `position` on leave; the separator before them goes up.
    fn split(&mut self, position: usize) -> Split {
        let separators = self.separators.split_off(position);
        let separator = self.separators.get(position - 1).to_vec();
        self.separators.remove(position - 1);
        let children = self.children.split_off(position);
        self.children.shrink_to_fit();
        let live = self.live.split_off(position);
        self.live.shrink_to_fit();
        Split { separator, right: Node::Inner(Self { separators, children, live }) }
    }

    fn prune(&mut self, after: Option<&[u8]>, pruning: &mut Pruning<'_>) {
        let first = after.map_or(0, |after| self.separators.up_to(after));
        let mut position = first;
        let mut starts = iter::once(after).chain(iter::repeat(None));
        while position < self.children.len() && pruning.keys_left > 0 {
            self.children[position].prune(starts.next().flatten(), pruning);
            position += 1;
        }
        self.tidy(first.saturating_sub(1), position);
    }

    /// Removes empty children and merges small neighbours between `first` and `end`.
    fn tidy(&mut self, first: usize, end: usize) {
        let (mut position, mut left) = (first, end - first);
        while left > 0 {
            left -= 1;
            if self.children[position].is_empty() {
                self.children.remove(position);
                self.live.remove(position);
                if self.separators.len() > 0 {
                    self.separators.remove(position.saturating_sub(1));
                }
            } else if position > 0 && self.children[position - 1].fits_with(&self.children[position]) {
                let right = self.children.remove(position);
                self.live[position - 1] += self.live.remove(position);
                self.children[position - 1].merge(self.separators.get(position - 1), right);
                self.separators.remove(position - 1);
            } else {
                position += 1;
            }
        }
    }
}

/// A count after a change to what it counts.
fn changed(live: u64, change: i64) -> u64 {
    live.checked_add_signed(change).expect("a count of live keys covers the key that changed")
}

/// The shortest key above `left` and not above `right`, where `left < right`.
fn shortest_separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    let shared = iter::zip(left, right).take_while(|(a, b)| a == b).count();
    &right[..shared + 1]
}
