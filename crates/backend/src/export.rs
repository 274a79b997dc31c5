//! Our store at one moment as a backend file, piece by piece.
//!
//! Owns the order of buckets and the file's SHA-256. Does not own where pieces go. Invariant: two passes over the records
//! (lengths, then bytes) and no more memory than a few pages, the leases, and one block of a segment.

use crate::bbolt::{BucketPairs, Layout, Measure, Writer};
use crate::content::{Content, lease_pair};
use crate::schema;
use bytes::Bytes;
use quorate_store::error::DiskError;
use quorate_store::export::Moment;
use quorate_store::revlog::Records;
use sha2::{Digest, Sha256};

/// Length of the checksum behind the file, bytes.
pub const SUM_BYTES: usize = 32;

/// A bucket's pairs.
enum Source {
    Listed(std::vec::IntoIter<(Bytes, Bytes)>),
    /// Ids and TTLs.
    Leases(std::vec::IntoIter<(i64, i64)>),
    Records(Box<Records>),
}

impl BucketPairs for Source {
    type Error = DiskError;

    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        match self {
            Self::Listed(pairs) => Ok(pairs.next()),
            Self::Leases(leases) => Ok(leases.next().map(|(id, ttl)| lease_pair(id, ttl))),
            Self::Records(records) => Ok(records.next()?.map(|record| {
                let (key, length) = record.revision.bucket_key(record.deletion);
                (Bytes::copy_from_slice(&key[..length]), record.key_value)
            })),
        }
    }
}

/// All buckets, in the order of their names.
const BUCKETS: [&str; 10] = [
    schema::ALARM,
    schema::AUTH,
    schema::AUTH_ROLES,
    schema::AUTH_USERS,
    schema::CLUSTER,
    schema::KEY,
    schema::LEASE,
    schema::MEMBERS,
    schema::MEMBERS_REMOVED,
    schema::META,
];

/// A file on its way out.
pub struct Export {
    layout: Layout,
    writer: Writer<Source>,
    sum: Sha256,
    given: u64,
}

impl Export {
    /// The file of a moment. Reads all lengths: not on a thread that others wait for.
    pub fn new(moment: &Moment) -> Result<Self, DiskError> {
        let mut content = Content::of(moment.checkpoint(), moment.compacted_revision());
        let mut leases = std::mem::take(&mut content.leases);
        leases.sort_unstable_by_key(|(id, _)| *id as u64);
        let mut measure = Measure::default();
        let mut sources = Vec::with_capacity(BUCKETS.len());
        for name in BUCKETS {
            let source = match name {
                schema::KEY => {
                    moment.records()?.lengths(&mut |record| {
                        let (key, length) = record.revision.bucket_key(record.deletion);
                        measure.pair(&key[..length], record.key_value_bytes);
                    })?;
                    Source::Records(Box::new(moment.records()?))
                }
                schema::LEASE => {
                    for &(id, ttl) in &leases {
                        let (key, value) = lease_pair(id, ttl);
                        measure.pair(&key, value.len());
                    }
                    Source::Leases(std::mem::take(&mut leases).into_iter())
                }
                name => {
                    let pairs: Vec<(Bytes, Bytes)> =
                        content.small_bucket(name).into_iter().map(|(key, value)| (key.into(), value.into())).collect();
                    pairs.iter().for_each(|(key, value)| measure.pair(key, value.len()));
                    Source::Listed(pairs.into_iter())
                }
            };
            measure.end_bucket(name);
            sources.push((name, source));
        }
        let layout = measure.finish();
        Ok(Self { layout, writer: Writer::new(layout, sources), sum: Sha256::new(), given: 0 })
    }

    /// Length of the file, without the checksum, bytes.
    pub fn total_bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Bytes that are still to come.
    pub fn remaining_bytes(&self) -> u64 {
        self.layout.bytes() - self.given
    }

    /// The next piece of about `bytes`; `None` at the end.
    pub fn next(&mut self, bytes: usize) -> Result<Option<Vec<u8>>, DiskError> {
        let piece = self.writer.next(bytes)?;
        if let Some(piece) = &piece {
            self.sum.update(piece);
            self.given += piece.len() as u64;
        }
        Ok(piece)
    }

    /// The SHA-256 of all pieces, which stands behind the file.
    pub fn sum(self) -> [u8; SUM_BYTES] {
        self.sum.finalize().into()
    }
}
