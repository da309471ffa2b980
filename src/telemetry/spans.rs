//! Spans of sampled publications: one where it is published, one on each node that hands it out.
//!
//! Made by `api`, `gateway` and `feed`, never for a delivery; taken to a collector by `otlp`. Never
//! waits: what the queue has no room for is dropped and counted. Where tracing is off there is no
//! queue, and all it costs is the look at that.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tidewire_protocol::{ChannelName, TraceParent};
use tokio::sync::mpsc;

use super::labels::{Labels, SpanFate};
use crate::{clock, random};

/// Spans that wait for the collector: some seconds of a busy node that samples everything.
pub(super) const QUEUE_MAX: usize = 8_192;

/// Makes spans; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    queue: mpsc::Sender<SpanData>,
    /// Of a hundred publications without a trace, how many begin one.
    sample: u64,
    fates: Labels<SpanFate>,
}

/// A span that has begun.
#[derive(Debug)]
pub struct Begun {
    context: TraceParent,
    parent: Option<TraceParent>,
    at_us: u64,
}

/// A publication that a node received, until it was handed to its readers.
#[derive(Debug)]
pub struct Received {
    span: Begun,
    channel: ChannelName,
    offset: u64,
    readers: usize,
}

/// The publications of one batch of deliveries that belong to traces; their spans end when the last
/// who holds this lets go of it.
#[derive(Debug)]
pub struct Fanout {
    tracer: Tracer,
    received: Vec<Received>,
}

impl Tracer {
    /// A tracer whose spans go to the receiver.
    pub(super) fn on(sample: u8, fates: Labels<SpanFate>) -> (Self, mpsc::Receiver<SpanData>) {
        let (queue, spans) = mpsc::channel(QUEUE_MAX);
        let on = On {
            queue,
            sample: u64::from(sample),
            fates,
        };
        (Self(Some(Arc::new(on))), spans)
    }

    /// Whether anything is traced at all.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the span of publishing: a part of the caller's trace if that is sampled, or by chance
    /// the first of a trace where the caller has none.
    pub fn begin(&self, parent: Option<TraceParent>) -> Option<Begun> {
        let on = self.0.as_ref()?;
        match parent {
            Some(parent) if parent.sampled => Some(Begun::under(parent)),
            Some(_not_sampled) => None,
            None => (random::below(100) < on.sample).then(Begun::first),
        }
    }

    /// Ends the span of publishing `count` publications to `channel`, or to several.
    pub fn published(&self, span: Option<Begun>, channel: Option<&ChannelName>, count: usize) {
        let Some(span) = span else { return };
        let mut attributes = vec![
            KeyValue::new("messaging.system", "tidewire"),
            KeyValue::new("messaging.operation.type", "send"),
            number("messaging.batch.message_count", count as u64),
        ];
        attributes.extend(channel.map(destination));
        self.end(span, ("publish", SpanKind::Producer), attributes);
    }

    /// The node received a publication that belongs to a trace.
    pub fn received(
        &self,
        parent: TraceParent,
        channel: &ChannelName,
        offset: u64,
    ) -> Option<Received> {
        self.is_on().then(|| Received {
            span: Begun::under(parent),
            channel: channel.clone(),
            offset,
            readers: 0,
        })
    }

    /// What was received is handed out now; none: nothing of it belongs to a trace.
    pub fn fan_out(&self, received: Vec<Received>) -> Option<Fanout> {
        let tracer = self.clone();
        (!received.is_empty()).then_some(Fanout { tracer, received })
    }

    /// Hands a span over, or drops it.
    fn end(&self, span: Begun, (name, kind): (&'static str, SpanKind), of: Vec<KeyValue>) {
        let Some(on) = &self.0 else { return };
        let data = SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(span.context.trace),
                SpanId::from_bytes(span.context.span),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: (span.parent).map_or(SpanId::INVALID, |it| SpanId::from_bytes(it.span)),
            parent_span_is_remote: span.parent.is_some(),
            span_kind: kind,
            name: Cow::Borrowed(name),
            start_time: time(span.at_us),
            end_time: time(clock::now_us().max(span.at_us)),
            attributes: of,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("tidewire").build(),
        };
        if on.queue.try_send(data).is_err() {
            on.fates.count(SpanFate::Dropped);
        }
    }
}

impl Begun {
    fn under(parent: TraceParent) -> Self {
        Self {
            context: TraceParent {
                span: span_id(),
                ..parent
            },
            parent: Some(parent),
            at_us: clock::now_us(),
        }
    }

    fn first() -> Self {
        let high = u128::from(random::bits()) << 64;
        let context = TraceParent {
            // One in 2^128 is no trace; that one is none.
            trace: (high | u128::from(random::bits()).max(1)).to_be_bytes(),
            span: span_id(),
            sampled: true,
        };
        Self {
            context,
            parent: None,
            at_us: clock::now_us(),
        }
    }

    /// What the next are the children of.
    pub const fn context(&self) -> TraceParent {
        self.context
    }
}

impl Fanout {
    /// Takes note of how many readers a channel has.
    pub fn has_readers(&mut self, channel: &ChannelName, readers: usize) {
        let of_it = self.received.iter_mut();
        for received in of_it.filter(|received| received.channel == *channel) {
            received.readers = readers;
        }
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        for received in self.received.drain(..) {
            let attributes = vec![
                KeyValue::new("messaging.system", "tidewire"),
                KeyValue::new("messaging.operation.type", "process"),
                destination(&received.channel),
                number("tidewire.offset", received.offset),
                number("tidewire.readers", received.readers as u64),
            ];
            let what = ("deliver", SpanKind::Consumer);
            self.tracer.end(received.span, what, attributes);
        }
    }
}

fn span_id() -> [u8; 8] {
    random::bits().max(1).to_be_bytes()
}

fn destination(channel: &ChannelName) -> KeyValue {
    KeyValue::new("messaging.destination.name", channel.to_string())
}

fn number(name: &'static str, number: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(number).unwrap_or(i64::MAX))
}

fn time(unix_us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us)
}
