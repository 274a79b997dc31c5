//! One revision in the making: every put and delete of a command lands here, in the log, the index, the leases, the
//! digest and the events together.

use crate::encode::{KeyValueParts, put_key_value};
use crate::error::DiskError;
use crate::key_index::Version;
use crate::range::KeyRange;
use crate::revision::Revision;
use crate::revlog::RevLog;
use crate::state::{State, visible};
use crate::watch::EventRecord;
use bytes::Bytes;
use std::ops::ControlFlow;

/// The changes of one command. The first one opens a new revision; without any the revision stays what it is.
pub(crate) struct Change<'a> {
    pub(crate) state: &'a mut State,
    log: &'a mut RevLog,
    /// Where events go; `None` when nobody watches.
    events: Option<&'a mut Vec<EventRecord>>,
    scratch: &'a mut Vec<u8>,
    /// Changes so far.
    changes: u32,
    pub(crate) deleted: u64,
    pub(crate) put: u64,
    /// Encoded bytes of what was put.
    pub(crate) put_bytes: u64,
}

impl<'a> Change<'a> {
    pub(crate) fn new(
        state: &'a mut State,
        log: &'a mut RevLog,
        events: Option<&'a mut Vec<EventRecord>>,
        scratch: &'a mut Vec<u8>,
    ) -> Self {
        Self { state, log, events, scratch, changes: 0, deleted: 0, put: 0, put_bytes: 0 }
    }

    /// Opens the revision at the first change; answers the change's own place.
    fn next_revision(&mut self) -> Revision {
        if self.changes == 0 {
            self.state.revision += 1;
        }
        let revision = Revision { main: self.state.revision, sub: i64::from(self.changes) };
        self.changes += 1;
        revision
    }

    pub(crate) fn put(&mut self, key: &Bytes, value: &[u8], lease: i64) -> Result<(), DiskError> {
        let revision = self.next_revision();
        let before = visible(self.state.index.get(key), revision.main).copied();
        let create_revision = before.map_or(revision.main, |version| version.create_revision);
        let version = before.map_or(0, |version| version.version) + 1;
        self.scratch.clear();
        put_key_value(
            self.scratch,
            KeyValueParts { key, create_revision, mod_revision: revision.main, version, value, lease },
        );
        let bytes = self.scratch.len() as u64;
        self.record(
            key,
            revision,
            false,
            Version {
                main: revision.main,
                sub: revision.sub as u32,
                create_revision,
                version,
                lease,
                location: crate::revlog::Location::default(),
            },
        )?;
        self.state.leases.move_key(key, before.map_or(0, |version| version.lease), lease);
        self.put += 1;
        self.put_bytes += bytes;
        Ok(())
    }

    /// Deletes what exists in the range; answers how many keys.
    pub(crate) fn delete_range(&mut self, range: &KeyRange) -> Result<i64, DiskError> {
        let current = self.state.revision;
        let mut keys = Vec::new();
        self.state.index.walk(range, &mut |key, versions| {
            if let Some(version) = visible(versions, current) {
                keys.push((Bytes::copy_from_slice(key), version.lease));
            }
            ControlFlow::Continue(())
        });
        for (key, lease) in &keys {
            self.delete(key, *lease)?;
        }
        Ok(keys.len() as i64)
    }

    fn delete(&mut self, key: &Bytes, lease: i64) -> Result<(), DiskError> {
        let revision = self.next_revision();
        self.scratch.clear();
        put_key_value(
            self.scratch,
            KeyValueParts { key, create_revision: 0, mod_revision: 0, version: 0, value: &[], lease: 0 },
        );
        self.record(
            key,
            revision,
            true,
            Version {
                main: revision.main,
                sub: revision.sub as u32,
                create_revision: 0,
                version: 0,
                lease: 0,
                location: crate::revlog::Location::default(),
            },
        )?;
        self.state.leases.move_key(key, lease, 0);
        self.deleted += 1;
        Ok(())
    }

    /// Lays the record in `scratch` down.
    fn record(&mut self, key: &Bytes, at: Revision, deletion: bool, version: Version) -> Result<(), DiskError> {
        let location = self.log.append(at, deletion, self.scratch)?;
        self.state.index.append(key, Version { location, ..version });
        let view = self.log.view();
        if !std::sync::Arc::ptr_eq(&view, &self.state.view) {
            self.state.view = view;
        }
        let (stamp, length) = at.bucket_key(deletion);
        self.state.digest(&stamp[..length]);
        self.state.digest(self.scratch);
        if let Some(events) = &mut self.events {
            events.push(EventRecord::new(at.main, deletion, Bytes::copy_from_slice(self.scratch)));
        }
        Ok(())
    }
}
