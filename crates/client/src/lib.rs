//! Coordination recipes over etcd's v3 API, for applications: each works against etcd and against Quorate.
//!
//! Begin with a [`Namespace`]: a client of the published crate [`etcd_client`] and a prefix. Whatever holds something does
//! so by a [`Session`], which is lost here before the store can give what it held to another. See `docs/recipes.md` for
//! what each recipe guarantees, what it cannot, and when to use which.

#![warn(clippy::unwrap_used)]

mod barrier;
mod claim;
mod directory;
mod double_barrier;
mod election;
mod ephemeral;
mod error;
mod guard;
mod health;
mod leader_config;
mod membership;
mod mirror;
mod mutex;
mod namespace;
mod observer;
mod queue;
mod registry;
mod resume;
mod rw_lock;
mod semaphore;
mod session;
mod stm;
mod store;

pub use etcd_client;

pub use barrier::Barrier;
pub use directory::{Directory, View};
pub use double_barrier::{DoubleBarrier, Entered};
pub use election::{Candidate, Election, Leader, LeaderStream, Leadership, Status};
pub use ephemeral::{Ephemeral, Presence, Standing};
pub use error::{Error, Result};
pub use guard::{Fence, Guard};
pub use health::{ClusterHealth, EndpointHealth, HealthMonitor, HealthState, HealthStream};
pub use leader_config::LeaderConfig;
pub use membership::{Members, Membership};
pub use mirror::{Mirror, MirrorOptions, MirrorProgress};
pub use mutex::Mutex;
pub use namespace::{Namespace, connect_options};
pub use observer::{Change, Entry, Observer, Start};
pub use queue::{Job, Queue};
pub use registry::{Discovery, Instance, Instances, Registration};
pub use rw_lock::RwLock;
pub use semaphore::Semaphore;
pub use session::{Loss, Session, SessionOptions, TTL_DEFAULT};
pub use stm::{Commit, Transaction};
pub use store::Options;
