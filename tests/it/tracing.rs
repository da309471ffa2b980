//! Traces as a collector gets them: one from a publisher over the broker to the node that delivers.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as AnyValue},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    metrics::until,
    redis::RedisServer,
    support::{API_KEY, CONFIG, PATIENCE, TestNode},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A span and the node that made it.
type Seen = (String, Span);

/// What stands where operators have their collector.
struct Collector {
    url: String,
    spans: watch::Receiver<Vec<Seen>>,
    _serving: AbortOnDropHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let (told, spans) = watch::channel(Vec::new());
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::new(told));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            spans,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// The spans, once there are so many.
    async fn spans(&mut self, count: usize) -> Vec<Seen> {
        let enough = self.spans.wait_for(|spans| spans.len() >= count);
        let spans = tokio::time::timeout(PATIENCE, enough).await;
        spans.expect("the spans arrive").unwrap().clone()
    }
}

async fn take(State(told): State<Arc<watch::Sender<Vec<Seen>>>>, body: Bytes) -> &'static str {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP in protobuf");
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap();
        assert_eq!(text(&resource.attributes, "service.name"), "tidewire");
        let node = text(&resource.attributes, "service.instance.id");
        let spans = of_resource.scope_spans.into_iter().flat_map(|of| of.spans);
        let seen = spans.map(|span| (node.clone(), span));
        told.send_modify(|spans| spans.extend(seen));
    }
    ""
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(AnyValue::StringValue(text)) => text,
        Some(AnyValue::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_kind(spans: &[Seen], kind: SpanKind) -> Vec<&Seen> {
    let is_kind = |(_, span): &&Seen| span.kind == kind as i32;
    spans.iter().filter(is_kind).collect()
}

async fn publish(node: &TestNode, traceparent: &str, data: u64) {
    let request = reqwest::Client::new()
        .post(format!("http://{}/v1/publish", node.address()))
        .bearer_auth(API_KEY)
        .header("traceparent", traceparent)
        .json(&json!({"channel": "news", "data": data}));
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

async fn traced(redis: &RedisServer, endpoint: &str) -> TestNode {
    let more = format!("{}[tracing]\nendpoint = {endpoint:?}\n", redis.section());
    TestNode::on_redis(CONFIG, &more).await
}

#[tokio::test]
async fn one_trace_goes_from_the_publisher_over_the_broker_to_each_node_that_delivers() {
    let (redis, mut collector) = (RedisServer::start(), Collector::start().await);
    let near = traced(&redis, &collector.url).await;
    let far = traced(&redis, &collector.url).await;
    let mut readers = Vec::new();
    for (node, user) in [(&near, "ada"), (&far, "bob"), (&far, "eve")] {
        let mut reader = node.client(user).await;
        reader.sub("news", json!({})).await;
        readers.push(reader);
    }
    publish(&near, &format!("00-{TRACE}-{CALLER}-01"), 1).await;
    let spans = collector.spans(3).await;
    assert_eq!(spans.len(), 3, "never one for each delivery: {spans:#?}");
    assert!(spans.iter().all(|(_, span)| hex(&span.trace_id) == TRACE));
    let published = of_kind(&spans, SpanKind::Producer);
    let [(publisher, published)] = published[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(hex(&published.parent_span_id), CALLER);
    let mut delivered = of_kind(&spans, SpanKind::Consumer);
    delivered.sort_by_key(|(node, _)| node != publisher);
    for ((_, span), readers) in delivered.iter().zip(["1", "2"]) {
        assert_eq!(span.parent_span_id, published.span_id, "{span:#?}");
        assert!(span.start_time_unix_nano >= published.start_time_unix_nano);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        let attributes = &span.attributes;
        assert_eq!(text(attributes, "messaging.destination.name"), "news");
        assert_eq!(text(attributes, "tidewire.offset"), "1");
        assert_eq!(text(attributes, "tidewire.readers"), readers);
    }
    assert_ne!(delivered[0].0, delivered[1].0, "one on each node");

    // What its caller does not record is not recorded here; a client's own trace is.
    publish(&near, &format!("00-{TRACE}-{CALLER}-00"), 2).await;
    publish(&near, "nonsense", 3).await;
    let own = format!("00-{}-{CALLER}-01", TRACE.replace('4', "5"));
    let frame = json!({"t": "pub", "ch": "news", "d": 4, "tp": own});
    readers[0].ask(frame).await;
    let spans = collector.spans(6).await;
    let of_client = |(_, span): &&Seen| hex(&span.trace_id) == TRACE.replace('4', "5");
    assert_eq!(spans.iter().filter(of_client).count(), 3, "{spans:#?}");
    assert_eq!(spans.len(), 6);
    for reader in &mut readers {
        let last = reader.find(|frame| frame["t"] == "msg" && frame["o"] == 4);
        assert!(last.await.get("tp").is_none(), "it is not for readers");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let redis = RedisServer::start();
    let node = traced(&redis, "http://127.0.0.1:1/v1/traces").await;
    let mut reader = node.client("ada").await;
    reader.sub("news", json!({})).await;
    for offset in 1..=3 {
        publish(&node, &format!("00-{TRACE}-{CALLER}-01"), offset).await;
        reader
            .find(|frame| frame["t"] == "msg" && frame["o"] == offset)
            .await;
    }
    until(&node, "tidewire_spans_total{fate=\"refused\"}", 6.0).await;
}

#[tokio::test]
async fn spans_that_are_left_are_taken_along_when_the_node_ends() {
    let (redis, mut collector) = (RedisServer::start(), Collector::start().await);
    let mut node = traced(&redis, &collector.url).await;
    publish(&node, &format!("00-{TRACE}-{CALLER}-01"), 1).await;
    let ended = tokio::time::timeout(Duration::from_secs(8), node.stop()).await;
    ended.expect("the node ends");
    assert_eq!(collector.spans(1).await.len(), 1);
}
