//! What one copy of the simulated Redis holds: logs, states, ids, sessions, and the generation of
//! the primary. Changed by effects, which a primary hands to its standby; never waits.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tidewire_protocol::{
    ChannelName, Epoch, Name, Payload, Position,
    command::{Guard, Range},
    frame::{Publication, StateItem},
};

use crate::{
    broker::{
        BrokerError, Head, HistoryPage, PageLimit, Publish, StatePage, StateQuery,
        lineage::{Lineage, Parts, Segment, base36},
    },
    store::{Fence, SessionId},
};

/// A session as it is stored.
#[derive(Clone, Debug)]
pub struct Record {
    pub fence: Fence,
    pub body: Bytes,
    /// The node that has its connection.
    pub node: Option<Name>,
}

/// What an id was used for: an equal body answers the first position.
type Used = (u64, Position);

/// What one generation minted.
#[derive(Clone, Debug)]
struct Minted {
    generation: String,
    /// The whole of it as clients know it, and its first offset.
    segment: Segment,
}

/// One life of a channel's log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    life: String,
    /// Oldest first.
    segments: Vec<Minted>,
    head: u64,
    entries: BTreeMap<u64, Arc<Publication>>,
    /// Newest per key, removals among them, and under no key the newest without.
    state: BTreeMap<Option<Name>, Arc<Publication>>,
    state_floor: u64,
    used: BTreeMap<(Arc<str>, Name), Used>,
}

/// One change, as it is decided on the primary.
#[derive(Clone, Debug)]
pub enum Effect {
    Generation {
        identity: u64,
        order: u64,
        text: String,
    },
    Append {
        channel: ChannelName,
        epoch: Epoch,
        publication: Arc<Publication>,
        history_size: u32,
        state: bool,
        used: Option<((Arc<str>, Name), u64)>,
    },
    /// Another life of a channel.
    Begin {
        channel: ChannelName,
        life: String,
    },
    Blank {
        channel: ChannelName,
        offset: u64,
    },
    /// The tombstones of a state are dropped.
    Forget {
        channel: ChannelName,
    },
    Session {
        id: SessionId,
        record: Option<Record>,
    },
}

/// A copy.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// The primary that last gave itself a generation.
    identity: u64,
    order: u64,
    generation: String,
    /// Differs after a flush: lives of unknown channels are others then.
    salt: u64,
    channels: BTreeMap<ChannelName, Log>,
    sessions: BTreeMap<SessionId, Record>,
}

fn publication_of(item: &Publish, offset: u64, ts: u64) -> Publication {
    Publication {
        offset,
        ts,
        payload: item.payload.clone(),
        key: item.key.clone(),
        event: item.event.clone(),
        id: item.id.clone(),
        by: item.by.clone(),
        deleted: item.delete,
        expires: item.ttl_ms.map(|ttl_ms| ts + ttl_ms),
    }
}

/// Tells bodies of one id apart.
fn fingerprint(item: &Publish) -> u64 {
    let payload: Option<&[u8]> = match &item.payload {
        Some(Payload::Json(bytes) | Payload::Bytes(bytes)) => Some(bytes),
        None => None,
    };
    super::world::hash_of(&(payload, item.key.as_ref().map(Name::as_str), item.delete))
}

impl Log {
    fn minted(&self, generation: &str, start: u64, previous: &str) -> Minted {
        let parts = Parts {
            life: &self.life,
            generation,
            start,
            previous,
        };
        Minted {
            generation: generation.to_owned(),
            segment: Segment {
                epoch: parts.epoch().unwrap(),
                start,
            },
        }
    }

    /// The log of a life that this generation begins.
    fn begun(life: String, generation: &str) -> Self {
        let mut log = Self {
            life,
            ..Self::default()
        };
        log.segments.push(log.minted(generation, 1, ""));
        log
    }

    fn epoch_at(&self, offset: u64) -> Epoch {
        let holds = |minted: &&Minted| minted.segment.start <= offset;
        let minted = self.segments.iter().rfind(holds);
        let minted = minted.unwrap_or(&self.segments[0]);
        minted.segment.epoch.clone()
    }

    fn position(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch_at(offset),
            offset,
        }
    }

    /// The segments as a primary of this generation shows them.
    fn segments_under(&self, generation: &str) -> Vec<Segment> {
        let held = self.segments.iter();
        let mut segments: Vec<_> = held.map(|minted| minted.segment.clone()).collect();
        let previous = self.segments.last();
        let previous = previous.map_or("", |last| &last.generation);
        if previous != generation {
            segments.push(self.minted(generation, self.head + 1, previous).segment);
        }
        segments
    }

    fn head(&self, generation: &str) -> Head {
        let lineage = Lineage::new(self.segments_under(generation)).unwrap();
        Head {
            position: Position {
                epoch: lineage.epoch().clone(),
                offset: self.head,
            },
            first: self.first(),
            state_floor: self.state_floor,
            lineage,
        }
    }

    fn first(&self) -> u64 {
        let first = self.entries.first_key_value();
        first.map_or(self.head + 1, |(offset, _)| *offset)
    }

    fn check(&self, item: &Publish) -> Result<(), BrokerError> {
        let last = if item.retention.state && item.key.is_some() {
            let newest = self.state.get(&item.key);
            newest
                .filter(|newest| !newest.deleted)
                .map_or(0, |newest| newest.offset)
        } else {
            self.head
        };
        let holds = match &item.guard {
            None => true,
            Some(Guard::Absent) => last == 0,
            Some(Guard::At(position)) => last != 0 && *position == self.position(last),
        };
        if holds {
            Ok(())
        } else {
            let offset = last;
            let epoch = self.epoch_at(last);
            Err(BrokerError::PreconditionFailed(Position { epoch, offset }))
        }
    }

    fn append(&mut self, epoch: &Epoch, publication: &Arc<Publication>) {
        let parts = Parts::of(epoch);
        let last = self.segments.last();
        if last.is_none_or(|last| last.generation != parts.generation) {
            let minted = self.minted(parts.generation, parts.start, parts.previous);
            self.segments.push(minted);
        }
        self.head = publication.offset;
        self.entries
            .insert(publication.offset, Arc::clone(publication));
    }

    fn blank(&mut self, offset: u64) {
        let Some(entry) = self.entries.get_mut(&offset) else {
            return;
        };
        let key = entry.key.clone();
        let blank = Publication {
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
        if let Some(newest) = self.state.get_mut(&key)
            && newest.offset == offset
        {
            *newest = Arc::new(Publication {
                key,
                ..blank.clone()
            });
        }
        *entry = Arc::new(blank);
    }

    fn forget_tombstones(&mut self) {
        let is_tombstone =
            |key: &Option<Name>, newest: &Publication| key.is_some() && newest.deleted;
        for (key, newest) in &self.state {
            if is_tombstone(key, newest) {
                self.state_floor = self.state_floor.max(newest.offset);
            }
        }
        self.state.retain(|key, newest| !is_tombstone(key, newest));
    }
}

/// Takes items until the page is full; whether there are more.
fn fill<T>(items: impl Iterator<Item = T>, limit: PageLimit) -> (Vec<T>, bool) {
    let mut items = items.peekable();
    let mut page = Vec::new();
    while page.len() < limit.items.max(1)
        && let Some(item) = items.next()
    {
        page.push(item);
    }
    (page, items.peek().is_some())
}

impl Data {
    /// Data of which nothing is left; lives of unknown channels are others for another salt.
    pub fn empty(salt: u64) -> Self {
        Self {
            salt,
            ..Self::default()
        }
    }

    /// What the server `identity` has to do first: become a generation, if it is not.
    pub fn handshake(&self, identity: u64, now_ms: u64) -> Option<Effect> {
        if self.identity == identity {
            return None;
        }
        let order = now_ms.max(self.order + 1);
        let text = format!("{:0>8}{:04x}", base36(order), identity & 0xffff);
        Some(Effect::Generation {
            identity,
            order,
            text,
        })
    }

    fn unknown(&self, channel: &ChannelName) -> Log {
        let life = super::world::hash_of(&(self.salt, channel.as_str())) & 0xff_ffff_ffff;
        Log::begun(format!("{life:010x}"), &self.generation)
    }

    pub fn head(&self, channel: &ChannelName) -> Head {
        match self.channels.get(channel) {
            Some(log) => log.head(&self.generation),
            None => self.unknown(channel).head(&self.generation),
        }
    }

    /// Decides a publication.
    pub fn publish(&self, item: &Publish, now_ms: u64) -> Result<Decided, BrokerError> {
        let unknown;
        let log = match self.channels.get(&item.channel) {
            Some(log) => log,
            None => {
                unknown = self.unknown(&item.channel);
                &unknown
            }
        };
        let id = item
            .id
            .as_ref()
            .map(|id| (Arc::clone(&item.publisher), id.clone()));
        if let Some((print, first)) = id.as_ref().and_then(|id| log.used.get(id)) {
            return if *print == fingerprint(item) {
                Ok(Decided::Duplicate(first.clone()))
            } else {
                Err(BrokerError::IdConflict)
            };
        }
        log.check(item)?;
        let position = Position {
            epoch: log.head(&self.generation).position.epoch,
            offset: log.head + 1,
        };
        let publication = Arc::new(publication_of(item, position.offset, now_ms));
        let effect = Effect::Append {
            channel: item.channel.clone(),
            epoch: position.epoch.clone(),
            publication: Arc::clone(&publication),
            history_size: item.retention.history_size,
            state: item.retention.state,
            used: id.map(|id| (id, fingerprint(item))),
        };
        Ok(Decided::Append(effect, position, publication))
    }

    pub fn history(&self, channel: &ChannelName, range: Range, limit: PageLimit) -> HistoryPage {
        let head = self.head(channel);
        let none = BTreeMap::new();
        let log = self.channels.get(channel);
        let entries = log.map_or(&none, |log| &log.entries);
        let (items, more) = match range {
            Range::After(after) => {
                let items = entries.range(after.saturating_add(1)..);
                fill(items.map(|(_, item)| Arc::clone(item)), limit)
            }
            Range::Before(before) => {
                let items = entries.range(..before.unwrap_or(u64::MAX)).rev();
                let (mut items, more) = fill(items.map(|(_, item)| Arc::clone(item)), limit);
                items.reverse();
                (items, more)
            }
        };
        HistoryPage { head, items, more }
    }

    pub fn state(&self, channel: &ChannelName, query: StateQuery, now_ms: u64) -> StatePage {
        let head = self.head(channel);
        let Some(log) = self.channels.get(channel) else {
            let items = Vec::new();
            return StatePage {
                head,
                items,
                more: false,
            };
        };
        let mut found: Vec<_> = log
            .state
            .iter()
            .filter(|(key, newest)| {
                let lives = newest.expires.is_none_or(|expires| expires > now_ms);
                let wanted = query.catch_up || (key.is_some() && !newest.deleted);
                newest.offset >= query.from && lives && wanted
            })
            .map(|(_, newest)| StateItem {
                epoch: log.epoch_at(newest.offset),
                publication: Arc::clone(newest),
            })
            .collect();
        found.sort_by_key(|item| item.publication.offset);
        let (items, more) = fill(found.into_iter(), query.limit);
        StatePage { head, items, more }
    }

    pub fn channels(&self, prefix: &str, after: Option<&str>) -> Vec<(ChannelName, Head)> {
        let wanted = |name: &&ChannelName| {
            name.as_str().starts_with(prefix) && after.is_none_or(|after| name.as_str() > after)
        };
        self.channels
            .keys()
            .filter(wanted)
            .map(|name| (name.clone(), self.head(name)))
            .collect()
    }

    pub fn holds(&self, channel: &ChannelName, offset: u64) -> bool {
        let log = self.channels.get(channel);
        log.is_some_and(|log| log.entries.contains_key(&offset))
    }

    pub fn session(&self, id: &SessionId) -> Option<&Record> {
        self.sessions.get(id)
    }

    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Generation {
                identity,
                order,
                text,
            } => {
                (self.identity, self.order) = (*identity, *order);
                self.generation.clone_from(text);
            }
            Effect::Append {
                channel,
                epoch,
                publication,
                history_size,
                state,
                used,
            } => {
                if !self.channels.contains_key(channel) {
                    let segments = Vec::new();
                    let log = Log {
                        segments,
                        ..self.unknown(channel)
                    };
                    self.channels.insert(channel.clone(), log);
                }
                let Some(log) = self.channels.get_mut(channel) else {
                    return;
                };
                log.append(epoch, publication);
                while log.entries.len() > *history_size as usize {
                    log.entries.pop_first();
                }
                if *state {
                    log.state
                        .insert(publication.key.clone(), Arc::clone(publication));
                }
                if let Some((id, print)) = used {
                    let position = log.position(publication.offset);
                    log.used.insert(id.clone(), (*print, position));
                }
            }
            Effect::Begin { channel, life } => {
                let log = Log::begun(life.clone(), &self.generation);
                self.channels.insert(channel.clone(), log);
            }
            Effect::Blank { channel, offset } => {
                if let Some(log) = self.channels.get_mut(channel) {
                    log.blank(*offset);
                }
            }
            Effect::Forget { channel } => {
                if let Some(log) = self.channels.get_mut(channel) {
                    log.forget_tombstones();
                }
            }
            Effect::Session { id, record } => match record {
                Some(record) => {
                    self.sessions.insert(id.clone(), record.clone());
                }
                None => {
                    self.sessions.remove(id);
                }
            },
        }
    }

    /// The values of a state, for the checker: key, offset, data.
    pub fn values(&self, channel: &ChannelName) -> Vec<(Name, Arc<Publication>)> {
        let log = self.channels.get(channel);
        let values = log.into_iter().flat_map(|log| &log.state);
        values
            .filter_map(|(key, newest)| Some((key.clone()?, Arc::clone(newest))))
            .filter(|(_, newest)| !newest.deleted)
            .collect()
    }
}

/// What becomes of a publication.
#[derive(Debug)]
pub enum Decided {
    Append(Effect, Position, Arc<Publication>),
    Duplicate(Position),
}
