//! etcd's backend file (bbolt): written from our store, so that etcd's tools understand our backups, and read into it.
//!
//! Owns the file's pages, the buckets in them and what they mean. Does not own where files lie, nor our own formats.
//! Invariant: a file from outside is only bytes until it was checked: nothing here panics, loops or takes memory beyond a
//! named bound because of what a file says.

pub mod bbolt;
pub mod content;
pub mod export;
pub mod hash;
pub mod import;
mod messages;
pub mod schema;
pub mod status;
pub mod wal;
