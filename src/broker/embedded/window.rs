//! The dedup window of one channel: publication ids with the position they got. Called by
//! `Channel`; keeps hashes only, never names.

use std::collections::{HashMap, VecDeque};

use crate::{
    broker::{Publish, fingerprint::Fingerprint},
    journal::Dedup,
};

/// Most ids a channel remembers; past it the oldest go early. At the window's 5 minutes this is
/// 3,500 publications with an id a second, and about 100 MiB.
pub(super) const IDS_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
struct Seen {
    offset: u64,
    body: [u8; 16],
    until: u64,
}

/// What the window says of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    No,
    /// Published at this offset with the same body.
    Same(u64),
    Other,
}

/// The ids of one channel.
#[derive(Debug, Default)]
pub(super) struct Window {
    seen: HashMap<[u8; 16], Seen>,
    order: VecDeque<(u64, [u8; 16])>,
}

impl Window {
    pub(super) fn look_up(&self, dedup: &Dedup, now: u64) -> Known {
        match self.seen.get(&dedup.id) {
            Some(seen) if seen.until > now && seen.body == dedup.body => Known::Same(seen.offset),
            Some(seen) if seen.until > now => Known::Other,
            Some(_) | None => Known::No,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn insert(&mut self, dedup: &Dedup, offset: u64) {
        let seen = Seen {
            offset,
            body: dedup.body,
            until: dedup.until,
        };
        let newer = self
            .seen
            .get(&dedup.id)
            .is_none_or(|old| old.offset < offset);
        if newer {
            self.seen.insert(dedup.id, seen);
            self.order.push_back((dedup.until, dedup.id));
        }
        while self.order.len() > IDS_MAX {
            self.pop();
        }
    }

    /// Whether the id's entry is the one made at `offset` and lives.
    pub(super) fn holds(&self, dedup: &Dedup, offset: u64, now: u64) -> bool {
        self.seen
            .get(&dedup.id)
            .is_some_and(|seen| seen.offset == offset && seen.until > now)
    }

    fn pop(&mut self) {
        if let Some((until, id)) = self.order.pop_front()
            && self.seen.get(&id).is_some_and(|seen| seen.until == until)
        {
            self.seen.remove(&id);
        }
    }

    /// Forgets at most `most` ids whose time is over.
    pub(super) fn purge(&mut self, now: u64, most: usize) {
        for _ in 0..most {
            match self.order.front() {
                Some((until, _)) if *until <= now => self.pop(),
                Some(_) | None => break,
            }
        }
        if self.order.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// The window's entry for a publication with an id; `until` is filled in when it is made.
pub(super) fn dedup_of(publish: &Publish) -> Option<Dedup> {
    let Fingerprint { id, body } = Fingerprint::of(publish)?;
    Some(Dedup { id, body, until: 0 })
}
