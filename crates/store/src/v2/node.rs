//! One node: a file or a directory. Paths are made on the way down, not kept.

use super::event::{Image, seconds_left};
use super::path::{join, names};
use bytes::Bytes;
use std::collections::BTreeMap;

/// By name; the order of the bytes is the order of listings.
pub(super) type Children = BTreeMap<Box<[u8]>, Node>;

/// What a node holds.
#[derive(Debug)]
pub(super) enum Content {
    File(Bytes),
    Directory(Box<Children>),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) modified_index: u64,
    pub(super) created_index: u64,
    /// ns since 1970; 0: never.
    pub(super) expiration_ns: i64,
}

/// How much of a directory is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The node alone.
    Node,
    /// Its children, too.
    Children,
    /// Everything below.
    All,
}

impl Node {
    pub(super) fn directory(index: u64) -> Self {
        Self {
            content: Content::Directory(Box::default()),
            modified_index: index,
            created_index: index,
            expiration_ns: 0,
        }
    }

    pub(super) fn children(&self) -> Option<&Children> {
        match &self.content {
            Content::Directory(children) => Some(children),
            Content::File(_) => None,
        }
    }

    pub(super) fn children_mut(&mut self) -> Option<&mut Children> {
        match &mut self.content {
            Content::Directory(children) => Some(children),
            Content::File(_) => None,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.children().is_some()
    }

    pub(super) fn value(&self) -> Option<&Bytes> {
        match &self.content {
            Content::File(value) => Some(value),
            Content::Directory(_) => None,
        }
    }

    /// Whether something lies at a path relative to this node.
    pub(super) fn holds(&self, relative: &[u8]) -> bool {
        let mut node = self;
        for name in names(relative) {
            match node.children().and_then(|children| children.get(name)) {
                Some(child) => node = child,
                None => return false,
            }
        }
        true
    }

    /// How an answer shows it. Names that begin with `_` are left out below it.
    pub(super) fn image(&self, path: &[u8], depth: Depth, now_ns: i64) -> Image {
        let mut children = Vec::new();
        if depth != Depth::Node
            && let Some(own) = self.children()
        {
            let deeper = if depth == Depth::All { Depth::All } else { Depth::Node };
            let shown = own.iter().filter(|(name, _)| name.first() != Some(&b'_'));
            children.extend(shown.map(|(name, child)| child.image(&join(path, name), deeper, now_ns)));
        }
        Image {
            path: Bytes::copy_from_slice(path),
            value: self.value().cloned(),
            dir: self.is_directory(),
            expiration_ns: (self.expiration_ns != 0).then_some(self.expiration_ns),
            ttl_s: if self.expiration_ns == 0 { 0 } else { seconds_left(self.expiration_ns, now_ns) },
            modified_index: self.modified_index,
            created_index: self.created_index,
            children,
        }
    }

    /// Calls with everything at and below the node, parents first.
    pub(super) fn walk(&self, path: &[u8], visit: &mut dyn FnMut(&[u8], &Self)) {
        visit(path, self);
        for (name, child) in self.children().into_iter().flatten() {
            child.walk(&join(path, name), visit);
        }
    }
}
