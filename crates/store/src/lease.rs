//! Leases as replicated facts: which exist, how often they were renewed, which keys hang on them.
//!
//! No time here: when a lease is over is the leader's decision, which arrives as a command.

use crate::error::Error;
use bytes::Bytes;
use quorate_proto::quoratepb::LeaseRecord;
use std::collections::{BTreeMap, BTreeSet};

/// The longest time to live, seconds (etcd's bound).
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;

/// One lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The granted time to live, seconds.
    pub ttl_s: i64,
    /// The count of the grant, or of the newest renewal since: tells an expiry that was decided before it from one after.
    /// No grant or renewal of any lease ever has the same, so that a lease granted anew under an old id is another.
    pub renewals: u64,
    /// The keys whose newest version names the lease.
    pub keys: BTreeSet<Bytes>,
}

/// All leases.
#[derive(Debug, Default)]
pub struct Leases {
    by_id: BTreeMap<i64, Lease>,
    /// The newest count.
    count: u64,
}

impl Leases {
    /// As a checkpoint recorded them; keys are attached by the caller as it finds them.
    pub(crate) fn load(records: &[LeaseRecord], count: u64) -> Self {
        let by_id = records
            .iter()
            .map(|record| (record.id, Lease { ttl_s: record.ttl_s, renewals: record.renewals, keys: BTreeSet::new() }))
            .collect();
        Self { by_id, count }
    }

    /// For a checkpoint.
    pub(crate) fn records(&self) -> Vec<LeaseRecord> {
        self.by_id.iter().map(|(&id, lease)| LeaseRecord { id, ttl_s: lease.ttl_s, renewals: lease.renewals }).collect()
    }

    /// The newest count, for a checkpoint.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// A lease.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, ascending ids.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.by_id.iter().map(|(&id, lease)| (id, lease))
    }

    /// Makes a lease; answers its count. Id 0 names none, as in etcd.
    pub(crate) fn grant(&mut self, id: i64, ttl_s: i64) -> Result<u64, Error> {
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl_s > LEASE_TTL_S_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.by_id.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        self.count += 1;
        self.by_id.insert(id, Lease { ttl_s, renewals: self.count, keys: BTreeSet::new() });
        Ok(self.count)
    }

    /// Counts a renewal; answers the TTL and the count.
    pub(crate) fn renew(&mut self, id: i64) -> Result<(i64, u64), Error> {
        let lease = self.by_id.get_mut(&id).ok_or(Error::LeaseNotFound)?;
        self.count += 1;
        lease.renewals = self.count;
        Ok((lease.ttl_s, lease.renewals))
    }

    /// Ends a lease; the caller deletes the keys that it answers, in this order.
    pub(crate) fn end(&mut self, id: i64) -> Result<BTreeSet<Bytes>, Error> {
        self.by_id.remove(&id).map(|lease| lease.keys).ok_or(Error::LeaseNotFound)
    }

    /// A key's newest version names `new` where the one before named `old` (0: none).
    pub(crate) fn move_key(&mut self, key: &[u8], old: i64, new: i64) {
        if old == new {
            return;
        }
        if let Some(lease) = self.by_id.get_mut(&old) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.by_id.get_mut(&new) {
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_and_ends() {
        let mut leases = Leases::default();
        assert_eq!(leases.grant(0, 10), Err(Error::LeaseNotFound));
        assert_eq!(leases.grant(7, LEASE_TTL_S_MAX + 1), Err(Error::LeaseTtlTooLarge));
        assert_eq!(leases.grant(7, 10), Ok(1));
        assert_eq!(leases.grant(7, 10), Err(Error::LeaseExists));
        assert_eq!(leases.renew(7), Ok((10, 2)));
        assert_eq!(leases.renew(8), Err(Error::LeaseNotFound));
        leases.move_key(b"b", 0, 7);
        leases.move_key(b"a", 0, 7);
        leases.move_key(b"c", 0, 7);
        leases.move_key(b"c", 7, 0);
        let again = Leases::load(&leases.records(), leases.count());
        assert_eq!(again.get(7).map(|lease| (lease.ttl_s, lease.renewals)), Some((10, 2)));
        let keys: Vec<_> = leases.end(7).unwrap().into_iter().collect();
        assert_eq!(keys, [Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        assert_eq!(leases.end(7), Err(Error::LeaseNotFound));
        assert!(leases.is_empty());
        assert_eq!(leases.grant(7, 10), Ok(3), "another lease, whatever its id");
    }
}
