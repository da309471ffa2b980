//! What the rules say of one channel, in the plainest way; the models of every broker's random tests
//! compare with it.

use std::collections::{BTreeMap, HashMap};

use tidewire_protocol::{Position, Publication, command::Guard, frame::Acknowledge};

use crate::broker::{BrokerError, Publish, Retention, contract::name};

pub(crate) const SECOND: u64 = 1000;

/// How long things live, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    pub(crate) history: u64,
    pub(crate) state: u64,
    pub(crate) tombstone: u64,
    pub(crate) dedup: u64,
}

/// What each channel keeps; changed now and then.
pub(crate) fn keeps(which: usize, lives: Lifetimes) -> Retention {
    let base = Retention {
        history_size: 6,
        history_ttl_ms: lives.history,
        state: true,
        state_keys: 3,
        state_ttl_ms: lives.state,
        tombstone_ttl_ms: lives.tombstone,
        dedup_ttl_ms: lives.dedup,
        acknowledge: Acknowledge::Log,
    };
    match which {
        0 => base,
        1 => Retention {
            history_size: 0,
            ..base
        },
        2 => Retention {
            state: false,
            ..base
        },
        _ => Retention {
            history_size: 2,
            state_keys: 1,
            ..base
        },
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) publication: Publication,
    pub(crate) due: u64,
}

/// One channel as the rules say.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) last: Option<Position>,
    pub(crate) last_ts: u64,
    pub(crate) retention: Option<Retention>,
    pub(crate) log: Vec<Publication>,
    pub(crate) state: BTreeMap<String, Entry>,
    pub(crate) keyless: Option<Entry>,
    pub(crate) ids: HashMap<u8, (u64, String, u64)>,
    pub(crate) tombstone_max: u64,
    pub(crate) followed: bool,
}

pub(crate) fn said(item: &Publish) -> String {
    format!(
        "{:?}{:?}{}{:?}",
        item.payload, item.key, item.delete, item.ttl_ms
    )
}

impl Model {
    pub(crate) fn head(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.offset)
    }

    pub(crate) fn settle(&mut self, now: u64) {
        let Some(keeps) = self.retention else { return };
        self.log
            .retain(|entry| entry.ts + keeps.history_ttl_ms >= now);
        let surplus = self.log.len().saturating_sub(keeps.history_size as usize);
        self.log.drain(..surplus);
        self.state
            .retain(|_, entry| entry.publication.deleted || entry.due > now);
        self.keyless = self.keyless.take().filter(|entry| entry.due > now);
        self.ids.retain(|_, (_, _, until)| *until > now);
    }

    /// Whether the channel may have been forgotten.
    pub(crate) fn may_be_over(&self, now: u64) -> bool {
        let tombstones_over = self.state.values().all(|entry| entry.due <= now);
        !self.followed
            && self.log.is_empty()
            && tombstones_over
            && self.ids.is_empty()
            && self.last_ts + 30 * SECOND <= now
    }

    pub(crate) fn expected(
        &self,
        item: &Publish,
        id: Option<u8>,
    ) -> Result<Option<u64>, BrokerError> {
        if let Some((offset, body, _)) = id.and_then(|id| self.ids.get(&id)) {
            return if *body == said(item) {
                Ok(Some(*offset))
            } else {
                Err(BrokerError::IdConflict)
            };
        }
        let keyed = item.key.as_ref().filter(|_| item.retention.state);
        let last = match keyed {
            Some(key) => self
                .state
                .get(key.as_str())
                .filter(|entry| !entry.publication.deleted)
                .map_or(0, |entry| entry.publication.offset),
            None => self.head(),
        };
        let holds = match &item.guard {
            None => true,
            Some(Guard::Absent) => last == 0,
            Some(Guard::At(at)) => last != 0 && at.offset == last,
        };
        if !holds {
            let epoch = tidewire_protocol::Epoch::new("any").unwrap();
            return Err(BrokerError::PreconditionFailed(Position {
                epoch,
                offset: last,
            }));
        }
        let live = self
            .state
            .values()
            .filter(|entry| !entry.publication.deleted)
            .count();
        if keyed.is_some()
            && !item.delete
            && last == 0
            && live >= item.retention.state_keys as usize
        {
            return Err(BrokerError::StateFull);
        }
        Ok(None)
    }

    pub(crate) fn apply(&mut self, item: &Publish, id: Option<u8>, position: Position, now: u64) {
        let keeps = item.retention;
        let ts = now.max(self.last_ts);
        let keyed = item.key.is_some() && keeps.state;
        let lifetime = item
            .ttl_ms
            .or((keyed && !item.delete).then_some(keeps.state_ttl_ms));
        let publication = Publication {
            offset: position.offset,
            ts,
            payload: item.payload.clone(),
            key: item.key.clone(),
            event: None,
            id: item.id.clone(),
            by: None,
            deleted: item.delete,
            expires: lifetime.map(|ttl| ts + ttl),
        };
        if !keeps.state {
            self.state.clear();
            self.keyless = None;
        }
        if let Some(id) = id {
            self.ids
                .insert(id, (position.offset, said(item), ts + keeps.dedup_ttl_ms));
        }
        if keeps.state {
            let due = publication.expires.unwrap_or(u64::MAX);
            let entry = Entry {
                publication: publication.clone(),
                due,
            };
            match &item.key {
                Some(key) => {
                    let due = if item.delete {
                        ts + keeps.tombstone_ttl_ms
                    } else {
                        due
                    };
                    if item.delete {
                        self.tombstone_max = position.offset;
                    }
                    self.state
                        .insert(key.as_str().to_owned(), Entry { due, ..entry });
                }
                None => self.keyless = Some(entry),
            }
        }
        self.log.push(publication);
        self.last = Some(position);
        self.last_ts = ts;
        self.retention = Some(keeps);
        self.settle(now);
    }

    pub(crate) fn holds(&self, offset: u64) -> bool {
        self.log.iter().any(|entry| entry.offset == offset)
    }

    pub(crate) fn blank(&mut self, offset: u64) {
        let Some(entry) = self.log.iter_mut().find(|entry| entry.offset == offset) else {
            return;
        };
        let bare = Publication {
            offset,
            ts: entry.ts,
            payload: None,
            key: None,
            event: None,
            id: None,
            by: None,
            deleted: true,
            expires: None,
        };
        *entry = bare.clone();
        let ttl = self.retention.unwrap().tombstone_ttl_ms;
        for (key, entry) in &mut self.state {
            if entry.publication.offset == offset {
                entry.due = bare.ts + ttl;
                entry.publication = Publication {
                    key: Some(name(key)),
                    ..bare.clone()
                };
                self.tombstone_max = self.tombstone_max.max(offset);
            }
        }
        if let Some(entry) = self
            .keyless
            .as_mut()
            .filter(|e| e.publication.offset == offset)
        {
            *entry = Entry {
                publication: bare,
                due: u64::MAX,
            };
        }
    }
}
