//! What everybody saw, fed to the checker as it happens, and the counts of the report.
//!
//! Readers and publishers write here; the run asks how far they are and, at the end, for the
//! verdict. One lock: the order of the events of one client is the order of its calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tidewire_check::{
    Body, Channel, Checker, Client, Event, Key, Names, Position, Recovery, Report, Rules,
    SurvivingLog,
};

/// Numbers of the report.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub acknowledged: u64,
    pub delivered: u64,
    pub resumes: u64,
    /// Connections that went on in a new session, for the old one was not there any more.
    pub sessions_lost: u64,
    pub gaps: u64,
    /// Those that took something back.
    pub rewinds: u64,
    pub resets: u64,
    /// Channels of readers that were told to be stale.
    pub stale: u64,
    /// Publications whose publisher was told that they will never be there.
    pub refused: u64,
    /// From the first try of a publication to its acknowledgement.
    pub longest_publish: Duration,
}

/// Shared by everything that works for one run.
pub struct Journal(Mutex<Inner>);

struct Inner {
    checker: Checker,
    channels: Names,
    keys: Names,
    counts: Counts,
    cursors: BTreeMap<(Client, Channel), Position>,
    /// Every epoch anybody was told of.
    epochs: BTreeSet<(Channel, Arc<str>)>,
    /// Where each publication goes, and when its publisher first tried.
    attempts: BTreeMap<Body, (Channel, Instant)>,
    acknowledged: BTreeSet<Body>,
    /// Since the last mark: of each channel the first position of the newest epoch.
    since_mark: BTreeMap<Channel, Position>,
    troubles: Vec<String>,
}

impl Journal {
    /// The channels are numbered as they are given.
    pub fn new(rules: Rules, channels: &[String]) -> Arc<Self> {
        let journal = Arc::new(Self(Mutex::new(Inner {
            checker: Checker::new(rules),
            channels: Names::default(),
            keys: Names::default(),
            counts: Counts::default(),
            cursors: BTreeMap::new(),
            epochs: BTreeSet::new(),
            attempts: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            since_mark: BTreeMap::new(),
            troubles: Vec::new(),
        })));
        for name in channels {
            journal.channel(name);
        }
        journal
    }

    pub fn channel(&self, name: &str) -> Channel {
        Channel(self.0.lock().unwrap().channels.number(name))
    }

    pub fn key(&self, name: &str) -> Key {
        Key(self.0.lock().unwrap().keys.number(name))
    }

    /// Takes the next thing that happened to somebody.
    pub fn feed(&self, event: &Event) {
        let mut inner = self.0.lock().unwrap();
        inner.note(event);
        inner.checker.feed(event);
    }

    /// A connection was welcomed; `resumed`: in the session it asked for. None: its first.
    pub fn welcomed(&self, resumed: Option<bool>) {
        let counts = &mut self.0.lock().unwrap().counts;
        match resumed {
            Some(true) => counts.resumes += 1,
            Some(false) => counts.sessions_lost += 1,
            None => {}
        }
    }

    /// Something that should not happen and is no event of the checker.
    pub fn trouble(&self, text: String) {
        self.0.lock().unwrap().troubles.push(text);
    }

    pub fn troubles(&self) -> Vec<String> {
        self.0.lock().unwrap().troubles.clone()
    }

    /// How many subscriptions have begun.
    pub fn following(&self) -> usize {
        self.0.lock().unwrap().cursors.len()
    }

    /// A reader was told that the node cannot reach Redis, or that it can again.
    pub fn stale(&self, begins: bool) {
        self.0.lock().unwrap().counts.stale += u64::from(begins);
    }

    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap().counts
    }

    /// From here on [`Self::lagging`] asks for what is acknowledged from here on.
    pub fn mark(&self) {
        self.0.lock().unwrap().since_mark.clear();
    }

    /// How many of the channels have nothing acknowledged since the mark, and how many readers
    /// have not seen what was.
    pub fn lagging(&self, channels: &[Channel]) -> (usize, usize) {
        let inner = self.0.lock().unwrap();
        let silent = channels
            .iter()
            .filter(|channel| !inner.since_mark.contains_key(channel))
            .count();
        let behind = inner.cursors.iter().filter(|((_, channel), cursor)| {
            let awaited = inner.since_mark.get(channel);
            awaited.is_some_and(|awaited| !has_reached(cursor, awaited))
        });
        (silent, behind.count())
    }

    /// How many readers are not at these heads.
    pub fn behind(&self, heads: &BTreeMap<Channel, Position>) -> usize {
        let inner = self.0.lock().unwrap();
        let behind = inner.cursors.iter().filter(|((_, channel), cursor)| {
            heads.get(channel).is_some_and(|head| head != *cursor)
        });
        behind.count()
    }

    /// Acknowledged publications that are not in the surviving logs.
    pub fn lost(&self, logs: &BTreeMap<Channel, SurvivingLog>) -> usize {
        let survived: BTreeSet<Body> = logs
            .values()
            .flat_map(|log| log.entries.values().flatten().copied())
            .collect();
        let inner = self.0.lock().unwrap();
        let all = inner.acknowledged.iter();
        all.filter(|body| !survived.contains(body)).count()
    }

    /// Epochs of a channel that anybody was told of.
    pub fn epochs(&self, channel: Channel) -> Vec<Arc<str>> {
        let inner = self.0.lock().unwrap();
        let all = inner.epochs.iter();
        all.filter(|(of, _)| *of == channel)
            .map(|(_, epoch)| Arc::clone(epoch))
            .collect()
    }

    /// Violations up to here.
    pub fn violations(&self) -> usize {
        let inner = self.0.lock().unwrap();
        inner.checker.report().counts.values().sum()
    }

    /// Judges everything. Nothing can be fed any more.
    pub fn verdict(&self, logs: &BTreeMap<Channel, SurvivingLog>) -> Report {
        let mut inner = self.0.lock().unwrap();
        let spent = Checker::new(Rules::default());
        std::mem::replace(&mut inner.checker, spent).end(logs)
    }
}

impl Inner {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Attempted { body, channel } => {
                self.attempts.insert(*body, (*channel, Instant::now()));
            }
            Event::Acknowledged { body, position } => self.note_acknowledged(*body, position),
            Event::Refused { .. } => self.counts.refused += 1,
            Event::Left { client, channel }
            | Event::Forgot {
                client, channel, ..
            } => {
                self.cursors.remove(&(*client, *channel));
            }
            Event::Began {
                client,
                channel,
                position,
                recovery,
            } => {
                self.counts.resets += u64::from(*recovery == Recovery::Reset);
                self.reach(*client, *channel, position.clone());
            }
            Event::Message {
                client,
                channel,
                position,
                ..
            } => {
                self.counts.delivered += 1;
                self.reach(*client, *channel, position.clone());
            }
            Event::Gap {
                client,
                channel,
                to,
                ..
            } => {
                self.counts.gaps += 1;
                if let Some(cursor) = self.cursors.get_mut(&(*client, *channel)) {
                    cursor.offset = *to;
                }
            }
            Event::Rewind {
                client,
                channel,
                epoch,
                to,
                lost,
            } => {
                self.counts.rewinds += u64::from(*lost > 0);
                let position = Position {
                    epoch: Arc::clone(epoch),
                    offset: *to,
                };
                self.reach(*client, *channel, position);
            }
            Event::Asked { .. }
            | Event::Page { .. }
            | Event::Live { .. }
            | Event::Wrote { .. }
            | Event::StoreLost => {}
        }
    }

    fn note_acknowledged(&mut self, body: Body, position: &Position) {
        self.counts.acknowledged += 1;
        self.acknowledged.insert(body);
        let Some((channel, begun)) = self.attempts.get(&body) else {
            return;
        };
        self.counts.longest_publish = self.counts.longest_publish.max(begun.elapsed());
        self.epochs.insert((*channel, Arc::clone(&position.epoch)));
        let first = self.since_mark.entry(*channel);
        let first = first.or_insert_with(|| position.clone());
        if first.epoch != position.epoch {
            *first = position.clone();
        }
    }

    fn reach(&mut self, client: Client, channel: Channel, position: Position) {
        let epoch = (channel, Arc::clone(&position.epoch));
        if !self.epochs.contains(&epoch) {
            self.epochs.insert(epoch);
        }
        self.cursors.insert((client, channel), position);
    }
}

/// Whether a cursor is there or further on, in the same epoch.
fn has_reached(cursor: &Position, awaited: &Position) -> bool {
    cursor.epoch == awaited.epoch && cursor.offset >= awaited.offset
}
