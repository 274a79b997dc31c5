//! Unary requests that took long, and at the level `debug` all of them, told in etcd's words.
//!
//! The invariant: a line names keys and sizes, never a value, and nothing at all of what the auth service is asked.

use crate::api::method::{Kind, Method};
use crate::api::{ClientSurface, Reply};
use crate::config::duration;
use crate::grpc::status::Status;
use crate::logging;
use bytes::Bytes;
use quorate_proto::Message;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use quorate_proto::etcdserverpb::request_op::Request as Operation;
use quorate_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use quorate_store::error::Error;
use quorate_store::reader::RangeReply;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};
use tracing::level_filters::LevelFilter;

/// Bytes of a request's description at the most.
const CONTENT_BYTES_MAX: usize = 2048;
/// Bytes of a key that are told.
const KEY_BYTES_MAX: usize = 256;
/// Bytes of a framed message before its own.
const FRAME_HEAD_BYTES: usize = 5;
/// As etcd logs what it does not count.
const NOT_COUNTED: i64 = -1;

/// Tells of a call that came to its outcome, if it was slow.
pub(super) fn tell_if_slow(
    surface: &ClientSurface,
    method: Method,
    remote: Option<&str>,
    request: &Bytes,
    outcome: &Result<Reply, Status>,
    started: Instant,
) {
    let took = started.elapsed();
    let is_slow = took > surface.backend.limits().slow_request;
    if (is_slow || LevelFilter::current() >= LevelFilter::DEBUG) && method.kind() == Kind::Unary && !waits(method) {
        let remote = remote.unwrap_or("No remote client info.");
        tell(surface, method, remote, request, outcome, took, is_slow);
    }
}

/// Tells of a range that was slow to find.
pub(super) fn tell_if_slow_range(
    surface: &ClientSurface,
    request: &RangeRequest,
    reply: &Result<RangeReply, Error>,
    took: Duration,
) {
    let expected = surface.backend.limits().slow_apply;
    if took <= expected {
        return;
    }
    surface.metrics.slow_applies.increment();
    let mut content = String::new();
    range(&mut content, request);
    let (response, error) = match reply {
        Ok(reply) => {
            (format!("range_response_count:{} size:{}", reply.items.len(), reply.items.encoded_bytes()), String::new())
        }
        Err(error) => (String::new(), error.to_string()),
    };
    tracing::warn!(
        took = duration::text(took),
        "expected-duration" = duration::text(expected),
        prefix = "read-only range ",
        request = content,
        response,
        error,
        "apply request took too long"
    );
}

/// Calls that take as long as their callers want.
fn waits(method: Method) -> bool {
    matches!(method, Method::Lock | Method::Campaign)
}

#[cold]
fn tell(
    surface: &ClientSurface,
    method: Method,
    remote: &str,
    request: &Bytes,
    outcome: &Result<Reply, Status>,
    took: Duration,
    is_slow: bool,
) {
    let description = describe(method, request);
    let (response_count, response_size) = match outcome {
        Ok(Reply::Message(bytes)) => {
            (response_count(method, bytes), bytes.len().saturating_sub(FRAME_HEAD_BYTES) as i64)
        }
        // The pieces of a large answer are on their way.
        Ok(Reply::Stream(_)) => (NOT_COUNTED, NOT_COUNTED),
        Err(_) => (0, 0),
    };
    let error = outcome.as_ref().err().map(|status| status.message.to_string()).unwrap_or_default();
    let metrics = &surface.metrics;
    let microseconds = |gauge: i64| duration::text(Duration::from_micros(u64::try_from(gauge).unwrap_or(0)));
    let lag = surface.backend.commit_index().saturating_sub(surface.backend.reader().applied_index());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                "start time" = logging::moment_text(SystemTime::now() - took),
                "time spent" = duration::text(took),
                remote,
                "response type" = format!("/{}/{}", method.service(), method.name()),
                "request count" = description.count,
                "request size" = request.len() as i64,
                "response count" = response_count,
                "response size" = response_size,
                "request content" = description.content,
                error,
                "commands waiting" = surface.backend.proposals_pending(),
                "entries to apply" = lag,
                "latest wal write and sync" = microseconds(metrics.wal_latest_microseconds.get()),
                "latest entry apply" = microseconds(metrics.entry_latest_microseconds.get()),
                "request stats"
            )
        };
    }
    if is_slow {
        metrics.slow_requests.increment();
        line!(warn);
    } else {
        line!(debug);
    }
}

fn response_count(method: Method, framed: &Bytes) -> i64 {
    if method != Method::Range || framed.len() < FRAME_HEAD_BYTES {
        return if matches!(method, Method::Put | Method::Txn) { 0 } else { NOT_COUNTED };
    }
    RangeResponse::decode(framed.slice(FRAME_HEAD_BYTES..)).map_or(NOT_COUNTED, |response| response.count)
}

/// A request in words.
struct Description {
    count: i64,
    content: String,
}

fn describe(method: Method, request: &Bytes) -> Description {
    let mut content = String::new();
    let count = match method {
        Method::Range => RangeRequest::decode(request.clone())
            .map(|request| range(&mut content, &request))
            .map_or(NOT_COUNTED, |()| 0),
        Method::Put => {
            PutRequest::decode(request.clone()).map(|request| put(&mut content, &request)).map_or(NOT_COUNTED, |()| 1)
        }
        Method::DeleteRange => DeleteRangeRequest::decode(request.clone())
            .map(|request| delete(&mut content, &request))
            .map_or(NOT_COUNTED, |()| 0),
        Method::Txn => TxnRequest::decode(request.clone())
            .map(|request| {
                txn(&mut content, &request);
                request.success.len().max(request.failure.len()) as i64
            })
            .unwrap_or(NOT_COUNTED),
        _ => NOT_COUNTED,
    };
    Description { count, content }
}

fn key(out: &mut String, name: &str, key: &[u8]) {
    if !key.is_empty() {
        let shown = &key[..key.len().min(KEY_BYTES_MAX)];
        let _ = write!(out, "{name}:\"{}\" ", shown.escape_ascii());
    }
}

fn number(out: &mut String, name: &str, value: i64) {
    if value != 0 {
        let _ = write!(out, "{name}:{value} ");
    }
}

fn switch(out: &mut String, name: &str, on: bool) {
    if on {
        let _ = write!(out, "{name}:true ");
    }
}

fn range(out: &mut String, request: &RangeRequest) {
    key(out, "key", &request.key);
    key(out, "range_end", &request.range_end);
    number(out, "limit", request.limit);
    number(out, "revision", request.revision);
    switch(out, "serializable", request.serializable);
    switch(out, "keys_only", request.keys_only);
    switch(out, "count_only", request.count_only);
}

/// Never its value.
fn put(out: &mut String, request: &PutRequest) {
    key(out, "key", &request.key);
    number(out, "value_size", request.value.len() as i64);
    number(out, "lease", request.lease);
    switch(out, "prev_kv", request.prev_kv);
    switch(out, "ignore_value", request.ignore_value);
    switch(out, "ignore_lease", request.ignore_lease);
}

fn delete(out: &mut String, request: &DeleteRangeRequest) {
    key(out, "key", &request.key);
    key(out, "range_end", &request.range_end);
    switch(out, "prev_kv", request.prev_kv);
}

fn txn(out: &mut String, request: &TxnRequest) {
    out.push_str("compare:<");
    for compare in &request.compare {
        comparison(out, compare);
    }
    for (name, operations) in [("success", &request.success), ("failure", &request.failure)] {
        let _ = write!(out, "> {name}:<");
        for operation in operations {
            if out.len() > CONTENT_BYTES_MAX {
                out.push_str("...");
                break;
            }
            nested(out, operation);
        }
    }
    out.push('>');
}

/// Never what a value is compared with.
fn comparison(out: &mut String, compare: &Compare) {
    if out.len() > CONTENT_BYTES_MAX {
        return;
    }
    let target = CompareTarget::try_from(compare.target).map_or("UNKNOWN", |target| target.as_str_name());
    let result = CompareResult::try_from(compare.result).map_or("UNKNOWN", |result| result.as_str_name());
    let _ = write!(out, "target:{target} result:{result} ");
    key(out, "key", &compare.key);
    key(out, "range_end", &compare.range_end);
}

fn nested(out: &mut String, operation: &RequestOp) {
    let (name, write): (&str, &dyn Fn(&mut String)) = match &operation.request {
        Some(Operation::RequestRange(request)) => ("request_range", &|out| range(out, request)),
        Some(Operation::RequestPut(request)) => ("request_put", &|out| put(out, request)),
        Some(Operation::RequestDeleteRange(request)) => ("request_delete_range", &|out| delete(out, request)),
        Some(Operation::RequestTxn(request)) => ("request_txn", &|out| txn(out, request)),
        None => return,
    };
    let _ = write!(out, "{name}:<");
    write(out);
    out.push_str("> ");
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::etcdserverpb::compare::TargetUnion;

    fn content(method: Method, request: &impl Message) -> String {
        describe(method, &Bytes::from(request.encode_to_vec())).content
    }

    fn secret_put(key: &'static str) -> PutRequest {
        PutRequest { key: key.into(), value: "secret".into(), lease: 7, ..Default::default() }
    }

    #[test]
    fn keys_and_sizes_are_told_and_values_are_not() {
        assert_eq!(content(Method::Put, &secret_put("a")), "key:\"a\" value_size:6 lease:7 ");
        let request =
            RangeRequest { key: "a".into(), range_end: b"b\x00".to_vec().into(), limit: 3, ..Default::default() };
        assert_eq!(content(Method::Range, &request), "key:\"a\" range_end:\"b\\x00\" limit:3 ");
        let put = |key| RequestOp { request: Some(Operation::RequestPut(secret_put(key))) };
        let inner = TxnRequest { success: vec![put("inner")], ..Default::default() };
        let compare = Compare {
            target: CompareTarget::Value as i32,
            key: "c".into(),
            target_union: Some(TargetUnion::Value("secret".into())),
            ..Default::default()
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![put("a"), RequestOp { request: Some(Operation::RequestTxn(inner)) }],
            failure: Vec::new(),
        };
        let text = content(Method::Txn, &request);
        assert!(text.starts_with("compare:<target:VALUE result:EQUAL key:\"c\" > success:<request_put:<"), "{text}");
        assert!(text.contains("request_txn:<compare:<> success:<request_put:<key:\"inner\" value_size:6"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn descriptions_are_bounded_and_others_say_nothing() {
        let long = PutRequest { key: vec![b'k'; 100_000].into(), ..Default::default() };
        let put = RequestOp { request: Some(Operation::RequestPut(long.clone())) };
        let request = TxnRequest { success: vec![put; 128], ..Default::default() };
        assert!(content(Method::Txn, &request).len() < CONTENT_BYTES_MAX + 2 * KEY_BYTES_MAX);
        assert_eq!(content(Method::Authenticate, &long), "");
        assert_eq!(describe(Method::Put, &Bytes::from_static(b"\xff")).count, NOT_COUNTED);
    }
}
