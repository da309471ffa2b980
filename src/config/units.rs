//! Units of the configuration: durations, sizes, rates and percentages as people write them.
//!
//! Owns parsing and printing of each; called by `setting`. Never rounds: what cannot be written
//! exactly is refused.

use std::{fmt, time::Duration};

/// Longest duration accepted: ten years, so that sums of them in milliseconds cannot overflow.
const DURATION_MAX_MS: u64 = 10 * 365 * 86_400_000;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Splits `"30s"` into its digits and its unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = split(text)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*scale)
}

fn shortest(value: u64, units: &[(&str, u64)]) -> Option<String> {
    units
        .iter()
        .find(|(_, scale)| value.is_multiple_of(*scale) && value >= *scale)
        .map(|(name, scale)| format!("{}{name}", value / scale))
}

/// Reads `"30s"`, `"100ms"`, `"5m"`, `"24h"` or `"7d"`; at most ten years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let ms = scaled(text, &DURATION_UNITS)?;
    (ms <= DURATION_MAX_MS).then(|| Duration::from_millis(ms))
}

/// Writes a duration so that [`parse_duration`] reads the same again.
pub fn show_duration(duration: Duration) -> String {
    shortest(millis(duration), &DURATION_UNITS).unwrap_or_else(|| "0s".to_owned())
}

/// A duration in whole milliseconds, the unit of the wire and of the seams.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number of bytes, for lengths in memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads `"64KiB"`, `"1MiB"`, `"2GiB"` or `"512B"`.
    pub fn parse(text: &str) -> Option<Self> {
        scaled(text, &SIZE_UNITS).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match shortest(self.0, &SIZE_UNITS) {
            Some(text) => f.write_str(&text),
            None => f.write_str("0B"),
        }
    }
}

/// So many of something in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In how many milliseconds: a second, a minute or an hour.
    pub per_ms: u64,
}

const RATE_UNITS: [(&str, u64); 3] = [("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl Rate {
    /// So many a second.
    pub const fn per_second(count: u32) -> Self {
        Self {
            count,
            per_ms: 1_000,
        }
    }

    /// How many a millisecond, for token buckets.
    pub fn per_millisecond(self) -> f64 {
        f64::from(self.count) / Duration::from_millis(self.per_ms).as_secs_f64() / 1_000.0
    }

    /// Reads `"50/s"`, `"600/m"` or `"1000/h"`.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let (_, per_ms) = RATE_UNITS.iter().find(|(name, _)| *name == unit)?;
        let count = count.parse().ok().filter(|count| *count > 0)?;
        Some(Self {
            count,
            per_ms: *per_ms,
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = RATE_UNITS
            .iter()
            .find(|(_, per_ms)| *per_ms == self.per_ms)
            .map_or("s", |(name, _)| name);
        write!(f, "{}/{unit}", self.count)
    }
}

/// A share of a whole, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(pub u8);

impl Percent {
    /// Reads `"75%"`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?.parse().ok()?;
        (1..=100).contains(&number).then_some(Self(number))
    }

    /// That share of `whole`, rounded down.
    pub const fn of(self, whole: u64) -> u64 {
        whole / 100 * self.0 as u64 + whole % 100 * self.0 as u64 / 100
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}
