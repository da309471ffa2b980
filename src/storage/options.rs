//! Settings of the embedded storage.

use std::{fmt, sync::Arc, time::Duration};

use crate::{clock, config::Sync};

/// Default size of a segment: large enough that creating files costs nothing, small enough that
/// the half-dead one a small node keeps does not matter.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Default interval of syncs: what a power cut may take.
const INTERVAL: Duration = Duration::from_millis(100);

/// Where the storage takes Unix milliseconds from: the machine, or a test.
#[derive(Clone)]
pub(crate) struct Clock(pub Arc<dyn Fn() -> u64 + Send + std::marker::Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(clock::now_ms))
    }
}

/// Settings of the embedded storage.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What survives a power cut; 100 ms: a phone's network loses more than that anyway.
    pub sync: Sync,
    /// Size at which the journal begins another file, bytes; 64 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// The clock.
    pub clock: Clock,
    /// The folder is a copy that was put back: every channel begins another epoch.
    pub is_restored: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: Sync::Within(INTERVAL),
            segment_bytes: SEGMENT_BYTES,
            clock: Clock::default(),
            is_restored: false,
        }
    }
}
