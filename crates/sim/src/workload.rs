//! What clients ask: small ranges of keys and leases, so that everybody meets everybody.
//!
//! Every request is one that the server's validation lets through (no key is written twice in a transaction).

use crate::history::Request;
use crate::random::Random;
use crate::scenario::Scenario;
use bytes::Bytes;
use quorate_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, compare, range_request, request_op,
};
use quorate_proto::quoratepb::{LeaseRenew, command::Operation};
use quorate_store::range::KeyRange;
use quorate_store::watch::WatchSpec;

/// Leases in use: few, so that ids are granted again.
const LEASES: u64 = 6;
/// How deep transactions nest.
const NESTING_MAX: u32 = 2;

/// The name of a key.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number:02}"))
}

fn some_range(random: &mut Random, scenario: &Scenario) -> (Bytes, Bytes) {
    let first = random.below(scenario.keys);
    match random.below(6) {
        0 => (key(first), key(first + random.below(scenario.keys) + 1)),
        1 => (key(first), Bytes::from_static(&[0])),
        2 => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
        _ => (key(first), Bytes::new()),
    }
}

fn value(random: &mut Random, scenario: &Scenario) -> Bytes {
    let length = random.below(scenario.value_bytes_max) + 1;
    // A number makes values tell each other apart; the filling makes them as long as wanted.
    let mut value = format!("{:x}.", random.bits() & 0xffff_ffff).into_bytes();
    value.resize(value.len().max(length as usize), b'v');
    Bytes::from(value)
}

fn lease_id(random: &mut Random) -> i64 {
    random.below(LEASES) as i64 + 1
}

fn put(random: &mut Random, scenario: &Scenario, number: u64) -> PutRequest {
    let mut request = PutRequest {
        key: key(number),
        prev_kv: random.permille(300),
        value: value(random, scenario),
        ..Default::default()
    };
    if scenario.request_weights[6] > 0 && random.permille(300) {
        request.lease = lease_id(random);
    }
    match random.below(20) {
        0 => {
            request.ignore_value = true;
            request.value = Bytes::new();
        }
        1 => {
            request.ignore_lease = true;
            request.lease = 0;
        }
        _ => {}
    }
    request
}

fn range(random: &mut Random, scenario: &Scenario) -> RangeRequest {
    let (key, range_end) = some_range(random, scenario);
    let mut request = RangeRequest { key, range_end, ..Default::default() };
    match random.below(12) {
        0 => request.limit = random.range(1..4) as i64,
        1 => request.keys_only = true,
        2 => request.count_only = true,
        3 => {
            request.sort_order = range_request::SortOrder::Descend as i32;
            request.limit = random.below(4) as i64;
        }
        4 => request.min_mod_revision = random.range(1..50) as i64,
        5 => request.max_create_revision = random.range(1..50) as i64,
        _ => {}
    }
    request
}

fn comparison(random: &mut Random, scenario: &Scenario, revision: i64) -> Compare {
    use compare::{CompareTarget, TargetUnion};
    let near = || 0i64.max(revision - 5);
    let (target, target_union) = match random.below(5) {
        0 => (CompareTarget::Version, TargetUnion::Version(random.below(4) as i64)),
        1 => (CompareTarget::Create, TargetUnion::CreateRevision(near())),
        2 => (CompareTarget::Mod, TargetUnion::ModRevision(near() + random.below(6) as i64)),
        3 => (CompareTarget::Value, TargetUnion::Value(Bytes::from_static(b"7"))),
        _ => (CompareTarget::Lease, TargetUnion::Lease(random.below(2) as i64)),
    };
    let (key, range_end) = some_range(random, scenario);
    Compare {
        result: random.below(4) as i32,
        target: target as i32,
        key,
        range_end: if random.below(4) == 0 { range_end } else { Bytes::new() },
        target_union: Some(target_union),
    }
}

/// A transaction over keys that nobody above it writes.
fn txn(random: &mut Random, scenario: &Scenario, revision: i64, keys: &mut Vec<u64>, depth: u32) -> TxnRequest {
    let mut request = TxnRequest::default();
    for _ in 0..random.below(3) {
        request.compare.push(comparison(random, scenario, revision));
    }
    for branch in [&mut request.success, &mut request.failure] {
        for _ in 0..random.below(4) {
            let operation = match random.below(6) {
                0 | 1 => request_op::Request::RequestRange(range(random, scenario)),
                2 => match keys.pop() {
                    Some(number) => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                        key: key(number),
                        range_end: Bytes::new(),
                        prev_kv: random.coin(),
                    }),
                    None => continue,
                },
                3 if depth < NESTING_MAX => {
                    request_op::Request::RequestTxn(txn(random, scenario, revision, keys, depth + 1))
                }
                _ => match keys.pop() {
                    Some(number) => request_op::Request::RequestPut(put(random, scenario, number)),
                    None => continue,
                },
            };
            branch.push(RequestOp { request: Some(operation) });
        }
    }
    request
}

/// A client's next request, when the newest revision that it heard of is `revision`.
pub fn request(random: &mut Random, scenario: &Scenario, revision: i64) -> Request {
    Request::Command(match random.weighted(&scenario.request_weights) {
        0 => {
            let number = random.below(scenario.keys);
            Operation::Put(put(random, scenario, number))
        }
        1 => {
            let (key, range_end) = some_range(random, scenario);
            Operation::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: random.coin() })
        }
        2 => return Request::Range(range(random, scenario)),
        3 => {
            let mut request = range(random, scenario);
            request.revision = (revision + 1 - random.below(8) as i64).max(1);
            request.serializable = random.coin();
            return Request::Range(request);
        }
        4 => {
            let mut request = range(random, scenario);
            request.serializable = true;
            return Request::Range(request);
        }
        5 => {
            let mut keys: Vec<u64> = (0..scenario.keys).collect();
            random.shuffle(&mut keys);
            Operation::Txn(txn(random, scenario, revision, &mut keys, 0))
        }
        6 => Operation::LeaseGrant(LeaseGrantRequest {
            ttl: scenario.lease_ttl_s_min().max(random.range(1..3) as i64),
            id: lease_id(random),
        }),
        7 if random.below(4) == 0 => Operation::LeaseRevoke(LeaseRevokeRequest { id: lease_id(random) }),
        7 => Operation::LeaseRenew(LeaseRenew { id: lease_id(random) }),
        8 => return Request::LeaseRemaining(lease_id(random)),
        _ => Operation::Compact(CompactionRequest {
            revision: (revision - random.below(10) as i64).max(1),
            physical: random.coin(),
        }),
    })
}

/// A watcher, when the newest revision that its client heard of is `revision`.
pub fn watcher(random: &mut Random, scenario: &Scenario, revision: i64) -> WatchSpec {
    let (key, range_end) = some_range(random, scenario);
    WatchSpec {
        watch_id: 0,
        range: KeyRange::new(key, range_end),
        start_revision: match random.below(8) {
            0..4 => 0,
            4 => revision + random.range(1..10) as i64,
            _ => (revision - random.below(10) as i64).max(1),
        },
        no_put: random.permille(100),
        no_delete: random.permille(100),
        prev_kv: random.coin(),
        progress_notify: random.coin(),
    }
}
