//! An answer's bytes are those of the generated code however it is sent, and a broken one never looks whole.

use super::*;
use crate::grpc::request::framed;
use prost::Message;
use quorate_proto::etcdserverpb::{RangeResponse, RangeStreamResponse};
use quorate_proto::mvccpb::KeyValue;

/// Records held in memory; fails when it comes to one that is not there.
struct Held {
    records: std::vec::IntoIter<Option<KeyValue>>,
    bytes: u64,
}

fn record(number: usize, value_bytes: usize) -> KeyValue {
    KeyValue {
        key: format!("key-{number}").into(),
        create_revision: 2,
        mod_revision: number as i64 + 2,
        version: 1,
        value: vec![b'v'; value_bytes].into(),
        lease: 0,
    }
}

fn encoded_bytes(record: &KeyValue) -> u64 {
    prost::encoding::message::encoded_len(2, record) as u64
}

impl Held {
    fn new(records: Vec<KeyValue>) -> Self {
        let bytes = records.iter().map(encoded_bytes).sum();
        Self { records: records.into_iter().map(Some).collect::<Vec<_>>().into_iter(), bytes }
    }
}

impl Records for Held {
    fn encoded_bytes(&self) -> u64 {
        self.bytes
    }

    fn next_encoded(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<bool, Error> {
        for record in self.records.by_ref() {
            prost::encoding::message::encode(2, &record.ok_or(Error::Corrupt)?, out);
            if out.len() >= bytes_max {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn header() -> ResponseHeader {
    ResponseHeader { cluster_id: 1 << 60, member_id: 77, revision: 300, raft_term: 2 }
}

fn response(records: Vec<KeyValue>, tail: Tail) -> RangeResponse {
    RangeResponse { header: Some(header()), kvs: records, more: tail.more, count: tail.count }
}

async fn collect(stream: ChunkStream) -> Result<Vec<Chunk>, Status> {
    stream.collect::<Vec<_>>().await.into_iter().collect()
}

#[tokio::test]
async fn an_answer_is_what_the_generated_code_writes_whatever_its_size() {
    for (count, value_bytes) in [(0, 0), (1, 0), (3, 100), (2, 200_000), (10_000, 100), (5, 1_000_000)] {
        for tail in [Tail { more: false, count: count as i64 }, Tail { more: true, count: 1 << 40 }] {
            let records: Vec<KeyValue> = (0..count).map(|number| record(number, value_bytes)).collect();
            let expected = framed(&response(records.clone(), tail));
            let bytes = match answer_records(&header(), Held::new(records), tail).unwrap() {
                Reply::Message(bytes) => {
                    assert!(bytes.len() < WHOLE_BYTES_MAX as usize + 1_000);
                    bytes
                }
                Reply::Stream(stream) => {
                    let chunks = collect(stream).await.unwrap();
                    assert!(chunks.iter().all(|chunk| chunk.bytes.len() <= PIECE_BYTES + value_bytes + 200));
                    assert_eq!(chunks.iter().map(|chunk| chunk.messages).sum::<u64>(), 1);
                    chunks.iter().flat_map(|chunk| chunk.bytes.iter().copied()).collect()
                }
            };
            assert_eq!(bytes, expected, "{count} records of {value_bytes} bytes");
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_ends_the_answer() {
    let mut held = Held::new((0..1_000).map(|number| record(number, 1_000)).collect());
    let mut records: Vec<_> = held.records.collect();
    records[700] = None;
    held.records = records.into_iter();
    let Reply::Stream(stream) = answer_records(&header(), held, Tail { more: false, count: 1_000 }).unwrap() else {
        panic!("a megabyte is sent in pieces");
    };
    let pieces: Vec<_> = stream.collect().await;
    assert!(pieces.len() > 5);
    assert_eq!(pieces.last().unwrap().as_ref().unwrap_err().code, Code::DataLoss);
    assert!(pieces[..pieces.len() - 1].iter().all(Result::is_ok));
}

#[tokio::test]
async fn more_or_less_than_announced_is_never_sent_as_if_it_were_right() {
    for wrong in [-1i64, 1] {
        for value_bytes in [10, 10_000] {
            let mut held = Held::new((0..100).map(|number| record(number, value_bytes)).collect());
            held.bytes = (held.bytes as i64 + wrong) as u64;
            let outcome = match answer_records(&header(), held, Tail { more: false, count: 100 }) {
                Ok(Reply::Stream(stream)) => collect(stream).await.map(drop),
                Ok(Reply::Message(_)) => Ok(()),
                Err(status) => Err(status),
            };
            assert_eq!(outcome, Err(miscounted()));
        }
    }
}

#[tokio::test]
async fn a_stream_of_messages_has_the_header_in_the_last() {
    for (count, value_bytes, messages) in [(0, 0, 1), (3, 10, 1), (30, 100_000, 3), (3, 3_000_000, 3)] {
        let records: Vec<KeyValue> = (0..count).map(|number| record(number, value_bytes)).collect();
        let tail = Tail { more: false, count: count as i64 };
        let chunks = collect(in_messages(header(), Held::new(records.clone()), tail)).await.unwrap();
        assert_eq!(chunks.len(), messages, "{count} records of {value_bytes} bytes");
        let mut kvs = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            let decoded = RangeStreamResponse::decode(&chunk.bytes[FRAME_HEAD_BYTES..]).unwrap();
            let part = decoded.range_response.unwrap();
            let last = number + 1 == messages;
            assert_eq!(part.header.is_some(), last);
            assert_eq!(part.count, if last { count as i64 } else { 0 });
            kvs.extend(part.kvs);
        }
        assert_eq!(kvs, records);
    }
}
