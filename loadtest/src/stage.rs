//! What a scenario plays on: the hub, the clock, the counters and the accounts of all readers.
//!
//! Made by `run` for each scenario, shared by all its tasks. It starts no load itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    hub::{
        Hub,
        usage::{self, Usage},
    },
    judge::{Follower, Ledger, Rule},
    message::Stamp,
    meter::{Clock, Meter},
};

/// Failures kept in words; past them they are only counted.
const FAILURES_MAX: usize = 20;
/// Between the last connection and the first message: publishers connect in it.
const HEADSTART: Duration = Duration::from_millis(500);
/// How often it is asked whether everybody has everything.
const POLL: Duration = Duration::from_millis(50);

/// A figure of the scenario's own.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `s`, `bytes`, `µs` …
    pub unit: &'static str,
}

/// Something that was done to the hub, for the plots.
#[derive(Debug, Clone, Serialize)]
pub struct Mark {
    /// Seconds since the run began.
    pub at_s: f64,
    /// What.
    pub what: String,
}

/// One run's common ground.
#[derive(Debug)]
pub struct Stage {
    /// What is under load.
    pub hub: Hub,
    /// Both ends of every latency.
    pub clock: Clock,
    /// Counts and latencies.
    pub meter: Meter,
    /// What was published.
    pub ledger: Ledger,
    /// Names the run in channels, so that a hub that lives on holds nothing of another.
    pub run: String,
    followers: Mutex<Vec<Arc<Mutex<Follower>>>>,
    findings: Mutex<Vec<Finding>>,
    marks: Mutex<Vec<Mark>>,
    failures: Mutex<(u64, Vec<String>)>,
    /// What the nodes had used when the load began.
    before: Mutex<Usage>,
    /// Readers in other processes, what they were owed and what they lack.
    elsewhere: Mutex<(usize, u64, u64)>,
    /// What other processes of the tool use.
    helpers: Mutex<Usage>,
    tasks: Mutex<JoinSet<()>>,
    enough: AtomicBool,
    over: AtomicBool,
}

impl Stage {
    /// A stage with an empty audience.
    pub fn new(hub: Hub, streams: usize, run: String) -> Arc<Self> {
        Self::with(Clock::start(), hub, Ledger::new(streams), run)
    }

    /// A part of a stage, under the clock of the whole.
    pub fn with(clock: Clock, hub: Hub, ledger: Ledger, run: String) -> Arc<Self> {
        Arc::new(Self {
            hub,
            clock,
            meter: Meter::default(),
            ledger,
            run,
            elsewhere: Mutex::default(),
            helpers: Mutex::default(),
            followers: Mutex::default(),
            findings: Mutex::default(),
            marks: Mutex::default(),
            failures: Mutex::default(),
            before: Mutex::default(),
            tasks: Mutex::default(),
            enough: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    /// The channel of this number, in a namespace.
    pub fn channel(&self, namespace: &str, number: usize) -> String {
        format!("{namespace}:{}:{number}", self.run)
    }

    /// An account for one more reader.
    pub fn seat(self: &Arc<Self>, number: usize, rule: Rule) -> Seat {
        let follower = Arc::new(Mutex::new(Follower::new(rule)));
        self.followers.lock().push(Arc::clone(&follower));
        Seat {
            stage: Arc::clone(self),
            follower,
            number,
            timed: true,
        }
    }

    /// Runs beside the scenario until it ends by itself, or the stage is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends every task.
    pub fn clear(&self) {
        self.tasks.lock().abort_all();
    }

    /// Everybody is there: what nodes use from here on is the load's. The first message is due at
    /// the moment that is returned, since the run began.
    pub fn begin(&self) -> Duration {
        *self.before.lock() = self.hub.usage();
        self.clock.elapsed() + HEADSTART
    }

    /// What the nodes had used when the load began.
    pub fn before(&self) -> Usage {
        *self.before.lock()
    }

    /// A figure for the report.
    pub fn find(&self, name: &str, value: f64, unit: &'static str) {
        let name = name.to_owned();
        self.findings.lock().push(Finding { name, value, unit });
    }

    /// Something was done to the hub.
    pub fn mark(&self, what: impl Into<String>) {
        let at_s = self.clock.elapsed().as_secs_f64();
        let what = what.into();
        eprintln!("{at_s:>5.0}s  -- {what}");
        self.marks.lock().push(Mark { at_s, what });
    }

    /// Something that fails the run.
    pub fn fail(&self, what: impl Into<String>) {
        let mut failures = self.failures.lock();
        failures.0 += 1;
        let what = what.into();
        if failures.1.len() < FAILURES_MAX && !failures.1.contains(&what) {
            failures.1.push(what);
        }
    }

    /// What the scenario found, marked and failed at.
    pub fn told(&self) -> (Vec<Finding>, Vec<Mark>, Vec<String>) {
        let mut failures = self.failures.lock().1.clone();
        let more = self.failures.lock().0 - failures.len() as u64;
        if more > 0 {
            failures.push(format!("and {more} more, or the same again"));
        }
        (
            self.findings.lock().clone(),
            self.marks.lock().clone(),
            failures,
        )
    }

    /// Readers of another process, what they were owed and what of it is missing.
    pub fn elsewhere(&self, readers: usize, (owed, missing): (u64, u64)) {
        let mut elsewhere = self.elsewhere.lock();
        elsewhere.0 += readers;
        elsewhere.1 += owed;
        elsewhere.2 += missing;
    }

    /// What other processes of the tool use, all together.
    pub fn set_helpers(&self, usage: Usage) {
        *self.helpers.lock() = usage;
    }

    /// What the tool uses, in all its processes.
    pub fn tool(&self) -> Usage {
        let mut all = usage::own();
        all += *self.helpers.lock();
        all
    }

    /// Readers there are.
    pub fn readers(&self) -> usize {
        self.followers.lock().len() + self.elsewhere.lock().0
    }

    /// Messages owed to all readers, and how many of those did not come.
    pub fn balance(&self) -> (u64, u64) {
        let (_, owed, missing) = *self.elsewhere.lock();
        let followers = self.followers.lock();
        let first = (owed, missing);
        followers.iter().fold(first, |(owed, missing), follower| {
            let follower = follower.lock();
            (
                owed + follower.owed(&self.ledger),
                missing + follower.missing(&self.ledger),
            )
        })
    }

    /// Holes of some readers in words.
    pub fn examples(&self, most: usize) -> Vec<String> {
        let followers = self.followers.lock();
        let holes = followers
            .iter()
            .enumerate()
            .filter_map(|(reader, follower)| {
                let example = follower.lock().example(&self.ledger)?;
                Some(format!("reader {reader}, {example}"))
            });
        holes.take(most).collect()
    }

    /// Waits until everybody has everything and everything is acknowledged; false: not in time.
    pub async fn settle(&self, patience: Duration) -> bool {
        let all = async {
            loop {
                let (given, acknowledged) = self.ledger.totals();
                if given == acknowledged && self.balance().1 == 0 {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    /// Publishers stop before their next message.
    pub fn enough(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// Whether they are to stop.
    pub fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// The load is over: connections that end are not missed.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether the load is over.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// One reader's place: what it is given goes through here. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The run.
    pub stage: Arc<Stage>,
    follower: Arc<Mutex<Follower>>,
    number: usize,
    timed: bool,
}

impl Seat {
    /// Its latencies are not counted: it dawdles on purpose.
    pub const fn untimed(mut self) -> Self {
        self.timed = false;
        self
    }

    /// Messages owed and not here.
    pub fn missing(&self) -> u64 {
        self.follower.lock().missing(&self.stage.ledger)
    }

    /// From this number on, the reader is owed every message of the stream.
    pub fn owe(&self, stream: u32, from: u64) {
        self.follower.lock().owe(stream, from);
    }

    /// Messages that came together, in their order.
    pub fn heard(&self, stamps: &[Stamp]) {
        let meter = &self.stage.meter;
        let mut follower = self.follower.lock();
        for stamp in stamps {
            meter.judged(follower.take(stamp.stream, stamp.number));
        }
        drop(follower);
        if !self.timed {
            return;
        }
        let now = self.stage.clock.now_us();
        meter.latencies(
            self.number,
            stamps.iter().map(|stamp| now.saturating_sub(stamp.at_us)),
        );
    }
}
