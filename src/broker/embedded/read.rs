//! Pages: chosen under the lock of `storage`, read from the journal's files outside it. Called by
//! the broker; never changes an index.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt, sync::Arc};

use tidewire_protocol::{ChannelName, Name, Publication, command::Range};

use super::{channel::Channel, channels::Channels};
use crate::{
    broker::{Head, PageLimit, StateQuery},
    journal::{Data, Journal, Place, PublicationRecord, Record, check},
};

/// Pages up to this size are read where they are asked for: the page cache answers faster than
/// another thread could be woken.
const INLINE_BYTES: usize = 32 * 1024;
/// Frames closer than this are read in one go.
const BRIDGE_BYTES: u32 = 4096;
/// Most bytes of one read.
const READ_BYTES: u32 = 1024 * 1024;

/// What is read: history shows a blanked entry without its key, the state with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    History,
    State,
}

/// A page whose bodies are still to be read.
#[derive(Debug)]
pub(super) struct Plan {
    pub head: Head,
    pub more: bool,
    view: View,
    places: Vec<Place>,
    files: BTreeMap<u32, (Arc<File>, u32)>,
}

impl Plan {
    fn new(head: Head, view: View) -> Self {
        Self {
            head,
            more: false,
            view,
            places: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    fn open(&mut self, journal: &Journal) {
        for place in &self.places {
            if !self.files.contains_key(&place.segment)
                && let Some(reader) = journal.reader(place.segment)
            {
                self.files.insert(place.segment, reader);
            }
        }
    }

    /// Takes places until the page is full; whether it is.
    fn take(&mut self, place: Place, bytes: &mut usize, limit: PageLimit) -> bool {
        let with = *bytes + place.len as usize;
        let full = self.places.len() >= limit.items.max(1) || with > limit.bytes;
        if full && !self.places.is_empty() {
            return false;
        }
        *bytes = with;
        self.places.push(place);
        true
    }

    /// Reads the bodies.
    ///
    /// # Errors
    /// The disk refused, or what it holds is damaged.
    pub(super) async fn read(self) -> io::Result<(Head, bool, Vec<Arc<Publication>>)> {
        let bytes: usize = self.places.iter().map(|place| place.len as usize).sum();
        let (head, more) = (self.head.clone(), self.more);
        let items = if bytes <= INLINE_BYTES {
            self.fetch()?
        } else {
            tokio::task::spawn_blocking(move || self.fetch())
                .await
                .map_err(io::Error::other)??
        };
        Ok((head, more, items))
    }

    fn fetch(&self) -> io::Result<Vec<Arc<Publication>>> {
        let mut items = Vec::with_capacity(self.places.len());
        let mut buf = Vec::new();
        let mut rest = &self.places[..];
        while let Some(first) = rest.first() {
            let run = run_length(rest);
            let (batch, left) = rest.split_at(run);
            rest = left;
            let last = batch[run - 1];
            let (file, salt) = self
                .files
                .get(&first.segment)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            buf.resize((last.at + last.len - first.at) as usize, 0);
            file.read_exact_at(&mut buf, u64::from(first.at))?;
            for place in batch {
                let bytes = &buf[(place.at - first.at) as usize..];
                items.push(Arc::new(decode(bytes, *salt, self.view)?));
            }
        }
        Ok(items)
    }
}

/// How many places from the first on are read together.
fn run_length(places: &[Place]) -> usize {
    let first = places[0];
    let together = |pair: &[Place]| {
        let (a, b) = (pair[0], pair[1]);
        let end = a.at + a.len;
        b.segment == a.segment
            && b.at >= end
            && b.at - end <= BRIDGE_BYTES
            && b.at + b.len - first.at <= READ_BYTES
    };
    1 + places.windows(2).take_while(|pair| together(pair)).count()
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a record is damaged")
}

fn decode(bytes: &[u8], salt: u32, view: View) -> io::Result<Publication> {
    let (kind, body, _) = check(bytes, salt).ok_or_else(damaged)?;
    match Record::read(kind, body) {
        Some(Record::Publication(record)) => publication(&record, view).ok_or_else(damaged),
        Some(_) | None => Err(damaged()),
    }
}

fn publication(record: &PublicationRecord<'_>, view: View) -> Option<Publication> {
    let name = |text: Option<&str>| match text {
        Some(text) => Name::new(text).ok().map(Some),
        None => Some(None),
    };
    let shown = view == View::State || !record.blank;
    Some(Publication {
        offset: record.offset,
        ts: record.ts,
        payload: record.data.map(Data::to_payload),
        key: name(record.key.filter(|_| shown))?,
        event: name(record.event)?,
        id: name(record.id)?,
        by: name(record.by)?,
        deleted: record.deleted,
        expires: record.expires.filter(|_| !record.blank),
    })
}

impl Channels {
    /// Chooses a page of history.
    pub(super) fn plan_history(
        &mut self,
        name: &ChannelName,
        range: Range,
        limit: PageLimit,
        journal: &mut Journal,
        now: u64,
    ) -> Plan {
        let Some(channel) = self.get_mut(name) else {
            return Plan::new(self.head_of_unknown(name), View::History);
        };
        channel.trim(now, usize::MAX, journal);
        let mut plan = history(channel, range, limit);
        plan.open(journal);
        plan
    }

    /// Chooses a page of state.
    pub(super) fn plan_state(
        &self,
        name: &ChannelName,
        query: StateQuery,
        journal: &Journal,
        now: u64,
    ) -> Plan {
        let Some(channel) = self.get(name) else {
            return Plan::new(self.head_of_unknown(name), View::State);
        };
        let mut plan = Plan::new(channel.head(), View::State);
        let entries = channel
            .state
            .iter()
            .flat_map(|state| state.from(query.from));
        let wanted = entries.filter(|(_, entry)| match entry {
            entry if entry.tombstone => query.catch_up,
            entry => entry.due > now && (query.catch_up || entry.key.is_some()),
        });
        let mut bytes = 0;
        for (_, entry) in wanted {
            if !plan.take(entry.place, &mut bytes, query.limit) {
                plan.more = true;
                break;
            }
        }
        plan.open(journal);
        plan
    }
}

fn history(channel: &Channel, range: Range, limit: PageLimit) -> Plan {
    let mut plan = Plan::new(channel.head(), View::History);
    let log = &channel.history;
    let mut bytes = 0;
    match range {
        Range::After(after) => {
            for offset in after.saturating_add(1).max(log.first)..log.end() {
                let Some(kept) = log.get(offset) else { break };
                if !plan.take(kept.place, &mut bytes, limit) {
                    plan.more = true;
                    break;
                }
            }
        }
        Range::Before(before) => {
            let end = before.unwrap_or(u64::MAX).min(log.end()).max(log.first);
            for offset in (log.first..end).rev() {
                let Some(kept) = log.get(offset) else { break };
                if !plan.take(kept.place, &mut bytes, limit) {
                    plan.more = true;
                    break;
                }
            }
            plan.places.reverse();
        }
    }
    plan
}
