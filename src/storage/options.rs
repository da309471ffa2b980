//! Settings of the embedded storage.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

/// Default size of a segment: large enough that creating files costs nothing, small enough that
/// the half-dead one a small node keeps does not matter.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Default interval of syncs: what a power cut may take.
const INTERVAL: Duration = Duration::from_millis(100);
/// Shortest and longest interval: below, `always` costs the same; above, nobody would expect it.
const INTERVALS: std::ops::RangeInclusive<u64> = 1..=60_000;

/// What survives a power cut. What was acknowledged survives the death of the process always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Sync {
    /// Everything acknowledged or delivered: both wait for a sync that commits share.
    Always,
    /// Everything older than this.
    Interval(Duration),
}

/// A setting of `sync` that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sync is \"always\" or an interval from \"1ms\" to \"60s\"")]
pub(crate) struct BadSync;

impl TryFrom<String> for Sync {
    type Error = BadSync;

    fn try_from(text: String) -> Result<Self, BadSync> {
        if text == "always" {
            return Ok(Self::Always);
        }
        let ms = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(ms), _) => ms.parse::<u64>().ok(),
            (None, Some(s)) => s.parse::<u64>().ok().and_then(|s| s.checked_mul(1000)),
            (None, None) => None,
        };
        match ms {
            Some(ms) if INTERVALS.contains(&ms) => Ok(Self::Interval(Duration::from_millis(ms))),
            Some(_) | None => Err(BadSync),
        }
    }
}

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
        Self(Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
        }))
    }
}

/// Settings of the embedded storage.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// What survives a power cut; `"100ms"`: a phone's network loses more than that anyway.
    pub sync: Sync,
    /// Size at which the journal begins another file, bytes; 64 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// The clock.
    #[serde(skip)]
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: Sync::Interval(INTERVAL),
            segment_bytes: SEGMENT_BYTES,
            clock: Clock::default(),
        }
    }
}
