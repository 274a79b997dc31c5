//! The wire: etcd's v3 messages and Quorate's own, generated from `proto/`. No logic lives here.
//!
//! `bytes` fields are [`bytes::Bytes`]: a decoded message shares the buffer that it came in, so a put travels from the
//! socket into the log without a copy of its value.

#![allow(clippy::all, missing_docs, unreachable_pub)]

/// Key-value records and change events.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Users, roles and permissions.
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// The v3 client API.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// The lock service.
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// The election service.
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// What members say to each other and write into their log.
pub mod quoratepb {
    include!(concat!(env!("OUT_DIR"), "/quoratepb.rs"));
}

pub mod descriptor;

pub use prost::Message;
