//! HashKV of a file, as a server that ran on it would answer.
//!
//! The rules are those of the store's own HashKV. What counts of the compacted part needs to know the newest version of
//! each key, so that part alone costs memory per key. Invariant: one pass for that, one for the sum.

use crate::bbolt::{Bucket, Reader};
use crate::content::{Content, ContentError, refused};
use crate::schema;
use prost::Message;
use quorate_proto::mvccpb::KeyValue;
use quorate_store::revision::Revision;
use std::collections::HashMap;

/// HashKV's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHash {
    /// CRC-32C.
    pub hash: u32,
    /// The revision hashed.
    pub hash_revision: i64,
    /// -1: never compacted.
    pub compact_revision: i64,
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Below the compact revision.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// Above the newest one.
    #[error("mvcc: required revision is a future revision")]
    Future,
    /// The file is broken.
    #[error(transparent)]
    Content(#[from] ContentError),
}

type Each<'a> = &'a mut dyn FnMut(&[u8], Revision, bool, &[u8]);

/// Tells all records.
fn records(reader: &Reader, bucket: &Bucket, each: Each<'_>) -> Result<(), ContentError> {
    let mut pairs = reader.pairs(bucket)?;
    while let Some((key, value)) = pairs.next()? {
        let Some((revision, deletion)) = schema::parse_revision(key) else {
            return refused(schema::KEY, "a key that is no revision");
        };
        each(key, revision, deletion, value);
    }
    Ok(())
}

/// The newest version of each key at or below `revision` that is no deletion.
fn visible_at(reader: &Reader, bucket: &Bucket, revision: i64) -> Result<HashMap<Vec<u8>, Revision>, ContentError> {
    let mut newest = HashMap::new();
    let mut broken = false;
    records(reader, bucket, &mut |_, at, deletion, value| {
        if at.main > revision {
            return;
        }
        match KeyValue::decode(value) {
            Ok(key_value) if deletion => drop(newest.remove(&key_value.key[..])),
            Ok(key_value) => drop(newest.insert(key_value.key.into(), at)),
            Err(_) => broken = true,
        }
    })?;
    if broken { refused(schema::KEY, "a value that is no key-value") } else { Ok(newest) }
}

/// Hashes up to `asked` (0: all).
pub fn hash_kv(reader: &Reader, asked: i64) -> Result<FileHash, HashError> {
    let compact_revision = Content::read(reader)?.compact_revision();
    let Some(bucket) = reader.bucket(schema::KEY).map_err(ContentError::from)? else {
        return Err(refused::<()>(schema::KEY, "no such bucket").expect_err("always refused").into());
    };
    let mut current = 1.max(compact_revision);
    let mut has_old = false;
    records(reader, &bucket, &mut |_, revision, _, _| {
        current = current.max(revision.main);
        has_old |= revision.main <= compact_revision;
    })?;
    if asked > 0 && asked < compact_revision {
        return Err(HashError::Compacted);
    }
    if asked > current {
        return Err(HashError::Future);
    }
    let hash_revision = if asked == 0 { current } else { asked };
    let mut kept = HashMap::new();
    if has_old {
        kept = visible_at(reader, &bucket, hash_revision)?;
        if kept.is_empty() {
            kept = visible_at(reader, &bucket, compact_revision)?;
        }
    }
    let kept: std::collections::HashSet<Revision> = kept.into_values().collect();
    let mut hash = crc32c::crc32c(schema::KEY.as_bytes());
    records(reader, &bucket, &mut |key, revision, deletion, value| {
        let is_old = revision.main <= compact_revision;
        let counts = revision.main <= hash_revision && !(is_old && (deletion || !kept.contains(&revision)));
        if counts {
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
        }
    })?;
    Ok(FileHash { hash, hash_revision, compact_revision })
}
