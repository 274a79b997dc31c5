//! Mutated requests: whatever comes, the decoder answers, what it takes is a message, and printing it gives the same message
//! again.

use super::decode::decode;
use super::print::{Html, print};
use super::scan::{Scanner, Step};
use quorate_proto::Message;
use quorate_proto::descriptor::{self, MessageDescriptor};
use quorate_proto::etcdserverpb::{MemberAddRequest, RangeRequest, TxnRequest, WatchRequest};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Requests that are right, for one message type each.
const SEEDS: [(&MessageDescriptor, &str); 4] = [
    (
        &descriptor::ETCDSERVERPB_RANGEREQUEST,
        r#"{"key":"Zm9v","range_end":"-_8","limit":"-12","revision":1.5e1,"sortOrder":"DESCEND","sort_target":3,"serializable":true,"keys_only":null}"#,
    ),
    (
        &descriptor::ETCDSERVERPB_TXNREQUEST,
        r#"{"compare":[{"target":"CREATE","key":"YQ==","create_revision":"0"}],"success":[{"request_put":{"key":"YQ==","value":""}},{"request_txn":{"failure":[{"request_range":{}}]}}],"x":[{"y":"\ud83d\ude00"}]}"#,
    ),
    (
        &descriptor::ETCDSERVERPB_WATCHREQUEST,
        r#"{"create_request":{"key":"YQ==","start_revision":9223372036854775807,"filters":["NOPUT",1],"watch_id":"-1"}}"#,
    ),
    (
        &descriptor::ETCDSERVERPB_MEMBERADDREQUEST,
        "{ \"peerURLs\" : [ \"http:\\/\\/a\\u00e4\\n\", \"\u{e4}\" ] ,\n\"isLearner\":false}",
    ),
];

/// What is put in: pieces that mean something somewhere.
const PIECES: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"null",
    b"true",
    b"-",
    b"1e9",
    b"0.0",
    b"e",
    b"\xff",
    b"\xc3",
    b" ",
    b"\n",
    b"\"key\":",
    b"\"request_txn\":{",
    b"9999999999999999999",
    b"=",
];

fn mutated(random: &mut StdRng, seed: &str) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..4) {
            0 if at < bytes.len() => bytes[at] = random.random(),
            1 => {
                let end = random.random_range(at..=bytes.len());
                bytes.drain(at..end.min(at + 8));
            }
            2 => {
                let piece = PIECES.choose(random).expect("there are some");
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                let from = random.random_range(0..=bytes.len());
                let to = random.random_range(from..=bytes.len());
                let copy = bytes[from..to].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes
}

fn parses(message: &MessageDescriptor, bytes: &[u8]) -> bool {
    match message.full_name {
        "etcdserverpb.RangeRequest" => RangeRequest::decode(bytes).is_ok(),
        "etcdserverpb.TxnRequest" => TxnRequest::decode(bytes).is_ok(),
        "etcdserverpb.WatchRequest" => WatchRequest::decode(bytes).is_ok(),
        _ => MemberAddRequest::decode(bytes).is_ok(),
    }
}

#[test]
fn whatever_comes_is_a_message_or_refused() {
    let seed = 20_260_713;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let (message, text) = *SEEDS.choose(&mut random).expect("there are some");
        let json = mutated(&mut random, text);
        let mut scanner = Scanner::default();
        let end = json.iter().map(|&byte| scanner.step(byte)).position(|step| step != Step::More);
        let mut scanner = Scanner::default();
        let value = match end {
            Some(at) => match json[..=at].iter().map(|&byte| scanner.step(byte)).last() {
                Some(Step::EndsWith) => &json[..=at],
                Some(Step::EndedBefore) => &json[..at],
                _ => continue,
            },
            None => continue,
        };
        match decode(value.trim_ascii_start(), message) {
            Err(reason) => {
                refused += 1;
                assert!(reason.starts_with("proto: "), "{reason}");
            }
            Ok(bytes) => {
                taken += 1;
                let shown = value.escape_ascii();
                assert!(parses(message, &bytes), "{shown}");
                let printed = print(message, &bytes, Html::Plain).unwrap_or_else(|_| panic!("{shown}"));
                assert_eq!(decode(&printed, message).as_ref(), Ok(&bytes), "{shown}");
            }
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
}
