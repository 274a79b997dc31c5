//! A request's body in pieces (the first byte says how long they are), the scanner, and the decoder behind it.
#![no_main]

#[path = "../grpc.rs"]
#[allow(dead_code)]
mod grpc;

use bytes::Bytes;
use grpc::request::MessageReader;
use grpc::shape::{Shape, check};
use http_body::{Body, Frame};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use quorate_proto::etcdserverpb::TxnRequest;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

fn read(pieces: VecDeque<Bytes>) -> (Vec<Bytes>, String) {
    let mut reader = MessageReader::new(Pieces(pieces), 4_096, None);
    let mut messages = Vec::new();
    loop {
        match reader.poll_message(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(message))) => messages.push(message),
            Poll::Ready(Some(Err(status))) => return (messages, format!("{status:?}")),
            Poll::Ready(None) | Poll::Pending => return (messages, String::new()),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece_bytes, bytes)) = input.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    let pieces = bytes.chunks(1 + piece_bytes as usize).map(Bytes::copy_from_slice).collect();
    assert_eq!(read(pieces), read(VecDeque::from([bytes.clone()])));
    if check(&bytes, Shape::Txn, 128).is_ok()
        && let Ok(request) = TxnRequest::decode(bytes)
    {
        let encoded = request.encode_to_vec();
        assert_eq!(check(&encoded, Shape::Txn, 128), Ok(()));
    }
});
