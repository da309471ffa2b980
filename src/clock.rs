//! The node's clock, in one place: everything below `gateway` is handed the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Seconds since a moment in Unix milliseconds; 0 for one that lies ahead.
pub fn since_ms(then_ms: u64) -> f64 {
    now_ms().saturating_sub(then_ms) as f64 / 1000.0
}
