//! How far the clocks of the servers are from this machine's: each says its time once a second.
//!
//! Told by `server` after its probe; tells the metrics. Never touches what Redis stamps.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use redis::Value;

use super::{address::ServerAddress, call::text};
use crate::telemetry::metrics::Metrics;

/// Readings of a server among which the one with the shortest way counts (as NTP filters): one
/// that met a busy server says little.
const READINGS_MAX: usize = 8;

/// One look at a server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// How far it is ahead of `clock::uptime_us`, µs.
    offset_us: i64,
    /// At most so far from the truth, µs: half the way there and back.
    error_us: u64,
}

impl Reading {
    /// From the answer to `TIME`, asked and answered at these times by `clock::uptime_us`.
    pub(super) fn of(answer: &Value, asked_us: u64, answered_us: u64) -> Option<Self> {
        let Value::Array(parts) = answer else {
            return None;
        };
        let number = |at: usize| parts.get(at).and_then(text)?.parse::<i64>().ok();
        let theirs = number(0)?.checked_mul(1_000_000)?.checked_add(number(1)?)?;
        let error_us = answered_us.checked_sub(asked_us)? / 2;
        let ours = i64::try_from(asked_us + error_us).ok()?;
        Some(Self {
            offset_us: theirs - ours,
            error_us,
        })
    }
}

/// The last readings of every server.
#[derive(Debug)]
pub(super) struct Offsets {
    readings: Mutex<BTreeMap<ServerAddress, VecDeque<Reading>>>,
    metrics: Arc<Metrics>,
}

impl Offsets {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.broker_clock.forget();
        Self {
            readings: Mutex::default(),
            metrics: Arc::clone(metrics),
        }
    }

    pub(super) fn report(&self, server: &ServerAddress, reading: Reading) {
        let mut readings = self.readings.lock();
        let kept = readings.entry(server.clone()).or_default();
        if kept.len() == READINGS_MAX {
            kept.pop_front();
        }
        kept.push_back(reading);
        self.tell(&readings);
    }

    /// The server is none of ours any more, or does not answer.
    pub(super) fn forget(&self, server: &ServerAddress) {
        let mut readings = self.readings.lock();
        readings.remove(server);
        self.tell(&readings);
    }

    fn tell(&self, readings: &BTreeMap<ServerAddress, VecDeque<Reading>>) {
        let best = readings
            .values()
            .filter_map(|kept| kept.iter().min_by_key(|reading| reading.error_us));
        match together(best) {
            Some(reading) => self
                .metrics
                .set_broker_clock(reading.offset_us, reading.error_us),
            None => self.metrics.broker_clock.forget(),
        }
    }
}

/// One clock for several servers: the middle between the outermost, unsure by how far they are apart.
fn together<'a>(readings: impl Iterator<Item = &'a Reading>) -> Option<Reading> {
    let spans = readings.map(|reading| {
        let error = i64::try_from(reading.error_us).unwrap_or(i64::MAX);
        (
            reading.offset_us.saturating_sub(error),
            reading.offset_us.saturating_add(error),
        )
    });
    let (low, high) = spans.reduce(|(low, high), (from, to)| (low.min(from), high.max(to)))?;
    let error_us = high.saturating_sub(low).unsigned_abs() / 2;
    Some(Reading {
        offset_us: low.saturating_add_unsigned(error_us),
        error_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(offset_us: i64, error_us: u64) -> Reading {
        Reading {
            offset_us,
            error_us,
        }
    }

    #[test]
    fn the_middle_of_the_way_is_when_the_server_looked() {
        let part = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = Value::Array(vec![part("12"), part("345")]);
        let read = Reading::of(&answer, 12_000_000, 12_000_600);
        assert_eq!(read, Some(reading(45, 300)));
        assert_eq!(Reading::of(&answer, 12_000_600, 12_000_000), None);
        assert_eq!(Reading::of(&Value::Nil, 1, 2), None);
    }

    #[test]
    fn servers_that_disagree_are_known_as_badly_as_they_disagree() {
        let alone = [reading(-40, 10)];
        assert_eq!(together(alone.iter()), Some(reading(-40, 10)));
        let apart = [reading(-1_000, 100), reading(3_000, 100)];
        assert_eq!(together(apart.iter()), Some(reading(1_000, 2_100)));
        assert_eq!(together([].iter()), None);
    }
}
