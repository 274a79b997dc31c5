//! Membership of a group: who is alive, as a map in memory, and oneself in it.
//!
//! It owns nothing of its own: a [`Presence`] says that one is there, a [`Directory`] who else is. Both go on over partitions,
//! expiry and restarts of the store; in the meantime the map says that it is old.

use std::collections::BTreeMap;

use crate::directory::{Directory, View};
use crate::ephemeral::{Presence, Standing};
use crate::error::{Error, Result};
use crate::namespace::{Namespace, check_part};
use crate::session::SessionOptions;

/// A member of a group. Dropping it leaves in the background.
pub struct Membership {
    name: String,
    presence: Presence,
    directory: Directory,
}

/// The members as of a moment.
#[derive(Clone, Debug)]
pub struct Members {
    /// What each says of itself, by name.
    pub by_name: BTreeMap<String, Vec<u8>>,
    /// Whether the store answered last time it was asked. If not, others may have come and gone.
    pub is_connected: bool,
    /// Why nothing new comes any more; none while it does.
    pub failure: Option<Error>,
}

impl Members {
    fn of(view: &View) -> Self {
        Self {
            by_name: view.entries.iter().map(|(name, entry)| (name.clone(), entry.value.clone())).collect(),
            is_connected: view.is_connected,
            failure: view.failure.clone(),
        }
    }
}

impl Namespace {
    /// Joins the group at a path, and comes back after each loss. Returns when this member is seen and all others are
    /// known.
    ///
    /// # Errors
    /// Names that are none; no member of the store answers; the store refuses.
    pub async fn join(
        &self,
        group: &str,
        name: &str,
        value: impl Into<Vec<u8>>,
        options: SessionOptions,
    ) -> Result<Membership> {
        check_part(name)?;
        let presence = self.presence(&format!("{group}/{name}"), value, options)?;
        presence.present().await?;
        let directory = self.directory(group).await?;
        Ok(Membership { name: name.to_owned(), presence, directory })
    }
}

impl Membership {
    /// This member's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The members at this moment, as far as is known here.
    #[must_use]
    pub fn members(&self) -> Members {
        Members::of(&self.directory.view())
    }

    /// Waits until they are not what this call saw last, and gives them.
    pub async fn changed(&mut self) -> Members {
        Members::of(&self.directory.changed().await)
    }

    /// Waits until they are as wanted.
    ///
    /// # Errors
    /// Nothing new comes any more.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Members) -> bool) -> Result<Members> {
        self.directory.wait_for(|view| wanted(&Members::of(view))).await.map(|view| Members::of(&view))
    }

    /// Whether others see this member, as far as is known here.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.presence.standing()
    }

    /// Says something else of itself, and waits until others can see it.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn update(&self, value: impl Into<Vec<u8>>) -> Result<()> {
        self.presence.update(value).await.map(|_| ())
    }

    /// Leaves, and waits until others can see it.
    pub async fn leave(self) {
        self.presence.stop().await;
    }
}
