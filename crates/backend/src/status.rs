//! What `snapshot status` says of a file.
//!
//! Invariant: the numbers are etcdutl's: a CRC-32C over every bucket's name and pairs, the newest revision, the keys that
//! exist at it.

use crate::bbolt::Reader;
use crate::content::{ContentError, refused};
use crate::schema;
use prost::Message;
use quorate_proto::mvccpb::KeyValue;
use std::collections::HashSet;

/// A file's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Of everything in it.
    pub hash: u32,
    /// The newest revision.
    pub revision: i64,
    /// Keys that exist.
    pub total_keys: usize,
    /// Length of the database, bytes.
    pub total_bytes: u64,
    /// The form of the file; empty: before 3.6.
    pub version: String,
}

/// Reads all of a file, which was checked. `progress` is told how many pairs were read, now and then.
pub fn status(reader: &Reader, progress: &mut dyn FnMut(u64)) -> Result<Status, ContentError> {
    let mut status = Status { total_bytes: reader.bytes(), ..Status::default() };
    let mut keys: HashSet<Vec<u8>> = HashSet::new();
    let mut count = 0;
    for bucket in reader.buckets()? {
        status.hash = crc32c::crc32c_append(status.hash, &bucket.name);
        let is_key = bucket.name == schema::KEY.as_bytes();
        let is_meta = bucket.name == schema::META.as_bytes();
        let mut pairs = reader.pairs(&bucket)?;
        while let Some((key, value)) = pairs.next()? {
            status.hash = crc32c::crc32c_append(crc32c::crc32c_append(status.hash, key), value);
            if is_meta && key == schema::STORAGE_VERSION.as_bytes() {
                status.version = String::from_utf8_lossy(value).into_owned();
            }
            if !is_key {
                continue;
            }
            let Some((revision, deletion)) = schema::parse_revision(key) else {
                return refused(schema::KEY, format!("cannot parse revision key: {:?}", String::from_utf8_lossy(key)));
            };
            let Ok(key_value) = KeyValue::decode(value) else {
                return refused(schema::KEY, format!("cannot unmarshal value, revision {}", revision.main));
            };
            status.revision = revision.main;
            if deletion {
                keys.remove(&key_value.key[..]);
            } else {
                keys.insert(key_value.key.into());
            }
            count += 1;
            progress(count);
        }
    }
    status.total_keys = keys.len();
    Ok(status)
}
