//! OpenTelemetry's export request, as far as it is used (opentelemetry-proto 1.x, `collector.trace.v1`).
//!
//! The numbers of the fields are the protocol's.

use super::stages::Event;
use super::{Span, Subject};
use crate::config::TracingConfig;
use crate::grpc::status::Code;
use prost::Message;

/// Where the request goes.
pub(super) const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// `SPAN_KIND_INTERNAL`.
const KIND_INTERNAL: i32 = 1;
/// `SPAN_KIND_SERVER`.
const KIND_SERVER: i32 = 2;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: i32 = 2;
/// The trace flag that says sampled.
const FLAG_SAMPLED: u32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) name: String,
    #[prost(int32, tag = "6")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<EventMessage>,
    #[prost(message, optional, tag = "15")]
    pub(super) status: Option<StatusMessage>,
    #[prost(fixed32, tag = "16")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EventMessage {
    #[prost(fixed64, tag = "1")]
    pub(super) time_unix_nano: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusMessage {
    #[prost(int32, tag = "3")]
    pub(super) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    pub(super) value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Text(value.to_owned())) }) }
}

fn number(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Number(value)) }) }
}

/// The request that exports spans.
pub(super) fn request(config: &TracingConfig, spans: &[Span]) -> ExportRequest {
    let mut attributes = vec![text("service.name", &config.service_name)];
    if !config.instance_id.is_empty() {
        attributes.push(text("service.instance.id", &config.instance_id));
    }
    let scope = Scope { name: "quorate".to_owned(), version: crate::version::QUORATE.to_owned() };
    let spans = spans.iter().map(message).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(Resource { attributes }), scope_spans }] }
}

fn message(span: &Span) -> SpanMessage {
    let (name, kind, attributes, status) = match span.subject {
        Subject::Part(name) => (name.to_owned(), KIND_INTERNAL, Vec::new(), None),
        Subject::Call(method, code) => {
            let (service, method) = (method.service(), method.name());
            let attributes = vec![
                text("rpc.system", "grpc"),
                text("rpc.service", service),
                text("rpc.method", method),
                number("rpc.grpc.status_code", code as i64),
            ];
            let status = is_server_error(code).then_some(StatusMessage { code: STATUS_ERROR });
            (format!("{service}/{method}"), KIND_SERVER, attributes, status)
        }
    };
    let event = |event: &Event| EventMessage { time_unix_nano: event.nanoseconds, name: event.name.to_owned() };
    SpanMessage {
        trace_id: span.trace_id.to_vec(),
        span_id: span.span_id.to_vec(),
        parent_span_id: span.parent_span_id.map(|id| id.to_vec()).unwrap_or_default(),
        name,
        kind,
        start_time_unix_nano: span.begin_nanoseconds,
        end_time_unix_nano: span.end_nanoseconds,
        attributes,
        events: span.events.iter().map(event).collect(),
        status,
        flags: FLAG_SAMPLED,
    }
}

/// Codes that are the server's fault, by OpenTelemetry's convention.
fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
