//! The compacted tail: the newest frame per key, in offset order, while a reader in mode
//! `latest` exists. What it dropped for its bound is read again from the broker's state.

use std::collections::{BTreeMap, HashMap};

use tidewire_protocol::Name;

/// Newest frames above `from`, by offset. Publications without a key count as one key.
#[derive(Debug)]
pub struct Compacted {
    from: u64,
    bytes: usize,
    by_key: HashMap<Option<Name>, u64>,
    by_offset: BTreeMap<u64, (Option<Name>, Box<[u8]>)>,
}

impl Compacted {
    /// A view that is complete for what comes after `head`.
    pub fn new(head: u64) -> Self {
        Self {
            from: head,
            bytes: 0,
            by_key: HashMap::new(),
            by_offset: BTreeMap::new(),
        }
    }

    /// The view holds every key's newest publication above this offset.
    pub const fn complete_above(&self) -> u64 {
        self.from
    }

    /// Puts the frame of a publication in place of its key's older one; beyond `bytes_max` the
    /// oldest go.
    pub fn push(&mut self, offset: u64, key: Option<&Name>, frame: &[u8], bytes_max: usize) {
        let key = key.cloned();
        if let Some(old) = self.by_key.insert(key.clone(), offset)
            && let Some((_, frame)) = self.by_offset.remove(&old)
        {
            self.bytes -= frame.len();
        }
        self.bytes += frame.len();
        self.by_offset.insert(offset, (key, frame.into()));
        while self.bytes > bytes_max && self.by_offset.len() > 1 {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((offset, (key, frame))) = self.by_offset.pop_first() {
            self.bytes -= frame.len();
            self.by_key.remove(&key);
            self.from = offset;
        }
    }

    /// Drops the frames up to and including `offset`: readers below it go to the state.
    pub fn drop_through(&mut self, offset: u64) {
        while self
            .by_offset
            .first_key_value()
            .is_some_and(|(first, _)| *first <= offset)
        {
            self.drop_first();
        }
        self.from = self.from.max(offset);
    }

    /// Bytes of frames held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames above `cursor` in rising offset order.
    pub fn after(&self, cursor: u64) -> impl Iterator<Item = (u64, &[u8])> {
        self.by_offset
            .range(cursor + 1..)
            .map(|(offset, (_, frame))| (*offset, &**frame))
    }
}
