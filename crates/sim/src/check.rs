//! The judges. They watch what goes in and out of the members and of the clients, and never steer.
//!
//! [`log`] holds the one true history (the committed log run through the [`crate::model`]); the others compare what
//! somebody was told with it.

pub mod durable;
pub mod lease;
pub mod linear;
pub mod live;
pub mod log;
pub mod members;
pub mod state;
pub mod watch;
