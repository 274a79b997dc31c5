//! Reads a file that may be anything.
//!
//! Every number is checked before it is used. Owns the walk over pages. Invariant: a walk visits no page twice and tells
//! keys in strictly rising order, so it ends; memory is bounded by the depth of a tree, the largest page
//! ([`LARGE_PAGE_BYTES_MAX`]) and one bit per page of the file.

use super::page::{
    BUCKET_BYTES, COUNT_ELSEWHERE, ELEMENT_BYTES, ELEMENT_IS_BUCKET, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, HEAD_BYTES,
    Head, META_BYTES, Meta, NO_FREELIST, u32_at, u64_at,
};
use quorate_store::disk::DiskFile;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// A page, what overflows included, at most; a longer value is refused, bytes.
pub(super) const LARGE_PAGE_BYTES_MAX: u64 = 1 << 30;
/// Levels of a tree at the most: with two children each, more pages than a file can have.
const DEPTH_MAX: usize = 64;
/// Buckets in a file at the most (etcd's has ten).
const BUCKETS_MAX: usize = 1024;
/// Sizes of pages that are looked for when the first meta page is broken, bytes.
const PAGE_BYTES_KNOWN: std::ops::RangeInclusive<u32> = 512..=64 << 10;

/// Why a file can't be read.
#[derive(Debug, Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Not a file of this kind at all: neither meta page is valid.
    #[error("invalid database")]
    NotADatabase,
    /// It is broken.
    #[error("page {page}: {what}")]
    Corrupt {
        /// Where.
        page: u64,
        /// What was found.
        what: String,
    },
}

fn corrupt<T>(page: u64, what: impl Into<String>) -> Result<T, FileError> {
    Err(FileError::Corrupt { page, what: what.into() })
}

/// A bucket found in a file.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: Vec<u8>,
    root: BucketRoot,
}

#[derive(Clone, Debug)]
enum BucketRoot {
    Page(u64),
    Inline(Arc<Vec<u8>>),
}

/// An open file.
pub struct Reader {
    file: Arc<dyn DiskFile>,
    meta: Meta,
    page_bytes: u64,
}

/// Which pages were visited, a bit each.
#[derive(Default)]
struct Visited(Vec<u64>);

impl Visited {
    fn new(pages: u64) -> Self {
        Self(vec![0; (pages / 64 + 1) as usize])
    }

    /// Whether it is the first visit.
    fn visit(&mut self, page: u64) -> bool {
        let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    fn is_visited(&self, page: u64) -> bool {
        self.0[(page / 64) as usize] & (1 << (page % 64)) != 0
    }
}

fn read_meta(file: &dyn DiskFile, offset: u64) -> Result<Result<Meta, &'static str>, FileError> {
    let mut bytes = [0; HEAD_BYTES + META_BYTES];
    let count = file.read_at(&mut bytes, offset)?;
    Ok(Meta::read(&bytes[..count]))
}

impl Reader {
    /// Opens a file by the newer of its two meta pages; what follows the last page (a checksum) is passed over.
    pub fn open(file: Arc<dyn DiskFile>) -> Result<Self, FileError> {
        let length = file.len()?;
        let mut metas: Vec<Meta> = Vec::new();
        if let Ok(first) = read_meta(&*file, 0)? {
            metas.push(first);
            metas.extend(read_meta(&*file, first.page_bytes.into())?);
        } else {
            // Its size of pages is unknown then: the second one is looked for at every size.
            let mut page_bytes = *PAGE_BYTES_KNOWN.start();
            while page_bytes <= *PAGE_BYTES_KNOWN.end() {
                metas.extend(read_meta(&*file, page_bytes.into())?.ok().filter(|meta| meta.page_bytes == page_bytes));
                page_bytes *= 2;
            }
        }
        let Some(meta) = metas.into_iter().max_by_key(|meta| meta.transaction) else {
            return Err(FileError::NotADatabase);
        };
        if !meta.page_bytes.is_power_of_two() || !PAGE_BYTES_KNOWN.contains(&meta.page_bytes) {
            return corrupt(0, format!("pages of {} bytes", meta.page_bytes));
        }
        let page_bytes = u64::from(meta.page_bytes);
        if meta.pages < 2 || meta.pages > length / page_bytes {
            return corrupt(0, format!("a file of {length} bytes, expected {} pages of {page_bytes}", meta.pages));
        }
        Ok(Self { file, meta, page_bytes })
    }

    /// Length of the database, bytes: what follows in the file is no part of it.
    pub fn bytes(&self) -> u64 {
        self.meta.pages * self.page_bytes
    }

    /// Reads a page with what overflows of it.
    fn page(&self, id: u64, visited: &mut Visited) -> Result<Vec<u8>, FileError> {
        if id < 2 || id >= self.meta.pages {
            return corrupt(id, format!("out of bounds: {}", self.meta.pages));
        }
        let mut bytes = vec![0; self.page_bytes as usize];
        self.fill(id, &mut bytes, 0)?;
        let head = Head::read(&bytes).expect("a page is longer than its head");
        if head.id != id {
            return corrupt(id, format!("the page says that it is page {}", head.id));
        }
        let places = 1 + u64::from(head.overflow);
        if places > self.meta.pages - id || places * self.page_bytes > LARGE_PAGE_BYTES_MAX {
            return corrupt(id, format!("{} further pages, which is too many", head.overflow));
        }
        for place in id..id + places {
            if !visited.visit(place) {
                return corrupt(place, "multiple references");
            }
        }
        let first = bytes.len();
        bytes.resize((places * self.page_bytes) as usize, 0);
        self.fill(id, &mut bytes[first..], first as u64)?;
        Ok(bytes)
    }

    fn fill(&self, id: u64, target: &mut [u8], skipped: u64) -> Result<(), FileError> {
        let mut done = 0;
        while done < target.len() {
            match self.file.read_at(&mut target[done..], id * self.page_bytes + skipped + done as u64)? {
                0 => return corrupt(id, "the end of the file"),
                count => done += count,
            }
        }
        Ok(())
    }

    /// The buckets, in the order of their names.
    pub fn buckets(&self) -> Result<Vec<Bucket>, FileError> {
        let mut visited = Visited::new(self.meta.pages);
        self.buckets_with(&mut visited)
    }

    fn buckets_with(&self, visited: &mut Visited) -> Result<Vec<Bucket>, FileError> {
        let mut buckets = Vec::new();
        let mut walk = Walk::begin(self, &BucketRoot::Page(self.meta.root), std::mem::take(visited))?;
        while let Some(element) = walk.next()? {
            let page = walk.page_id();
            if element.flags & ELEMENT_IS_BUCKET == 0 {
                return corrupt(page, "a pair outside of a bucket");
            }
            let (name, value) = walk.pair(&element);
            let Some(root) = u64_at(value, 0).filter(|_| value.len() >= BUCKET_BYTES) else {
                return corrupt(page, "a bucket without its head");
            };
            let root = match root {
                0 => BucketRoot::Inline(Arc::new(value[BUCKET_BYTES..].to_vec())),
                page => BucketRoot::Page(page),
            };
            if buckets.len() == BUCKETS_MAX {
                return corrupt(page, format!("more than {BUCKETS_MAX} buckets"));
            }
            buckets.push(Bucket { name: name.to_vec(), root });
        }
        *visited = walk.visited;
        Ok(buckets)
    }

    /// A bucket by its name.
    pub fn bucket(&self, name: &str) -> Result<Option<Bucket>, FileError> {
        Ok(self.buckets()?.into_iter().find(|bucket| bucket.name == name.as_bytes()))
    }

    /// A bucket's pairs.
    pub fn pairs(&self, bucket: &Bucket) -> Result<Pairs<'_>, FileError> {
        Ok(Pairs { walk: Walk::begin(self, &bucket.root, Visited::new(self.meta.pages))? })
    }

    /// Walks all buckets and the freelist: every page is part of one thing only, in bounds, of a known kind, its keys in
    /// order. What is wrong, if anything is.
    pub fn check(&self) -> Result<(), FileError> {
        let mut visited = Visited::new(self.meta.pages);
        let buckets = self.buckets_with(&mut visited)?;
        for bucket in &buckets {
            let mut walk = Walk::begin(self, &bucket.root, visited)?;
            while walk.next()?.is_some() {}
            visited = walk.visited;
        }
        if self.meta.freelist == NO_FREELIST {
            return Ok(());
        }
        let id = self.meta.freelist;
        let bytes = self.page(id, &mut visited)?;
        let head = Head::read(&bytes).expect("a page is longer than its head");
        if head.flags != FLAG_FREELIST {
            return corrupt(id, format!("flags {:x}, expected a freelist", head.flags));
        }
        let (count, start) = match head.count {
            COUNT_ELSEWHERE => (u64_at(&bytes, HEAD_BYTES).unwrap_or_default(), HEAD_BYTES + 8),
            count => (count.into(), HEAD_BYTES),
        };
        let free = bytes.get(start..).unwrap_or_default();
        if count > (free.len() / 8) as u64 {
            return corrupt(id, format!("{count} free pages, which the freelist has no room for"));
        }
        for chunk in free.chunks_exact(8).take(count as usize) {
            let page = u64_at(chunk, 0).unwrap_or_default();
            if page < 2 || page >= self.meta.pages {
                return corrupt(page, "free, and out of bounds");
            }
            if visited.is_visited(page) {
                return corrupt(page, "reachable freed");
            }
            visited.visit(page);
        }
        match (2..self.meta.pages).find(|&page| !visited.is_visited(page)) {
            Some(page) => corrupt(page, "unreachable unfreed"),
            None => Ok(()),
        }
    }
}

/// A key and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// The pairs of a bucket, in key order.
pub struct Pairs<'a> {
    walk: Walk<'a>,
}

impl Pairs<'_> {
    /// The next pair; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "pairs are borrowed from the page at hand")]
    pub fn next(&mut self) -> Result<Option<Pair<'_>>, FileError> {
        let Some(element) = self.walk.next()? else { return Ok(None) };
        if element.flags & ELEMENT_IS_BUCKET != 0 {
            return corrupt(self.walk.page_id(), "a bucket within a bucket");
        }
        Ok(Some(self.walk.pair(&element)))
    }
}

/// A page on the way down.
struct Level {
    id: u64,
    bytes: Vec<u8>,
    head: Head,
    /// The next element.
    next: usize,
}

/// An element of a leaf page; the ranges lie within the page.
struct Element {
    flags: u32,
    key: Range<usize>,
    value: Range<usize>,
}

/// A walk over the leaves of one tree.
struct Walk<'a> {
    reader: &'a Reader,
    levels: Vec<Level>,
    visited: Visited,
    last_key: Option<Vec<u8>>,
}

fn range_within(bytes: &[u8], start: usize, length: usize) -> Option<Range<usize>> {
    let end = start.checked_add(length)?;
    (end <= bytes.len()).then_some(start..end)
}

impl<'a> Walk<'a> {
    fn begin(reader: &'a Reader, root: &BucketRoot, visited: Visited) -> Result<Self, FileError> {
        let mut walk = Self { reader, levels: Vec::new(), visited, last_key: None };
        match root {
            BucketRoot::Page(id) => walk.descend(*id)?,
            BucketRoot::Inline(bytes) => {
                let Some(head) = Head::read(bytes) else { return corrupt(0, "an inline bucket without its page") };
                if head.flags != FLAG_LEAF {
                    return corrupt(0, format!("flags {:x} in an inline bucket", head.flags));
                }
                walk.levels.push(Level { id: 0, bytes: bytes.to_vec(), head, next: 0 });
            }
        }
        Ok(walk)
    }

    fn descend(&mut self, id: u64) -> Result<(), FileError> {
        if self.levels.len() == DEPTH_MAX {
            return corrupt(id, format!("a tree of more than {DEPTH_MAX} levels"));
        }
        let bytes = self.reader.page(id, &mut self.visited)?;
        let head = Head::read(&bytes).expect("a page is longer than its head");
        if !matches!(head.flags, FLAG_BRANCH | FLAG_LEAF) || (head.flags == FLAG_BRANCH && head.count == 0) {
            return corrupt(
                id,
                format!("flags {:x} and {} elements, expected a branch or leaf", head.flags, head.count),
            );
        }
        self.levels.push(Level { id, bytes, head, next: 0 });
        Ok(())
    }

    /// The page of the newest element; 0: an inline one.
    fn page_id(&self) -> u64 {
        self.levels.last().map_or(0, |level| level.id)
    }

    fn pair(&self, element: &Element) -> (&[u8], &[u8]) {
        let bytes = &self.levels.last().expect("the element's page is on the way").bytes;
        (&bytes[element.key.clone()], &bytes[element.value.clone()])
    }

    fn next(&mut self) -> Result<Option<Element>, FileError> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            if level.next == usize::from(level.head.count) {
                // The last page stays, so that an element's page is always there.
                if self.levels.len() == 1 {
                    return Ok(None);
                }
                self.levels.pop();
                continue;
            }
            let at = HEAD_BYTES + level.next * ELEMENT_BYTES;
            level.next += 1;
            let (id, bytes) = (level.id, &level.bytes);
            let number = |offset: usize| u32_at(bytes, at + offset).map(|number| number as usize);
            if level.head.flags == FLAG_BRANCH {
                let (Some(place), Some(key_bytes), Some(child)) = (number(0), number(4), u64_at(bytes, at + 8)) else {
                    return corrupt(id, "an element beyond the page");
                };
                if range_within(bytes, at + place, key_bytes).is_none() {
                    return corrupt(id, "a key beyond the page");
                }
                self.descend(child)?;
                continue;
            }
            let (Some(flags), Some(place), Some(key_bytes), Some(value_bytes)) =
                (u32_at(bytes, at), number(4), number(8), number(12))
            else {
                return corrupt(id, "an element beyond the page");
            };
            let key = range_within(bytes, at + place, key_bytes);
            let value = range_within(bytes, at + place + key_bytes, value_bytes);
            let (Some(key), Some(value)) = (key, value) else { return corrupt(id, "a pair beyond the page") };
            let key_here = &bytes[key.clone()];
            match &mut self.last_key {
                Some(last) if key_here <= &last[..] => return corrupt(id, "keys out of order"),
                Some(last) => {
                    last.clear();
                    last.extend_from_slice(key_here);
                }
                none => *none = Some(key_here.to_vec()),
            }
            return Ok(Some(Element { flags, key, value }));
        }
    }
}
