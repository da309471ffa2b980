//! Keyed state of one channel: the newest publication per key, tombstones, and the newest
//! publication without a key. Called by `Channel`; never reads or writes the journal.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidewire_protocol::Name;

use crate::journal::Place;

/// Stands for "never" among instants.
pub(super) const NEVER: u64 = u64::MAX;

/// The newest publication of a key, or the newest without one.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: Option<Name>,
    pub place: Place,
    /// When it goes: a live key's expiry, a tombstone's end; Unix ms.
    pub due: u64,
    pub tombstone: bool,
}

impl Entry {
    pub(super) const fn is_live(&self, now: u64) -> bool {
        !self.tombstone && self.due > now
    }
}

/// The state of one channel.
#[derive(Debug, Default)]
pub(super) struct Keyed {
    offsets: HashMap<Option<Name>, u64>,
    entries: BTreeMap<u64, Entry>,
    due: BTreeSet<(u64, u64)>,
    tombstones: BTreeSet<u64>,
}

impl Keyed {
    /// Live keys, expired ones that were not purged yet among them.
    pub(super) fn live_keys(&self) -> usize {
        let keyless = usize::from(self.offsets.contains_key(&None));
        self.entries.len() - self.tombstones.len() - keyless
    }

    pub(super) fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether nothing is left but the newest publication without a key.
    pub(super) fn is_keyless(&self) -> bool {
        self.entries.len() == usize::from(self.offsets.contains_key(&None))
    }

    /// The newest of a key.
    pub(super) fn get(&self, key: &Option<Name>) -> Option<(u64, &Entry)> {
        let offset = *self.offsets.get(key)?;
        Some((offset, self.entries.get(&offset)?))
    }

    /// The entry at an offset.
    pub(super) fn at(&self, offset: u64) -> Option<&Entry> {
        self.entries.get(&offset)
    }

    pub(super) fn at_mut(&mut self, offset: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&offset)
    }

    /// Entries from an offset on.
    pub(super) fn from(&self, offset: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.range(offset..).map(|(at, entry)| (*at, entry))
    }

    /// Makes `entry` the newest of its key unless the key holds a higher offset; what it replaced.
    pub(super) fn put(&mut self, offset: u64, entry: Entry) -> Option<(u64, Entry)> {
        let old = match self.offsets.get(&entry.key) {
            Some(&old) if old > offset => return None,
            Some(&old) => self.remove(old),
            None => None,
        };
        if entry.due != NEVER {
            self.due.insert((entry.due, offset));
        }
        if entry.tombstone {
            self.tombstones.insert(offset);
        }
        self.offsets.insert(entry.key.clone(), offset);
        self.entries.insert(offset, entry);
        old
    }

    /// Forgets the entry at an offset.
    pub(super) fn remove(&mut self, offset: u64) -> Option<(u64, Entry)> {
        let entry = self.entries.remove(&offset)?;
        self.due.remove(&(entry.due, offset));
        self.tombstones.remove(&offset);
        self.offsets.remove(&entry.key);
        Some((offset, entry))
    }

    /// Removes one entry whose time is over.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(u64, Entry)> {
        let &(due, offset) = self.due.first()?;
        if due > now {
            return None;
        }
        self.remove(offset)
    }

    /// Removes the oldest tombstone.
    pub(super) fn pop_tombstone(&mut self) -> Option<(u64, Entry)> {
        let &offset = self.tombstones.first()?;
        self.remove(offset)
    }

    /// Removes any entry.
    pub(super) fn pop(&mut self) -> Option<(u64, Entry)> {
        let (&offset, _) = self.entries.first_key_value()?;
        self.remove(offset)
    }
}
