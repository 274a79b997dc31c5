//! Revisions: the logical clock of the store (etcd's term).

/// One change's place in history: the transaction's revision and the change's number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision {
    /// The transaction, counting from 2 (an empty store is at revision 1).
    pub main: i64,
    /// The change within the transaction, counting from 0.
    pub sub: i64,
}

impl Revision {
    /// etcd's 17-byte form (18 with the mark of a deletion): what its data file uses as key, and HashKV hashes.
    pub fn bucket_key(self, deletion: bool) -> ([u8; 18], usize) {
        let mut key = [0; 18];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[8] = b'_';
        key[9..17].copy_from_slice(&self.sub.to_be_bytes());
        key[17] = b't';
        (key, if deletion { 18 } else { 17 })
    }
}
