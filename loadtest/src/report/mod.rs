//! What a run says in the end: numbers, verdict, JSON and a page.
//!
//! Made by `run` out of the stage and the record. It measures nothing itself.

mod html;
mod plot;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    sampler::{Record, Sample, float},
    stage::{Finding, Mark, Stage},
};

/// Holes that are shown in words.
const EXAMPLES: usize = 5;
/// Past it, at p99, the tool says that it was late itself, ms.
const LATE_MS: f64 = 50.0;
/// Where the percentile plot has its points.
const QUANTILES: [f64; 9] = [0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// Everything about one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which scenario.
    pub scenario: &'static str,
    /// What was asked for, as one could ask for it again.
    pub command: String,
    /// Unix seconds of its beginning.
    pub began_unix_s: u64,
    /// What it ran on.
    pub machine: Machine,
    /// Nothing failed it.
    pub passed: bool,
    /// What failed it, each named.
    pub failures: Vec<String>,
    /// Counts.
    pub totals: Totals,
    /// From the intended moment to the reader.
    pub latency_ms: Latency,
    /// From the intended moment to the publisher's answer.
    pub acknowledged_ms: Latency,
    /// From the intended moment to the sending: the tool's own lateness.
    pub lateness_ms: Latency,
    /// Of the nodes.
    pub server: Server,
    /// The scenario's own figures.
    pub findings: Vec<Finding>,
    /// What was done to the hub.
    pub marks: Vec<Mark>,
    /// Every second.
    pub samples: Vec<Sample>,
}

/// What a run was made on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: usize,
    /// The load average at the end: other programs' work shows in it.
    pub load_average: String,
    /// The kernel's version.
    pub kernel: String,
    /// The tool was built without optimization: its times mean little.
    pub debug_build: bool,
}

/// Counts of a whole run.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    /// Readers.
    pub readers: usize,
    /// Messages published.
    pub sent: u64,
    /// Of those, acknowledged by the hub.
    pub acknowledged: u64,
    /// Of those, found to be in the log already when they were sent again.
    pub sent_again: u64,
    /// Messages owed to all readers.
    pub owed: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Owed and never delivered.
    pub lost: u64,
    /// Delivered again.
    pub repeated: u64,
    /// Delivered after a later one.
    pub disordered: u64,
    /// Left out on the way because newer ones replaced them (mode `latest`).
    pub conflated: u64,
    /// Connections that were lost or cut.
    pub lost_connections: u64,
    /// Sessions that came back.
    pub resumed: u64,
    /// Sessions that went on at another node without having been away.
    pub moved: u64,
    /// Sessions that came back as new ones.
    pub forgotten: u64,
    /// Gaps and fresh starts that readers were told of.
    pub told_losses: u64,
}

/// A distribution, ms.
#[derive(Debug, Default, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Percentiles.
    pub p50: f64,
    /// The same.
    pub p90: f64,
    /// The same.
    pub p99: f64,
    /// The same.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// Points of the whole distribution: share and ms.
    pub curve: Vec<(f64, f64)>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| float(histogram.value_at_quantile(quantile)) / 1e3;
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
            curve: QUANTILES.map(|quantile| (quantile, at(quantile))).into(),
        }
    }
}

/// What the nodes used.
#[derive(Debug, Default, Serialize)]
pub struct Server {
    /// Nodes of ours.
    pub nodes: usize,
    /// CPU seconds while the load went on.
    pub cpu_seconds: f64,
    /// The same, µs for each delivery.
    pub cpu_us_per_delivery: Option<f64>,
    /// Resident bytes when the load began, at their most, and at the end.
    pub resident_bytes: [u64; 3],
}

impl Report {
    /// Draws up everything that was seen.
    pub fn of(stage: &Stage, record: Record, scenario: &'static str, command: String) -> Self {
        let totals = totals(stage);
        let (findings, marks, told) = stage.told();
        let mut failures = judge(stage, &totals);
        failures.extend(told);
        failures.extend(stage.hub.fallen());
        let (before, after) = (stage.before(), stage.hub.usage());
        let cpu_seconds = (after.cpu_seconds - before.cpu_seconds).max(0.0);
        let peak = record.samples.iter().map(|sample| sample.resident_bytes);
        let measured = totals.delivered > 0 && stage.hub.own_nodes() > 0;
        let server = Server {
            nodes: stage.hub.own_nodes(),
            cpu_seconds,
            cpu_us_per_delivery: measured.then(|| cpu_seconds * 1e6 / float(totals.delivered)),
            resident_bytes: [before.resident, peak.max().unwrap_or(0), after.resident],
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now
            .unwrap_or_default()
            .saturating_sub(stage.clock.elapsed());
        Self {
            scenario,
            command,
            began_unix_s: now.as_secs(),
            machine: machine(),
            passed: failures.is_empty(),
            failures,
            totals,
            latency_ms: Latency::of(&record.total),
            acknowledged_ms: Latency::of(&stage.meter.acknowledged.lock()),
            lateness_ms: Latency::of(&stage.meter.lag.lock()),
            server,
            findings,
            marks,
            samples: record.samples,
        }
    }

    /// Writes `<scenario>-<Unix seconds>.json` and `.html`; where they are.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2]> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let stem = format!("{}-{}", self.scenario, self.began_unix_s);
        let paths = ["json", "html"].map(|ending| folder.join(format!("{stem}.{ending}")));
        std::fs::write(&paths[0], serde_json::to_vec_pretty(self)?)?;
        std::fs::write(&paths[1], html::page(self))?;
        Ok(paths)
    }

    /// The tool did not keep its schedule well enough for its latencies to be the hub's.
    fn tool_was_late(&self) -> bool {
        self.lateness_ms.p99 > LATE_MS
    }

    /// The result in a few lines.
    pub fn summary(&self) -> String {
        let Totals {
            sent,
            owed,
            delivered,
            lost,
            repeated,
            disordered,
            ..
        } = &self.totals;
        let mut text = format!(
            "{}: {}\n  sent {sent}, owed {owed}, delivered {delivered}; lost {lost}, repeated {repeated}, disordered {disordered}\n",
            self.scenario,
            if self.passed { "passed" } else { "FAILED" },
        );
        let Latency {
            p50,
            p99,
            p999,
            max,
            ..
        } = self.latency_ms;
        text +=
            &format!("  latency ms: p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}\n");
        if let Some(each) = self.server.cpu_us_per_delivery {
            let peak = self.server.resident_bytes[1] >> 20;
            text += &format!(
                "  nodes: {each:.2} µs of CPU per delivery, at most {peak} MiB resident\n"
            );
        }
        let Totals { resumed, moved, .. } = &self.totals;
        if resumed + moved > 0 {
            text += &format!("  sessions: {resumed} came back, {moved} moved to another node\n");
        }
        for finding in &self.findings {
            text += &format!("  {}: {}\n", finding.name, amount(finding));
        }
        if self.tool_was_late() {
            let late = self.lateness_ms.p99;
            text += &format!(
                "  note: the tool itself was late by {late:.0} ms at p99: the machine is too busy for these latencies\n"
            );
        }
        for failure in &self.failures {
            text += &format!("  FAILED: {failure}\n");
        }
        text
    }
}

/// A finding as people read it.
pub fn amount(finding: &Finding) -> String {
    let digits = if finding.value.abs() < 100.0 && finding.value.fract() != 0.0 {
        2
    } else {
        0
    };
    format!("{:.digits$} {}", finding.value, finding.unit)
}

fn totals(stage: &Stage) -> Totals {
    let meter = &stage.meter;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (sent, acknowledged) = stage.ledger.totals();
    let (owed, lost) = stage.balance();
    Totals {
        readers: stage.readers(),
        sent,
        acknowledged,
        sent_again: load(&meter.duplicates),
        owed,
        delivered: load(&meter.delivered),
        lost,
        repeated: load(&meter.repeated),
        disordered: load(&meter.disordered),
        conflated: load(&meter.conflated),
        lost_connections: load(&meter.lost_connections),
        resumed: load(&meter.resumes),
        moved: load(&meter.moves),
        forgotten: load(&meter.forgotten),
        told_losses: load(&meter.told_losses),
    }
}

/// What fails a run by its counts.
fn judge(stage: &Stage, totals: &Totals) -> Vec<String> {
    let mut failures = Vec::new();
    if totals.lost > 0 {
        failures.push(format!(
            "lost: {} of {} owed deliveries never came",
            totals.lost, totals.owed
        ));
        failures.extend(stage.examples(EXAMPLES));
    }
    if totals.repeated > 0 {
        failures.push(format!(
            "repeated: {} deliveries had come before",
            totals.repeated
        ));
    }
    if totals.disordered > 0 {
        failures.push(format!(
            "disordered: {} deliveries came after a later one",
            totals.disordered
        ));
    }
    let open = totals.sent - totals.acknowledged;
    if open > 0 {
        failures.push(format!(
            "unacknowledged: the hub never answered for {open} of {} publications",
            totals.sent
        ));
    }
    if totals.owed == 0 {
        failures.push("nothing was owed to anybody: this run shows nothing".to_owned());
    }
    failures
}

fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let words = |text: String, count: usize| {
        let words: Vec<&str> = text.split_whitespace().take(count).collect();
        words.join(" ")
    };
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load_average: words(read("/proc/loadavg"), 3),
        kernel: words(read("/proc/sys/kernel/osrelease"), 1),
        debug_build: cfg!(debug_assertions),
    }
}

/// The totals by name, in the order they are shown.
fn named(totals: &Totals) -> BTreeMap<String, serde_json::Value> {
    let value = serde_json::to_value(totals).unwrap_or_default();
    let map = value.as_object().cloned().unwrap_or_default();
    map.into_iter().collect()
}

#[cfg(test)]
mod tests;
