//! How busy the machine was: whether a limit that was missed says anything about the hub.
//!
//! A thread that wants to wake every few milliseconds notes how late it was. It does nothing else,
//! so what it waited for is its turn on a core.

use std::{
    fmt, fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const BEAT: Duration = Duration::from_millis(20);
/// From here on a missed limit may be the machine's doing: nodes answer heartbeats, and Redis its
/// probes, within a second or two.
const BUSY: Duration = Duration::from_millis(500);

/// Looks until it is dropped.
pub struct Pulse(Arc<AtomicU64>);

/// What it saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Busy {
    /// The longest that it waited for its turn.
    pub late: Duration,
    /// Of the last minute, as the system says.
    pub load: f64,
}

impl Pulse {
    pub fn watch() -> Self {
        let late_ms = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&late_ms);
        thread::spawn(move || {
            while let Some(seen) = seen.upgrade() {
                let begun = Instant::now();
                thread::sleep(BEAT);
                let late = begun.elapsed().saturating_sub(BEAT);
                let ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
                seen.fetch_max(ms, Ordering::Relaxed);
            }
        });
        Self(late_ms)
    }

    pub fn busy(&self) -> Busy {
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = text.split_whitespace().next();
        Busy {
            late: Duration::from_millis(self.0.load(Ordering::Relaxed)),
            load: load.and_then(|load| load.parse().ok()).unwrap_or_default(),
        }
    }
}

impl Busy {
    /// Whether the machine itself may have missed the limits.
    pub fn is_much(&self) -> bool {
        self.late > BUSY
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}/{:.1}s", self.load, self.late.as_secs_f64())
    }
}
