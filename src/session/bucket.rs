//! A token bucket: how much a connection may ask within a while.

use std::time::Duration;

/// Longest wait that is told: an hour, the slowest unit of a rate.
const WAIT_SECONDS_MAX: f64 = 3600.0;

/// Allows `rate` a millisecond on average and `burst` at once.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    at_ms: u64,
    rate: f64,
    burst: f64,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(rate: f64, burst: f64, now_ms: u64) -> Self {
        Self {
            tokens: burst,
            at_ms: now_ms,
            rate,
            burst,
        }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long until there is one, ms; nothing was taken.
    pub fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms.max(self.at_ms);
        self.tokens = self
            .burst
            .min(self.rate.mul_add(passed_ms as f64, self.tokens));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // Rounded up: whoever waits this long finds the token.
        let wait_ms = ((1.0 - self.tokens) / self.rate).ceil();
        let wait = Duration::from_secs_f64((wait_ms / 1000.0).clamp(0.001, WAIT_SECONDS_MAX));
        Err(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}
