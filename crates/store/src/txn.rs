//! Transactions: which branch is taken, whether everything in it can be done, and the doing.
//!
//! As in etcd all comparisons, nested ones too, are judged on the state before the first operation; then every operation
//! on the chosen path is checked; only then is anything changed, so that a transaction that fails leaves nothing behind.

use crate::change::Change;
use crate::error::{DiskError, Error};
use crate::key_index::Version;
use crate::range::KeyRange;
use crate::reader::range_in;
use crate::state::{Core, State, decode_key_value, visible};
use bytes::Bytes;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::response_op::Response;
use quorate_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// An outcome for the caller, or a fault that stops the member.
pub(crate) enum Failure {
    Outcome(Error),
    Disk(DiskError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Outcome(error)
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Evaluates a transaction that holds ranges only, nested ones included.
pub(crate) fn read_only(core: &Arc<Core>, state: &State, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let fold = |failure| match failure {
        Failure::Outcome(error) => error,
        Failure::Disk(error) => core.broken(&error),
    };
    let path = choose(state, request).map_err(fold)?;
    check(state, request, &mut path.iter().copied()).map_err(fold)?;
    let mut response = read(core, state, request, &mut path.iter().copied())?;
    response.header = Some(ResponseHeader { revision: state.revision, ..ResponseHeader::default() });
    Ok(response)
}

/// Answers the ranges on the path.
fn read(
    core: &Arc<Core>,
    state: &State,
    request: &TxnRequest,
    path: &mut dyn Iterator<Item = bool>,
) -> Result<TxnResponse, Error> {
    let succeeded = path.next().unwrap_or(false);
    let mut responses = Vec::new();
    for operation in branch(request, succeeded) {
        let response = match &operation.request {
            Some(Request::RequestRange(range)) => {
                core.counters.ranges.fetch_add(1, Relaxed);
                Some(Response::ResponseRange(range_in(core, state, range, state.revision)?.into_response()?))
            }
            Some(Request::RequestTxn(nested)) => Some(Response::ResponseTxn(read(core, state, nested, path)?)),
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) | None => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// Which branch every transaction on the way takes, in the order in which they are met.
pub(crate) fn choose(state: &State, request: &TxnRequest) -> Result<Vec<bool>, Failure> {
    let mut path = Vec::with_capacity(1);
    choose_into(state, request, &mut path)?;
    Ok(path)
}

fn choose_into(state: &State, request: &TxnRequest, path: &mut Vec<bool>) -> Result<(), Failure> {
    let mut holds = true;
    for compare in &request.compare {
        if !compare_holds(state, compare)? {
            holds = false;
            break;
        }
    }
    path.push(holds);
    for operation in branch(request, holds) {
        if let Some(Request::RequestTxn(nested)) = &operation.request {
            choose_into(state, nested, path)?;
        }
    }
    Ok(())
}

fn compare_holds(state: &State, compare: &Compare) -> Result<bool, Failure> {
    let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
    if state.revision < state.compact_revision {
        return Ok(false);
    }
    let mut any = false;
    let mut result = Ok(true);
    state.index.walk(&range, &mut |_, versions| {
        if let Some(version) = visible(versions, state.revision) {
            any = true;
            result = compare_version(state, compare, Some(version));
        }
        if matches!(result, Ok(true)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if !any {
        // A missing key has no value to compare with, but version 0 and revision 0.
        if compare.target == CompareTarget::Value as i32 {
            return Ok(false);
        }
        return compare_version(state, compare, None);
    }
    result
}

fn compare_version(state: &State, compare: &Compare, version: Option<&Version>) -> Result<bool, Failure> {
    let number = |wanted: i64, got: fn(&Version) -> i64| version.map_or(0, got).cmp(&wanted);
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => {
            let wanted = if let Some(TargetUnion::Version(wanted)) = union { *wanted } else { 0 };
            number(wanted, |version| version.version)
        }
        Ok(CompareTarget::Create) => {
            let wanted = if let Some(TargetUnion::CreateRevision(wanted)) = union { *wanted } else { 0 };
            number(wanted, |version| version.create_revision)
        }
        Ok(CompareTarget::Mod) => {
            let wanted = if let Some(TargetUnion::ModRevision(wanted)) = union { *wanted } else { 0 };
            number(wanted, |version| version.main)
        }
        Ok(CompareTarget::Lease) => {
            let wanted = if let Some(TargetUnion::Lease(wanted)) = union { *wanted } else { 0 };
            number(wanted, |version| version.lease)
        }
        Ok(CompareTarget::Value) => {
            let wanted = if let Some(TargetUnion::Value(wanted)) = union { &wanted[..] } else { &[] };
            let stored = match version {
                Some(version) => decode_key_value(state.view.read(version.location)?.key_value)?.value,
                None => Bytes::new(),
            };
            stored[..].cmp(wanted)
        }
        Err(_) => Ordering::Equal,
    };
    Ok(match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    })
}

/// Whether every operation on the path can be done.
pub(crate) fn check(state: &State, request: &TxnRequest, path: &mut impl Iterator<Item = bool>) -> Result<(), Failure> {
    let succeeded = path.next().unwrap_or(false);
    for operation in branch(request, succeeded) {
        match &operation.request {
            Some(Request::RequestRange(range)) => check_range(state, range)?,
            Some(Request::RequestPut(put)) => {
                check_lease(state, put)?;
                check_previous(state, put)?;
            }
            Some(Request::RequestTxn(nested)) => check_nested(state, nested, path)?,
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// The recursion, behind a trait object so that nesting does not nest types.
fn check_nested(state: &State, request: &TxnRequest, path: &mut dyn Iterator<Item = bool>) -> Result<(), Failure> {
    check(state, request, &mut { path })
}

fn check_range(state: &State, range: &RangeRequest) -> Result<(), Error> {
    match range.revision {
        0 => Ok(()),
        revision if revision > state.revision => Err(Error::FutureRevision),
        revision if revision < state.compact_revision => Err(Error::Compacted),
        _ => Ok(()),
    }
}

/// A put that keeps the value or the lease needs a key that exists.
pub(crate) fn check_previous(state: &State, put: &PutRequest) -> Result<(), Error> {
    if (put.ignore_value || put.ignore_lease) && visible(state.index.get(&put.key), state.revision).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// A put attaches to a lease that exists only.
pub(crate) fn check_lease(state: &State, put: &PutRequest) -> Result<(), Error> {
    if put.lease != 0 && state.leases.get(put.lease).is_none() {
        return Err(Error::LeaseNotFound);
    }
    Ok(())
}

fn revision_header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// Puts; everything was checked.
pub(crate) fn put(change: &mut Change<'_>, request: &PutRequest, answer: bool) -> Result<PutResponse, Failure> {
    let mut previous = None;
    if (request.ignore_value || request.ignore_lease || (request.prev_kv && answer))
        && let Some(stored) = change.state.key_value_at(&request.key, change.state.revision)?
    {
        previous = Some(decode_key_value(stored)?);
    }
    let (mut value, mut lease) = (request.value.clone(), request.lease);
    if let Some(previous) = &previous {
        if request.ignore_value {
            value = previous.value.clone();
        }
        if request.ignore_lease {
            lease = previous.lease;
        }
    }
    change.put(&request.key, &value, lease)?;
    let prev_kv = previous.filter(|_| request.prev_kv);
    Ok(PutResponse { header: revision_header(change.state.revision), prev_kv })
}

/// Deletes.
pub(crate) fn delete_range(
    change: &mut Change<'_>,
    request: &DeleteRangeRequest,
    answer: bool,
) -> Result<DeleteRangeResponse, Failure> {
    let range = KeyRange::new(request.key.clone(), request.range_end.clone());
    let mut prev_kvs = Vec::new();
    if request.prev_kv && answer {
        let mut locations = Vec::new();
        let current = change.state.revision;
        change.state.index.walk(&range, &mut |_, versions| {
            locations.extend(visible(versions, current).map(|version| version.location));
            ControlFlow::Continue(())
        });
        for location in locations {
            prev_kvs.push(decode_key_value(change.state.view.read(location)?.key_value)?);
        }
    }
    let deleted = change.delete_range(&range)?;
    Ok(DeleteRangeResponse { header: revision_header(change.state.revision), deleted, prev_kvs })
}

/// Does what the path chose; the nested answers' own headers stay empty, as in etcd.
pub(crate) fn execute(
    core: &Arc<Core>,
    change: &mut Change<'_>,
    request: &TxnRequest,
    path: &mut dyn Iterator<Item = bool>,
    answer: bool,
) -> Result<TxnResponse, Failure> {
    let succeeded = path.next().unwrap_or(false);
    let operations = branch(request, succeeded);
    let mut responses = Vec::with_capacity(operations.len());
    for operation in operations {
        let response = match &operation.request {
            Some(Request::RequestRange(range)) => {
                core.counters.ranges.fetch_add(1, Relaxed);
                Some(Response::ResponseRange(if answer {
                    range_in(core, change.state, range, change.state.revision)?.into_response()?
                } else {
                    RangeResponse::default()
                }))
            }
            Some(Request::RequestPut(request)) => Some(Response::ResponsePut(put(change, request, answer)?)),
            Some(Request::RequestDeleteRange(request)) => {
                Some(Response::ResponseDeleteRange(delete_range(change, request, answer)?))
            }
            Some(Request::RequestTxn(nested)) => {
                Some(Response::ResponseTxn(execute(core, change, nested, path, answer)?))
            }
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
}
