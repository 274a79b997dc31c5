//! bbolt's file format: pages, trees of pages, buckets.
//!
//! Knows nothing of etcd. Invariant: what `Writer` writes is what `Reader` reads, and what bbolt's own check accepts.

mod page;
mod reader;
mod tree;
mod writer;

#[cfg(test)]
mod tests;

pub use page::PAGE_BYTES;
pub use reader::{Bucket, FileError, Pair, Pairs, Reader};
pub use writer::{BucketPairs, Layout, Measure, Writer};
