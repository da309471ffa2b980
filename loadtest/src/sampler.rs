//! One look a second at everything that is counted, as a line for whoever waits and a point for
//! the plots.
//!
//! Runs beside a scenario. It changes nothing but the meter's latencies, which it takes out.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::{
    meter::{histogram, micros},
    stage::Stage,
};

/// One second of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    /// Its end, seconds since the run began.
    pub at_s: f64,
    /// Messages sent a second.
    pub sent: f64,
    /// Messages delivered a second.
    pub delivered: f64,
    /// Latencies of what was delivered in it, ms; none where nothing was.
    pub p50_ms: Option<f64>,
    /// The same.
    pub p99_ms: Option<f64>,
    /// The same.
    pub max_ms: Option<f64>,
    /// Connections at its end.
    pub connections: i64,
    /// Sessions that came back in it.
    pub resumes: f64,
    /// Resident bytes of all nodes.
    pub resident_bytes: u64,
    /// Cores the nodes kept busy.
    pub cpu_cores: f64,
    /// Cores Redis kept busy, where there is one of ours.
    pub redis_cores: Option<f64>,
    /// Cores this tool kept busy.
    pub tool_cores: f64,
    /// Resident bytes of this tool.
    pub tool_bytes: u64,
}

/// What was last seen of counters that only rise.
#[derive(Debug, Default)]
struct Seen {
    at_s: f64,
    sent: u64,
    delivered: u64,
    resumes: u64,
    cpu: f64,
    redis: f64,
    tool: f64,
}

/// All of a run's seconds.
#[derive(Debug)]
pub struct Record {
    /// The seconds in order.
    pub samples: Vec<Sample>,
    /// The latencies of all of them, µs.
    pub total: Histogram<u64>,
    seen: Seen,
    quiet: bool,
}

impl Record {
    /// Nothing is recorded; `quiet` prints no lines.
    pub fn new(quiet: bool) -> Self {
        Self {
            samples: Vec::new(),
            total: histogram(),
            seen: Seen::default(),
            quiet,
        }
    }

    /// Samples every second until it is dropped.
    pub async fn run(&mut self, stage: &Arc<Stage>) {
        let begun = Instant::now();
        for second in 1.. {
            sleep_until(begun + Duration::from_secs(second)).await;
            self.sample(stage).await;
        }
    }

    /// One more second, or the rest of one.
    pub async fn sample(&mut self, stage: &Stage) {
        let latencies = stage.meter.take_latencies();
        let meter = &stage.meter;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (hub, tool) = (stage.hub.usage(), stage.tool());
        let redis = stage.hub.redis().await;
        let seen = Seen {
            at_s: stage.clock.elapsed().as_secs_f64(),
            sent: stage.ledger.totals().0,
            delivered: load(&meter.delivered),
            resumes: load(&meter.resumes),
            cpu: hub.cpu_seconds,
            redis: redis.map_or(0.0, |(usage, _)| usage.cpu_seconds),
            tool: tool.cpu_seconds,
        };
        let before = std::mem::replace(&mut self.seen, seen);
        let (seen, lasted) = (&self.seen, (self.seen.at_s - before.at_s).max(0.001));
        let rate = |now: u64, then: u64| float(now.saturating_sub(then)) / lasted;
        let busy = |now: f64, then: f64| ((now - then) / lasted).max(0.0);
        let some = |quantile: f64| {
            let value = latencies.value_at_quantile(quantile);
            (!latencies.is_empty()).then_some(float(value) / 1e3)
        };
        let sample = Sample {
            at_s: seen.at_s,
            sent: rate(seen.sent, before.sent),
            delivered: rate(seen.delivered, before.delivered),
            p50_ms: some(0.5),
            p99_ms: some(0.99),
            max_ms: some(1.0),
            connections: meter.connections.load(Ordering::Relaxed),
            resumes: rate(seen.resumes, before.resumes),
            resident_bytes: hub.resident,
            cpu_cores: busy(seen.cpu, before.cpu),
            redis_cores: redis.map(|_| busy(seen.redis, before.redis)),
            tool_cores: busy(seen.tool, before.tool),
            tool_bytes: tool.resident,
        };
        if !self.quiet {
            eprintln!("{}", line(&sample));
        }
        self.samples.push(sample);
        // Both have the same bounds, so adding cannot fail.
        let _never = self.total.add(&latencies);
    }
}

/// A counter as a number to calculate with; exact up to 2^53.
pub fn float(count: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a run stay far below 2^53"
    )]
    let float = count as f64;
    float
}

/// A duration in seconds, out of µs.
pub fn seconds(duration: Duration) -> f64 {
    float(micros(duration)) / 1e6
}

fn line(sample: &Sample) -> String {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let mut line = format!(
        "{:>5.0}s  {:>7.0} sent/s  {:>9.0} delivered/s  p50 {:>7} ms  p99 {:>7} ms  {:>6} connections  nodes {:>5.0} MiB {:>4.0} % CPU",
        sample.at_s,
        sample.sent,
        sample.delivered,
        ms(sample.p50_ms),
        ms(sample.p99_ms),
        sample.connections,
        float(sample.resident_bytes >> 20),
        sample.cpu_cores * 100.0,
    );
    if sample.resumes > 0.0 {
        line.push_str(&format!("  {:.0} resumed/s", sample.resumes));
    }
    line
}
