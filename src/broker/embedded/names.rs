//! Which life a channel's name stands for: found by a hash for each publication, in the order of
//! names for lists and sweeps. Never knows what a life holds.

use std::{
    collections::{BTreeSet, HashMap},
    ops::RangeBounds,
};

use tidewire_protocol::ChannelName;

/// The names of all channels that have a life.
///
/// An ordered map alone would compare ten names in as many places of memory for one of 1,000.
#[derive(Debug, Default)]
pub(super) struct Names {
    lives: HashMap<ChannelName, u64>,
    order: BTreeSet<ChannelName>,
}

impl Names {
    pub(super) fn get(&self, name: &ChannelName) -> Option<u64> {
        self.lives.get(name).copied()
    }

    /// Lets a name stand for a life; answers the one it stood for.
    pub(super) fn insert(&mut self, name: ChannelName, life: u64) -> Option<u64> {
        self.order.insert(name.clone());
        self.lives.insert(name, life)
    }

    pub(super) fn remove(&mut self, name: &ChannelName) -> Option<u64> {
        self.order.remove(name);
        self.lives.remove(name)
    }

    /// In the order of names.
    pub(super) fn range(
        &self,
        range: impl RangeBounds<str>,
    ) -> impl Iterator<Item = (&ChannelName, u64)> {
        self.order
            .range::<str, _>(range)
            .filter_map(|name| Some((name, self.get(name)?)))
    }
}
