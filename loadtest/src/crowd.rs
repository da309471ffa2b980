//! A part of a crowd in a process of its own: a process may hold only so many files.
//!
//! Started by `million`, which tells it where and who, and hears of it by lines of JSON. Its
//! readers have two channels each: the common one, and one of their own. It publishes nothing.

use std::{
    io::Write,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tidewire_client::ChannelName;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    hub::{Hub, usage},
    judge::{Ledger, Rule},
    light::{Light, Place, Wanted},
    meter::Clock,
    scenario,
    stage::Stage,
};

/// Tries of a reader: while nodes and their crowd fill two cores some are sent away.
const TRIES: usize = 100;

/// The longest a client may ask for: at the default of 25 s a million of them say 40,000 times a
/// second that they are there, which is a core of its own.
const HEARTBEAT_SECONDS: u64 = 240;

/// Who a part of the crowd is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    /// The run's name in channels.
    pub run: String,
    /// When the run began, µs of the Unix clock: latencies cross processes.
    pub began_unix_us: u64,
    /// Where the nodes are.
    pub urls: Vec<String>,
    /// What all show.
    pub token: Option<String>,
    /// The number of its first session.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Connections it makes at a time.
    pub at_once: usize,
}

/// What was published, told when it is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Published {
    /// Numbers of the common stream.
    pub common: u64,
    /// Sessions that were sent something of their own, and how many numbers.
    pub own: Vec<(usize, u64)>,
    /// How long what is missing may take, s.
    pub patience: u64,
}

/// What a part says every second, and with `owed` when it is over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Said {
    /// Connections now.
    pub connections: i64,
    /// Deliveries so far.
    pub delivered: u64,
    /// Sessions that came back so far.
    pub resumes: u64,
    /// Sessions that came back as new ones so far.
    pub forgotten: u64,
    /// Connections that were lost so far.
    pub lost_connections: u64,
    /// Deliveries that had come before, so far.
    pub repeated: u64,
    /// Deliveries after a higher number, so far.
    pub disordered: u64,
    /// Gaps and fresh starts told so far.
    pub told_losses: u64,
    /// Latencies since it spoke last: µs and how many.
    pub latencies: Vec<(u64, u64)>,
    /// CPU seconds of this process so far.
    pub cpu_seconds: f64,
    /// Resident bytes of this process.
    pub resident: u64,
    /// All are connected.
    pub complete: bool,
    /// When it is over: what was owed and what is missing.
    pub owed: Option<(u64, u64)>,
    /// When it is over: holes in words.
    pub examples: Vec<String>,
}

/// Runs a part: its orders are the first line of the input, what was published is the second.
pub async fn run() -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let orders = lines.next_line().await?.context("no orders")?;
    let orders: Orders = serde_json::from_str(&orders)?;
    let hub = Hub::given(orders.urls.clone(), orders.token.clone());
    let clock = Clock::joined(Duration::from_micros(orders.began_unix_us));
    let ledger = Ledger::part(1 + orders.count, stream(orders.first));
    let stage = Stage::with(clock, hub, ledger, orders.run.clone());
    let gathered = tokio::select! {
        gathered = gather(&stage, &orders) => gathered,
        () = speak(&stage, false) => Ok(()),
    };
    gathered?;
    let published = tokio::select! {
        published = published(&mut lines) => published?,
        () = speak(&stage, true) => return Ok(()),
    };
    settle(&stage, &orders, published).await;
    let mut said = look(&stage);
    said.owed = Some(stage.balance());
    said.examples = stage.examples(2);
    said.examples.extend(stage.told().2);
    say(&said)
}

async fn published(lines: &mut Lines<BufReader<Stdin>>) -> Result<Published> {
    let line = lines.next_line().await?.context("the run is gone")?;
    Ok(serde_json::from_str(&line)?)
}

/// Notes what was published, and waits until all of it is here.
async fn settle(stage: &Arc<Stage>, orders: &Orders, published: Published) {
    stage.ledger.set(0, published.common);
    for (number, last) in published.own {
        if (orders.first..orders.first + orders.count).contains(&number) {
            stage.ledger.set(stream(number), last);
        }
    }
    let patience = Duration::from_secs(published.patience);
    tokio::select! {
        _all = stage.settle(patience) => {}
        () = speak(stage, true) => {}
    }
}

/// The stream of a session's own channel; 0 is the common one.
pub fn stream(number: usize) -> u32 {
    u32::try_from(1 + number).unwrap_or(u32::MAX)
}

async fn gather(stage: &Arc<Stage>, orders: &Orders) -> Result<()> {
    let place = Place::of(stage)?;
    let common = ChannelName::new(&stage.channel("load", 0))?;
    let gate = Arc::new(Semaphore::new(orders.at_once));
    let mut opening = JoinSet::new();
    for number in orders.first..orders.first + orders.count {
        let turn = Arc::clone(&gate).acquire_owned().await?;
        let wanted = |channel, stream| Wanted {
            channel,
            stream,
            state: false,
        };
        let own = ChannelName::new(&stage.channel("load", 1 + number))?;
        let wanted = vec![wanted(common.clone(), 0), wanted(own, stream(number))];
        let seat = stage.seat(number, Rule::Every);
        let mut reader = Light::new(seat, &place, number, wanted).heartbeat(HEARTBEAT_SECONDS);
        let stage = Arc::clone(stage);
        opening.spawn(async move {
            let line = scenario::connect(&mut reader, TRIES).await;
            drop(turn);
            stage.spawn(reader.run(line?));
            anyhow::Ok(())
        });
        while let Some(opened) = opening.try_join_next() {
            opened??;
        }
    }
    while let Some(opened) = opening.join_next().await {
        opened??;
    }
    Ok(())
}

/// Says every second how it stands.
async fn speak(stage: &Arc<Stage>, complete: bool) {
    let begun = Instant::now();
    for second in 0.. {
        sleep_until(begun + Duration::from_secs(second)).await;
        let mut said = look(stage);
        said.complete = complete;
        if say(&said).is_err() {
            // Nobody hears: the run is gone.
            return;
        }
    }
}

fn look(stage: &Stage) -> Said {
    let meter = &stage.meter;
    let own = usage::own();
    let latencies = meter.take_latencies();
    let recorded = latencies.iter_recorded();
    let recorded = recorded.map(|step| (step.value_iterated_to(), step.count_at_value()));
    Said {
        connections: meter.connections.load(Ordering::Relaxed),
        delivered: meter.delivered.load(Ordering::Relaxed),
        resumes: meter.resumes.load(Ordering::Relaxed),
        forgotten: meter.forgotten.load(Ordering::Relaxed),
        lost_connections: meter.lost_connections.load(Ordering::Relaxed),
        repeated: meter.repeated.load(Ordering::Relaxed),
        disordered: meter.disordered.load(Ordering::Relaxed),
        told_losses: meter.told_losses.load(Ordering::Relaxed),
        latencies: recorded.collect(),
        cpu_seconds: own.cpu_seconds,
        resident: own.resident,
        complete: false,
        owed: None,
        examples: Vec::new(),
    }
}

fn say(said: &Said) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, said)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
