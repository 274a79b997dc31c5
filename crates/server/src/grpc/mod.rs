//! gRPC on top of hyper's HTTP/2: frames, statuses, deadlines, request and reply bodies.
//!
//! Knows no service. Written here rather than taken from a library so that error texts, the treatment of bad input and
//! answers sent piece by piece are exactly those that etcd's clients expect, at the least cost per call.

pub(crate) mod body;
#[cfg(test)]
mod fuzz;
mod gzip;
pub(crate) mod head;
pub(crate) mod request;
pub(crate) mod shape;
pub(crate) mod status;
