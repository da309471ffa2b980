//! Every metric of a node, in one place: name, meaning, buckets and handle.
//!
//! Built by `node`, one per node, with a recorder of its own, so that several nodes can live in
//! one process. The parts count through the handles kept here; nothing looks a metric up by name.

use std::{collections::HashMap, sync::Arc, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tidewire_protocol::frame::GapReason;

use super::{
    broker_clock::{Age, BrokerClock},
    labels::{
        ClaimOutcome, CloseReason, DeliveryMode, Labels, PublicationSource, Rejection, RepairCause,
        ResumeOutcome, SpanFate, Untimed,
    },
    process,
};
use crate::{
    clock,
    config::{Namespace, Namespaces},
};

/// How often [`Metrics::upkeep`] is due: histograms hold every sample until then.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Seconds from a tenth of a millisecond, a local write, to a client's patience.
const SECONDS: [f64; 16] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Numbers of publications or readers: powers of four up to the node's connections.
const COUNTS: [f64; 10] = [
    0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0,
];

/// The handles of one node.
#[derive(Debug)]
pub struct Metrics {
    exporter: PrometheusHandle,
    namespaces: HashMap<Arc<str>, Arc<NamespaceMetrics>>,
    pub connections: Gauge,
    pub sessions: Gauge,
    pub subscriptions: Gauge,
    pub channels: Gauge,
    pub stalled_connections: Gauge,
    pub broker_up: Gauge,
    pub broker_config_safe: Gauge,
    pub broker_reconnects: Counter,
    /// The clock that publications are stamped with.
    pub broker_clock: BrokerClock,
    broker_clock_offset_seconds: Gauge,
    broker_clock_error_seconds: Gauge,
    untimed_deliveries: Labels<Untimed>,
    pub drain_seconds_needed: Gauge,
    pub connections_opened: Counter,
    pub connections_closed: Labels<CloseReason>,
    pub delivered_bytes: Counter,
    pub resumes: Labels<ResumeOutcome>,
    pub gaps: Labels<GapReason>,
    pub rewinds: Counter,
    pub repairs: Labels<RepairCause>,
    /// Always 0; anything else is a defect of the hub.
    pub invariant_violations: Counter,
    pub store_writes: Counter,
    pub store_claims: Labels<ClaimOutcome>,
    pub rejected: Labels<Rejection>,
    pub spans: Labels<SpanFate>,
    pub publish_seconds: Histogram,
    delivery_seconds: Histogram,
    pub resume_seconds: Histogram,
    pub broker_round_trip_seconds: Histogram,
    pub replayed_publications: Histogram,
    pub fanout_size: Histogram,
    pub lag_publications: Histogram,
}

/// The handles of one namespace; kept with its channels, so that counting looks nothing up.
#[derive(Debug)]
pub struct NamespaceMetrics {
    pub publications: Labels<PublicationSource>,
    pub deliveries: Labels<DeliveryMode>,
    pub conflated: Counter,
}

impl NamespaceMetrics {
    fn new(name: &Arc<str>) -> Self {
        let namespace = || metrics::SharedString::from(Arc::clone(name));
        Self {
            publications: Labels::new(
                |source| counter!("tidewire_publications_total", "namespace" => namespace(), "source" => source),
            ),
            deliveries: Labels::new(
                |mode| counter!("tidewire_deliveries_total", "namespace" => namespace(), "mode" => mode),
            ),
            conflated: counter!("tidewire_conflated_total", "namespace" => namespace()),
        }
    }
}

impl Metrics {
    /// Registers every metric; labels of namespaces are those configured and no others.
    ///
    /// # Errors
    /// Only if a histogram had no buckets.
    pub fn new(namespaces: &Namespaces) -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&COUNTS)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .build_recorder();
        let exporter = recorder.handle();
        Ok(metrics::with_local_recorder(&recorder, || {
            describe();
            Self::register(exporter, namespaces)
        }))
    }

    fn register(exporter: PrometheusHandle, namespaces: &Namespaces) -> Self {
        let of_namespace = |space: &Namespace| {
            (
                Arc::clone(&space.name),
                Arc::new(NamespaceMetrics::new(&space.name)),
            )
        };
        Self {
            exporter,
            namespaces: namespaces.iter().map(of_namespace).collect(),
            connections: gauge!("tidewire_connections"),
            sessions: gauge!("tidewire_sessions"),
            subscriptions: gauge!("tidewire_subscriptions"),
            channels: gauge!("tidewire_channels"),
            stalled_connections: gauge!("tidewire_stalled_connections"),
            broker_up: gauge!("tidewire_broker_up"),
            broker_config_safe: gauge!("tidewire_broker_config_safe"),
            broker_reconnects: counter!("tidewire_broker_reconnects_total"),
            broker_clock: BrokerClock::new(),
            broker_clock_offset_seconds: gauge!("tidewire_broker_clock_offset_seconds"),
            broker_clock_error_seconds: gauge!("tidewire_broker_clock_error_seconds"),
            untimed_deliveries: Labels::new(
                |reason| counter!("tidewire_untimed_deliveries_total", "reason" => reason),
            ),
            drain_seconds_needed: gauge!("tidewire_drain_seconds_needed"),
            connections_opened: counter!("tidewire_connections_opened_total"),
            connections_closed: Labels::new(
                |code| counter!("tidewire_connections_closed_total", "code" => code),
            ),
            delivered_bytes: counter!("tidewire_delivered_bytes_total"),
            resumes: Labels::new(
                |outcome| counter!("tidewire_resumes_total", "outcome" => outcome),
            ),
            gaps: Labels::new(|reason| counter!("tidewire_gaps_total", "reason" => reason)),
            rewinds: counter!("tidewire_rewinds_total"),
            repairs: Labels::new(|cause| counter!("tidewire_repairs_total", "cause" => cause)),
            invariant_violations: counter!("tidewire_invariant_violations_total"),
            store_writes: counter!("tidewire_store_writes_total"),
            store_claims: Labels::new(
                |outcome| counter!("tidewire_store_claims_total", "outcome" => outcome),
            ),
            rejected: Labels::new(|reason| counter!("tidewire_rejected_total", "reason" => reason)),
            spans: Labels::new(|fate| counter!("tidewire_spans_total", "fate" => fate)),
            publish_seconds: histogram!("tidewire_publish_seconds"),
            delivery_seconds: histogram!("tidewire_delivery_seconds"),
            resume_seconds: histogram!("tidewire_resume_seconds"),
            broker_round_trip_seconds: histogram!("tidewire_broker_round_trip_seconds"),
            replayed_publications: histogram!("tidewire_replayed_publications"),
            fanout_size: histogram!("tidewire_fanout_size"),
            lag_publications: histogram!("tidewire_lag_publications"),
        }
    }

    /// The handles of a namespace, if it is configured. Presence channels count with the
    /// namespace of the channel they are about.
    pub fn namespace(&self, namespace: &Namespace) -> Option<&Arc<NamespaceMetrics>> {
        self.namespaces.get(&namespace.name)
    }

    /// Puts the samples of histograms into their buckets; due every [`UPKEEP_EVERY`].
    pub fn upkeep(&self) {
        self.exporter.run_upkeep();
    }

    /// As `render` without the process's own figures, which cost more the more files are open.
    pub fn render_counts(&self) -> String {
        self.exporter.render()
    }

    /// Everything in Prometheus' text format, the process's own figures included. Reads `/proc`.
    pub fn render(&self) -> String {
        let mut text = self.exporter.render();
        process::render(&mut text);
        text
    }

    /// Takes note of the broker's clock; arguments as of [`BrokerClock::set`]. Operators are shown
    /// how far it is from the clock that they set.
    pub fn set_broker_clock(&self, offset_us: i64, error_us: u64) {
        self.broker_clock.set(offset_us, error_us);
        let [uptime, wall] = [clock::uptime_us() as f64, clock::wall_ms() as f64 * 1e3];
        let offset_us = offset_us as f64 + uptime - wall;
        self.broker_clock_offset_seconds.set(offset_us / 1e6);
        self.broker_clock_error_seconds.set(error_us as f64 / 1e6);
    }

    /// Records that a batch of deliveries was written whose oldest publication the broker stamped
    /// at `stamp_ms`: one look at the clock for the batch. What cannot be is counted apart.
    pub fn delivered(&self, stamp_ms: u64) {
        match self.broker_clock.age(stamp_ms, self.broker_clock.here_us()) {
            Age::Micros(age_us) => self.delivery_seconds.record(age_us as f64 / 1e6),
            Age::Future => self.untimed_deliveries.count(Untimed::Future),
            Age::Unknown => self.untimed_deliveries.count(Untimed::UnknownClock),
        }
    }
}

fn describe() {
    describe_broker();
    describe_gauge!("tidewire_connections", "Open connections");
    describe_gauge!("tidewire_sessions", "Sessions with a connection here");
    describe_gauge!("tidewire_subscriptions", "Subscriptions of those sessions");
    describe_gauge!("tidewire_channels", "Channels with a tail here");
    describe_gauge!(
        "tidewire_stalled_connections",
        "Connections that take no bytes at present"
    );
    describe_gauge!(
        "tidewire_drain_seconds_needed",
        "How long draining would take"
    );
    describe_counter!(
        "tidewire_connections_opened_total",
        "Connections that were upgraded"
    );
    describe_counter!(
        "tidewire_connections_closed_total",
        "Connections that ended, by close code"
    );
    describe_counter!("tidewire_publications_total", "Accepted publications");
    describe_counter!(
        "tidewire_deliveries_total",
        "Publications written to sockets"
    );
    describe_counter!("tidewire_delivered_bytes_total", "Bytes written to sockets");
    describe_counter!(
        "tidewire_conflated_total",
        "Publications left out for newer ones of their key"
    );
    describe_counter!("tidewire_resumes_total", "Hellos that named a session");
    describe_counter!("tidewire_gaps_total", "Holes told to clients");
    describe_counter!("tidewire_rewinds_total", "Logs that lost their end");
    describe_counter!("tidewire_repairs_total", "Parts of logs read again");
    describe_counter!(
        "tidewire_invariant_violations_total",
        "Defects of the hub; always 0"
    );
    describe_counter!("tidewire_store_writes_total", "Checkpoints written");
    describe_counter!("tidewire_store_claims_total", "Claims of sessions");
    describe_counter!("tidewire_rejected_total", "What was refused");
    describe_counter!(
        "tidewire_spans_total",
        "Spans of traces, by what became of them"
    );
    describe_histogram!(
        "tidewire_publish_seconds",
        "From a publication's arrival to its acknowledgement"
    );
    describe_histogram!(
        "tidewire_delivery_seconds",
        "From the broker's stamp to the last write of a batch of sockets"
    );
    describe_histogram!(
        "tidewire_resume_seconds",
        "From a hello that resumed to the last of its subscriptions"
    );
    describe_histogram!(
        "tidewire_replayed_publications",
        "Publications replayed by one resume"
    );
    describe_histogram!("tidewire_fanout_size", "Readers of one publication");
    describe_histogram!(
        "tidewire_lag_publications",
        "How far sessions are behind their heads"
    );
}

fn describe_broker() {
    describe_gauge!("tidewire_broker_up", "1 while the broker answers");
    describe_gauge!(
        "tidewire_broker_config_safe",
        "1 while nothing in the broker's own settings endangers what is promised"
    );
    describe_gauge!(
        "tidewire_broker_clock_offset_seconds",
        "How far the clock that stamps publications is ahead of the node's"
    );
    describe_gauge!(
        "tidewire_broker_clock_error_seconds",
        "At most so far is the offset from the truth"
    );
    describe_counter!(
        "tidewire_untimed_deliveries_total",
        "Batches of deliveries whose time cannot be told, since clocks disagree"
    );
    describe_counter!(
        "tidewire_broker_reconnects_total",
        "Connections to Redis that were given up"
    );
    describe_histogram!(
        "tidewire_broker_round_trip_seconds",
        "The probe through the broker"
    );
}

#[cfg(test)]
mod tests {
    use tidewire_protocol::CloseCode;

    use super::*;

    #[test]
    fn two_nodes_in_one_process_count_apart() {
        let namespaces = Namespaces::new([("chat", Namespace::default())]);
        let (one, other) = (
            Metrics::new(&namespaces).unwrap(),
            Metrics::new(&namespaces).unwrap(),
        );
        one.connections.increment(3.0);
        one.connections_closed
            .count(CloseReason::Node(CloseCode::Draining));
        let chat = namespaces.iter().next().unwrap();
        let handles = one.namespace(chat).unwrap();
        handles.deliveries.add(DeliveryMode::Latest, 7);
        one.publish_seconds.record(0.003);
        one.fanout_size.record(100.0);
        one.upkeep();
        let text = one.render();
        for line in [
            "tidewire_connections 3",
            "tidewire_connections_closed_total{code=\"4512\"} 1",
            "tidewire_deliveries_total{namespace=\"chat\",mode=\"latest\"} 7",
            "tidewire_publish_seconds_bucket{le=\"0.005\"} 1",
            "tidewire_publish_seconds_bucket{le=\"0.0025\"} 0",
            "tidewire_fanout_size_bucket{le=\"256\"} 1",
            "tidewire_invariant_violations_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(
            other
                .render()
                .lines()
                .any(|line| line == "tidewire_connections 0")
        );
    }

    #[test]
    fn every_close_code_has_its_number_as_label() {
        use crate::telemetry::labels::LabelValue;
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            if let CloseReason::Node(code) = reason {
                assert_eq!(reason.text(), code.number().to_string());
            }
        }
    }

    #[test]
    fn a_namespace_that_is_not_configured_has_no_label() {
        let metrics = Metrics::new(&Namespaces::default()).unwrap();
        let other = Namespaces::new([("other", Namespace::default())]);
        assert!(metrics.namespace(other.iter().next().unwrap()).is_none());
    }
}
