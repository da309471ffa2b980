//! Latencies in buckets that many threads add to at once; never allocates after it was made.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of each power of two: a figure is at most 3 % too low.
const FINE: usize = 32;
/// Up to 2^32 µs; what is longer counts as that.
const BUCKETS: usize = 28 * FINE;

#[derive(Debug)]
pub struct Latencies {
    buckets: Box<[AtomicU64]>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Latencies {
    /// So many deliveries took this long.
    pub fn add(&self, micros: u64, times: u64) {
        self.buckets[bucket(micros)].fetch_add(times, Ordering::Relaxed);
    }

    pub fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    /// The latency in µs that this share of the deliveries did not exceed; 0 without deliveries.
    pub fn quantile(&self, share: f64) -> f64 {
        let counts = self.buckets.iter().map(|each| each.load(Ordering::Relaxed));
        let counts: Vec<_> = counts.collect();
        let wanted = counts.iter().sum::<u64>() as f64 * share;
        let mut seen = 0;
        for (index, count) in counts.into_iter().enumerate() {
            seen += count;
            if count > 0 && seen as f64 >= wanted {
                return lowest(index) as f64;
            }
        }
        0.0
    }
}

/// Values below `FINE` have a bucket each; above, the leading bit and the five below it choose.
fn bucket(micros: u64) -> usize {
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(FINE.ilog2() + 1);
    let index = shift as usize * FINE + usize::try_from(micros >> shift).unwrap();
    index.min(BUCKETS - 1)
}

/// The least value of a bucket.
const fn lowest(index: usize) -> u64 {
    let shift = (index / FINE).saturating_sub(1);
    ((index - shift * FINE) as u64) << shift
}
