//! One change, as all its watchers share it.

use crate::encode;
use crate::error::DiskError;
use crate::state::{Core, decode_key_value};
use bytes::Bytes;
use std::sync::OnceLock;

/// A change and its encoded forms; each form is made at most once, whoever needs it first.
#[derive(Debug)]
pub(crate) struct EventRecord {
    /// The revision.
    pub(crate) main: i64,
    /// Whether the key was deleted.
    pub(crate) deletion: bool,
    key_value: Bytes,
    plain: OnceLock<Bytes>,
    with_previous: OnceLock<Bytes>,
}

impl EventRecord {
    /// From the stored record.
    pub(crate) fn new(main: i64, deletion: bool, key_value: Bytes) -> Self {
        Self { main, deletion, key_value, plain: OnceLock::new(), with_previous: OnceLock::new() }
    }

    /// The key.
    pub(crate) fn key(&self) -> &[u8] {
        encode::key_of(&self.key_value)
    }

    /// Whether the key was made by this change.
    fn is_creation(&self) -> bool {
        !self.deletion
            && decode_key_value(self.key_value.clone()).is_ok_and(|key_value| key_value.create_revision == self.main)
    }

    /// Roughly what it costs in a queue.
    pub(crate) fn bytes(&self) -> usize {
        self.key_value.len() + 64
    }

    /// The encoded `mvccpb.Event`. Fails when the previous value is wanted and cannot be read: to leave it out would say
    /// that there was none.
    pub(crate) fn encoded(&self, previous: bool, core: &Core) -> Result<Bytes, DiskError> {
        let deletion = self.deletion.then_some(self.main);
        if !previous {
            return Ok(self.plain.get_or_init(|| encode::event(&self.key_value, deletion, None)).clone());
        }
        if let Some(encoded) = self.with_previous.get() {
            return Ok(encoded.clone());
        }
        // As in etcd an event goes without its previous value when that is compacted away, or when the key is made: also
        // if the same transaction deleted it first.
        let before =
            if self.is_creation() { None } else { core.state.read().key_value_at(self.key(), self.main - 1)? };
        Ok(self.with_previous.get_or_init(|| encode::event(&self.key_value, deletion, before.as_deref())).clone())
    }
}
