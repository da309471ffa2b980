//! Takes spans to a collector: OTLP over HTTP, in protobuf, through the HTTP client we have.
//!
//! Started by `node` where `tracing.endpoint` is set. A collector that is away costs spans, which
//! are counted, and nothing else. Never retries: the next batch is the next try.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tidewire_protocol::Name;
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};

use super::{
    labels::{Labels, SpanFate},
    metrics::Metrics,
    spans::{QUEUE_MAX, Tracer},
};
use crate::{config, tasks::Tasks};

/// How often spans are taken along.
const EVERY: Duration = Duration::from_secs(1);
/// Most spans of one request: some hundred KiB.
const BATCH_MAX: usize = 512;
/// How long a collector may take for a batch.
const EXPORT_MAX: Duration = Duration::from_secs(5);
/// The same for what is left when the node ends.
const LAST_MAX: Duration = Duration::from_secs(2);
/// Largest answer of a collector that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why spans cannot be taken to a collector.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// The HTTP client cannot be made.
    #[error("the client for tracing.endpoint cannot be made")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be made.
    #[error("tracing.endpoint cannot be used")]
    Exporter(#[from] ExporterBuildError),
}

/// The tracer of a node, and the task that empties it; off where no collector is configured.
///
/// # Errors
/// Says what of the configuration cannot be used.
pub fn start(
    config: &config::Tracing,
    node: &Name,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<Tracer, TracingError> {
    let Some(endpoint) = &config.endpoint else {
        return Ok(Tracer::default());
    };
    let client = reqwest::Client::builder().timeout(EXPORT_MAX).build()?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client(client))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_MAX)
        .with_retry_policy(RetryPolicy::default().with_max_retries(0))
        .build()?;
    let instance = opentelemetry::KeyValue::new("service.instance.id", node.to_string());
    let resource = Resource::builder_empty()
        .with_service_name(config.service_name.clone())
        .with_attribute(instance)
        .build();
    exporter.set_resource(&resource);
    let sample = config.sample.map_or(0, |share| share.0);
    let (tracer, spans) = Tracer::on(sample, metrics.spans.clone());
    let export = Export {
        exporter: Arc::new(exporter),
        fates: metrics.spans.clone(),
        is_failing: false,
    };
    tasks.spawn(export.run(spans, tasks.stopped()));
    Ok(tracer)
}

struct Export {
    exporter: Arc<SpanExporter>,
    fates: Labels<SpanFate>,
    /// Said once, until it goes well again.
    is_failing: bool,
}

impl Export {
    async fn run(mut self, mut spans: mpsc::Receiver<SpanData>, stopped: impl Future<Output = ()>) {
        let mut every = interval(EVERY);
        tokio::pin!(stopped);
        loop {
            let ends = tokio::select! {
                () = &mut stopped => true,
                _now = every.tick() => false,
            };
            let within = if ends { LAST_MAX } else { EXPORT_MAX };
            self.empty(&mut spans, within).await;
            if ends {
                return;
            }
        }
    }

    /// Exports what waits at present.
    async fn empty(&mut self, spans: &mut mpsc::Receiver<SpanData>, within: Duration) {
        for _ in 0..QUEUE_MAX / BATCH_MAX {
            let mut batch = Vec::with_capacity(spans.len().min(BATCH_MAX));
            while batch.len() < BATCH_MAX
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() || !self.export(batch, within).await {
                return;
            }
        }
    }

    /// False: the collector did not take the batch, and would not take the next.
    async fn export(&mut self, batch: Vec<SpanData>, within: Duration) -> bool {
        let count = batch.len() as u64;
        let problem = match timeout(within, self.exporter.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(elapsed) => Some(elapsed.to_string()),
        };
        let is_taken = problem.is_none();
        let fate = if is_taken {
            SpanFate::Exported
        } else {
            SpanFate::Refused
        };
        self.fates.add(fate, count);
        if let Some(problem) = problem.filter(|_| !self.is_failing) {
            tracing::warn!(problem, "the collector takes no spans");
        }
        self.is_failing = !is_taken;
        is_taken
    }
}

/// Our HTTP client as that of the exporter.
#[derive(Debug)]
struct Client(reqwest::Client);

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let request = reqwest::Request::try_from(request)?;
            let mut answer = self.0.execute(request).await?;
            let status = answer.status();
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                    return Err("the collector's answer is too long".into());
                }
                body.extend_from_slice(&chunk);
            }
            let response = Response::builder().status(status);
            Ok(response.body(Bytes::from(body))?)
        })
    }
}
