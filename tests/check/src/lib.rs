//! Judges what publishers and readers saw by what Tidewire promises (`GUARANTEES.md`).
//!
//! One checker for the simulator and the chaos tests: they feed it the same [`Event`]s and the
//! surviving logs, and it answers a [`Report`]. `loadtest` has a judge of numbers of its own, for
//! readers by the ten thousand. Pure: no clock, no IO, no dependency. It never looks at the product, so it cannot share its mistakes.

mod event;
mod log;
mod names;
mod reader;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::reader::{Found, Reader};
pub use self::{
    event::{Body, Channel, Client, Event, Item, Key, Mode, Position, Recovery, Session},
    log::SurvivingLog,
    names::Names,
    report::{Class, Report, Violation},
};

/// What the run was: which losses are explained by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The broker may have lost the end of its log (a failover to a replica that lagged, data
    /// gone): acknowledged publications may then be missing, and whoever saw them must be told.
    pub may_lose_tails: bool,
}

/// A publication as its publisher knows it.
#[derive(Debug)]
struct Publication {
    channel: Channel,
    acknowledged: Option<Position>,
    refused: bool,
}

/// Fed with events in order, asked once at the end.
#[derive(Debug)]
pub struct Checker {
    rules: Rules,
    fed: usize,
    report: Report,
    publications: BTreeMap<Body, Publication>,
    readers: BTreeMap<(Client, Channel), Reader>,
    /// The data at each position that anybody was told of.
    at: BTreeMap<(Channel, Arc<str>, u64), Body>,
    owners: BTreeMap<Session, (u64, u64)>,
}

impl Checker {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            fed: 0,
            report: Report::default(),
            publications: BTreeMap::new(),
            readers: BTreeMap::new(),
            at: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }

    /// The violations so far.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// From here on the broker may have lost the end of its log.
    pub const fn tails_may_be_lost(&mut self) {
        self.rules.may_lose_tails = true;
    }

    /// Takes the next event.
    pub fn feed(&mut self, event: &Event) {
        match event {
            Event::Attempted { body, channel } => {
                let publication = Publication {
                    channel: *channel,
                    acknowledged: None,
                    refused: false,
                };
                self.publications.entry(*body).or_insert(publication);
            }
            Event::Acknowledged { body, position } => {
                if let Some(publication) = self.publications.get_mut(body) {
                    publication.acknowledged = Some(position.clone());
                    let channel = publication.channel;
                    self.at(channel, position, Some(*body));
                }
            }
            Event::Refused { body } => {
                if let Some(publication) = self.publications.get_mut(body) {
                    publication.refused = true;
                }
            }
            Event::Wrote {
                session,
                attempt,
                nonce,
            } => self.wrote(*session, *attempt, *nonce),
            Event::StoreLost => self.owners.clear(),
            Event::Asked { .. }
            | Event::Left { .. }
            | Event::Forgot { .. }
            | Event::Began { .. }
            | Event::Message { .. }
            | Event::Gap { .. }
            | Event::Rewind { .. }
            | Event::Page { .. }
            | Event::Live { .. } => self.read(event),
        }
        self.fed += 1;
    }

    /// Judges the whole by what survived; channels that are not given are not judged further.
    #[must_use]
    pub fn end(mut self, logs: &BTreeMap<Channel, SurvivingLog>) -> Report {
        for (channel, log) in logs {
            self.end_log(*channel, log);
        }
        self.end_acknowledged(logs);
        let readers = std::mem::take(&mut self.readers);
        for ((client, channel), reader) in &readers {
            let Some(log) = logs.get(channel) else {
                continue;
            };
            let mut found = Found::new();
            reader.end(log, self.rules, &mut found);
            self.add(*client, *channel, found);
        }
        self.report
    }

    fn add(&mut self, client: Client, channel: Channel, found: Found) {
        for (class, text) in found {
            let text = format!("client {} channel {}: {text}", client.0, channel.0);
            self.report.add(class, self.fed, text);
        }
    }

    fn read(&mut self, event: &Event) {
        let mut found = Found::new();
        let (client, channel) = match event {
            Event::Asked {
                client,
                channel,
                mode,
                state,
            } => {
                let reader = self.readers.entry((*client, *channel));
                reader
                    .and_modify(|reader| reader.ask(*mode, *state))
                    .or_insert_with(|| Reader::new(*mode, *state));
                return;
            }
            Event::Left { client, channel } => {
                self.readers.remove(&(*client, *channel));
                return;
            }
            Event::Forgot {
                client, channel, ..
            }
            | Event::Began {
                client, channel, ..
            }
            | Event::Message {
                client, channel, ..
            }
            | Event::Gap {
                client, channel, ..
            }
            | Event::Rewind {
                client, channel, ..
            }
            | Event::Page {
                client, channel, ..
            }
            | Event::Live {
                client, channel, ..
            } => (*client, *channel),
            Event::Attempted { .. }
            | Event::Acknowledged { .. }
            | Event::Refused { .. }
            | Event::Wrote { .. }
            | Event::StoreLost => return,
        };
        self.note_data(channel, event, &mut found);
        match self.readers.get_mut(&(client, channel)) {
            Some(reader) => tell(reader, event, &mut found),
            None => found.push((Class::Foreign, format!("not subscribed: {event:?}"))),
        }
        self.add(client, channel, found);
    }

    /// Data that was read: published, in this channel, not refused, the only one at its position.
    fn note_data(&mut self, channel: Channel, event: &Event, found: &mut Found) {
        match event {
            Event::Message { position, body, .. } => {
                self.report.deliveries += 1;
                self.judge_body(channel, *body, found);
                self.at(channel, position, *body);
            }
            Event::Page { items, .. } => {
                for item in items {
                    self.judge_body(channel, item.body, found);
                    self.at(channel, &item.position, item.body);
                }
            }
            Event::Attempted { .. }
            | Event::Acknowledged { .. }
            | Event::Refused { .. }
            | Event::Asked { .. }
            | Event::Left { .. }
            | Event::Forgot { .. }
            | Event::Began { .. }
            | Event::Gap { .. }
            | Event::Rewind { .. }
            | Event::Live { .. }
            | Event::Wrote { .. }
            | Event::StoreLost => {}
        }
    }

    fn judge_body(&self, channel: Channel, body: Option<Body>, found: &mut Found) {
        let Some(body) = body else { return };
        match self.publications.get(&body) {
            None => found.push((Class::Foreign, format!("nobody published body {body}"))),
            Some(publication) if publication.channel != channel => {
                found.push((Class::Foreign, format!("body {body} is of another channel")));
            }
            Some(publication) if publication.refused => {
                found.push((Class::RefusedButRead, format!("body {body} was refused")));
            }
            Some(_) => {}
        }
    }

    fn at(&mut self, channel: Channel, position: &Position, body: Option<Body>) {
        let Some(body) = body else { return };
        let key = (channel, Arc::clone(&position.epoch), position.offset);
        let first = *self.at.entry(key).or_insert(body);
        if first != body {
            let text = format!("channel {}: {position:?} is {first} and {body}", channel.0);
            self.report.add(Class::TwoPayloads, self.fed, text);
        }
    }

    fn wrote(&mut self, session: Session, attempt: u64, nonce: u64) {
        let owner = self.owners.entry(session).or_insert((attempt, nonce));
        let is_stale = attempt < owner.0 || (attempt == owner.0 && nonce != owner.1);
        if is_stale {
            let text = format!(
                "session {}: attempt {attempt} nonce {nonce} wrote, {owner:?} owns it",
                session.0
            );
            self.report.add(Class::StaleOwner, self.fed, text);
        } else {
            *owner = (attempt, nonce);
        }
    }

    fn end_log(&mut self, channel: Channel, log: &SurvivingLog) {
        let mut seen = BTreeSet::new();
        for (offset, body) in &log.entries {
            let Some(body) = body else { continue };
            let mut found = Found::new();
            self.judge_body(channel, Some(*body), &mut found);
            if !seen.insert(*body) {
                found.push((Class::TwiceInLog, format!("body {body} again at {offset}")));
            }
            for (class, text) in found {
                let text = format!("channel {}, surviving log: {text}", channel.0);
                self.report.add(class, self.fed, text);
            }
            if let Some(epoch) = log.epoch_at(*offset) {
                self.at(channel, &Position::new(epoch, *offset), Some(*body));
            }
        }
    }

    fn end_acknowledged(&mut self, logs: &BTreeMap<Channel, SurvivingLog>) {
        for (body, publication) in &self.publications {
            let Some(position) = &publication.acknowledged else {
                continue;
            };
            let Some(log) = logs.get(&publication.channel) else {
                continue;
            };
            if is_lost(position, *body, log, self.rules) {
                let text = format!(
                    "channel {}: body {body} was acknowledged at {position:?}, the head is {} of {:?}",
                    publication.channel.0,
                    log.head,
                    log.epoch()
                );
                self.report.add(Class::LostAcknowledged, self.fed, text);
            }
        }
    }
}

/// Whether an acknowledged publication is missing and nothing explains it.
fn is_lost(position: &Position, body: Body, log: &SurvivingLog, rules: Rules) -> bool {
    let offset = position.offset;
    if log.epoch_at(offset) == Some(&*position.epoch) {
        // What expired was there, and so was what is blanked.
        let there = log.entries.get(&offset);
        return offset >= log.first && !matches!(there, Some(None)) && there != Some(&Some(body));
    }
    // A later life or generation does not hold it: the end of its log was lost.
    !rules.may_lose_tails && log.entries.values().all(|there| *there != Some(body))
}

fn tell(reader: &mut Reader, event: &Event, found: &mut Found) {
    match event {
        Event::Forgot { acknowledged, .. } => reader.forget(acknowledged.as_ref()),
        Event::Began {
            position, recovery, ..
        } => reader.began(position, *recovery, found),
        Event::Message {
            position,
            body,
            key,
            ..
        } => reader.message(position, *body, *key, found),
        Event::Gap { from, to, .. } => reader.gap(*from, *to, found),
        Event::Rewind {
            epoch, to, lost, ..
        } => reader.rewind(epoch, *to, *lost, found),
        Event::Page { items, more, .. } => reader.page(items, *more, found),
        Event::Live { offset, .. } => reader.live(*offset, found),
        Event::Attempted { .. }
        | Event::Acknowledged { .. }
        | Event::Refused { .. }
        | Event::Asked { .. }
        | Event::Left { .. }
        | Event::Wrote { .. }
        | Event::StoreLost => {}
    }
}
