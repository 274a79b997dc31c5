//! What makes a key-value request well-formed: etcd's checks, in etcd's order. Nothing here looks at the store.

use crate::api::error::{
    DUPLICATE_KEY, INVALID_SORT_OPTION, KEY_NOT_FOUND, KEY_NOT_PROVIDED, LEASE_PROVIDED, REQUEST_TOO_LARGE,
    TOO_MANY_OPERATIONS, VALUE_PROVIDED,
};
use crate::grpc::status::Status;
use prost::Message;
use prost::encoding::encoded_len_varint;
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use std::collections::BTreeSet;

/// A range: its key, and known sort options.
pub(super) fn check_range(request: &RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(KEY_NOT_PROVIDED);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(INVALID_SORT_OPTION);
    }
    Ok(())
}

/// A put: its key, and nothing given that is to be left as it is.
pub(super) fn check_put(request: &PutRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(KEY_NOT_PROVIDED);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(LEASE_PROVIDED);
    }
    Ok(())
}

/// A deletion: its key.
pub(super) fn check_delete(request: &DeleteRangeRequest) -> Result<(), Status> {
    if request.key.is_empty() { Err(KEY_NOT_PROVIDED) } else { Ok(()) }
}

/// A transaction: no more operations than `operations_max` (a nested one has what the longest list around it left over),
/// every operation in order, and no key written twice by what may run together.
pub(super) fn check_txn(request: &TxnRequest, operations_max: usize) -> Result<(), Status> {
    check_operations(request, operations_max)?;
    check_writes(&request.success)?;
    check_writes(&request.failure)?;
    Ok(())
}

fn check_operations(request: &TxnRequest, operations_max: usize) -> Result<(), Status> {
    let operations = request.compare.len().max(request.success.len()).max(request.failure.len());
    if operations > operations_max {
        return Err(TOO_MANY_OPERATIONS);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(KEY_NOT_PROVIDED);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Request::RequestTxn(txn)) => check_operations(txn, operations_max - operations)?,
            None => return Err(KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// The keys that a list of operations, with everything nested in it, writes and deletes.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<Deleted<'a>>,
}

/// Compared as the byte strings they are, as etcd does here: an end of one zero byte is no open end.
#[derive(Clone, Copy)]
struct Deleted<'a> {
    key: &'a [u8],
    range_end: &'a [u8],
}

impl Deleted<'_> {
    fn covers(self, key: &[u8]) -> bool {
        if self.range_end.is_empty() { key == self.key } else { key >= self.key && key < self.range_end }
    }
}

impl<'a> Writes<'a> {
    fn deletes(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|deleted| deleted.covers(key))
    }
}

/// A key may be put once, and must not be both put and deleted, by operations that can run in one transaction. The two
/// branches of a nested transaction exclude each other.
fn check_writes(operations: &[RequestOp]) -> Result<Writes<'_>, Status> {
    let mut writes = Writes::default();
    for operation in operations {
        if let Some(Request::RequestDeleteRange(delete)) = &operation.request {
            writes.deletes.push(Deleted { key: &delete.key, range_end: &delete.range_end });
        }
    }
    for operation in operations {
        if let Some(Request::RequestTxn(txn)) = &operation.request {
            let success = check_writes(&txn.success)?;
            let failure = check_writes(&txn.failure)?;
            for &key in &success.puts {
                if writes.puts.contains(key) || writes.deletes(key) {
                    return Err(DUPLICATE_KEY);
                }
            }
            for &key in &failure.puts {
                if writes.puts.contains(key) || writes.deletes(key) {
                    return Err(DUPLICATE_KEY);
                }
            }
            writes.puts.extend(success.puts);
            writes.puts.extend(failure.puts);
            writes.deletes.extend(success.deletes);
            writes.deletes.extend(failure.deletes);
        }
    }
    for operation in operations {
        if let Some(Request::RequestPut(put)) = &operation.request
            && (writes.deletes(&put.key) || !writes.puts.insert(&put.key))
        {
            return Err(DUPLICATE_KEY);
        }
    }
    Ok(writes)
}

/// Whether a transaction can change anything: one that can't is a read.
pub(super) fn writes_nothing(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(Request::RequestRange(_)) | None => true,
        Some(Request::RequestTxn(txn)) => writes_nothing(txn),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
    })
}

/// Whether a transaction that writes nothing is content with this member's own copy: it has ranges, and all of them are
/// serializable.
pub(super) fn reads_own_copy(request: &TxnRequest) -> bool {
    fn each_range(request: &TxnRequest, look: &mut impl FnMut(&RangeRequest)) {
        for operation in request.success.iter().chain(&request.failure) {
            match &operation.request {
                Some(Request::RequestRange(range)) => look(range),
                Some(Request::RequestTxn(txn)) => each_range(txn, look),
                Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) | None => {}
            }
        }
    }
    let (mut ranges, mut serializable) = (0usize, 0usize);
    each_range(request, &mut |range| {
        ranges += 1;
        serializable += usize::from(range.serializable);
    });
    ranges > 0 && ranges == serializable
}

/// Bytes of a command around its operation: its id, the operation's tag.
const COMMAND_BYTES: usize = 9 + 1;

/// Refuses an operation whose command would be larger than `request_bytes_max`. `received_bytes` is what arrived of it,
/// never less than its own encoding, and saves measuring where it is small.
pub(super) fn check_size<M: Message>(
    request: &M,
    received_bytes: usize,
    request_bytes_max: usize,
) -> Result<(), Status> {
    let with_head = |bytes: usize| COMMAND_BYTES + encoded_len_varint(bytes as u64) + bytes;
    if with_head(received_bytes) > request_bytes_max && with_head(request.encoded_len()) > request_bytes_max {
        return Err(REQUEST_TOO_LARGE);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
