//! What clients send, damaged from seeds: no panic, and the same meaning however the bytes are cut on their way.
//! `docs/fuzzing.md` says more.

use super::request::MessageReader;
use super::shape::{Malformed, Shape, check};
use crate::fuzz_mutate::Mutator;
use bytes::Bytes;
use http_body::{Body, Frame};
use prost::Message;
use quorate_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

const LEVELS_MAX: usize = 8;
const MESSAGE_BYTES_MAX: usize = 1_000;

fn txn(levels: usize) -> TxnRequest {
    let request = |request| RequestOp { request: Some(request) };
    let mut success = vec![
        request(Request::RequestPut(PutRequest { key: "k".into(), value: "value".into(), ..PutRequest::default() })),
        request(Request::RequestRange(RangeRequest { key: "k".into(), limit: 5, ..RangeRequest::default() })),
        request(Request::RequestDeleteRange(DeleteRangeRequest { key: "d".into(), ..DeleteRangeRequest::default() })),
    ];
    if levels > 1 {
        success.push(request(Request::RequestTxn(txn(levels - 1))));
    }
    let compare = vec![Compare { key: "k".into(), result: 1, target: 2, ..Compare::default() }];
    TxnRequest { compare, failure: success.clone(), success }
}

#[test]
fn what_the_scanner_lets_through_can_be_decoded_safely() {
    let samples: Vec<Vec<u8>> = (1..6).map(|levels| txn(levels).encode_to_vec()).collect();
    let (mut fine, mut deep, mut broken) = (0, 0, 0);
    for seed in 0..20_000 {
        let mut mutator = Mutator::new(seed);
        let sample = &samples[mutator.random.below(5) as usize];
        let other = &samples[mutator.random.below(5) as usize];
        let mut bytes = if mutator.random.one_in(2) {
            mutator.mutate(sample, other)
        } else {
            // An operation of any kind with damage inside.
            let operation = [0x0a, 0x12, 0x1a, 0x22][mutator.random.below(4) as usize];
            within(0x12, &within(operation, &mutator.mutate(&[0x0a, 1, b'k', 0x12, 2, b'v', b'w', 0x18, 9], other)))
        };
        // Right lengths around what is damaged, or nearly everything ends at the first of them.
        for _ in 0..mutator.random.below(12) {
            let branch = if mutator.random.one_in(2) { 0x12 } else { 0x1a };
            bytes = within(branch, &within(0x22, &bytes));
        }
        match check(&bytes, Shape::Txn, LEVELS_MAX) {
            Ok(()) => {
                fine += 1;
                if let Ok(request) = TxnRequest::decode(&bytes[..]) {
                    assert!(levels(&request) <= LEVELS_MAX, "seed {seed}");
                    let encoded = request.encode_to_vec();
                    assert_eq!(check(&encoded, Shape::Txn, LEVELS_MAX), Ok(()), "seed {seed}");
                    assert_eq!(TxnRequest::decode(&encoded[..]).as_ref(), Ok(&request), "seed {seed}");
                }
            }
            Err(Malformed::Wire) => broken += 1,
            Err(Malformed::TooDeep | Malformed::TooManyTxnLevels) => deep += 1,
        }
    }
    println!("{fine} let through, {deep} too deep, {broken} broken");
    assert!(fine > 500 && deep > 100 && broken > 1_000);
}

/// A message with the given tag around it.
fn within(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut outer = vec![tag];
    prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
    outer.extend_from_slice(bytes);
    outer
}

fn levels(request: &TxnRequest) -> usize {
    let inner = request.success.iter().chain(&request.failure).map(|operation| match &operation.request {
        Some(Request::RequestTxn(nested)) => levels(nested),
        _ => 0,
    });
    1 + inner.max().unwrap_or(0)
}

/// A body that arrives in pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// The messages of a body and how it ends.
fn read(pieces: VecDeque<Bytes>) -> (Vec<Bytes>, String) {
    let mut reader = MessageReader::new(Pieces(pieces), MESSAGE_BYTES_MAX, None);
    let mut messages = Vec::new();
    loop {
        match reader.poll_message(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(message))) => messages.push(message),
            Poll::Ready(Some(Err(status))) => return (messages, format!("{status:?}")),
            Poll::Ready(None) => return (messages, String::new()),
            Poll::Pending => panic!("everything is there"),
        }
    }
}

#[test]
fn a_damaged_body_means_the_same_in_any_pieces() {
    let mut body = Vec::new();
    for levels in [1, 3, 2] {
        let message = txn(levels).encode_to_vec();
        body.push(0);
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(&message);
    }
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..20_000 {
        let mut mutator = Mutator::new(seed);
        let damaged = Bytes::from(mutator.mutate(&body, &body));
        let wanted = read(VecDeque::from([damaged.clone()]));
        let mut pieces = VecDeque::new();
        let mut rest = damaged;
        while !rest.is_empty() {
            // Empty pieces, too.
            let count = mutator.random.below(rest.len().min(80) as u64 + 1) as usize;
            pieces.push_back(rest.split_to(count));
        }
        let found = read(pieces);
        assert_eq!(found, wanted, "seed {seed}");
        assert!(found.0.iter().all(|message| message.len() <= MESSAGE_BYTES_MAX));
        if found.1.is_empty() { whole += 1 } else { refused += 1 }
    }
    println!("{whole} whole, {refused} refused");
    assert!(whole > 500 && refused > 5_000);
}
