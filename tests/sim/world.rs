//! What all parts of a run share: chance, the record of what happened, and the checker that is
//! told of it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidewire_check::{Checker, Event, Names, Report, Rules, SurvivingLog};
use tokio::time::Instant;

use super::random::Random;

/// When runs begin, Unix ms: any fixed moment.
pub const BEGIN_MS: u64 = 1_800_000_000_000;

/// The same number for the same value in every run.
pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The record of a run.
#[derive(Debug)]
struct Record {
    checker: Checker,
    /// Kept only where somebody wants to read it.
    trace: Option<Vec<String>>,
    /// How often interesting things happened.
    seen: BTreeMap<&'static str, u64>,
    /// Broken promises the checker does not know of.
    faults: Vec<String>,
    channels: Names,
    keys: Names,
    sessions: Names,
}

/// Shared by nodes, broker, clients and faults of one run.
#[derive(Debug)]
pub struct World {
    began: Instant,
    random: Mutex<Random>,
    record: Mutex<Record>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub report: Report,
    pub faults: Vec<String>,
    pub seen: BTreeMap<&'static str, u64>,
    pub trace: Vec<String>,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        self.report.is_clean() && self.faults.is_empty()
    }
}

impl World {
    pub fn new(seed: u64, traced: bool) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            random: Mutex::new(Random::new(seed ^ 0x5eed)),
            record: Mutex::new(Record {
                checker: Checker::new(Rules::default()),
                trace: traced.then(Vec::new),
                seen: BTreeMap::new(),
                faults: Vec::new(),
                channels: Names::default(),
                keys: Names::default(),
                sessions: Names::default(),
            }),
        })
    }

    /// Virtual time since the run began, ms.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    pub fn now_ms(&self) -> u64 {
        BEGIN_MS + self.elapsed_ms()
    }

    /// Draws; the order of draws is part of what the seed decides.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock())
    }

    pub fn millis(&self, low: u64, high: u64) -> Duration {
        self.draw(|random| random.millis(low, high))
    }

    pub fn channel(&self, name: &str) -> tidewire_check::Channel {
        tidewire_check::Channel(self.record.lock().channels.number(name))
    }

    pub fn key(&self, name: &str) -> tidewire_check::Key {
        tidewire_check::Key(self.record.lock().keys.number(name))
    }

    pub fn session(&self, id: &str) -> tidewire_check::Session {
        tidewire_check::Session(self.record.lock().sessions.number(id))
    }

    /// Tells the checker.
    pub fn feed(&self, event: &Event) {
        let at = self.elapsed_ms();
        let mut record = self.record.lock();
        if let Some(trace) = &mut record.trace {
            trace.push(format!("{at:>6}  {event:?}"));
        }
        record.checker.feed(event);
    }

    /// The broker may have lost the end of its log from here on.
    pub fn tails_may_be_lost(&self) {
        self.record.lock().checker.tails_may_be_lost();
    }

    /// Notes what happened outside of clients, for people.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let at = self.elapsed_ms();
        let mut record = self.record.lock();
        if let Some(trace) = &mut record.trace {
            let what = what();
            trace.push(format!("{at:>6}  {what}"));
        }
    }

    /// Counts an interesting state.
    pub fn saw(&self, what: &'static str) {
        *self.record.lock().seen.entry(what).or_insert(0) += 1;
    }

    /// A promise was broken that the checker does not know of.
    pub fn broken(&self, what: String) {
        self.note(|| format!("BROKEN {what}"));
        self.record.lock().faults.push(what);
    }

    /// Judges the run.
    pub fn end(&self, logs: &BTreeMap<tidewire_check::Channel, SurvivingLog>) -> Outcome {
        let mut record = self.record.lock();
        let checker = std::mem::replace(&mut record.checker, Checker::new(Rules::default()));
        Outcome {
            report: checker.end(logs),
            faults: std::mem::take(&mut record.faults),
            seen: std::mem::take(&mut record.seen),
            trace: record.trace.take().unwrap_or_default(),
        }
    }
}
