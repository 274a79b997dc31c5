//! A member's data folder: where its parts lie, who may use it, and what makes and judges one while no member runs.
//!
//! Owns the layout, the lock, the real disk, and the offline work: restore, import, recovery, check. Does not own the
//! formats of the parts (`store`, `node`, `backend`), nor words for users (`cli`). Invariant: a folder that is being made
//! becomes one that starts only by its last step, and a folder that is read is never changed.

pub mod build;
pub mod check;
pub mod disk;
pub mod import;
pub mod initial_cluster;
pub mod layout;
pub mod lock;
pub mod member_ids;
pub mod reading_disk;
pub mod recover;
pub mod restore;
pub mod urls;
