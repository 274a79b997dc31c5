//! The server's scanner and reader of requests, which are private there.

#[path = "../crates/server/src/grpc/request.rs"]
pub(crate) mod request;
#[path = "../crates/server/src/grpc/shape.rs"]
pub(crate) mod shape;
#[path = "../crates/server/src/grpc/status.rs"]
pub(crate) mod status;
