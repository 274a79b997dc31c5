//! `--quota-backend-bytes`: what would grow the store beyond it is refused, and the alarm is raised.
//!
//! What was let through and is not applied yet counts, too: it is added to the store's size, anew at short intervals. What
//! others wrote counts as soon as it is applied here.

use crate::api::ClientSurface;
use crate::grpc::status::Status;
use parking_lot::Mutex;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{AlarmRequest, AlarmType, PutRequest, RequestOp, TxnRequest};
use quorate_proto::quoratepb::command::Operation;
use quorate_store::auth::cluster_caller;
use quorate_store::error::Error;
use quorate_store::quota::Quota as Stages;
use std::time::{Duration, Instant};

/// What a change costs beside its key and value (etcd's figure).
const CHANGE_BYTES: u64 = 256;

/// What a lease costs (etcd's figure).
const LEASE_BYTES: u64 = 64;

/// How long what was let through is added up: by then it is applied, or never will be.
const LOOK_AGE_MAX: Duration = Duration::from_millis(100);

/// The store's size as this member knows it.
#[derive(Default)]
pub(super) struct Quota {
    look: Mutex<Option<Look>>,
}

#[derive(Clone, Copy)]
struct Look {
    /// The store's size then, and all that was let through since.
    used_bytes: u64,
    at: Instant,
}

fn put_bytes(request: &PutRequest) -> u64 {
    CHANGE_BYTES + request.key.len() as u64 + request.value.len() as u64
}

fn operations_bytes(operations: &[RequestOp]) -> u64 {
    let bytes = |operation: &RequestOp| match &operation.request {
        Some(Request::RequestPut(put)) => put_bytes(put),
        Some(Request::RequestTxn(txn)) => txn_bytes(txn),
        _ => 0,
    };
    operations.iter().map(bytes).sum()
}

/// The dearer of the two branches.
fn txn_bytes(request: &TxnRequest) -> u64 {
    operations_bytes(&request.success).max(operations_bytes(&request.failure))
}

impl Quota {
    pub(super) async fn check_put(&self, surface: &ClientSurface, request: &PutRequest) -> Result<(), Status> {
        self.check(surface, put_bytes(request)).await
    }

    pub(super) async fn check_txn(&self, surface: &ClientSurface, request: &TxnRequest) -> Result<(), Status> {
        match txn_bytes(request) {
            0 => Ok(()),
            bytes => self.check(surface, bytes).await,
        }
    }

    pub(super) async fn check_lease(&self, surface: &ClientSurface) -> Result<(), Status> {
        self.check(surface, LEASE_BYTES).await
    }

    async fn check(&self, surface: &ClientSurface, bytes: u64) -> Result<(), Status> {
        let limits = surface.backend.limits();
        let live_bytes = || surface.backend.reader().live_bytes();
        if let Some(used_bytes) = self.let_through(bytes, limits.quota, Instant::now(), live_bytes) {
            match limits.quota.delay_ms(used_bytes) {
                0 => {}
                delay_ms => tokio::time::sleep(Duration::from_millis(delay_ms)).await,
            }
            return Ok(());
        }
        // A write that is too large for what is left does not make the store full for others. Whoever wants etcd's form
        // gets its alarm for that, too.
        if limits.sticky_nospace || !limits.quota.has_room(live_bytes()) {
            let alarm = AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id: surface.backend.identity().member_id,
                alarm: AlarmType::Nospace as i32,
            };
            // The refusal stands whether or not the alarm could be raised; the next one tries again.
            let _ = surface.backend.propose(Some(cluster_caller()), Operation::Alarm(alarm)).await;
        }
        Err(Error::NoSpace.into())
    }

    /// What is used behind a write of `bytes`; `None`: it does not fit.
    fn let_through(&self, bytes: u64, quota: Stages, now: Instant, live_bytes: impl Fn() -> u64) -> Option<u64> {
        let mut look = self.look.lock();
        let live_bytes = live_bytes();
        let current = match *look {
            Some(known) if now.duration_since(known.at) < LOOK_AGE_MAX && quota.fits(known.used_bytes, bytes) => {
                Look { used_bytes: known.used_bytes.max(live_bytes), ..known }
            }
            _ => Look { used_bytes: live_bytes, at: now },
        };
        let fits = quota.fits(current.used_bytes, bytes);
        let used_bytes = current.used_bytes.saturating_add(if fits { bytes } else { 0 });
        *look = Some(Look { used_bytes, ..current });
        fits.then_some(used_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_applied_and_what_was_let_through_both_count() {
        let quota = Quota::default();
        let start = Instant::now();
        let live = Cell::new(1_000u64);
        let ask = |bytes, after: Duration| {
            quota.let_through(bytes, Stages { bytes: 10_000 }, start + after, || live.get()).is_some()
        };
        assert!(ask(4_000, Duration::ZERO));
        assert!(ask(4_000, Duration::ZERO));
        // Added up, this would not fit; but the store is smaller than what was let through.
        live.set(5_000);
        assert!(ask(4_000, Duration::ZERO));
        live.set(9_999);
        assert!(!ask(4_000, Duration::ZERO));
        // Others freed space.
        live.set(0);
        assert!(ask(4_000, Duration::ZERO));
        // Others wrote, a moment ago.
        live.set(9_999);
        assert!(!ask(1, Duration::ZERO));
        assert!(!ask(1, LOOK_AGE_MAX));
    }

    #[test]
    fn a_transaction_costs_its_dearer_branch() {
        let put = |value_bytes: usize| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: "k".into(),
                value: vec![0; value_bytes].into(),
                ..Default::default()
            })),
        };
        let inner = TxnRequest { success: vec![put(10)], failure: vec![put(1_000)], ..Default::default() };
        let outer = TxnRequest {
            success: vec![put(1), RequestOp { request: Some(Request::RequestTxn(inner)) }],
            ..Default::default()
        };
        assert_eq!(txn_bytes(&outer), 2 * (CHANGE_BYTES + 1) + 1 + 1_000);
        assert_eq!(txn_bytes(&TxnRequest::default()), 0);
    }
}
