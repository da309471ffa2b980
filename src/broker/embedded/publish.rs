//! The atomic step of a publication, and the two that rewrite a log: blank and delete. Runs under
//! the lock of `storage`; the caller begins and commits the journal's batch.

use std::{collections::BTreeSet, sync::Arc};

use tidewire_protocol::{
    ChannelName, Publication, command::Guard, frame::Acknowledge, limits::INTEGER_MAX,
};

use super::{
    channel::{Channel, Kept},
    channels::{Channels, fresh_epoch},
    keyed::{Entry, NEVER},
    window::Known,
};
use crate::{
    broker::{BrokerError, Head, Publish, Published},
    journal::{BODY_BYTES_MAX, Data, Dedup, Journal, Place, PublicationRecord, Record},
    storage::Event,
};

/// Most expired keys, tombstones and ids one publication clears away, so that its time is bounded;
/// the sweep does the rest.
const PURGE: usize = 16;
/// The same where the state seems full: an expired key must not keep a new one out.
const PURGE_FULL: usize = 1024;
/// Most bytes of a record besides its data: names, hashes, numbers.
const RECORD_BYTES: usize = 4096;

/// What a step works on.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub channels: &'a mut Channels,
    pub journal: &'a mut Journal,
    pub events: &'a mut Vec<Event>,
    /// Unix ms.
    pub now: u64,
}

impl Step<'_> {
    /// Publishes one item.
    pub(super) fn publish(
        &mut self,
        item: &Publish,
        dedup: Option<Dedup>,
    ) -> Result<Published, BrokerError> {
        if item
            .payload
            .as_ref()
            .map_or(0, tidewire_protocol::Payload::len)
            + RECORD_BYTES
            > BODY_BYTES_MAX
        {
            return Err(BrokerError::Unavailable);
        }
        let now = self.now;
        let known = self.channels.names.get(&item.channel);
        let channel = match known {
            Some(life) => {
                let channel = self.channels.lives.get_mut(&life);
                let channel = channel.ok_or(BrokerError::Unavailable)?;
                purge(channel, &mut self.channels.floors, item, now, self.journal);
                if let Some(first) = check(channel, item, dedup.as_ref(), now)? {
                    return Ok(first);
                }
                channel
            }
            None => {
                self.check_unknown(item)?;
                begin(self.channels, item)
            }
        };
        if channel.retention != item.retention || channel.record == Place::default() {
            channel.retention = item.retention;
            if !item.retention.state {
                channel.drop_state(self.journal);
            }
            channel.write_record(self.journal);
        }
        let publication = append(channel, item, dedup, self.journal, now);
        let position = channel.position(publication.offset);
        if channel.followed {
            self.events.push(Event::Append {
                channel: channel.name.clone(),
                epoch: channel.epoch.clone(),
                publication: Arc::new(publication),
                trace: item.trace,
            });
        }
        Ok(Published {
            position,
            duplicate: false,
            acknowledged: Acknowledge::Log,
        })
    }

    fn check_unknown(&self, item: &Publish) -> Result<(), BrokerError> {
        if let Some(Guard::At(_)) = item.guard {
            let head = self.channels.head_of_unknown(&item.channel);
            return Err(BrokerError::PreconditionFailed(head.position));
        }
        let adds_key = item.retention.state && item.key.is_some() && !item.delete;
        if adds_key && item.retention.state_keys == 0 {
            return Err(BrokerError::StateFull);
        }
        Ok(())
    }

    /// Ends a channel's life and begins the next.
    pub(super) fn delete(&mut self, name: &ChannelName) -> Result<Head, BrokerError> {
        let Some(retention) = self.channels.get(name).map(|channel| channel.retention) else {
            return Ok(self.channels.head_of_unknown(name));
        };
        let epoch = fresh_epoch().map_err(|error| {
            tracing::error!(%error, "no randomness for an epoch");
            BrokerError::Unavailable
        })?;
        let mut next = Channel::new(name.clone(), epoch, self.channels.next_life, retention);
        next.last_ts = self.now;
        if let Some(old) = self.channels.end(name, self.journal) {
            next.followed = old.followed;
            next.last_ts = next.last_ts.max(old.last_ts);
        }
        let life = next.life;
        self.channels.begin(next);
        let channel = self.channels.life_mut(life);
        channel.write_record(self.journal);
        let head = channel.head();
        if channel.followed {
            self.events.push(Event::Reset {
                channel: name.clone(),
                head: head.clone(),
            });
        }
        Ok(head)
    }

    /// Blanks an entry of history. A key whose newest it was is left with a tombstone.
    pub(super) fn blank(&mut self, name: &ChannelName, offset: u64) -> Result<(), BrokerError> {
        let now = self.now;
        let channel = self.channels.get_mut(name).ok_or(BrokerError::Gone)?;
        channel.trim(now, usize::MAX, self.journal);
        let Some(&old) = channel.history.get(offset) else {
            return Err(BrokerError::Gone);
        };
        channel.drop_expired(offset, now, self.journal);
        let entry = channel.state.as_ref().and_then(|state| state.at(offset));
        let key = entry.and_then(|entry| entry.key.clone());
        let due = match key {
            Some(_) => old.ts.saturating_add(channel.retention.tombstone_ttl_ms),
            None => NEVER,
        };
        let in_state = entry.is_some();
        let place = self.journal.push(&Record::Publication(PublicationRecord {
            life: channel.life,
            offset,
            ts: old.ts,
            history: true,
            state: in_state,
            deleted: true,
            blank: true,
            key: key.as_ref().map(tidewire_protocol::Name::as_str),
            ..PublicationRecord::default()
        }));
        self.journal.release(old.place);
        self.journal.retain(place);
        if let Some(kept) = channel.history.get_mut(offset) {
            kept.place = place;
        }
        if in_state && let Some(state) = &mut channel.state {
            let tombstone = key.is_some();
            state.put(
                offset,
                Entry {
                    key,
                    place,
                    due,
                    tombstone,
                },
            );
        }
        if channel.followed {
            self.events.push(Event::Blank {
                channel: name.clone(),
                offset,
            });
        }
        Ok(())
    }
}

/// Clears away what expired; notes a channel whose state floor rose.
fn purge(
    channel: &mut Channel,
    floors: &mut BTreeSet<u64>,
    item: &Publish,
    now: u64,
    journal: &mut Journal,
) {
    let live = channel.state.as_ref().map_or(0, |state| state.live_keys());
    let full = live >= item.retention.state_keys as usize;
    let most = if full { PURGE_FULL } else { PURGE };
    if channel.purge(now, most, journal) {
        floors.insert(channel.life);
    }
}

/// Begins the life of a channel nobody published to.
fn begin<'a>(channels: &'a mut Channels, item: &Publish) -> &'a mut Channel {
    let (name, life) = (item.channel.clone(), channels.next_life);
    let epoch = channels.epoch_of_unknown(&name);
    channels.begin(Channel::new(name, epoch, life, item.retention));
    channels.life_mut(life)
}

/// The checks of a publication in their order: id, guard, room in the state.
fn check(
    channel: &Channel,
    item: &Publish,
    dedup: Option<&Dedup>,
    now: u64,
) -> Result<Option<Published>, BrokerError> {
    if let (Some(window), Some(dedup)) = (&channel.window, dedup) {
        match window.look_up(dedup, now) {
            Known::Same(offset) => {
                return Ok(Some(Published {
                    position: channel.position(offset),
                    duplicate: true,
                    acknowledged: Acknowledge::Log,
                }));
            }
            Known::Other => return Err(BrokerError::IdConflict),
            Known::No => {}
        }
    }
    let keyed = item.retention.state && item.key.is_some();
    let last = if keyed {
        let entry = channel
            .state
            .as_ref()
            .and_then(|state| state.get(&item.key));
        entry
            .filter(|(_, entry)| entry.is_live(now))
            .map_or(0, |(offset, _)| offset)
    } else {
        channel.head
    };
    let holds = match &item.guard {
        None => true,
        Some(Guard::Absent) => last == 0,
        Some(Guard::At(position)) => *position == channel.position(last) && last != 0,
    };
    if !holds {
        return Err(BrokerError::PreconditionFailed(channel.position(last)));
    }
    let live = channel.state.as_ref().map_or(0, |state| state.live_keys());
    if keyed && !item.delete && last == 0 && live >= item.retention.state_keys as usize {
        return Err(BrokerError::StateFull);
    }
    Ok(None)
}

/// Mints the offset, writes the record and brings the index up to it.
fn append(
    channel: &mut Channel,
    item: &Publish,
    dedup: Option<Dedup>,
    journal: &mut Journal,
    now: u64,
) -> Publication {
    let keeps = &item.retention;
    let ts = now.max(channel.last_ts);
    let keyed = keeps.state && item.key.is_some();
    let lifetime = item
        .ttl_ms
        .or_else(|| (keyed && !item.delete).then_some(keeps.state_ttl_ms));
    let expires = lifetime.map(|ttl| ts.saturating_add(ttl).min(INTEGER_MAX));
    let dedup = dedup.map(|dedup| Dedup {
        until: ts.saturating_add(keeps.dedup_ttl_ms),
        ..dedup
    });
    let publication = Publication {
        offset: channel.head + 1,
        ts,
        payload: item.payload.clone(),
        key: item.key.clone(),
        event: item.event.clone(),
        id: item.id.clone(),
        by: item.by.clone(),
        deleted: item.delete,
        expires,
    };
    channel.head = publication.offset;
    channel.last_ts = ts;
    let place = write(channel, &publication, dedup, journal);
    index(channel, &publication, place, journal);
    if let Some(dedup) = dedup {
        journal.remember(place, dedup.until);
        channel.remember(&dedup, publication.offset, journal);
    }
    channel.trim(now, usize::MAX, journal);
    publication
}

fn write(
    channel: &Channel,
    publication: &Publication,
    dedup: Option<Dedup>,
    journal: &mut Journal,
) -> Place {
    let (history, state) = (channel.retention.history_size > 0, channel.retention.state);
    let mut record = PublicationRecord {
        life: channel.life,
        offset: publication.offset,
        ts: publication.ts,
        dedup,
        ..PublicationRecord::default()
    };
    if history || state {
        record = PublicationRecord {
            history,
            state,
            deleted: publication.deleted,
            expires: publication.expires,
            key: publication
                .key
                .as_ref()
                .map(tidewire_protocol::Name::as_str),
            event: publication
                .event
                .as_ref()
                .map(tidewire_protocol::Name::as_str),
            id: publication.id.as_ref().map(tidewire_protocol::Name::as_str),
            by: publication.by.as_ref().map(tidewire_protocol::Name::as_str),
            data: publication.payload.as_ref().map(Data::from),
            ..record
        };
    }
    journal.push(&Record::Publication(record))
}

fn index(channel: &mut Channel, publication: &Publication, place: Place, journal: &mut Journal) {
    let offset = publication.offset;
    let (history, state) = (channel.retention.history_size > 0, channel.retention.state);
    if !history {
        channel.trim(0, usize::MAX, journal);
        channel.history.first = offset + 1;
    } else {
        channel.history.entries.push_back(Kept {
            ts: publication.ts,
            place,
        });
    }
    if history || state {
        journal.retain(place);
    }
    if !state {
        return;
    }
    let tombstone = publication.deleted && publication.key.is_some();
    let due = if tombstone {
        publication
            .ts
            .saturating_add(channel.retention.tombstone_ttl_ms)
    } else {
        publication.expires.unwrap_or(NEVER)
    };
    let entry = Entry {
        key: publication.key.clone(),
        place,
        due,
        tombstone,
    };
    let old = channel.state.get_or_insert_default().put(offset, entry);
    if let Some(old) = old {
        channel.left_state(old, journal);
    }
}
