//! Whole clusters of the real `store` and `node` under virtual time, from one seed.
//!
//! Replaces `server`: threads are turns, sockets are events, disks are memory that forgets. Owns time, chance, faults,
//! clients and the judges; decides nothing that a member decides. A seed gives one run, always the same.
//! docs/simulation.md tells what is simulated and how to follow a red seed.

pub mod check;
pub mod disk;
pub mod history;
pub mod model;
pub mod net;
pub mod plant;
pub mod random;
pub mod scenario;
pub mod trace;
pub mod workload;
pub mod world;
