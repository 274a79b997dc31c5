//! A part of the store that an application has to itself: all its keys begin with one prefix.
//!
//! It owns names: how a path becomes a key, and which paths are none. Recipes are made from a namespace.

use std::sync::Arc;

use etcd_client::{Client, ConnectOptions};

use crate::error::{Error, Result};
use crate::store::{Options, Store};

/// After how long without traffic a connection with open streams is pinged; etcd bears no more than a ping in 5 seconds.
const PING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(6);

/// How long a pinged connection may stay silent before it is closed.
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(4);

/// Settings for [`etcd_client::Client::connect`] that recipes work well with; add user and TLS to them.
///
/// A connection that does not answer is closed, a member without a leader refuses instead of answering from the past,
/// and an expired token is replaced. An idle connection is not pinged: etcd closes one that is.
#[must_use]
pub fn connect_options() -> ConnectOptions {
    ConnectOptions::new()
        .with_connect_timeout(std::time::Duration::from_secs(2))
        .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
        .with_keep_alive_while_idle(false)
        .with_require_leader(true)
        .with_auto_token_refresh(true)
}

/// A prefix of keys and the way to the store. Cheap to clone.
#[derive(Clone)]
pub struct Namespace {
    store: Store,
    prefix: Arc<str>,
}

impl Namespace {
    /// Connects with [`connect_options`] to the members at these addresses (`host:port` or URLs).
    ///
    /// # Errors
    /// A name that is none, an address that is none.
    pub async fn connect(endpoints: &[String], name: &str) -> Result<Self> {
        let client = Client::connect(endpoints, Some(connect_options())).await;
        Self::new(client.map_err(|error| Error::Refused(Arc::new(error)))?, name)
    }

    /// The namespace `name` of a client's store: its keys are `name/path`.
    ///
    /// # Errors
    /// A name that is none.
    pub fn new(client: Client, name: &str) -> Result<Self> {
        Self::with_options(client, name, Options::default())
    }

    /// The same with other limits of time.
    ///
    /// # Errors
    /// A name that is none.
    pub fn with_options(client: Client, name: &str, options: Options) -> Result<Self> {
        check_name(name.strip_prefix('/').unwrap_or(name))?;
        Ok(Self { store: Store::new(client, options), prefix: format!("{name}/").into() })
    }

    /// The namespace `name` within this one.
    ///
    /// # Errors
    /// A name that is none.
    pub fn within(&self, name: &str) -> Result<Self> {
        check_name(name)?;
        Ok(Self { store: self.store.clone(), prefix: format!("{}{name}/", self.prefix).into() })
    }

    /// The whole key of a path: for transactions of one's own.
    ///
    /// # Errors
    /// A path that is none.
    pub fn key(&self, path: &str) -> Result<String> {
        check_name(path)?;
        Ok(format!("{}{path}", self.prefix))
    }

    /// A client of this store, for calls of one's own.
    #[must_use]
    pub fn client(&self) -> Client {
        self.store.client()
    }

    /// The prefix of all keys under a path, with the slash.
    pub(crate) fn folder(&self, path: &str) -> Result<String> {
        Ok(self.key(path)? + "/")
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The path of a key of this namespace.
    pub(crate) fn path_of<'key>(&self, key: &'key [u8]) -> &'key [u8] {
        key.strip_prefix(self.prefix.as_bytes()).unwrap_or(key)
    }
}

/// A name is a path without empty parts: `jobs/nightly`.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let rule = if name.is_empty() {
        "it is empty"
    } else if name.contains('\0') {
        "it holds a zero byte"
    } else if name.split('/').any(str::is_empty) {
        "it begins or ends with a slash, or holds two in a row"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { name: name.to_owned(), rule })
}

/// A name that is one part of a path, as of an instance.
pub(crate) fn check_part(name: &str) -> Result<()> {
    check_name(name)?;
    if name.contains('/') {
        return Err(Error::InvalidName { name: name.to_owned(), rule: "it holds a slash" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_empty_part() {
        for good in ["a", "a/b", "a b", "ä/1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", "a\0"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_part("a/b").is_err());
    }
}
