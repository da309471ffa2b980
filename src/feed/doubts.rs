//! Which followed channels are to be compared with the broker, and since when it is out of reach.
//!
//! Filled by announcements (possibly under the broker's lock, so nothing here waits), emptied by
//! `repair`. In name order, so that what is compared when does not depend on chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use parking_lot::Mutex;
use tidewire_protocol::ChannelName;
use tokio::sync::{Notify, watch};

use crate::telemetry::labels::RepairCause;

/// The channels in doubt. At most as many as are followed, each once.
#[derive(Debug)]
pub struct Doubts {
    inner: Mutex<Inner>,
    /// Told when there is something to compare.
    told: Notify,
    /// Told when the broker is in reach again.
    reached: Notify,
    stale: watch::Sender<Option<u64>>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<ChannelName, RepairCause>,
    /// Where the next batch begins, so that no channel waits behind those that fail.
    after: Option<ChannelName>,
    /// Whether the broker is out of reach.
    is_lost: bool,
    /// What must be compared before what clients see counts as fresh again.
    owed: BTreeSet<ChannelName>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            told: Notify::new(),
            reached: Notify::new(),
            stale: watch::Sender::new(None),
        }
    }
}

impl Doubts {
    /// Doubts channels.
    pub fn add(&self, channels: impl IntoIterator<Item = ChannelName>, cause: RepairCause) {
        let mut inner = self.inner.lock();
        for channel in channels {
            inner.waiting.entry(channel).or_insert(cause);
        }
        drop(inner);
        self.told.notify_one();
    }

    /// Since when what clients see may be old, Unix ms; none: it is fresh.
    pub fn stale(&self) -> watch::Receiver<Option<u64>> {
        self.stale.subscribe()
    }

    /// As above, at this moment.
    pub fn stale_since(&self) -> Option<u64> {
        *self.stale.borrow()
    }

    /// Whether the broker is out of reach.
    pub fn is_lost(&self) -> bool {
        self.inner.lock().is_lost
    }

    /// The broker is out of reach.
    pub fn lose(&self, since_ms: u64) {
        self.inner.lock().is_lost = true;
        self.stale.send_if_modified(|stale| {
            let is_news = stale.is_none();
            stale.get_or_insert(since_ms);
            is_news
        });
    }

    /// The broker answers again; all that is followed is compared before that is told.
    pub fn regain(&self, followed: &[ChannelName]) {
        let mut inner = self.inner.lock();
        if !std::mem::take(&mut inner.is_lost) {
            return;
        }
        inner.owed = followed.iter().cloned().collect();
        for channel in followed {
            inner
                .waiting
                .entry(channel.clone())
                .or_insert(RepairCause::Doubt);
        }
        drop(inner);
        self.reached.notify_one();
        self.told.notify_one();
        self.end_stale();
    }

    /// Takes channels to compare, the next in name order.
    pub fn take(&self, count: usize) -> Vec<(ChannelName, RepairCause)> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::new();
        while taken.len() < count {
            let next = inner.after.as_ref().and_then(|after| {
                let above = (Bound::Excluded(after), Bound::Unbounded);
                inner.waiting.range::<ChannelName, _>(above).next()
            });
            let Some((name, _)) = next.or_else(|| inner.waiting.first_key_value()) else {
                break;
            };
            let name = name.clone();
            if let Some(cause) = inner.waiting.remove(&name) {
                inner.after = Some(name.clone());
                taken.push((name, cause));
            }
        }
        taken
    }

    /// The channels were compared, or are followed no longer; `again` are to be compared again.
    pub fn compared(
        &self,
        taken: &[(ChannelName, RepairCause)],
        again: impl Fn(&ChannelName) -> bool,
    ) {
        let mut inner = self.inner.lock();
        for (name, cause) in taken {
            if again(name) {
                inner.waiting.entry(name.clone()).or_insert(*cause);
            }
            if !inner.waiting.contains_key(name) {
                inner.owed.remove(name);
            }
        }
        drop(inner);
        self.end_stale();
    }

    fn end_stale(&self) {
        let inner = self.inner.lock();
        let is_fresh = !inner.is_lost && inner.owed.is_empty();
        if is_fresh {
            self.stale.send_if_modified(|stale| stale.take().is_some());
        }
    }

    /// Waits until there may be something to take.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    /// Waits until the broker is in reach again.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }
}
