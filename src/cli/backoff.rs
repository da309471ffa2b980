//! How long to wait before trying again: full jitter, so that many clients do not come back at
//! once.
//!
//! Used by `publish` and `tail`.

use std::time::Duration;

use crate::config::units::millis;

/// The first wait is at most this long.
const FIRST: Duration = Duration::from_millis(500);
/// No wait is longer, unless the node asks for it.
const LONGEST: Duration = Duration::from_secs(30);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked: the next wait is short again.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since it last worked.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// A random wait below a bound that doubles with each failure, after what the node asked for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let bound = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        asked.unwrap_or_default().min(LONGEST) + Duration::from_millis(below(millis(bound)))
    }
}

/// A random number below `bound`; without randomness the bound itself.
fn below(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes) % bound.max(1),
        Err(_) => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_bound_that_doubles_and_ends() {
        let mut backoff = Backoff::default();
        for failures in 0..40 {
            let bound = FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST);
            assert!(backoff.next(None) < bound);
        }
        let asked = Duration::from_secs(3);
        assert!(backoff.next(Some(asked)) >= asked);
        backoff.reset();
        assert!(backoff.next(None) < FIRST);
    }
}
