//! Writes a whole file in one pass: meta pages, an empty freelist, the trees of the buckets, the tree of buckets.
//!
//! The meta pages stand first and name the root, which comes last; so the pages are counted first ([`Measure`]), from keys
//! and lengths alone. Owns the order of pages. Invariant: the file is exactly as long as the layout says, and no more
//! than a page per level of one tree is in memory beside what was asked for.

use super::page::{BUCKET_BYTES, FLAG_FREELIST, Head, Meta, PAGE_BYTES};
use super::tree::{Pages, Root, Tree, Value};
use bytes::Bytes;

/// The first page behind the meta pages and the freelist.
const FIRST_PAGE: u64 = 3;
const FREELIST_PAGE: u64 = 2;
/// Of the first meta page; the other one has one less.
const TRANSACTION: u64 = 2;

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    root: u64,
    pages: u64,
}

impl Layout {
    /// Length of the file, bytes.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// The value of a bucket in the tree of buckets.
fn bucket_value(root: &Root) -> Vec<u8> {
    let mut value = Vec::with_capacity(BUCKET_BYTES);
    match root {
        Root::Page(page) => value.extend_from_slice(&page.to_le_bytes()),
        Root::Inline(_) => value.extend_from_slice(&0_u64.to_le_bytes()),
    }
    value.extend_from_slice(&0_u64.to_le_bytes());
    if let Root::Inline(page) = root {
        value.extend_from_slice(page);
    }
    value
}

/// Counts pages. Buckets come in the order of their names, pairs in the order of their keys, as they will be written.
pub struct Measure {
    next_page: u64,
    tree: Tree,
    buckets: Tree,
}

impl Default for Measure {
    fn default() -> Self {
        Self { next_page: FIRST_PAGE, tree: Tree::default(), buckets: Tree::default() }
    }
}

impl Measure {
    /// A pair of the bucket at hand.
    pub fn pair(&mut self, key: &[u8], value_bytes: usize) {
        self.tree.push(key, Value::Length(value_bytes), &mut self.next_page, &mut Pages::Counted);
    }

    /// The bucket at hand is complete.
    pub fn end_bucket(&mut self, name: &str) {
        let root = std::mem::take(&mut self.tree).finish_bucket(&mut self.next_page, &mut Pages::Counted);
        let value = bucket_value(&root);
        self.buckets.push(name.as_bytes(), Value::Length(value.len()), &mut self.next_page, &mut Pages::Counted);
    }

    /// All buckets are complete.
    pub fn finish(mut self) -> Layout {
        let root = self.buckets.finish(&mut self.next_page, &mut Pages::Counted);
        Layout { root, pages: self.next_page }
    }
}

/// A bucket's pairs, in the order of their keys.
pub trait BucketPairs {
    /// Why there is no next pair.
    type Error;

    /// The next pair; `None` at the end.
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Self::Error>;
}

enum Step {
    Metas,
    Buckets,
    Done,
}

/// Gives the file piece by piece.
pub struct Writer<P> {
    layout: Layout,
    next_page: u64,
    step: Step,
    /// Those to come.
    sources: std::vec::IntoIter<(&'static str, P)>,
    current: Option<(&'static str, P)>,
    tree: Tree,
    buckets: Tree,
    out: Vec<u8>,
}

impl<P: BucketPairs> Writer<P> {
    /// The file of `layout`, which was measured over the same pairs. Buckets in the order of their names.
    pub fn new(layout: Layout, buckets: Vec<(&'static str, P)>) -> Self {
        assert!(buckets.is_sorted_by_key(|(name, _)| *name), "buckets come in the order of their names");
        Self {
            layout,
            next_page: FIRST_PAGE,
            step: Step::Metas,
            sources: buckets.into_iter(),
            current: None,
            tree: Tree::default(),
            buckets: Tree::default(),
            out: Vec::new(),
        }
    }

    /// The next piece: at least `bytes` (unless the file ends), and at most a page more. `None` at the end.
    pub fn next(&mut self, bytes: usize) -> Result<Option<Vec<u8>>, P::Error> {
        while self.out.len() < bytes {
            match self.step {
                Step::Metas => self.write_metas(),
                Step::Buckets => self.write_pair()?,
                Step::Done => break,
            }
        }
        if self.out.is_empty() {
            return Ok(None);
        }
        let piece = std::mem::take(&mut self.out);
        self.out = Vec::with_capacity(piece.len());
        Ok(Some(piece))
    }

    fn write_metas(&mut self) {
        for transaction in [TRANSACTION, TRANSACTION - 1] {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: self.layout.root,
                freelist: FREELIST_PAGE,
                pages: self.layout.pages,
                transaction,
            };
            meta.write(&mut self.out);
        }
        Head { id: FREELIST_PAGE, flags: FLAG_FREELIST, count: 0, overflow: 0 }.write(&mut self.out);
        self.out.resize(FIRST_PAGE as usize * PAGE_BYTES, 0);
        self.step = Step::Buckets;
    }

    fn write_pair(&mut self) -> Result<(), P::Error> {
        let mut pages = Pages::Written(&mut self.out);
        if self.current.is_none() {
            self.current = self.sources.next();
        }
        let Some((name, pairs)) = &mut self.current else {
            let root = std::mem::take(&mut self.buckets).finish(&mut self.next_page, &mut pages);
            assert_eq!((root, self.next_page), (self.layout.root, self.layout.pages), "both passes saw the same pairs");
            self.step = Step::Done;
            return Ok(());
        };
        if let Some((key, value)) = pairs.next()? {
            self.tree.push(&key, Value::Bytes(&value), &mut self.next_page, &mut pages);
        } else {
            let root = std::mem::take(&mut self.tree).finish_bucket(&mut self.next_page, &mut pages);
            let value = bucket_value(&root);
            self.buckets.push(name.as_bytes(), Value::Bucket(&value), &mut self.next_page, &mut pages);
            self.current = None;
        }
        Ok(())
    }
}
