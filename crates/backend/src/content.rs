//! What a backend file holds beside the records: of a checkpoint, into buckets, and back.
//!
//! Owns which pairs there are in the small buckets. Invariant: pairs come in the order of their keys; what is read was
//! understood whole, or refused.

use crate::bbolt::{FileError, Reader};
use crate::messages::Lease;
use crate::schema;
use bytes::Bytes;
use prost::Message;
use quorate_proto::authpb;
use quorate_proto::etcdserverpb::{AlarmMember, Member};
use quorate_proto::quoratepb::{AuthRecord, Checkpoint, ConfState, LeaseRecord, UserRecord};
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a file's contents can't be taken.
#[derive(Debug, Error)]
pub enum ContentError {
    /// The file is broken.
    #[error(transparent)]
    File(#[from] FileError),
    /// A pair means nothing.
    #[error("bucket {bucket}: {what}")]
    Pair {
        /// Where.
        bucket: &'static str,
        /// What was found.
        what: String,
    },
    /// Our own disk refused.
    #[error(transparent)]
    Disk(#[from] quorate_store::error::DiskError),
}

pub(crate) fn refused<T>(bucket: &'static str, what: impl Into<String>) -> Result<T, ContentError> {
    Err(ContentError::Pair { bucket, what: what.into() })
}

/// Everything but the records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Index of the last applied entry.
    pub consistent_index: u64,
    /// Its term; 0: not said (3.4).
    pub term: u64,
    /// Voters and learners; `None`: not said (3.4).
    pub conf_state: Option<ConfState>,
    /// The form of the file; empty: before 3.6.
    pub storage_version: String,
    /// The compaction asked for last; below 1: none.
    pub scheduled_compact_revision: i64,
    /// The compaction done last; below 1: none.
    pub finished_compact_revision: i64,
    /// Ids and granted TTLs.
    pub leases: Vec<(i64, i64)>,
    /// Alarms.
    pub alarms: Vec<AlarmMember>,
    /// Members.
    pub members: Vec<Member>,
    /// Ids of members that were removed.
    pub removed_members: Vec<u64>,
    /// The cluster's version; empty: none was set.
    pub cluster_version: String,
    /// The version that the cluster goes down to; empty: it does not.
    pub downgrade_target: String,
    /// Users and roles; `None`: there were never any.
    pub auth: Option<AuthRecord>,
}

/// The pairs of a small bucket.
pub(crate) type SmallBucket = BTreeMap<Vec<u8>, Vec<u8>>;

impl Content {
    /// Of our own store. `compacted_revision`: up to where compaction is done.
    pub fn of(checkpoint: &Checkpoint, compacted_revision: i64) -> Self {
        Self {
            consistent_index: checkpoint.applied_index,
            term: checkpoint.applied_term,
            conf_state: checkpoint.conf_state.clone(),
            storage_version: match checkpoint.cluster_version.as_str() {
                "" => schema::STORAGE_VERSION_WRITTEN.to_owned(),
                decided => decided.to_owned(),
            },
            scheduled_compact_revision: checkpoint.compact_revision,
            finished_compact_revision: compacted_revision,
            leases: checkpoint.leases.iter().map(|lease| (lease.id, lease.ttl_s)).collect(),
            alarms: checkpoint.alarms.clone(),
            members: checkpoint.members.clone(),
            removed_members: checkpoint.removed_members.clone(),
            cluster_version: checkpoint.cluster_version.clone(),
            downgrade_target: checkpoint.downgrade_target.clone(),
            auth: checkpoint.auth.clone(),
        }
    }

    /// Of a file.
    pub fn read(reader: &Reader) -> Result<Self, ContentError> {
        let mut content = Self::default();
        let mut auth = AuthRecord::default();
        for bucket in reader.buckets()? {
            let mut pairs = reader.pairs(&bucket)?;
            match std::str::from_utf8(&bucket.name).unwrap_or_default() {
                schema::META => {
                    while let Some((key, value)) = pairs.next()? {
                        content.take_meta(key, value)?;
                    }
                }
                schema::LEASE => {
                    while let Some((_, value)) = pairs.next()? {
                        let Ok(lease) = Lease::decode(value) else {
                            return refused(schema::LEASE, "a value that is no lease");
                        };
                        content.leases.push((lease.id, lease.ttl));
                    }
                }
                schema::ALARM => {
                    while let Some((key, _)) = pairs.next()? {
                        let Ok(alarm) = AlarmMember::decode(key) else {
                            return refused(schema::ALARM, "a key that is no alarm");
                        };
                        content.alarms.push(alarm);
                    }
                }
                schema::MEMBERS => {
                    while let Some((_, value)) = pairs.next()? {
                        let Some(member) = schema::parse_member(value) else {
                            return refused(schema::MEMBERS, "a value that is no member");
                        };
                        content.members.push(member);
                    }
                }
                schema::MEMBERS_REMOVED => {
                    while let Some((key, _)) = pairs.next()? {
                        let Some(id) = schema::parse_member_key(key) else {
                            return refused(schema::MEMBERS_REMOVED, "a key that is no member's id");
                        };
                        content.removed_members.push(id);
                    }
                }
                schema::CLUSTER => {
                    while let Some((key, value)) = pairs.next()? {
                        if key == schema::CLUSTER_VERSION.as_bytes() {
                            content.cluster_version = String::from_utf8_lossy(value).into_owned();
                        } else if key == schema::DOWNGRADE.as_bytes() {
                            content.downgrade_target = schema::parse_downgrade(value).unwrap_or_default();
                        }
                    }
                }
                schema::AUTH => {
                    while let Some((key, value)) = pairs.next()? {
                        if key == schema::AUTH_ENABLED.as_bytes() {
                            auth.enabled = value == schema::AUTH_IS_ENABLED;
                        } else if key == schema::AUTH_REVISION.as_bytes() {
                            let Ok(revision) = value.try_into() else {
                                return refused(schema::AUTH, "a revision that cannot be read");
                            };
                            auth.revision = u64::from_be_bytes(revision);
                        }
                    }
                }
                schema::AUTH_USERS => {
                    while let Some((_, value)) = pairs.next()? {
                        let Ok(user) = authpb::User::decode(value) else {
                            return refused(schema::AUTH_USERS, "a value that is no user");
                        };
                        auth.users.push(UserRecord { user: Some(user), ..UserRecord::default() });
                    }
                }
                schema::AUTH_ROLES => {
                    while let Some((_, value)) = pairs.next()? {
                        let Ok(role) = authpb::Role::decode(value) else {
                            return refused(schema::AUTH_ROLES, "a value that is no role");
                        };
                        auth.roles.push(role);
                    }
                }
                _ => {}
            }
        }
        content.leases.sort_unstable();
        // When each user was changed last is not in the file: at the newest revision at the latest.
        for user in &mut auth.users {
            (user.identity_revision, user.grants_revision) = (auth.revision, auth.revision);
        }
        let is_touched = auth.enabled || auth.revision > 1 || !auth.users.is_empty() || !auth.roles.is_empty();
        content.auth = is_touched.then_some(auth);
        Ok(content)
    }

    fn take_meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), ContentError> {
        let name = std::str::from_utf8(key).unwrap_or_default();
        let unreadable = || ContentError::Pair { bucket: schema::META, what: format!("{name} cannot be read") };
        let number = || value.try_into().map(u64::from_be_bytes).map_err(|_| unreadable());
        let revision = || schema::parse_revision(value).map(|(revision, _)| revision.main).ok_or_else(unreadable);
        match name {
            schema::CONSISTENT_INDEX => self.consistent_index = number()?,
            schema::TERM => self.term = number()?,
            schema::CONF_STATE => self.conf_state = Some(schema::parse_conf_state(value).ok_or_else(unreadable)?),
            schema::STORAGE_VERSION => self.storage_version = String::from_utf8_lossy(value).into_owned(),
            schema::SCHEDULED_COMPACT => self.scheduled_compact_revision = revision()?,
            schema::FINISHED_COMPACT => self.finished_compact_revision = revision()?,
            _ => {}
        }
        Ok(())
    }

    /// The compact revision as etcd has it once it runs: what was asked for counts at once; -1: never compacted.
    pub fn compact_revision(&self) -> i64 {
        match self.scheduled_compact_revision.max(self.finished_compact_revision) {
            revision if revision > 0 => revision,
            _ => -1,
        }
    }

    /// The leases as our store records them: each with a count of its own.
    pub fn lease_records(&self) -> Vec<LeaseRecord> {
        let leases = self.leases.iter().filter(|(id, _)| *id != 0);
        leases.zip(1..).map(|(&(id, ttl_s), renewals)| LeaseRecord { id, ttl_s, renewals }).collect()
    }

    /// The pairs of a bucket other than those of records and leases.
    pub(crate) fn small_bucket(&self, name: &str) -> SmallBucket {
        let mut pairs = SmallBucket::new();
        match name {
            schema::ALARM => {
                let keys = self.alarms.iter().map(Message::encode_to_vec).filter(|key| !key.is_empty());
                pairs.extend(keys.map(|key| (key, Vec::new())));
            }
            schema::CLUSTER if !self.cluster_version.is_empty() => {
                pairs.insert(schema::CLUSTER_VERSION.into(), self.cluster_version.clone().into_bytes());
                if !self.downgrade_target.is_empty() {
                    pairs.insert(schema::DOWNGRADE.into(), schema::downgrade_json(&self.downgrade_target));
                }
            }
            schema::AUTH => {
                let revision = self.auth.as_ref().map_or(1, |auth| auth.revision);
                pairs.insert(schema::AUTH_REVISION.into(), revision.to_be_bytes().into());
                if let Some(auth) = &self.auth {
                    let value = if auth.enabled { schema::AUTH_IS_ENABLED } else { schema::AUTH_IS_DISABLED };
                    pairs.insert(schema::AUTH_ENABLED.into(), value.into());
                }
            }
            schema::AUTH_USERS => {
                let users = self.auth.iter().flat_map(|auth| &auth.users).filter_map(|record| record.user.as_ref());
                pairs.extend(users.map(|user| (user.name.to_vec(), user.encode_to_vec())));
            }
            schema::AUTH_ROLES => {
                let roles = self.auth.iter().flat_map(|auth| &auth.roles);
                pairs.extend(roles.map(|role| (role.name.to_vec(), role.encode_to_vec())));
            }
            schema::MEMBERS => {
                let member = |member: &Member| (schema::member_key(member.id), schema::member_json(member));
                pairs.extend(self.members.iter().map(member));
            }
            schema::MEMBERS_REMOVED => {
                pairs.extend(self.removed_members.iter().map(|&id| (schema::member_key(id), schema::REMOVED.into())));
            }
            schema::META => self.fill_meta(&mut pairs),
            _ => {}
        }
        pairs
    }

    fn fill_meta(&self, pairs: &mut SmallBucket) {
        let mut put = |name: &str, value: Vec<u8>| pairs.insert(name.into(), value);
        put(schema::CONSISTENT_INDEX, self.consistent_index.to_be_bytes().into());
        put(schema::TERM, self.term.to_be_bytes().into());
        if let Some(conf_state) = &self.conf_state {
            put(schema::CONF_STATE, schema::conf_state_json(conf_state));
        }
        put(schema::STORAGE_VERSION, self.storage_version.clone().into_bytes());
        for (name, revision) in [
            (schema::SCHEDULED_COMPACT, self.scheduled_compact_revision),
            (schema::FINISHED_COMPACT, self.finished_compact_revision),
        ] {
            if revision > 0 {
                put(name, schema::compact_revision(revision));
            }
        }
    }
}

/// The pair of a lease.
pub(crate) fn lease_pair(id: i64, ttl: i64) -> (Bytes, Bytes) {
    let key = Bytes::copy_from_slice(&id.to_be_bytes());
    (key, Lease { id, ttl, remaining_ttl: 0 }.encode_to_vec().into())
}
