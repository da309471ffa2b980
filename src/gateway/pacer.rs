//! When clients that were refused come back: each books a place in a queue that moves at the rate
//! the node takes, so that a backlog returns spread over the time it needs.
//!
//! Called for every refusal that time heals.

use parking_lot::Mutex;

use crate::random;

/// Nobody is asked back sooner, ms: what refuses now still does then.
const RETRY_MS_MIN: u64 = 1_000;
/// Nobody is kept away longer, ms: the backlog may be gone sooner than booked.
const RETRY_MS_MAX: u64 = 60_000;
/// Share of the node's rate that is booked; the rest is for who comes unasked.
const BOOKED_SHARE: f64 = 0.8;

/// The queue.
#[derive(Debug)]
pub struct Pacer {
    /// Microseconds between two places.
    step_us: u64,
    /// The last place booked, Unix µs.
    booked_us: Mutex<u64>,
}

impl Pacer {
    /// A queue for a node that takes `per_ms` connects a millisecond.
    pub fn new(per_ms: f64) -> Self {
        let step = std::time::Duration::from_secs_f64(0.001 / (per_ms * BOOKED_SHARE).max(1e-6));
        Self {
            step_us: u64::try_from(step.as_micros()).unwrap_or(u64::MAX).max(1),
            booked_us: Mutex::new(0),
        }
    }

    /// Books the next place; answers how long until then, ms, jittered by an eighth.
    pub fn book(&self, now_ms: u64) -> u64 {
        let now_us = now_ms * 1_000;
        let mut booked = self.booked_us.lock();
        let soonest = now_us + RETRY_MS_MIN * 1_000;
        let latest = now_us + RETRY_MS_MAX * 1_000;
        *booked = (*booked)
            .saturating_add(self.step_us)
            .clamp(soonest, latest);
        let wait_ms = (*booked - now_us) / 1_000;
        drop(booked);
        wait_ms + random::below(wait_ms / 8 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_returns_over_the_time_it_needs() {
        let pacer = Pacer::new(1.0);
        let mut waits: Vec<u64> = (0..8_000).map(|_| pacer.book(5)).collect();
        assert!(waits.iter().all(|wait| (1_000..=13_000).contains(wait)));
        waits.sort_unstable();
        // 8,000 at 800 a second: half of them within the first six seconds and a bit.
        assert!((5_000..7_500).contains(&waits[4_000]), "{}", waits[4_000]);
        assert!(waits[7_999] > 10_000);
        assert!(pacer.book(100_000) < 1_200, "the queue has moved on");
        let far = (0..200_000).map(|_| pacer.book(100_000)).max();
        assert!(far.is_some_and(|far| far <= 67_500));
    }
}
