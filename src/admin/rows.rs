//! What a node says of itself to operators: a row in its lease, and from time to time a point of
//! its `past`.
//!
//! Reads the node's own metrics as Prometheus would, so that the two never disagree. While nobody
//! looks every five seconds, while an operator looks at any node every second. A task of `node`;
//! never waits for a page.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tidewire_protocol::ChannelName;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::past::{self, Point};
use crate::{
    auth::operator,
    broker::lineage::Parts,
    clock,
    config::units::millis,
    control::CONTROL,
    gateway::Gateway,
    store::SessionId,
    telemetry::{
        process::{cpu_seconds, resident_bytes},
        sample::Sample,
    },
};

/// How often it is looked whether anything is due; the time between two rows while observed.
const TICK: Duration = Duration::from_secs(1);
/// The time between two rows while nobody looks: a row for each renewal of the lease.
const REST: Duration = Duration::from_secs(5);
/// A little less than a tick counts as one.
const SLACK: Duration = Duration::from_millis(100);
/// The time between two points of the past: ninety of them are a quarter of an hour.
const POINT_EVERY: Duration = Duration::from_secs(10);
/// What times and lags are taken over: heartbeats, which measure lag, come every 25 s.
const WINDOW: Duration = Duration::from_secs(60);
/// A broker or store that takes longer is away.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// A session that never exists.
const PROBE: &str = "$sys:probe";
/// Findings of a row, and characters of each: rows stay small.
const FINDINGS_MAX: usize = 5;
const FINDING_CHARS_MAX: usize = 200;

/// A node as operators see it; beside connections and sessions, which its lease has.
#[derive(Debug, Clone, Serialize)]
struct Row {
    /// When it was taken, Unix ms.
    at: u64,
    version: &'static str,
    subscriptions: f64,
    channels: f64,
    /// Connections that take no bytes at present.
    stalled: f64,
    /// A second, since the row before.
    #[serde(flatten)]
    rates: Rates,
    /// 99 % of deliveries of the last minute took at most this, seconds; none: there were none.
    delivery_p99: Option<f64>,
    /// 99 % of the sessions that were looked at in the last minute are at most this far behind.
    lag_p99: Option<f64>,
    /// Resident, bytes, and where the node admits nobody any more.
    memory: u64,
    memory_mark: Option<u64>,
    /// Since the node started.
    #[serde(flatten)]
    totals: Totals,
    broker: Health,
    store: Health,
    /// The incarnation of the broker; empty for one that is there for ever.
    generation: String,
    /// Since when the broker is out of reach, Unix ms.
    stale_since: Option<u64>,
    /// How long ago the orders of other nodes were last known whole, ms.
    control_ms_ago: Option<u64>,
    /// Hellos that wait for their turn.
    waiting: usize,
    connections_max: u32,
    /// How long moving every connection away would take, seconds.
    drain_seconds: f64,
    /// What endangers promises although everything works.
    findings: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Rates {
    publications: f64,
    deliveries: f64,
    delivered_bytes: f64,
    /// Cores in use.
    cpu: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Totals {
    resumes: BTreeMap<String, f64>,
    closes: BTreeMap<String, f64>,
    gaps: BTreeMap<String, f64>,
    rejected: BTreeMap<String, f64>,
    rewinds: f64,
    violations: f64,
}

/// Whether a seam answers.
#[derive(Debug, Clone, Copy, Serialize)]
struct Health {
    up: bool,
    /// None where there was no answer in time.
    ms: Option<f64>,
}

/// What one look at the metrics brought.
#[derive(Debug)]
struct Look {
    at: Instant,
    sample: Sample,
    cpu_seconds: f64,
}

/// Says rows and points until the node stops. `memory_mark`: see [`Row`].
pub async fn say(gateway: Arc<Gateway>, memory_mark: Option<u64>) {
    let mut sampler = Sampler::new(Arc::clone(&gateway), memory_mark);
    let nodes = &gateway.control.nodes;
    let mut every = interval(TICK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        nodes.observe(observers(&gateway) > 0);
        let due = if nodes.is_observed() { TICK } else { REST };
        if sampler.rests(due) {
            continue;
        }
        let row = sampler.row().await;
        sampler.point(&row).await;
        match serde_json::to_value(&row) {
            Ok(row) => nodes.show(row),
            Err(error) => tracing::error!(%error, "a row could not be written"),
        }
    }
}

/// Pages on this node that show the nodes.
fn observers(gateway: &Gateway) -> usize {
    let channel = ChannelName::new(operator::NODES).ok();
    let channel = channel.and_then(|channel| gateway.feed.logs().get(&channel));
    channel.map_or(0, |channel| channel.readers())
}

#[derive(Debug)]
struct Sampler {
    gateway: Arc<Gateway>,
    memory_mark: Option<u64>,
    last: Look,
    /// One every [`REST`], oldest first, as far back as [`WINDOW`].
    window: VecDeque<(Instant, Sample)>,
    /// When a point was last said, and the counters then.
    pointed: (Instant, [f64; 3]),
}

impl Sampler {
    fn new(gateway: Arc<Gateway>, memory_mark: Option<u64>) -> Self {
        let last = Look::take(&gateway);
        Self {
            // The first is due at once: a node that starts again shows when.
            pointed: (
                last.at.checked_sub(POINT_EVERY).unwrap_or(last.at),
                counters(&last.sample),
            ),
            window: VecDeque::new(),
            gateway,
            memory_mark,
            last,
        }
    }

    /// Whether the last row is younger than this.
    fn rests(&self, due: Duration) -> bool {
        self.last.at.elapsed() + SLACK < due
    }

    /// Takes the node's measures.
    async fn row(&mut self) -> Row {
        let (broker, store) = tokio::join!(self.broker(), self.store());
        let (broker, generation) = broker;
        let look = Look::take(&self.gateway);
        let rates = look.rates_since(&self.last);
        let sample = &look.sample;
        let since = self.window.front().map(|(_, sample)| sample);
        let whole = Sample::default();
        let since = since.unwrap_or(&whole);
        let gateway = &self.gateway;
        let connections = gateway.admission.connections() as f64;
        let findings = gateway.feed.broker().findings().into_iter();
        let short = |finding: String| finding.chars().take(FINDING_CHARS_MAX).collect();
        let row = Row {
            at: clock::now_ms(),
            version: env!("CARGO_PKG_VERSION"),
            subscriptions: sample.sum("tidewire_subscriptions"),
            channels: sample.sum("tidewire_channels"),
            stalled: sample.sum("tidewire_stalled_connections"),
            rates,
            delivery_p99: sample.delivery.p99_since(&since.delivery).map(finite),
            lag_p99: sample.lag.p99_since(&since.lag).map(finite),
            memory: resident_bytes().unwrap_or_default(),
            memory_mark: self.memory_mark,
            totals: Totals::of(sample),
            broker,
            store,
            generation,
            stale_since: gateway.feed.logs().doubts().stale_since(),
            control_ms_ago: gateway.control.verified_ago().map(millis),
            waiting: gateway.waiting(),
            connections_max: gateway.config.limits.connections.get(),
            drain_seconds: connections / f64::from(gateway.config.drain.rate.get()),
            findings: findings.take(FINDINGS_MAX).map(short).collect(),
        };
        self.keep(look);
        row
    }

    fn keep(&mut self, look: Look) {
        let newest = self.window.back().map(|(at, _)| *at);
        if newest.is_none_or(|at| look.at.duration_since(at) + SLACK >= REST) {
            self.window.push_back((look.at, look.sample.clone()));
        }
        while let Some((at, _)) = self.window.front()
            && look.at.duration_since(*at) > WINDOW
        {
            self.window.pop_front();
        }
        self.last = look;
    }

    /// A look at a head, and the generation it was read in.
    async fn broker(&self) -> (Health, String) {
        let Ok(channel) = ChannelName::new(CONTROL) else {
            return (Health::AWAY, String::new());
        };
        let channels = [channel];
        let begun = Instant::now();
        let heads = timeout(PROBE_MAX, self.gateway.feed.heads(&channels)).await;
        match heads.map(|heads| heads.map(|mut heads| heads.pop())) {
            Ok(Ok(Some(head))) => {
                let generation = Parts::of(&head.position.epoch).generation.to_owned();
                (Health::since(begun), generation)
            }
            Ok(Ok(None) | Err(_)) | Err(_) => (Health::AWAY, String::new()),
        }
    }

    async fn store(&self) -> Health {
        let begun = Instant::now();
        let session = SessionId(Arc::from(PROBE));
        match timeout(PROBE_MAX, self.gateway.store.read(&session)).await {
            Ok(Ok(_)) => Health::since(begun),
            Ok(Err(_)) | Err(_) => Health::AWAY,
        }
    }

    /// Says a point, if one is due.
    async fn point(&mut self, row: &Row) {
        let (at, before) = self.pointed;
        if at.elapsed() + SLACK < POINT_EVERY {
            return;
        }
        let now = counters(&self.last.sample);
        self.pointed = (self.last.at, now);
        let point = Point {
            connections: self.gateway.admission.connections(),
            sessions: self.gateway.sessions(),
            publications: row.rates.publications,
            deliveries: row.rates.deliveries,
            delivery_p99: row.delivery_p99,
            lag_p99: row.lag_p99,
            memory: row.memory,
            cpu: row.rates.cpu,
            resumes: now[0] - before[0],
            gaps: now[1] - before[1],
            rewinds: now[2] - before[2],
            left: false,
        };
        past::say(&self.gateway, &point).await;
    }
}

impl Health {
    const AWAY: Self = Self {
        up: false,
        ms: None,
    };

    fn since(begun: Instant) -> Self {
        Self {
            up: true,
            ms: Some(begun.elapsed().as_secs_f64() * 1_000.0),
        }
    }
}

impl Look {
    fn take(gateway: &Gateway) -> Self {
        let text = gateway.metrics.render_counts();
        Self {
            at: Instant::now(),
            sample: Sample::parse(&text).unwrap_or_default(),
            cpu_seconds: cpu_seconds().unwrap_or_default(),
        }
    }

    fn rates_since(&self, before: &Self) -> Rates {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let rate = |name: &str| (self.sample.sum(name) - before.sample.sum(name)) / seconds;
        Rates {
            publications: rate("tidewire_publications_total"),
            deliveries: rate("tidewire_deliveries_total"),
            delivered_bytes: rate("tidewire_delivered_bytes_total"),
            cpu: (self.cpu_seconds - before.cpu_seconds) / seconds,
        }
    }
}

impl Totals {
    fn of(sample: &Sample) -> Self {
        Self {
            resumes: sample.by_label("tidewire_resumes_total"),
            closes: sample.by_label("tidewire_connections_closed_total"),
            gaps: sample.by_label("tidewire_gaps_total"),
            rejected: sample.by_label("tidewire_rejected_total"),
            rewinds: sample.sum("tidewire_rewinds_total"),
            violations: sample.sum("tidewire_invariant_violations_total"),
        }
    }
}

/// Resumes that went on, gaps and rewinds so far.
fn counters(sample: &Sample) -> [f64; 3] {
    let resumed = sample.by_label("tidewire_resumes_total").remove("resumed");
    [
        resumed.unwrap_or_default(),
        sample.sum("tidewire_gaps_total"),
        sample.sum("tidewire_rewinds_total"),
    ]
}

/// JSON has no infinity: past the last bucket it is the largest number that a page can show.
fn finite(bound: f64) -> f64 {
    bound.min(f64::from(u32::MAX))
}
