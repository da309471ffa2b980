//! What readers of a channel were told of what they missed.
//!
//! Owns the counts alone; `gateway` adds to them when a mark has left, operators read them.

use std::sync::atomic::{AtomicU32, Ordering};

/// What readers were told of what they missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Holes.
    pub gaps: u32,
    /// Logs that lost what they had seen.
    pub rewinds: u32,
}

impl Told {
    /// Nothing.
    pub const fn nothing() -> Self {
        Self {
            gaps: 0,
            rewinds: 0,
        }
    }

    /// Adds what left for the client.
    pub fn add(&mut self, gap: bool, rewind: bool) {
        self.gaps = self.gaps.saturating_add(u32::from(gap));
        self.rewinds = self.rewinds.saturating_add(u32::from(rewind));
    }
}

/// The same as it grows, under no lock.
#[derive(Debug, Default)]
pub(super) struct Tally {
    gaps: AtomicU32,
    rewinds: AtomicU32,
}

impl Tally {
    pub(super) fn add(&self, gap: bool, rewind: bool) {
        self.gaps.fetch_add(u32::from(gap), Ordering::Relaxed);
        self.rewinds.fetch_add(u32::from(rewind), Ordering::Relaxed);
    }

    pub(super) fn told(&self) -> Told {
        Told {
            gaps: self.gaps.load(Ordering::Relaxed),
            rewinds: self.rewinds.load(Ordering::Relaxed),
        }
    }
}
