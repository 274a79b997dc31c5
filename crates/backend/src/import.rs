//! The records of a backend file into a new store of ours.
//!
//! Owns the way of one record. Invariant: every record of the file that holds a key arrives, in order, or nothing is made.

use crate::bbolt::Reader;
use crate::content::{ContentError, refused};
use crate::schema;
use quorate_store::seed::StoreSeed;

/// Records between two reports of progress.
const PROGRESS_RECORDS: u64 = 10_000;

/// What was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records.
    pub records: u64,
    /// The newest revision that the file names.
    pub revision: i64,
}

/// Appends all records of the file to a seed. `progress` is told the count, now and then.
pub fn seed_records(
    reader: &Reader,
    seed: &mut StoreSeed,
    progress: &mut dyn FnMut(u64),
) -> Result<Taken, ContentError> {
    let mut taken = Taken::default();
    let Some(bucket) = reader.bucket(schema::KEY)? else { return refused(schema::KEY, "no such bucket") };
    let mut pairs = reader.pairs(&bucket)?;
    while let Some((key, value)) = pairs.next()? {
        let Some((revision, deletion)) = schema::parse_revision(key) else {
            return refused(schema::KEY, "a key that is no revision");
        };
        taken.revision = taken.revision.max(revision.main);
        // A restore that raised the revision left an empty value there: it marks the revision and holds no key.
        if value.is_empty() && !deletion {
            continue;
        }
        seed.append(revision, deletion, value)?;
        taken.records += 1;
        if taken.records.is_multiple_of(PROGRESS_RECORDS) {
            progress(taken.records);
        }
    }
    Ok(taken)
}
