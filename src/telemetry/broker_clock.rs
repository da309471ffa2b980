//! How far the clock that stamps publications is from this node's.
//!
//! Set by whoever asks the broker for its time; read once for a batch of deliveries. Knows no
//! server, and never guesses: where it does not know it says so.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::clock;

/// An offset that is known no better than this, µs, times nothing: half of what deliveries may take.
const ERROR_US_MAX: u64 = 50_000;
/// Stamps are whole milliseconds.
const STAMP_US: i64 = 1_000;

/// The offset of the broker's clock, and how well it is known.
#[derive(Debug, Default)]
pub struct BrokerClock {
    /// Whether it is another machine's: then it is compared with the clock here that nobody sets.
    is_other: AtomicBool,
    offset_us: AtomicI64,
    error_us: AtomicU64,
}

/// How long ago a publication was stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// This many microseconds, by the broker's clock.
    Micros(u64),
    /// The stamp lies in the future, by more than is not known about the clock.
    Future,
    /// The broker's clock is not known well enough.
    Unknown,
}

impl BrokerClock {
    /// The broker stamps with this node's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// The broker's clock is `offset_us` ahead of `clock::uptime_us`, give or take `error_us`.
    pub fn set(&self, offset_us: i64, error_us: u64) {
        self.is_other.store(true, Ordering::Relaxed);
        self.offset_us.store(offset_us, Ordering::Relaxed);
        self.error_us.store(error_us, Ordering::Relaxed);
    }

    /// The broker's clock is another machine's, and was not looked at.
    pub fn forget(&self) {
        self.set(0, u64::MAX);
    }

    /// The time here, by the clock that the broker's is compared with.
    pub fn here_us(&self) -> u64 {
        if self.is_other.load(Ordering::Relaxed) {
            clock::uptime_us()
        } else {
            clock::now_us()
        }
    }

    /// How long before `now_us`, as of [`Self::here_us`], a publication was stamped.
    pub fn age(&self, stamp_ms: u64, now_us: u64) -> Age {
        let error_us = self.error_us.load(Ordering::Relaxed);
        if error_us > ERROR_US_MAX {
            return Age::Unknown;
        }
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let now_us = signed(now_us).saturating_add(self.offset_us.load(Ordering::Relaxed));
        let age_us = now_us.saturating_sub(signed(stamp_ms).saturating_mul(STAMP_US));
        match u64::try_from(age_us) {
            Ok(age_us) => Age::Micros(age_us),
            Err(_negative) if age_us.unsigned_abs() <= error_us => Age::Micros(0),
            Err(_negative) => Age::Future,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_by_the_clock_that_stamped() {
        let clock = BrokerClock::new();
        assert_eq!(clock.age(1_000, 1_002_500), Age::Micros(2_500));
        // This machine is 10 s behind, and 10 s ahead.
        clock.set(10_000_000, 200);
        assert_eq!(clock.age(11_000, 1_002_500), Age::Micros(2_500));
        clock.set(-10_000_000, 200);
        assert_eq!(clock.age(1_000, 11_002_500), Age::Micros(2_500));
    }

    #[test]
    fn what_makes_no_sense_is_said_and_not_made_up() {
        let clock = BrokerClock::new();
        clock.set(0, 300);
        assert_eq!(
            clock.age(1_000, 999_800),
            Age::Micros(0),
            "within the error"
        );
        assert_eq!(clock.age(1_000, 999_600), Age::Future);
        clock.set(0, ERROR_US_MAX + 1);
        assert_eq!(clock.age(1_000, 1_002_000), Age::Unknown);
        clock.forget();
        assert_eq!(clock.age(1_000, 1_002_000), Age::Unknown);
    }
}
