//! One run: builds the world of a seed, lets it go wrong, heals it, and judges what everybody
//! saw.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tidewire_check::{Client, Event, SurvivingLog};
use tidewire_protocol::{
    ChannelName, Encoding,
    command::{Fallback, Mode},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    app::{App, Wish, body_of},
    client::{Credentials, Nature, Order, SimClient},
    data::Effect,
    faults::{Family, Fault, STORM, schedule},
    hub::{Hub, SECRET},
    link::{LANES, Weather},
    random::Random,
    world::{BEGIN_MS, Outcome, World},
};
use crate::{
    auth::mint::{NewToken, hs256},
    clock,
    config::Secret,
    random,
};

const NODES: usize = 3;
/// After the last fault everybody is live within this.
const HEALED: Duration = Duration::from_secs(5);
/// What is under way when faults end has arrived after this: the longest call.
const SETTLED: Duration = Duration::from_millis(1_200);
/// Keys of channels with state.
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// Orders a client has not obeyed yet.
const ORDERS_MAX: usize = 64;

/// One client as a run holds it.
#[derive(Debug)]
struct Held {
    orders: mpsc::Sender<Order>,
    session: Arc<Mutex<Option<Credentials>>>,
    wishes: Vec<Wish>,
}

#[derive(Debug)]
struct Run {
    world: Arc<World>,
    hub: Arc<Hub>,
    clients: Vec<Held>,
    channels: Vec<ChannelName>,
    weather: Weather,
    /// Two programs had one session.
    is_shared: AtomicBool,
}

fn token() -> Arc<str> {
    static TOKEN: std::sync::OnceLock<Arc<str>> = std::sync::OnceLock::new();
    Arc::clone(TOKEN.get_or_init(|| {
        let token = NewToken {
            sub: "ada".to_owned(),
            iat: BEGIN_MS / 1000,
            exp: BEGIN_MS / 1000 + 86_400,
            ..NewToken::default()
        };
        Arc::from(hs256(&Secret::new(SECRET.to_owned()), &token).unwrap())
    }))
}

/// Runs a seed. The same seed is the same run.
pub fn run(seed: u64, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        clock::begin_at(BEGIN_MS);
        random::simulated::begin(seed);
        let outcome = scenario(seed, traced).await;
        random::simulated::end();
        outcome
    });
    runtime.shutdown_background();
    outcome
}

async fn scenario(seed: u64, traced: bool) -> Outcome {
    let world = World::new(seed, traced);
    let family = Family::of(seed);
    let mut random = Random::new(seed);
    let weather = Weather {
        lost_calls: if random.chance(300) {
            random.between(1, 20)
        } else {
            0
        },
        lost_answers: if random.chance(300) {
            random.between(1, 20)
        } else {
            0
        },
        delay_ms: random.between(1, 12),
        announcement_ms: random.between(1, 40),
    };
    let hub = Hub::start(&world, NODES, weather, family.is_tight());
    let channels = channels(family, &mut random);
    let mut run = Run {
        world,
        hub,
        clients: Vec::new(),
        channels,
        weather,
        is_shared: AtomicBool::new(false),
    };
    for number in 0..random.between(3, 5) {
        let nature = run.nature(family, &mut random);
        run.begin_client(u32::try_from(number).unwrap() + 1, nature);
    }
    let end_ms = random.between(4_000, 9_000);
    let faults = schedule(family, &mut random, end_ms);
    run.world.note(|| format!("{family:?} {weather:?}"));
    for (at_ms, fault) in faults {
        let wait = at_ms.saturating_sub(run.world.elapsed_ms());
        tokio::time::sleep(Duration::from_millis(wait)).await;
        run.world.note(|| format!("{fault:?}"));
        run.happen(fault, &mut random);
    }
    run.heal().await;
    run.judge()
}

fn channels(family: Family, random: &mut Random) -> Vec<ChannelName> {
    let namespaces = family.namespaces();
    (0..random.between(2, 3))
        .map(|number| {
            let namespace = random.pick(namespaces);
            ChannelName::new(&format!("{namespace}:{number}")).unwrap()
        })
        .collect()
}

fn has_state(channel: &ChannelName) -> bool {
    matches!(channel.namespace(), "state" | "thin")
}

impl Run {
    fn nature(&self, family: Family, random: &mut Random) -> Nature {
        let is_slow = random.chance(family.slow());
        let wish = |channel: &ChannelName, random: &mut Random| {
            let keeps_state = has_state(channel);
            Wish {
                channel: channel.clone(),
                mode: if keeps_state && random.chance(500) {
                    Mode::Latest
                } else {
                    Mode::Every
                },
                fallback: if keeps_state && random.chance(600) {
                    Fallback::State
                } else {
                    Fallback::Now
                },
            }
        };
        let mut wishes: Vec<_> = Vec::new();
        for channel in &self.channels {
            if random.chance(800) {
                wishes.push(wish(channel, random));
            }
        }
        let mut targets = Vec::new();
        for channel in &self.channels {
            if has_state(channel) {
                targets.extend(KEYS.map(|key| (channel.clone(), Some(key))));
            } else {
                targets.push((channel.clone(), None));
            }
        }
        Nature {
            encoding: if random.chance(500) {
                Encoding::Json
            } else {
                Encoding::MessagePack
            },
            token: token(),
            takes: if is_slow { 200 } else { 64 * 1024 },
            holds: if is_slow { 300 } else { 64 * 1024 },
            delay_ms: if is_slow { 120 } else { random.between(2, 30) },
            publishes_ms: random.chance(700).then(|| random.between(40, 300)),
            removes: family.removes(),
            wishes,
            targets,
        }
    }

    fn begin_client(&mut self, number: u32, nature: Nature) {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        let session = Arc::default();
        self.clients.push(Held {
            orders: sender,
            session: Arc::clone(&session),
            wishes: nature.wishes.clone(),
        });
        let app = App::new(&self.world, Client(number));
        let client = SimClient::new(&self.hub, app, nature, receiver, session);
        tokio::spawn(client.run());
    }

    fn order(&self, client: usize, order: Order) {
        let held = &self.clients[client % self.clients.len()];
        held.orders.try_send(order).unwrap();
    }

    fn later(&self, wait_ms: u64, then: impl FnOnce(&Hub) + Send + 'static) {
        let hub = Arc::clone(&self.hub);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            then(&hub);
        });
    }

    fn channel(&self, at: usize) -> ChannelName {
        self.channels[at % self.channels.len()].clone()
    }

    /// Changes the primary's data behind everybody's back.
    fn change(&self, effect: Effect) {
        let mut cluster = self.hub.cluster.lock();
        let primary = cluster.primary();
        cluster
            .change(primary, effect, self.world.now_ms())
            .unwrap();
    }

    fn lane(&self, at: usize, then: impl FnOnce(&super::lane::Lane)) {
        if let Some(link) = self.hub.link(at / LANES % NODES) {
            then(&link.lane(at % LANES));
        }
    }

    fn happen(&self, fault: Fault, random: &mut Random) {
        match fault {
            Fault::FailOver { lossy, zombie } => self.fail_over(lossy, zombie, random),
            Fault::Flush => {
                self.lost();
                self.hub.cluster.lock().flush(self.world.now_ms());
            }
            Fault::Lag(lag_ms) => self.hub.cluster.lock().lag_ms = lag_ms,
            Fault::CutLane(at) => self.lane(at, super::lane::Lane::cut),
            Fault::FreezeLane(at) => self.lane(at, super::lane::Lane::freeze),
            Fault::DropNext(at, count) => self.lane(at, |lane| lane.drop_next(count)),
            Fault::DoubleNext(at, count) => self.lane(at, |lane| lane.double_next(count)),
            Fault::Overflow(at) => self.overflow(at),
            Fault::Storm(often) => {
                self.hub.set_weather(Weather {
                    lost_calls: often,
                    lost_answers: often,
                    ..self.weather
                });
                let weather = self.weather;
                let wait_ms = u64::try_from(STORM.as_millis()).unwrap();
                self.later(wait_ms, move |hub| hub.set_weather(weather));
            }
            Fault::Pause(at, time_ms) => {
                let node = at % NODES;
                self.hub.pause(node, true);
                self.later(time_ms, move |hub| hub.pause(node, false));
            }
            Fault::Kill(at, time_ms) => self.kill(at % NODES, time_ms),
            Fault::Drain(at, time_ms) => self.drain(at % NODES, time_ms),
            Fault::DrainAndKill(at) => {
                self.drain(at % NODES, 2_000);
                self.kill((at + 1) % NODES, 1_500);
            }
            Fault::CutClient(_)
            | Fault::FreezeClient(..)
            | Fault::Double(_)
            | Fault::WelcomeLost(_)
            | Fault::Forget(_)
            | Fault::Acknowledge(_)
            | Fault::Again(_)
            | Fault::Steal(_) => self.trouble(fault, random),
            Fault::Delete(at) => {
                self.world.tails_may_be_lost();
                let channel = self.channel(at);
                let mut cluster = self.hub.cluster.lock();
                let primary = cluster.primary();
                cluster
                    .delete(primary, &channel, self.world.now_ms())
                    .unwrap();
            }
            Fault::Blank(at) => {
                let channel = self.channel(at);
                let mut cluster = self.hub.cluster.lock();
                let head = cluster.surviving().head(&channel).position.offset;
                let (primary, offset) = (cluster.primary(), random.between(1, head.max(1)));
                cluster
                    .blank(primary, &channel, offset, self.world.now_ms())
                    .unwrap();
            }
            Fault::DropTombstones(at) => {
                let channel = self.channel(at);
                self.change(Effect::Forget { channel });
            }
        }
    }

    /// What goes wrong with clients.
    fn trouble(&self, fault: Fault, random: &mut Random) {
        match fault {
            Fault::CutClient(at) => self.order(at, Order::Cut),
            Fault::FreezeClient(at, time_ms) => {
                self.order(at, Order::Freeze(Duration::from_millis(time_ms)));
            }
            Fault::Double(at) => self.order(at, Order::Double),
            Fault::WelcomeLost(at) => {
                self.order(at, Order::Double);
                self.order(at, Order::Freeze(Duration::from_millis(300)));
                self.order(at, Order::Double);
            }
            // Of a session that two programs share nobody can say what was handled.
            Fault::Forget(_) if self.is_shared.load(Ordering::Relaxed) => {}
            Fault::Forget(at) => self.order(at, Order::Forget),
            Fault::Acknowledge(at) => self.order(at, Order::Acknowledge),
            Fault::Again(at) => {
                let wishes = &self.clients[at % self.clients.len()].wishes;
                if !wishes.is_empty() {
                    let channel = random.pick(wishes).channel.clone();
                    self.order(at, Order::Again(channel));
                }
            }
            Fault::Steal(at) => {
                self.is_shared.store(true, Ordering::Relaxed);
                let other = &self.clients[(at + 1) % self.clients.len()];
                self.order(at, Order::Steal(Arc::clone(&other.session)));
            }
            _other => {}
        }
    }

    /// What was acknowledged may be lost from here on, and claims with it.
    fn lost(&self) {
        self.world.tails_may_be_lost();
        self.world.feed(&Event::StoreLost);
    }

    fn fail_over(&self, lossy: bool, zombie: bool, random: &mut Random) {
        let now_ms = self.world.now_ms();
        if lossy || zombie {
            self.lost();
        }
        let mut cluster = self.hub.cluster.lock();
        cluster.stop_zombies();
        let lost = cluster.fail_over(lossy, zombie, now_ms);
        drop(cluster);
        self.world.saw(match (lost, zombie) {
            (_, true) => "a zombie primary",
            (0, false) => "a failover without loss",
            (_, false) => "a failover with loss",
        });
        for node in 0..NODES {
            let blind_ms = if zombie { random.between(0, 4_000) } else { 0 };
            if let Some(link) = self.hub.link(node) {
                link.blind(now_ms + blind_ms);
            }
        }
    }

    /// A buffer ran over, and the node knows it.
    fn overflow(&self, at: usize) {
        let Some(link) = self.hub.link(at / LANES % NODES) else {
            return;
        };
        let lane = at % LANES;
        link.lane(lane).overflow();
        link.doubt(lane);
    }

    fn kill(&self, node: usize, time_ms: u64) {
        self.hub.kill(node);
        let hub = Arc::clone(&self.hub);
        self.later(time_ms, move |_| hub.begin(node));
    }

    fn drain(&self, node: usize, time_ms: u64) {
        let hub = Arc::clone(&self.hub);
        tokio::spawn(async move {
            hub.drain(node).await;
            tokio::time::sleep(Duration::from_millis(time_ms)).await;
            hub.begin(node);
        });
    }

    /// Ends all faults and waits as long as it may take.
    async fn heal(&self) {
        self.world.note(|| "HEAL".to_owned());
        self.hub.set_weather(Weather {
            lost_calls: 0,
            lost_answers: 0,
            ..self.weather
        });
        self.hub.cluster.lock().stop_zombies();
        for node in 0..NODES {
            self.hub.pause(node, false);
            self.hub.begin(node);
            if let Some(link) = self.hub.link(node) {
                link.blind(0);
                for lane in 0..LANES {
                    link.lane(lane).calm();
                }
            }
        }
        for client in 0..self.clients.len() {
            self.order(client, Order::Calm);
        }
        let begun = Instant::now();
        tokio::time::sleep_until(begun + SETTLED + HEALED).await;
    }

    fn judge(&self) -> Outcome {
        let cluster = self.hub.cluster.lock();
        let data = cluster.surviving();
        let mut logs = BTreeMap::new();
        for channel in &self.channels {
            let head = data.head(channel);
            let history = data.history(
                channel,
                tidewire_protocol::command::Range::After(0),
                crate::broker::PageLimit {
                    items: usize::MAX,
                    bytes: usize::MAX,
                },
            );
            let lineage = head.lineage.segments().iter();
            let entry = |item: &Arc<tidewire_protocol::Publication>| (item.offset, body_of(item));
            let state = data
                .values(channel)
                .into_iter()
                .filter_map(|(key, newest)| {
                    let key = self.world.key(key.as_str());
                    Some((key, (newest.offset, body_of(&newest)?)))
                });
            let log = SurvivingLog {
                lineage: lineage
                    .map(|segment| (Arc::from(segment.epoch.as_str()), segment.start))
                    .collect(),
                head: head.position.offset,
                first: head.first,
                entries: history.items.iter().map(entry).collect(),
                state: has_state(channel).then(|| state.collect()),
            };
            logs.insert(self.world.channel(channel.as_str()), log);
        }
        self.world.note(|| format!("{logs:#?}"));
        self.world.end(&logs)
    }
}
