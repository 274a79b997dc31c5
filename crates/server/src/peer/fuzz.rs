//! What peers say, damaged from seeds: no panic, no room made for what is only announced, and never a frame that nobody
//! sent. `docs/fuzzing.md` says more.

use super::frame::{FrameError, FrameReader, HEADER_BYTES, frame, frame_message};
use crate::fuzz_mutate::Mutator;
use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};
use quorate_proto::quoratepb::{
    Command, ConfState, Forward, ForwardRejected, LogEntry, PeerMessage, RaftMessage, SnapshotMeta, command::Operation,
    peer_message::Kind,
};

const LENGTH_MAX: usize = 2_000;

fn messages() -> Vec<PeerMessage> {
    let entry = |index| LogEntry { term: 3, index, data: vec![7; 50].into(), ..LogEntry::default() };
    let put = PutRequest { key: "key".into(), value: "value".into(), lease: 9, ..PutRequest::default() };
    let operation = RequestOp { request: Some(Request::RequestPut(put.clone())) };
    let inner = TxnRequest { success: vec![operation.clone()], ..TxnRequest::default() };
    let nested = RequestOp { request: Some(Request::RequestTxn(inner)) };
    let txn = TxnRequest { success: vec![nested, operation], ..TxnRequest::default() };
    let commands = vec![
        Command { id: 1, operation: Some(Operation::Put(put)), caller: None },
        Command { id: 2, operation: Some(Operation::Txn(txn)), caller: None },
    ];
    let conf_state = ConfState { voters: vec![1, 2, 3], learners: vec![4], ..ConfState::default() };
    [
        Kind::Raft(RaftMessage {
            message_type: 3,
            to: 1,
            from: 2,
            term: 3,
            entries: (5..9).map(entry).collect(),
            context: "context".into(),
            ..RaftMessage::default()
        }),
        Kind::Raft(RaftMessage {
            snapshot: Some(SnapshotMeta { index: 9, term: 2, conf_state: Some(conf_state) }),
            ..RaftMessage::default()
        }),
        Kind::Forward(Forward { incarnation: 1, sequence: 2, commands, term: 3 }),
        Kind::ForwardRejected(ForwardRejected { sequence: 2, leader: 3, ids: vec![1, 2, 3], incarnation: 1 }),
    ]
    .map(|kind| PeerMessage { kind: Some(kind) })
    .to_vec()
}

/// All frames of a stream that begins with `begun` bytes read before, and why it ends.
fn read(bytes: &[u8], begun: usize) -> (Vec<Bytes>, Option<FrameError>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(async {
        let mut reader = FrameReader::new(&bytes[..begun], LENGTH_MAX);
        let mut from = &bytes[begun..];
        let mut frames = Vec::new();
        loop {
            match reader.next(&mut from).await {
                Ok(Some(payload)) => frames.push(payload),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    })
}

#[test]
fn damaged_frames_never_pass_for_others() {
    let sent: Vec<Bytes> = messages().iter().map(frame_message).collect();
    let stream = sent.concat();
    let payloads: Vec<&[u8]> = sent.iter().map(|frame| &frame[HEADER_BYTES..]).collect();
    let mut broken = 0;
    for seed in 0..5_000 {
        let mut mutator = Mutator::new(seed);
        let damaged = mutator.mutate(&stream, &stream);
        let begun = mutator.random.below(damaged.len() as u64 + 1) as usize;
        let (frames, error) = read(&damaged, begun);
        for frame in &frames {
            // Eight zeros are the frame of no bytes, which means nothing to anybody.
            assert!(frame.is_empty() || payloads.contains(&&frame[..]), "seed {seed}: {frame:?} was never sent");
        }
        let (again, other) = read(&damaged, 0);
        assert_eq!((frames, error.is_some()), (again, other.is_some()), "seed {seed}: cuts make no difference");
        broken += usize::from(error.is_some());
    }
    assert!(broken > 3_000, "{broken}");
}

#[test]
fn forged_messages_end_no_process() {
    let encoded: Vec<Vec<u8>> = messages().iter().map(Message::encode_to_vec).collect();
    let mut decoded = 0;
    for seed in 0..20_000 {
        let mut mutator = Mutator::new(seed);
        let one = &encoded[mutator.random.below(4) as usize];
        let other = &encoded[mutator.random.below(4) as usize];
        let payload = mutator.mutate(one, other);
        if payload.len() > LENGTH_MAX {
            continue;
        }
        let (frames, error) = read(&frame(&payload), 0);
        assert!(error.is_none() && frames == [&payload[..]], "seed {seed}");
        let Ok(message) = PeerMessage::decode(frames[0].clone()) else { continue };
        decoded += 1;
        let again = PeerMessage::decode(message.encode_to_vec().as_slice()).expect("it was just encoded");
        assert_eq!(again, message, "seed {seed}: it means the same when it is passed on");
    }
    assert!(decoded > 1_000, "{decoded}");
}
