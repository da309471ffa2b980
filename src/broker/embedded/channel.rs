//! One life of one channel in memory: counter, where history stands, keyed state, dedup window.
//! Called by `publish`, `read`, `replay` and `keep`; keeps the journal's account of what is live.

use std::collections::VecDeque;

use tidewire_protocol::{ChannelName, Epoch, Position};

use super::{
    keyed::{self, Keyed},
    window::Window,
};
use crate::{
    broker::{Head, Retention},
    journal::{ChannelRecord, Dedup, Journal, Place, Record},
};

/// One publication of history: 24 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub ts: u64,
    pub place: Place,
}

/// Where history stands; consecutive offsets.
#[derive(Debug)]
pub(super) struct History {
    /// Offset of the first entry; with none, of the next publication.
    pub first: u64,
    pub entries: VecDeque<Kept>,
}

impl History {
    pub(super) fn get(&self, offset: u64) -> Option<&Kept> {
        self.entries.get(self.index(offset)?)
    }

    pub(super) fn get_mut(&mut self, offset: u64) -> Option<&mut Kept> {
        let index = self.index(offset)?;
        self.entries.get_mut(index)
    }

    fn index(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset.checked_sub(self.first)?).ok()
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// One life of a channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub name: ChannelName,
    pub epoch: Epoch,
    pub life: u64,
    pub retention: Retention,
    pub head: u64,
    pub last_ts: u64,
    /// Where the channel's own record stands.
    pub record: Place,
    pub history: History,
    pub state_floor: u64,
    pub state: Option<Box<Keyed>>,
    pub window: Option<Box<Window>>,
    pub followed: bool,
}

impl Channel {
    pub(super) fn new(name: ChannelName, epoch: Epoch, life: u64, retention: Retention) -> Self {
        Self {
            name,
            epoch,
            life,
            retention,
            head: 0,
            last_ts: 0,
            record: Place::default(),
            history: History {
                first: 1,
                entries: VecDeque::new(),
            },
            state_floor: 0,
            state: None,
            window: None,
            followed: false,
        }
    }

    pub(super) fn position(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset,
        }
    }

    pub(super) fn head(&self) -> Head {
        let first = if self.history.entries.is_empty() {
            self.head + 1
        } else {
            self.history.first
        };
        Head::of_one(self.position(self.head), first, self.state_floor)
    }

    /// Writes the channel's record as it stands, in place of the one before.
    pub(super) fn write_record(&mut self, journal: &mut Journal) {
        let place = journal.push(&Record::Channel(ChannelRecord {
            life: self.life,
            name: self.name.as_str(),
            epoch: self.epoch.as_str(),
            head: self.head,
            last_ts: self.last_ts,
            first: self.history.first,
            state_floor: self.state_floor,
            kept: self.retention,
        }));
        if self.record != Place::default() {
            journal.release(self.record);
        }
        journal.retain(place);
        self.record = place;
    }

    /// Drops what history may not keep any more: at most `most` entries.
    pub(super) fn trim(&mut self, now: u64, most: usize, journal: &mut Journal) {
        let oldest = now.saturating_sub(self.retention.history_ttl_ms);
        for _ in 0..most {
            let over = self.history.entries.len() as u64 > u64::from(self.retention.history_size);
            match self.history.entries.front() {
                Some(first) if over || first.ts < oldest => self.pop_first(journal),
                Some(_) | None => break,
            }
        }
        let (len, capacity) = (self.history.entries.len(), self.history.entries.capacity());
        if capacity > 64 && len < capacity / 4 {
            self.history.entries.shrink_to(len * 2);
        }
    }

    fn pop_first(&mut self, journal: &mut Journal) {
        let offset = self.history.first;
        if let Some(kept) = self.history.entries.pop_front() {
            self.history.first += 1;
            let in_state = self
                .state
                .as_ref()
                .is_some_and(|state| state.at(offset).is_some());
            if !in_state {
                journal.release(kept.place);
            }
        }
    }

    /// Counts an entry that left the state as dead, unless history holds it.
    pub(super) fn left_state(&mut self, left: (u64, keyed::Entry), journal: &mut Journal) {
        let (offset, entry) = left;
        if self.history.get(offset).is_none() {
            journal.release(entry.place);
        }
        if self.state.as_ref().is_some_and(|state| state.is_empty()) {
            self.state = None;
        }
    }

    /// Drops at most `most` keys and tombstones whose time is over, and the oldest tombstones
    /// past their bound; whether the floor rose.
    pub(super) fn purge(&mut self, now: u64, most: usize, journal: &mut Journal) -> bool {
        let before = self.state_floor;
        for _ in 0..most {
            let tombstones_max = self.retention.state_keys as usize;
            let Some(state) = &mut self.state else { break };
            let left = match state.pop_due(now) {
                None if state.tombstones() > tombstones_max => state.pop_tombstone(),
                left => left,
            };
            let Some(left) = left else { break };
            if left.1.tombstone {
                self.state_floor = self.state_floor.max(left.0);
            }
            self.left_state(left, journal);
        }
        self.purge_ids(now, most, journal);
        self.state_floor > before
    }

    /// Drops the entry at an offset if it expired and was not purged yet.
    pub(super) fn drop_expired(&mut self, offset: u64, now: u64, journal: &mut Journal) {
        if let Some(state) = &mut self.state
            && state
                .at(offset)
                .is_some_and(|entry| !entry.tombstone && entry.due <= now)
            && let Some(left) = state.remove(offset)
        {
            self.left_state(left, journal);
        }
    }

    fn purge_ids(&mut self, now: u64, most: usize, journal: &mut Journal) {
        if let Some(window) = &mut self.window {
            let before = window.len();
            window.purge(now, most);
            journal.count_ids(window.len(), before);
            if window.is_empty() {
                self.window = None;
            }
        }
    }

    /// Remembers the id of a publication.
    pub(super) fn remember(&mut self, dedup: &Dedup, offset: u64, journal: &mut Journal) {
        let window = self.window.get_or_insert_default();
        let before = window.len();
        window.insert(dedup, offset);
        journal.count_ids(window.len(), before);
    }

    /// Empties the state, as when the channel keeps none any more.
    pub(super) fn drop_state(&mut self, journal: &mut Journal) {
        while let Some(left) = self.state.as_mut().and_then(|state| state.pop()) {
            self.left_state(left, journal);
        }
        self.state = None;
    }

    /// Counts everything the life points at as live, after a replay.
    pub(super) fn retain_all(&self, journal: &mut Journal) {
        journal.retain(self.record);
        journal.count_ids(self.window.as_ref().map_or(0, |window| window.len()), 0);
        for kept in &self.history.entries {
            journal.retain(kept.place);
        }
        for (offset, entry) in self.state.iter().flat_map(|state| state.from(0)) {
            if self.history.get(offset).is_none() {
                journal.retain(entry.place);
            }
        }
    }

    /// Counts everything the life points at as dead.
    pub(super) fn release_all(&mut self, journal: &mut Journal) {
        while !self.history.entries.is_empty() {
            self.pop_first(journal);
        }
        self.drop_state(journal);
        journal.release(self.record);
        let ids = self.window.take().map_or(0, |window| window.len());
        journal.count_ids(0, ids);
    }

    /// Whether nobody can hold a position that matters: nothing is kept, nobody follows, and the
    /// last publication is longer ago than anything of it could live.
    pub(super) fn is_over(&self, now: u64) -> bool {
        let kept = &self.retention;
        let idle = kept
            .history_ttl_ms
            .max(if kept.state { kept.state_ttl_ms } else { 0 })
            .max(kept.dedup_ttl_ms)
            .max(kept.tombstone_ttl_ms.saturating_mul(2));
        !self.followed
            && self.history.entries.is_empty()
            && self.state.as_ref().is_none_or(|state| state.is_keyless())
            && self.window.is_none()
            && self.last_ts.saturating_add(idle) <= now
    }
}
