//! The node's clock, in one place: everything below `gateway` is handed the time.
//!
//! Under test it follows tokio's clock, so that paused time drives whole nodes, and a simulation
//! may set where it begins.

use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(test))]
use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// How often the machine's clock is looked at.
const LOOK_EVERY_MS: u64 = 1_000;
/// It is followed by this part of the time that passed: deadlines stretch or shrink by no more.
const FOLLOWED_PART: u64 = 4;
/// Further apart than this the machine slept, or its clock had not been set: it is right at once.
const APART_MS_MAX: u64 = 30 * 60_000;

/// A clock that moves on steadily and follows the machine's, which somebody may set.
#[derive(Debug)]
struct Steady {
    /// Unix ms when it began.
    began: AtomicU64,
    /// When the machine's clock was looked at, ms since it began.
    looked: AtomicU64,
}

impl Steady {
    const fn new(wall_ms: u64) -> Self {
        Self {
            began: AtomicU64::new(wall_ms),
            looked: AtomicU64::new(0),
        }
    }

    /// Unix ms, this long after it began.
    fn at(&self, passed_ms: u64, wall_ms: impl FnOnce() -> u64) -> u64 {
        let looked = self.looked.load(Ordering::Relaxed);
        let since = passed_ms.saturating_sub(looked);
        let (old, new) = (looked, passed_ms);
        let relaxed = Ordering::Relaxed;
        if since >= LOOK_EVERY_MS
            && self
                .looked
                .compare_exchange(old, new, relaxed, relaxed)
                .is_ok()
        {
            let began = self.began.load(relaxed);
            let theirs = wall_ms().saturating_sub(passed_ms);
            let step = if began.abs_diff(theirs) > APART_MS_MAX {
                u64::MAX
            } else {
                since / FOLLOWED_PART
            };
            let (low, high) = (began.saturating_sub(step), began.saturating_add(step));
            self.began.store(theirs.clamp(low, high), relaxed);
        }
        self.began.load(relaxed).saturating_add(passed_ms)
    }
}

/// When this process first looked at a clock, and the steady one since.
#[cfg(not(test))]
static CLOCK: LazyLock<(Instant, Steady)> =
    LazyLock::new(|| (Instant::now(), Steady::new(wall_ms())));

/// Unix milliseconds. They never jump by what somebody does to the machine's clock, up to half an
/// hour: no connection is taken for silent and no delivery waits for it.
#[cfg(not(test))]
pub fn now_ms() -> u64 {
    let (began, steady) = &*CLOCK;
    let passed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    steady.at(passed, wall_ms)
}

/// Unix milliseconds as the machine says: for what others have stamped by theirs, like tokens.
#[cfg(not(test))]
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// The same as `now_ms` in microseconds.
#[cfg(not(test))]
pub fn now_us() -> u64 {
    let (began, steady) = &*CLOCK;
    let passed = began.elapsed();
    let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
    let ms = steady.at(passed_ms, wall_ms);
    ms.saturating_mul(1_000) + u64::from(passed.subsec_micros() % 1_000)
}

/// Microseconds since some moment before: nobody sets this clock. For telling how far another
/// machine's is from it.
#[cfg(not(test))]
pub fn uptime_us() -> u64 {
    u64::try_from(CLOCK.0.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub use self::virtual_time::{begin_at, now_ms, now_ms as wall_ms, now_us, now_us as uptime_us};

#[cfg(test)]
mod virtual_time {
    use std::{
        cell::Cell,
        sync::LazyLock,
        time::{SystemTime, UNIX_EPOCH},
    };

    use tokio::time::Instant;

    use super::Steady;

    type Origin = (Instant, u64);

    /// Where real time was at the first look, µs.
    static REAL: LazyLock<Origin> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (
            Instant::from_std(std::time::Instant::now()),
            u64::try_from(since.as_micros()).unwrap(),
        )
    });

    thread_local! {
        static SET: Cell<Option<Origin>> = const { Cell::new(None) };
    }

    /// Unix milliseconds: real time, moved on with tokio's clock.
    pub fn now_ms() -> u64 {
        now_us() / 1_000
    }

    /// The same in microseconds.
    pub fn now_us() -> u64 {
        let (origin, us) = SET.get().unwrap_or_else(|| *REAL);
        let passed = Instant::now().saturating_duration_since(origin);
        us + u64::try_from(passed.as_micros()).unwrap()
    }

    /// From here on this thread's time is `ms` and what tokio's clock moves on. Called inside the
    /// runtime whose time is paused, so that one seed sees the same times in every run.
    pub fn begin_at(ms: u64) {
        SET.set(Some((Instant::now(), ms * 1_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn paused_time_moves_the_clock() {
        begin_at(1_000);
        assert_eq!(now_ms(), 1_000);
        tokio::time::advance(std::time::Duration::from_secs(7)).await;
        assert_eq!(now_ms(), 8_000);
    }

    #[test]
    fn a_clock_that_is_set_is_followed_slowly_and_one_that_was_wrong_at_once() {
        let clock = Steady::new(1_000_000);
        assert_eq!(clock.at(500, || unreachable!()), 1_000_500);
        // Ten minutes back: time goes on, a quarter slower.
        assert_eq!(clock.at(1_000, || 401_000), 1_000_750);
        assert_eq!(clock.at(3_000, || 403_000), 1_002_250);
        assert_eq!(clock.at(3_500, || unreachable!()), 1_002_750);
        // As it should be again: a quarter faster until it is there.
        assert_eq!(clock.at(5_000, || 1_005_000), 1_004_750);
        assert_eq!(clock.at(7_000, || 1_007_000), 1_007_000);
        // The machine slept for a day.
        assert_eq!(clock.at(8_000, || 87_408_000), 87_408_000);
    }
}
