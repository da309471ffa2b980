//! The node's clock, in one place: everything below `gateway` is handed the time.
//!
//! Under test it follows tokio's clock, so that paused time drives whole nodes, and a simulation
//! may set where it begins.

#[cfg(not(test))]
use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds.
#[cfg(not(test))]
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
pub use self::virtual_time::begin_at;
#[cfg(test)]
pub use self::virtual_time::now_ms;

#[cfg(test)]
mod virtual_time {
    use std::{
        cell::Cell,
        sync::LazyLock,
        time::{SystemTime, UNIX_EPOCH},
    };

    use tokio::time::Instant;

    type Origin = (Instant, u64);

    /// Where real time was at the first look.
    static REAL: LazyLock<Origin> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (
            Instant::from_std(std::time::Instant::now()),
            u64::try_from(since.as_millis()).unwrap(),
        )
    });

    thread_local! {
        static SET: Cell<Option<Origin>> = const { Cell::new(None) };
    }

    /// Unix milliseconds: real time, moved on with tokio's clock.
    pub fn now_ms() -> u64 {
        let (origin, ms) = SET.get().unwrap_or_else(|| *REAL);
        let passed = Instant::now().saturating_duration_since(origin);
        ms + u64::try_from(passed.as_millis()).unwrap()
    }

    /// From here on this thread's time is `ms` and what tokio's clock moves on. Called inside the
    /// runtime whose time is paused, so that one seed sees the same times in every run.
    pub fn begin_at(ms: u64) {
        SET.set(Some((Instant::now(), ms)));
    }

    #[tokio::test(start_paused = true)]
    async fn paused_time_moves_the_clock() {
        begin_at(1_000);
        assert_eq!(now_ms(), 1_000);
        tokio::time::advance(std::time::Duration::from_secs(7)).await;
        assert_eq!(now_ms(), 8_000);
    }
}
