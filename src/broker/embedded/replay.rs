//! Replay: brings the channels to where the journal ends. Called while the folder is opened, with
//! every record in log order; decides nothing that was not decided when a record was written.

use std::collections::{HashMap, VecDeque};

use tidewire_protocol::{ChannelName, Epoch, Name};

use super::{
    channel::{Channel, Kept},
    channels::Channels,
    keyed::{Entry, Keyed, NEVER},
    window::Window,
};
use crate::{
    broker::Retention,
    journal::{ChannelRecord, Journal, Place, PublicationRecord, Record, SECRET_BYTES},
};

/// Drafts are thinned when they hold this many publications of history more than kept.
const SLACK: usize = 4096;

/// What the channel's own record says, the last one read.
#[derive(Debug)]
struct Identity {
    name: ChannelName,
    epoch: Epoch,
    retention: Retention,
    record: Place,
}

/// One life while it is read. Copies made by compaction come after younger publications, and the
/// life's own record may come after its publications.
#[derive(Debug, Default)]
struct Draft {
    identity: Option<Identity>,
    head: u64,
    last_ts: u64,
    first: u64,
    state_floor: u64,
    history: Vec<(u64, Kept)>,
    history_max: usize,
    state: Keyed,
    window: Window,
}

impl Draft {
    fn publication(&mut self, record: &PublicationRecord<'_>, place: Place, now: u64) {
        self.head = self.head.max(record.offset);
        self.last_ts = self.last_ts.max(record.ts);
        if record.history {
            self.history.push((
                record.offset,
                Kept {
                    ts: record.ts,
                    place,
                },
            ));
            if self.history.len() >= self.history_max {
                self.thin();
            }
        }
        let key = record.key.map(Name::new).transpose().unwrap_or_default();
        if record.state {
            // The instant of a tombstone depends on what the channel keeps: see `finish`.
            let tombstone = record.deleted && key.is_some();
            let due = record.expires.unwrap_or(NEVER);
            self.state.put(
                record.offset,
                Entry {
                    key,
                    place,
                    due: if tombstone { record.ts } else { due },
                    tombstone,
                },
            );
        }
        self.not_kept(record.offset, record.history, record.state);
        if let Some(dedup) = record.dedup.filter(|dedup| dedup.until > now) {
            self.window.insert(&dedup, record.offset);
        }
    }

    /// A copy says that history or the state had let go of what the original still says.
    fn not_kept(&mut self, offset: u64, history: bool, state: bool) {
        if !history {
            self.first = self.first.max(offset + 1);
        }
        if !state {
            self.state.remove(offset);
        }
    }

    fn channel(&mut self, record: &ChannelRecord<'_>, place: Place) -> bool {
        let (Some(name), Ok(epoch)) = (restore(record.name), Epoch::new(record.epoch)) else {
            return false;
        };
        self.head = self.head.max(record.head);
        self.last_ts = self.last_ts.max(record.last_ts);
        self.first = self.first.max(record.first);
        self.state_floor = self.state_floor.max(record.state_floor);
        if !record.kept.state {
            self.state = Keyed::default();
        }
        self.identity = Some(Identity {
            name,
            epoch,
            retention: record.kept,
            record: place,
        });
        self.thin();
        true
    }

    /// Sorts history, keeps the last word on each offset and what may still be kept.
    fn thin(&mut self) {
        self.history.sort_by_key(|(offset, _)| *offset);
        self.history.reverse();
        self.history.sort_by_key(|(offset, _)| *offset);
        self.history.dedup_by_key(|(offset, _)| *offset);
        let size = self.identity.as_ref().map_or(usize::MAX, |identity| {
            identity.retention.history_size as usize
        });
        let surplus = self.history.len().saturating_sub(size);
        self.history.drain(..surplus);
        self.history_max = self.history.len().saturating_mul(2) + SLACK;
    }

    fn finish(mut self, life: u64) -> Option<Channel> {
        self.thin();
        let identity = self.identity?;
        let mut channel = Channel::new(identity.name, identity.epoch, life, identity.retention);
        channel.record = identity.record;
        channel.head = self.head;
        channel.last_ts = self.last_ts;
        channel.state_floor = self.state_floor;
        let mut next = self.head;
        let mut entries = VecDeque::new();
        while let Some((offset, kept)) = self.history.pop() {
            if offset != next || offset < self.first {
                break;
            }
            entries.push_front(kept);
            next -= 1;
        }
        channel.history.first = next + 1;
        channel.history.entries = entries;
        let mut state = Keyed::default();
        while let Some((offset, mut entry)) = self.state.pop() {
            if entry.tombstone {
                entry.due = entry
                    .due
                    .saturating_add(identity.retention.tombstone_ttl_ms);
            }
            state.put(offset, entry);
        }
        channel.state = (!state.is_empty()).then(|| Box::new(state));
        channel.window = (!self.window.is_empty()).then(|| Box::new(self.window));
        Some(channel)
    }
}

/// The name of a channel as it was written: presence channels may pass the limit of client names.
fn restore(text: &str) -> Option<ChannelName> {
    let presence = || {
        let of = text.strip_prefix("$presence:")?;
        ChannelName::new(of).ok().map(|name| name.presence())
    };
    ChannelName::new(text).ok().or_else(presence)
}

/// The channels while the folder is read.
#[derive(Debug)]
pub(crate) struct ChannelsReplay {
    drafts: HashMap<u64, Draft>,
    names: HashMap<ChannelName, u64>,
    next_life: u64,
    ids_until: Vec<(Place, u64)>,
    secret: Option<([u8; SECRET_BYTES], Place)>,
    now: u64,
}

impl ChannelsReplay {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            drafts: HashMap::new(),
            names: HashMap::new(),
            next_life: 1,
            ids_until: Vec::new(),
            secret: None,
            now,
        }
    }

    fn draft(&mut self, life: u64) -> &mut Draft {
        self.next_life = self.next_life.max(life + 1);
        self.drafts.entry(life).or_default()
    }

    /// Takes one record.
    pub(crate) fn apply(&mut self, place: Place, record: &Record<'_>) {
        let now = self.now;
        match record {
            Record::Publication(publication) => {
                self.draft(publication.life)
                    .publication(publication, place, now);
                if let Some(dedup) = publication.dedup {
                    self.note_ids(place, dedup.until);
                }
            }
            Record::Channel(channel) => {
                if self.draft(channel.life).channel(channel, place)
                    && let Some(name) = restore(channel.name)
                    && let Some(old) = self.names.insert(name, channel.life)
                    && old != channel.life
                {
                    self.drafts.remove(&old);
                }
            }
            Record::Dedup {
                life,
                offset,
                dedup,
            } => {
                let draft = self.draft(*life);
                draft.head = draft.head.max(*offset);
                if dedup.until > now {
                    draft.window.insert(dedup, *offset);
                }
                self.note_ids(place, dedup.until);
            }
            Record::Ended { life } => {
                if let Some(identity) = self.drafts.remove(life).and_then(|draft| draft.identity) {
                    self.names.remove(&identity.name);
                }
            }
            Record::Session { .. }
            | Record::Claim { .. }
            | Record::Extend { .. }
            | Record::Removed { .. }
            | Record::Mark { .. } => {}
            Record::Secret(secret) => self.secret = Some((*secret, place)),
        }
    }

    /// Remembers per segment until when ids in it count.
    fn note_ids(&mut self, place: Place, until: u64) {
        match self.ids_until.last_mut() {
            Some((last, latest)) if last.segment == place.segment => *latest = until.max(*latest),
            Some(_) | None => self.ids_until.push((place, until)),
        }
    }

    /// The channels as they stand, with everything that ended meanwhile dropped.
    ///
    /// # Errors
    /// There is no randomness, or the journal of a new folder cannot be written.
    pub(crate) fn finish(mut self, journal: &mut Journal) -> std::io::Result<Channels> {
        let mut channels = match self.secret {
            Some((secret, place)) => {
                journal.retain(place);
                Channels::new(secret, place)
            }
            None => Channels::begin_with_secret(journal)?,
        };
        let mut lives: Vec<u64> = self.drafts.keys().copied().collect();
        lives.sort_unstable();
        for life in lives {
            let draft = self.drafts.remove(&life);
            let Some(mut channel) = draft.and_then(|draft| draft.finish(life)) else {
                continue;
            };
            channel.retain_all(journal);
            channel.trim(self.now, usize::MAX, journal);
            if channel.purge(self.now, usize::MAX, journal) {
                channels.floors.insert(life);
            }
            channels.begin(channel);
        }
        channels.next_life = channels.next_life.max(self.next_life);
        for (place, until) in self.ids_until {
            journal.remember(place, until);
        }
        Ok(channels)
    }
}
