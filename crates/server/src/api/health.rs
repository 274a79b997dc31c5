//! gRPC's own health service (`grpc.health.v1.Health`), which load balancers ask.
//!
//! Its two messages are small enough to be written by hand: a request names a service in field 1, an answer has a status
//! in field 1. etcd answers for the server as a whole, the service of an empty name.

use crate::api::ending::{Ending, UntilEnding};
use crate::api::{Call, Reply};
use crate::grpc::body::Chunk;
use crate::grpc::request::decode;
use crate::grpc::shape::Shape;
use crate::grpc::status::{Code, Status};
use bytes::Bytes;
use futures::StreamExt;
use quorate_proto::etcdserverpb::{AuthUserGetRequest, StatusRequest};

/// A framed answer: serving.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

/// A framed answer: all services and their status, which is the server as a whole, serving.
const LIST: &[u8] = &[0, 0, 0, 0, 8, 0x0a, 6, 0x0a, 0, 0x12, 2, 0x08, 1];

/// A framed answer: this service is not known.
const SERVICE_UNKNOWN: &[u8] = &[0, 0, 0, 0, 2, 0x08, 3];

/// Whether the request asks for the server as a whole.
fn asks_for_all(bytes: Bytes) -> Result<bool, Status> {
    // A message of one text, like this one.
    let request: AuthUserGetRequest = decode(bytes, Shape::Flat, 1)?;
    Ok(request.name.is_empty())
}

pub(super) fn check(bytes: Bytes) -> Result<Bytes, Status> {
    if asks_for_all(bytes)? {
        Ok(Bytes::from_static(SERVING))
    } else {
        Err(Status::new(Code::NotFound, "unknown service"))
    }
}

pub(super) fn list(bytes: Bytes) -> Result<Bytes, Status> {
    // An empty message: whatever fields it has are nobody's.
    let StatusRequest {} = decode(bytes, Shape::Flat, 1)?;
    Ok(Bytes::from_static(LIST))
}

/// Tells the status once, and nothing more, since it does not change while the server serves.
pub(super) fn watch(call: &Call, bytes: Bytes) -> Result<Reply, Status> {
    let status = if asks_for_all(bytes)? { SERVING } else { SERVICE_UNKNOWN };
    let first = Chunk { bytes: Bytes::from_static(status), messages: 1 };
    let stream = futures::stream::once(std::future::ready(Ok(first))).chain(futures::stream::pending());
    Ok(Reply::Stream(Box::pin(UntilEnding { stream: stream.boxed(), ending: Ending::new(call) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_as_a_whole_serves() {
        assert_eq!(check(Bytes::new()).unwrap(), SERVING);
        assert_eq!(list(Bytes::new()).unwrap(), LIST);
        assert_eq!(
            check(Bytes::from_static(b"\x0a\x0fetcdserverpb.KV")),
            Err(Status::new(Code::NotFound, "unknown service"))
        );
        assert_eq!(check(Bytes::from_static(b"\x0a\x0fetcd")).unwrap_err().code, Code::Internal);
    }
}
