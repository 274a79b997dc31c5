//! Builds one tree of pages from pairs in key order, from left to right, page by page.
//!
//! A leaf page is complete when the next pair does not fit; its place goes to the branch page above, and so on upwards. So
//! at any time one page per level is in memory, and pages leave in the order of their places. The same code counts pages
//! (values are then lengths only) and writes them. Invariant: a tree's shape depends on the lengths of keys and values and
//! on the keys that begin pages, so both runs give the same places.

use super::page::{ELEMENT_BYTES, ELEMENT_IS_BUCKET, FLAG_BRANCH, FLAG_LEAF, HEAD_BYTES, Head, PAGE_BYTES};

/// A bucket whose pairs fit this lies in its parent's value, as bbolt does it; bytes.
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;

/// Where pages go.
pub(super) enum Pages<'a> {
    /// Nowhere: only their number counts.
    Counted,
    /// Behind what is there.
    Written(&'a mut Vec<u8>),
}

/// What an element's second part is.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// Only its length is known: for counting.
    Length(usize),
    /// A value.
    Bytes(&'a [u8]),
    /// The value that a bucket is.
    Bucket(&'a [u8]),
}

impl Value<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Length(length) => *length,
            Self::Bytes(bytes) | Self::Bucket(bytes) => bytes.len(),
        }
    }
}

/// Where a finished tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// A page of its own.
    Page(u64),
    /// In the parent's value: a leaf page, whole.
    Inline(Vec<u8>),
}

struct LeafElement {
    flags: u32,
    key_bytes: u32,
    value_bytes: u32,
    offset: u32,
}

/// A leaf page that grows.
#[derive(Default)]
struct Leaf {
    first_key: Vec<u8>,
    elements: Vec<LeafElement>,
    /// Keys and values, one behind the other; empty when pages are only counted.
    bodies: Vec<u8>,
    body_bytes: usize,
}

impl Leaf {
    fn bytes(&self) -> usize {
        HEAD_BYTES + self.elements.len() * ELEMENT_BYTES + self.body_bytes
    }

    fn push(&mut self, key: &[u8], value: Value<'_>) {
        if self.elements.is_empty() {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        self.elements.push(LeafElement {
            flags: if matches!(value, Value::Bucket(_)) { ELEMENT_IS_BUCKET } else { 0 },
            key_bytes: key.len() as u32,
            value_bytes: value.len() as u32,
            offset: self.body_bytes as u32,
        });
        self.body_bytes += key.len() + value.len();
        match value {
            Value::Length(_) => {}
            Value::Bytes(bytes) | Value::Bucket(bytes) => {
                self.bodies.extend_from_slice(key);
                self.bodies.extend_from_slice(bytes);
            }
        }
    }

    fn write(&self, id: u64, overflow: u32, out: &mut Vec<u8>) {
        let count = self.elements.len();
        Head { id, flags: FLAG_LEAF, count: count as u16, overflow }.write(out);
        for (position, element) in self.elements.iter().enumerate() {
            let place = ((count - position) * ELEMENT_BYTES) as u32 + element.offset;
            for number in [element.flags, place, element.key_bytes, element.value_bytes] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.bodies);
    }

    fn clear(&mut self) {
        self.elements.clear();
        self.bodies.clear();
        self.body_bytes = 0;
    }
}

/// A branch page that grows.
#[derive(Default)]
struct Branch {
    children: Vec<(Vec<u8>, u64)>,
    key_bytes: usize,
}

impl Branch {
    fn bytes(&self) -> usize {
        HEAD_BYTES + self.children.len() * ELEMENT_BYTES + self.key_bytes
    }

    fn write(&self, id: u64, overflow: u32, out: &mut Vec<u8>) {
        let count = self.children.len();
        Head { id, flags: FLAG_BRANCH, count: count as u16, overflow }.write(out);
        let mut offset = 0;
        for (position, (key, child)) in self.children.iter().enumerate() {
            let place = ((count - position) * ELEMENT_BYTES + offset) as u32;
            out.extend_from_slice(&place.to_le_bytes());
            out.extend_from_slice(&(key.len() as u32).to_le_bytes());
            out.extend_from_slice(&child.to_le_bytes());
            offset += key.len();
        }
        self.children.iter().for_each(|(key, _)| out.extend_from_slice(key));
    }
}

/// A tree under construction.
#[derive(Default)]
pub(super) struct Tree {
    leaf: Leaf,
    /// Level by level, upwards.
    branches: Vec<Branch>,
}

/// Places that a page of so many bytes takes beside its first.
fn overflow(bytes: usize) -> u32 {
    (bytes.div_ceil(PAGE_BYTES) - 1) as u32
}

/// Gives a page its place.
fn place(next_page: &mut u64, bytes: usize, out: &mut Pages<'_>, write: impl FnOnce(u64, u32, &mut Vec<u8>)) -> u64 {
    let (id, overflow) = (*next_page, overflow(bytes));
    *next_page += 1 + u64::from(overflow);
    if let Pages::Written(out) = out {
        let start = out.len();
        write(id, overflow, out);
        debug_assert_eq!(out.len() - start, bytes, "a page is as long as it was counted");
        out.resize(start + bytes.next_multiple_of(PAGE_BYTES), 0);
    }
    id
}

impl Tree {
    /// Adds a pair, whose key is above all others.
    pub(super) fn push(&mut self, key: &[u8], value: Value<'_>, next_page: &mut u64, out: &mut Pages<'_>) {
        let bytes = ELEMENT_BYTES + key.len() + value.len();
        if !self.leaf.elements.is_empty() && self.leaf.bytes() + bytes > PAGE_BYTES {
            self.end_leaf(next_page, out);
        }
        self.leaf.push(key, value);
    }

    fn end_leaf(&mut self, next_page: &mut u64, out: &mut Pages<'_>) {
        let leaf = &self.leaf;
        let id = place(next_page, leaf.bytes(), out, |id, overflow, out| leaf.write(id, overflow, out));
        let first_key = std::mem::take(&mut self.leaf.first_key);
        self.leaf.clear();
        self.add_child(0, first_key, id, next_page, out);
    }

    fn add_child(&mut self, level: usize, key: Vec<u8>, child: u64, next_page: &mut u64, out: &mut Pages<'_>) {
        if self.branches.len() == level {
            self.branches.push(Branch::default());
        }
        let branch = &self.branches[level];
        let is_full = branch.bytes() + ELEMENT_BYTES + key.len() > PAGE_BYTES;
        // Two children at the least: else a tree of long keys would never become narrower upwards.
        if branch.children.len() >= 2 && is_full {
            self.end_branch(level, next_page, out);
        }
        let branch = &mut self.branches[level];
        branch.key_bytes += key.len();
        branch.children.push((key, child));
    }

    fn end_branch(&mut self, level: usize, next_page: &mut u64, out: &mut Pages<'_>) {
        let branch = std::mem::take(&mut self.branches[level]);
        let id = place(next_page, branch.bytes(), out, |id, overflow, out| branch.write(id, overflow, out));
        let first_key = branch.children.into_iter().next().map(|(key, _)| key).unwrap_or_default();
        self.add_child(level + 1, first_key, id, next_page, out);
    }

    /// Ends the tree of a bucket: a small one lies in its parent.
    pub(super) fn finish_bucket(self, next_page: &mut u64, out: &mut Pages<'_>) -> Root {
        if self.branches.is_empty() && self.leaf.bytes() <= INLINE_BYTES_MAX {
            let mut page = Vec::with_capacity(self.leaf.bytes());
            self.leaf.write(0, 0, &mut page);
            // When counting there are no bodies: the length alone matters.
            page.resize(self.leaf.bytes(), 0);
            return Root::Inline(page);
        }
        Root::Page(self.finish(next_page, out))
    }

    /// Ends the tree; its root page.
    pub(super) fn finish(mut self, next_page: &mut u64, out: &mut Pages<'_>) -> u64 {
        if self.branches.is_empty() {
            let leaf = &self.leaf;
            return place(next_page, leaf.bytes(), out, |id, overflow, out| leaf.write(id, overflow, out));
        }
        self.end_leaf(next_page, out);
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.branches.len();
            if let ([(_, only)], true) = (&self.branches[level].children[..], is_top) {
                return *only;
            }
            self.end_branch(level, next_page, out);
            level += 1;
        }
    }
}
