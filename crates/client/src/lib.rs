//! Coordination recipes over etcd's v3 API, for applications: each works against etcd and against Quorate.
//!
//! Begin with a [`Namespace`]: a client of the published crate [`etcd_client`] and a prefix. Whatever holds something does
//! so by a [`Session`], which is lost here before the store can give what it held to another. See `docs/recipes.md` for
//! what each recipe guarantees, what it cannot, and when to use which.

#![warn(clippy::unwrap_used)]

mod claim;
mod directory;
mod election;
mod ephemeral;
mod error;
mod guard;
mod mutex;
mod namespace;
mod observer;
mod registry;
mod resume;
mod session;
mod store;

pub use etcd_client;

pub use directory::{Directory, View};
pub use election::{Candidate, Election, Leader, LeaderStream, Leadership, Status};
pub use ephemeral::{Ephemeral, Presence, Standing};
pub use error::{Error, Result};
pub use guard::{Fence, Guard};
pub use mutex::Mutex;
pub use namespace::{Namespace, connect_options};
pub use observer::{Change, Entry, Observer, Start};
pub use registry::{Discovery, Instance, Instances, Registration};
pub use session::{Loss, Session, SessionOptions, TTL_DEFAULT};
pub use store::Options;
