//! Channels whose broker answered with less than somebody has seen of them: it may be a primary
//! that others have left.
//!
//! Says for how long such an answer is not believed. Never asks anybody itself.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tidewire_protocol::ChannelName;

/// How long: a Sentinel or a cluster has agreed on a primary by then, and whoever still has
/// nothing newer is what there is.
const DISTRUST_MS: u64 = 10_000;
/// When an answer is news again. Clients that come back with an epoch nobody knows must not hold a
/// channel up for good.
const MEMORY_MS: u64 = 60_000;
/// Most channels remembered; past it the oldest is forgotten, and gets its time again.
const CHANNELS_MAX: usize = 4_096;

/// Since when each channel's answers are doubtful, Unix ms.
#[derive(Debug, Default)]
pub struct Distrust(Mutex<BTreeMap<ChannelName, u64>>);

impl Distrust {
    /// An answer for this channel was older than what is known. True: it is not to be believed
    /// yet.
    pub fn suspect(&self, channel: &ChannelName, now_ms: u64) -> bool {
        let mut since = self.0.lock();
        let age_ms = (since.get(channel)).map_or(u64::MAX, |since| now_ms.saturating_sub(*since));
        if age_ms > MEMORY_MS {
            if since.len() >= CHANNELS_MAX {
                let oldest = since.iter().min_by_key(|(_, since)| **since);
                let oldest = oldest.map(|(name, _)| name.clone());
                oldest.and_then(|name| since.remove(&name));
            }
            since.insert(channel.clone(), now_ms);
            return true;
        }
        age_ms < DISTRUST_MS
    }

    /// An answer for this channel was as new as what is known.
    pub fn trust(&self, channel: &ChannelName) {
        let mut since = self.0.lock();
        if !since.is_empty() {
            since.remove(channel);
        }
    }
}
