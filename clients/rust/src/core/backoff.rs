//! How long to wait before trying again: full jitter, proved by `protocol/vectors/backoff.json`.
//!
//! Used by every timer of the core. It holds no clock and no randomness: both are arguments.

/// The bound of the first wait, ms.
pub(crate) const BASE_MS: u64 = 500;
/// No bound is higher, ms.
pub(crate) const MAX_MS: u64 = 20_000;
/// A node's advice longer than this is taken for a mistake, ms.
const RETRY_MAX_MS: u64 = 300_000;

/// A wait in ms: `random` (0 ≤ r < 1) of a bound that doubles with each failure, and at least what
/// the node asked for. The first retry counts no failure.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the bound is at most 20,000 and the fraction lies between 0 and 1"
)]
pub(crate) fn backoff(failures: u32, random: f64, retry_ms: u64) -> u64 {
    let bound = (BASE_MS << failures.min(16)).min(MAX_MS);
    let jitter = (random.clamp(0.0, 1.0) * bound as f64).floor() as u64;
    jitter.max(retry_ms.min(RETRY_MAX_MS))
}

/// One deadline, in ms of the driver's clock; starting it again moves it.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// When it is due; none: it does not run.
    pub(crate) due: Option<u64>,
    /// How often it was tried in vain; whoever succeeds sets it to 0.
    pub(crate) failures: u32,
}

impl Timer {
    pub(crate) const fn running(&self) -> bool {
        self.due.is_some()
    }

    pub(crate) const fn start(&mut self, at: u64) {
        self.due = Some(at);
    }

    pub(crate) const fn stop(&mut self) {
        self.due = None;
    }

    /// Due after one more failure; answers the wait in ms.
    pub(crate) fn again(&mut self, now: u64, random: f64, retry_ms: u64) -> u64 {
        let wait = backoff(self.failures, random, retry_ms);
        self.failures = self.failures.saturating_add(1);
        self.start(now + wait);
        wait
    }

    /// Whether it is due; then it runs no more.
    pub(crate) fn fires(&mut self, now: u64) -> bool {
        let fires = self.due.is_some_and(|due| due <= now);
        if fires {
            self.stop();
        }
        fires
    }
}
