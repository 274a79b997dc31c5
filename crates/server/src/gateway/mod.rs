//! The JSON gateway: the client API as POST requests under `/v3`.
//!
//! A codec around the calls of [`crate::api`]: JSON becomes a message's bytes, the call is the one that gRPC makes, and its
//! answer becomes JSON. No request is judged here but for being JSON of the right types; texts and bytes are those of
//! etcd's gateway (Go's `encoding/json` and `protojson` behind grpc-gateway).

mod answer;
mod base64;
mod decode;
#[cfg(test)]
mod fuzz;
mod integer;
mod metadata;
mod print;
mod requests;
mod routes;
mod scan;

pub(crate) use answer::answer;
