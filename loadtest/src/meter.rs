//! Counts and latencies while a run goes on.
//!
//! Readers and publishers add to it from many tasks; the sampler takes a second's worth out of it.
//! Latency runs from the intended moment of sending. It never judges: see `judge`.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::judge::Verdict;

/// Parts of the meter, so that readers on several threads rarely wait for each other.
const SHARDS: usize = 8;
/// Longest latency told apart, µs; what takes longer counts as this.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// The one clock of a run: both ends of every latency are read from it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    /// How long the run had gone on by then: not zero where another process began it.
    before: Duration,
}

impl Clock {
    /// The run begins.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            before: Duration::ZERO,
        }
    }

    /// The clock of a run that began in another process, at this moment of the Unix clock.
    pub fn joined(began: Duration) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: Instant::now(),
            before: unix.unwrap_or_default().saturating_sub(began),
        }
    }

    /// Since the run began.
    pub fn elapsed(&self) -> Duration {
        self.before + self.started.elapsed()
    }

    /// Since the run began, µs.
    pub fn now_us(&self) -> u64 {
        micros(self.elapsed())
    }

    /// The moment so long after the beginning.
    pub fn at(&self, after: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + after.saturating_sub(self.before))
    }
}

/// A duration in µs.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An empty histogram of µs.
pub fn histogram() -> Histogram<u64> {
    let fallback = |_bounds| Histogram::new(DIGITS);
    Histogram::new_with_max(LATENCY_MAX_US, DIGITS)
        .or_else(fallback)
        .unwrap_or_else(|_digits| unreachable!("three digits are few enough"))
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Meter {
    shards: [Mutex<Histogram<u64>>; SHARDS],
    /// From the intended moment to the moment of handing it over: the tool's own lateness.
    pub lag: Mutex<Histogram<u64>>,
    /// From the intended moment to the acknowledgement.
    pub acknowledged: Mutex<Histogram<u64>>,
    /// Deliveries, faulty ones included.
    pub delivered: AtomicU64,
    /// Deliveries that had come before.
    pub repeated: AtomicU64,
    /// Deliveries that came after a higher number.
    pub disordered: AtomicU64,
    /// In mode `latest`: publications that newer ones replaced on the way.
    pub conflated: AtomicU64,
    /// Connections there are.
    pub connections: AtomicI64,
    /// Connections that were lost or cut.
    pub lost_connections: AtomicU64,
    /// Sessions that came back.
    pub resumes: AtomicU64,
    /// Sessions that went on at another node without having been away.
    pub moves: AtomicU64,
    /// Sessions that came back as new ones: the hub had forgotten them.
    pub forgotten: AtomicU64,
    /// Publications that were sent again and found to be in the log already.
    pub duplicates: AtomicU64,
    /// Gaps and fresh starts the hub told readers about.
    pub told_losses: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(histogram())),
            lag: Mutex::new(histogram()),
            acknowledged: Mutex::new(histogram()),
            delivered: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            disordered: AtomicU64::new(0),
            conflated: AtomicU64::new(0),
            connections: AtomicI64::new(0),
            lost_connections: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            told_losses: AtomicU64::new(0),
        }
    }
}

impl Meter {
    /// Adds the latencies of one read of one reader.
    pub fn latencies(&self, reader: usize, latencies_us: impl Iterator<Item = u64>) {
        let mut shard = self.shards[reader % SHARDS].lock();
        for latency in latencies_us {
            shard.saturating_record(latency);
        }
    }

    /// Adds a latency that was seen so often.
    pub fn latency(&self, reader: usize, latency_us: u64, count: u64) {
        let mut shard = self.shards[reader % SHARDS].lock();
        shard.saturating_record_n(latency_us, count);
    }

    /// Counts what became of a message.
    pub fn judged(&self, verdict: Verdict) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        let fault = match verdict {
            Verdict::Taken => return,
            Verdict::Repeated => &self.repeated,
            Verdict::Disordered => &self.disordered,
        };
        fault.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes out the latencies since it was asked last.
    pub fn take_latencies(&self) -> Histogram<u64> {
        let mut taken = histogram();
        for shard in &self.shards {
            let mut shard = shard.lock();
            // Both have the same bounds, so adding cannot fail.
            if taken.add(&*shard).is_ok() {
                shard.reset();
            }
        }
        taken
    }
}

/// Adds one to a counter.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
