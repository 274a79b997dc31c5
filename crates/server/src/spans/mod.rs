//! Spans of calls for a collector of traces (`--enable-distributed-tracing`), in OpenTelemetry's terms.
//!
//! Owns the choice which calls have a span, and the bounded queue to the exporter. The exporter is this crate's own, a
//! request of three nested messages over hyper, which is linked anyway: OpenTelemetry's crates bring some thirty more and
//! a second gRPC stack for it. The invariants: a call never waits for the collector; without the flag a call costs one
//! look at an empty option; a span holds names and times, never a key or a value.

mod export;
mod otlp;
mod stages;

pub(crate) use export::run;
pub(crate) use stages::{FollowedCommand, FollowedCommands, READ_BARRIER, Stages, stage};

use crate::api::method::Method;
use crate::config::TracingConfig;
use crate::grpc::status::Code;
use crate::metrics::Metrics;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Spans that wait for the exporter at the most; more are dropped and counted.
const QUEUE_SPANS_MAX: usize = 2_048;
/// Requests of which `--distributed-tracing-sampling-rate` is counted.
const SAMPLING_SCALE: u64 = 1_000_000;
/// The header of the W3C's trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Who began a trace, as a caller tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    is_sampled: bool,
}

/// A call that is over, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_span_id: Option<[u8; 8]>,
    begin_nanoseconds: u64,
    end_nanoseconds: u64,
    subject: Subject,
    events: Vec<stages::Event>,
}

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// A call, and how it ended.
    Call(Method, Code),
    /// A part of a call.
    Part(&'static str),
}

/// Decides which calls have a span.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// Of 2^63 traces that begin here this many are sampled.
    sampled_below: u64,
    queue: Sender<Span>,
    metrics: Arc<Metrics>,
}

impl Tracer {
    /// A tracer, and what the exporter is to take the spans from.
    pub(crate) fn new(config: &TracingConfig, metrics: Arc<Metrics>) -> (Self, Receiver<Span>) {
        let (queue, spans) = channel(QUEUE_SPANS_MAX);
        let share = (1 << 63) / SAMPLING_SCALE;
        let sampled_below = match u64::from(config.sampling_rate_per_million) {
            SAMPLING_SCALE => u64::MAX,
            rate => rate * share,
        };
        (Self { sampled_below, queue, metrics }, spans)
    }

    /// A call begins: its span, if it is to have one. A caller's own trace is followed as the caller says; else one
    /// begins here, by chance.
    pub(crate) fn begin(self: &Arc<Self>, method: Method, traceparent: Option<&[u8]>) -> Option<Box<OpenSpan>> {
        let parent = traceparent.and_then(parse_traceparent);
        let trace_id = match parent {
            Some(parent) if !parent.is_sampled => return None,
            Some(parent) => parent.trace_id,
            None => {
                let drawn: [u8; 16] = rand::random();
                let number = u64::from_be_bytes(drawn[8..].try_into().expect("eight bytes"));
                if number >> 1 >= self.sampled_below {
                    return None;
                }
                drawn
            }
        };
        Some(Box::new(OpenSpan {
            tracer: self.clone(),
            trace_id,
            span_id: rand::random(),
            parent_span_id: parent.map(|parent| parent.span_id),
            method,
            begin_nanoseconds: now_nanoseconds(),
            stages: Arc::default(),
        }))
    }
}

/// The span of a call that goes on.
#[derive(Debug)]
pub(crate) struct OpenSpan {
    tracer: Arc<Tracer>,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_span_id: Option<[u8; 8]>,
    method: Method,
    begin_nanoseconds: u64,
    stages: Arc<Stages>,
}

impl OpenSpan {
    /// Where the parts of the call are told.
    pub(crate) fn stages(&self) -> Arc<Stages> {
        self.stages.clone()
    }

    /// The call is over: its span goes to the exporter, behind those of its parts.
    pub(crate) fn end(self, code: Code) {
        let stages::Known { operation, stages, mut events } = self.stages.take();
        // What was refused for its form never was an operation.
        let was_refused = code == Code::InvalidArgument && events.is_empty();
        let operation = operation.filter(|_| !was_refused);
        let part = |stage: &stages::Stage, span_id, parent_span_id, events| Span {
            trace_id: self.trace_id,
            span_id,
            parent_span_id: Some(parent_span_id),
            begin_nanoseconds: stage.begin_nanoseconds,
            end_nanoseconds: stage.end_nanoseconds,
            subject: Subject::Part(stage.name),
            events,
        };
        let operation_id = operation.map_or(self.span_id, |_| rand::random());
        for stage in &stages {
            self.queue(part(stage, rand::random(), operation_id, Vec::new()));
        }
        if let Some(operation) = &operation {
            self.queue(part(operation, operation_id, self.span_id, std::mem::take(&mut events)));
        }
        self.queue(Span {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent_span_id,
            begin_nanoseconds: self.begin_nanoseconds,
            end_nanoseconds: now_nanoseconds(),
            subject: Subject::Call(self.method, code),
            events,
        });
    }

    fn queue(&self, span: Span) {
        if self.tracer.queue.try_send(span).is_err() {
            self.tracer.metrics.spans.dropped.increment();
        }
    }
}

fn now_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `00-<trace id>-<span id>-<flags>`, in small hex. A later version may go on behind that.
fn parse_traceparent(value: &[u8]) -> Option<Parent> {
    let mut parts = std::str::from_utf8(value).ok()?.split('-');
    let version: [u8; 1] = hex(parts.next()?)?;
    let parent = Parent {
        trace_id: hex(parts.next()?)?,
        span_id: hex(parts.next()?)?,
        is_sampled: hex::<1>(parts.next()?)?[0] & 1 == 1,
    };
    let is_whole = match version[0] {
        0 => parts.next().is_none(),
        version => version != 0xff,
    };
    let is_valid = is_whole && parent.trace_id != [0; 16] && parent.span_id != [0; 8];
    is_valid.then_some(parent)
}

fn hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).expect("two digits");
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
