//! The protocol's waits, for programs that try something else again as well.
//!
//! Used by applications, and by the driver for its randomness.

use std::time::Duration;

use crate::core::backoff;

/// Counts failures in a row and says how long to wait: full jitter below a bound that doubles from
/// 0.5 s to 20 s, and at least what was asked for (5 min at most).
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked: the next wait is short again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since it last worked.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait after one more failure.
    pub fn next_wait(&mut self, asked: Option<Duration>) -> Duration {
        let asked = asked.unwrap_or_default().as_millis();
        let asked = u64::try_from(asked).unwrap_or(u64::MAX);
        let wait = backoff(self.failures, fraction(), asked);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(wait)
    }
}

/// A random number from 0 up to, not including, 1.
pub(crate) fn fraction() -> f64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    let bits = u32::try_from((high ^ low) >> 32).unwrap_or_default();
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_bound_that_doubles_and_ends() {
        let mut backoff = Backoff::default();
        for failures in 0..40 {
            let bound = 500_u64.saturating_mul(1 << failures.min(16)).min(20_000);
            assert!(backoff.next_wait(None) < Duration::from_millis(bound));
        }
        let asked = Duration::from_secs(30);
        assert!(backoff.next_wait(Some(asked)) >= asked);
        backoff.reset();
        assert!(backoff.next_wait(None) < Duration::from_millis(500));
        assert_eq!(backoff.failures(), 1);
    }
}
