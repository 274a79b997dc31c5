//! Spans from a call to a collector.

use super::otlp::{self, ExportRequest, Value};
use super::*;
use crate::connection;
use crate::grpc::body::ReplyBody;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

const DEADLINE: Duration = Duration::from_secs(20);

fn config(address: &str, sampling_rate_per_million: u32) -> TracingConfig {
    TracingConfig {
        address: address.to_owned(),
        service_name: "etcd".to_owned(),
        instance_id: "m0".to_owned(),
        sampling_rate_per_million,
    }
}

fn tracer(rate: u32) -> (Arc<Tracer>, Receiver<Span>) {
    let (tracer, spans) = Tracer::new(&config("", rate), Arc::new(Metrics::new()));
    (Arc::new(tracer), spans)
}

const SAMPLED: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn the_callers_trace_is_read_as_the_w3c_writes_it() {
    let parent = parse_traceparent(SAMPLED).expect("good");
    assert_eq!((parent.trace_id[0], parent.trace_id[15]), (0x0a, 0x9c));
    assert_eq!((parent.span_id[0], parent.is_sampled), (0xb7, true));
    let later = b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more";
    assert_eq!(parse_traceparent(later).map(|parent| parent.is_sampled), Some(false));
    for bad in [
        &b""[..],
        b"00",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        b"00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333x-01",
        b"\xff",
    ] {
        assert_eq!(parse_traceparent(bad), None, "{}", bad.escape_ascii());
    }
}

#[test]
fn the_caller_decides_and_chance_where_there_is_none() {
    let (never, _queue) = tracer(0);
    let (always, _other) = tracer(1_000_000);
    let unsampled = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    assert!(never.begin(Method::Put, Some(SAMPLED)).is_some());
    assert!(always.begin(Method::Put, Some(unsampled)).is_none());
    assert!(never.begin(Method::Put, None).is_none());
    assert!(always.begin(Method::Put, None).is_some());
    assert!(always.begin(Method::Put, Some(b"broken")).is_some(), "what is no trace context is none");
    let (half, _third) = tracer(500_000);
    let sampled = (0..10_000).filter(|_| half.begin(Method::Put, None).is_some()).count();
    // Chance leaves this range once in 10^20 runs.
    assert!((4_500..5_500).contains(&sampled), "{sampled}");
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (tracer, _spans) = tracer(1_000_000);
    for _ in 0..QUEUE_SPANS_MAX + 3 {
        tracer.begin(Method::Put, None).expect("sampled").end(Code::Ok);
    }
    assert_eq!(tracer.metrics.spans.dropped.get(), 3);
}

#[test]
fn spans_have_the_fields_of_the_protocol() {
    let (tracer, mut spans) = tracer(0);
    tracer.begin(Method::Range, Some(SAMPLED)).expect("sampled").end(Code::Unavailable);
    let span = spans.try_recv().expect("a span");
    let request = otlp::request(&config("", 0), &[span]);
    let resource = &request.resource_spans[0];
    let keys = |attributes: &[otlp::KeyValue]| attributes.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
    assert_eq!(
        keys(&resource.resource.as_ref().expect("resource").attributes),
        ["service.name", "service.instance.id"]
    );
    let span = &resource.scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.kind), ("etcdserverpb.KV/Range", 2));
    assert_eq!((span.trace_id[0], span.parent_span_id[0], span.span_id.len()), (0x0a, 0xb7, 8));
    assert!(
        span.start_time_unix_nano > 1_700_000_000_000_000_000 && span.end_time_unix_nano >= span.start_time_unix_nano
    );
    assert_eq!(span.status.as_ref().map(|status| status.code), Some(2));
    let code = span.attributes.last().and_then(|it| it.value.clone()).and_then(|it| it.value);
    assert_eq!(code, Some(Value::Number(14)));
}

/// A collector that answers every request with OK and hands on what it got.
async fn collect(listener: TcpListener, requests: mpsc::UnboundedSender<(String, ExportRequest)>) {
    let (_keep, stopped) = watch::channel(false);
    while let Ok((stream, _)) = listener.accept().await {
        let requests = requests.clone();
        let answer = move |request: Request<Incoming>, _| {
            let requests = requests.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.expect("body").to_bytes();
                let _ = requests.send((path, ExportRequest::decode(body.slice(5..)).expect("a request")));
                Response::new(ReplyBody::Message(Bytes::from_static(&[0; 5])))
            }
        };
        tokio::spawn(connection::serve(stream, answer, stopped.clone()));
    }
}

#[test]
fn what_is_left_at_the_end_reaches_the_collector() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let config = config(&listener.local_addr().expect("address").to_string(), 1_000_000);
        let (requests, mut arrived) = mpsc::unbounded_channel();
        let collector = tokio::spawn(collect(listener, requests));
        let metrics = Arc::new(Metrics::new());
        let (tracer, spans) = Tracer::new(&config, metrics.clone());
        let tracer = Arc::new(tracer);
        for _ in 0..3 {
            tracer.begin(Method::Txn, None).expect("sampled").end(Code::Ok);
        }
        let (stop, stopped) = watch::channel(false);
        let exporting = tokio::spawn(run(config, spans, metrics.clone(), stopped));
        stop.send_replace(true);
        tokio::time::timeout(DEADLINE, exporting).await.expect("in time").expect("no panic");
        let (path, request) = arrived.recv().await.expect("a request");
        assert_eq!(path, otlp::PATH);
        assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 3);
        assert_eq!((metrics.spans.sent.get(), metrics.spans.dropped.get()), (3, 0));
        collector.abort();
    });
}

#[test]
fn without_a_collector_spans_are_dropped_and_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let config = config(&listener.local_addr().expect("address").to_string(), 1_000_000);
        drop(listener);
        let metrics = Arc::new(Metrics::new());
        let (tracer, spans) = Tracer::new(&config, metrics.clone());
        Arc::new(tracer).begin(Method::Put, None).expect("sampled").end(Code::Ok);
        let (stop, stopped) = watch::channel(false);
        stop.send_replace(true);
        run(config, spans, metrics.clone(), stopped).await;
        assert_eq!((metrics.spans.sent.get(), metrics.spans.dropped.get()), (0, 1));
    });
}
