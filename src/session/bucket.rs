//! A token bucket: how much a connection may ask within a while.

/// Allows `rate` a second on average and `burst` at once.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f32,
    at_ms: u64,
    rate: f32,
    burst: f32,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(rate: f32, burst: f32, now_ms: u64) -> Self {
        Self { tokens: burst, at_ms: now_ms, rate, burst }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long until there is one, ms; nothing was taken.
    pub fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms.max(self.at_ms);
        self.tokens = self.burst.min(self.rate.mul_add(passed_ms as f32 / 1000.0, self.tokens));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive wait of at most 1000 s")]
        let wait_ms = ((1.0 - self.tokens) / self.rate.max(0.001) * 1000.0).ceil() as u64;
        Err(wait_ms.max(1))
    }
}
